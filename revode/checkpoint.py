"""Checkpoints that are whole or not there: checksum, temporary file, rename, and the one before kept.

A file is a line of text with the SHA-256 of what follows, then what ``torch.save`` writes. It is read with
``weights_only=True``: a checkpoint from elsewhere runs no code.
"""

from __future__ import annotations

import errno
import hashlib
import io
import os
from pathlib import Path

import torch

from .errors import CheckpointError

MAGIC = b"revode checkpoint 1 sha256 "


def beside(path: Path, ending: str) -> Path:
    """The file of the same name with ``ending`` added."""
    return path.with_name(path.name + ending)


def write_atomic(path: str | os.PathLike[str], data: bytes, *, backup: bool = False) -> None:
    """Put the bytes at ``path``: afterwards the file is the new one or, if anything failed, the old one.

    Args:
        path: The file; its folder is made where it is missing.
        data: Its content.
        backup: Keep the file that was there, with ``.bak`` added to its name.

    Raises:
        CheckpointError: if it cannot be written, a full disk among the reasons.
    """
    path = Path(path)
    part = beside(path, ".part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(part, "wb") as f:
            f.write(data)
            f.flush()
            os.fsync(f.fileno())
        if backup and path.exists():
            # A second name first, so that at every moment there is a whole file under each of the two names.
            link = beside(path, ".link")
            link.unlink(missing_ok=True)
            os.link(path, link)
            os.replace(link, beside(path, ".bak"))
        os.replace(part, path)
        _sync_folder(path.parent)
    except OSError as error:
        raise _unwritten(path, part, error) from error


def _sync_folder(folder: Path) -> None:
    """Make the renames in a folder outlast a loss of power, where the system can."""
    if os.name == "posix":
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def _unwritten(path: Path, part: Path, error: OSError) -> CheckpointError:
    try:
        part.unlink(missing_ok=True)
        kept = "; the file that was there is kept" if path.exists() else ""
    except OSError:
        kept = ""
    reason = "the disk is full" if error.errno in FULL else error.strerror or str(error)
    return CheckpointError(f"{path} could not be written: {reason}{kept}; free some space, or name another folder")


def save(path: str | os.PathLike[str], state: dict) -> None:
    """Write a checkpoint atomically, with a checksum, and keep the one before as ``.bak``.

    Args:
        path: The file.
        state: Tensors, numbers, strings, and lists, tuples and dicts of them.

    Raises:
        CheckpointError: if it cannot be written; the last good one is kept.
    """
    buffer = io.BytesIO()
    torch.save(state, buffer)
    payload = buffer.getvalue()
    head = MAGIC + hashlib.sha256(payload).hexdigest().encode() + b"\n"
    write_atomic(path, head + payload, backup=True)


def load(path: str | os.PathLike[str]) -> dict:
    """Read a checkpoint and test its checksum; its tensors come to the CPU.

    Raises:
        CheckpointError: if there is none, or it is damaged; the message names the one before if that is there.
    """
    path = Path(path)
    kept = beside(path, ".bak")
    remedy = (
        f"the one before is kept: go on from it with `mv {kept} {path}`"
        if kept.exists()
        else "there is none before it: remove it and start again"
    )
    try:
        data = path.read_bytes()
    except OSError as error:
        remedy = remedy if kept.exists() else "train there first"
        raise CheckpointError(f"there is no checkpoint {path} that can be read ({error.strerror}); {remedy}") from error
    head, _, payload = data.partition(b"\n")
    if head != MAGIC + hashlib.sha256(payload).hexdigest().encode():
        raise CheckpointError(f"the checkpoint {path} is damaged (its checksum does not fit); {remedy}")
    try:
        return torch.load(io.BytesIO(payload), map_location="cpu", weights_only=True)
    except Exception as error:  # whatever an older torch says to a newer one's file
        raise CheckpointError(f"torch {torch.__version__} cannot read the checkpoint {path} ({error})") from error
