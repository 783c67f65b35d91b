"""Checkpoints that are whole or not there: checksum first, temporary file, rename, the one before kept."""

from __future__ import annotations

import errno
import hashlib
import io
import os
from pathlib import Path

import torch

from .errors import CheckpointError

MAGIC = b"revode checkpoint 1 sha256 "


def write_atomic(path: Path, data: bytes, *, backup: bool = False) -> None:
    """Put the bytes at ``path``: afterwards the file is the new one or, if anything failed, the old one.

    Args:
        path: The file; its folder is made where it is missing.
        data: Its content.
        backup: Keep the file that was there as ``path`` with ".bak" added.

    Raises:
        CheckpointError: if it cannot be written, a full disk among the reasons.
    """
    path = Path(path)
    temporary = path.with_name(path.name + ".part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(temporary, "wb") as f:
            f.write(data)
            f.flush()
            os.fsync(f.fileno())
        if backup and path.exists():
            kept = path.with_name(path.name + ".bak")
            link = path.with_name(path.name + ".link")
            link.unlink(missing_ok=True)
            os.link(path, link)  # so that at every moment a whole file has the name
            os.replace(link, kept)
        os.replace(temporary, path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        reason = "the disk is full" if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG) else error.strerror
        old = "; the file that was there is kept" if path.exists() else ""
        raise CheckpointError(f"{path} could not be written: {reason}{old}; free some space or name another folder") from error


def save(path: Path, state: dict) -> None:
    """Write a checkpoint atomically, with a checksum, and keep the one before as .bak.

    Raises:
        CheckpointError: if it cannot be written; the last good one is kept.
    """
    buffer = io.BytesIO()
    torch.save(state, buffer)
    payload = buffer.getvalue()
    write_atomic(path, MAGIC + hashlib.sha256(payload).hexdigest().encode() + b"\n" + payload, backup=True)


def load(path: Path) -> dict:
    """Read a checkpoint and test its checksum; tensors come to the CPU.

    Raises:
        CheckpointError: if there is none, or it is damaged; the message names the one before if that is there.
    """
    path = Path(path)
    kept = path.with_name(path.name + ".bak")
    remedy = f"the one before is kept as {kept}: rename it to {path.name} to go on from it" if kept.exists() else "start again without --resume"
    try:
        data = path.read_bytes()
    except OSError as error:
        raise CheckpointError(f"there is no checkpoint that can be read at {path} ({error.strerror}); {remedy}") from error
    head, _, payload = data.partition(b"\n")
    if head != MAGIC + hashlib.sha256(payload).hexdigest().encode():
        raise CheckpointError(f"the checkpoint {path} is damaged (its checksum does not fit); {remedy}")
    return torch.load(io.BytesIO(payload), map_location="cpu", weights_only=True)
