"""Checkpoints that are whole or not there: checksum, temporary file, rename, and the one before kept.

A file is a line of text with the SHA-256 of what follows, then what ``torch.save`` writes. It is read with
``weights_only=True``: a checkpoint from elsewhere runs no code.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import io
import os
import shutil
from pathlib import Path

import torch

from .errors import CheckpointError

MAGIC = b"revode checkpoint 1 sha256 "
_WORDS = {
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "the disk quota is used up",
    errno.EFBIG: "it is larger than a file may be here",
}


def reason(error: OSError) -> str:
    """Why a file could not be written, in a few words."""
    return _WORDS.get(error.errno) or error.strerror or str(error)


def backup(path: Path) -> Path:
    """Where the checkpoint before this one is kept."""
    return path.with_name(path.name + ".bak")


def write_atomic(path: str | os.PathLike[str], data: bytes, *, keep: bool = False) -> None:
    """Put the bytes at ``path``: afterwards the file is the new one or, if anything failed, the old one.

    Args:
        path: The file; its folder is made where it is missing.
        data: Its content.
        keep: Keep the file that was there as :func:`backup`.

    Raises:
        CheckpointError: if it cannot be written, a full disk among the reasons.
    """
    path = Path(path)
    new, old = path.with_name(path.name + ".part"), path.with_name(path.name + ".old.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(new, "wb") as f:
            f.write(data)
            f.flush()
            os.fsync(f.fileno())
        if keep and path.exists():  # a second name first, so that at every moment a whole file has the name
            old.unlink(missing_ok=True)
            try:
                os.link(path, old)
            except OSError:  # a file system without links
                shutil.copyfile(path, old)
            os.replace(old, backup(path))
        os.replace(new, path)
        _sync_folder(path.parent)
    except OSError as error:
        with contextlib.suppress(OSError):
            new.unlink(missing_ok=True)
            old.unlink(missing_ok=True)
        kept = "; the file that was there is kept" if os.path.exists(path) else ""
        raise CheckpointError(
            f"{path} could not be written: {reason(error)}{kept}; free some space or name another folder"
        ) from error


def _sync_folder(folder: Path) -> None:
    """Make a rename outlast a power cut, where the system can."""
    with contextlib.suppress(OSError):  # Windows opens no folders, some network drives cannot
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


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
    write_atomic(path, MAGIC + hashlib.sha256(payload).hexdigest().encode() + b"\n" + payload, keep=True)


def load(path: str | os.PathLike[str]) -> dict:
    """Read a checkpoint and test its checksum; tensors come to the CPU.

    Raises:
        CheckpointError: if there is none, or it is damaged; the message names the one before if that is there.
    """
    path = Path(path)
    kept = backup(path)
    if kept.exists():
        remedy = f"the one before is kept as {kept}: rename it to {path.name} to go on from it"
    else:
        remedy = "there is none before it: start again in another folder"
    try:
        data = path.read_bytes()
    except OSError as error:
        raise CheckpointError(
            f"there is no checkpoint that can be read at {path} ({reason(error)}); {remedy}"
        ) from error
    head, _, payload = data.partition(b"\n")
    if not head.startswith(MAGIC):
        raise CheckpointError(
            f"{path} is no checkpoint of this version of revode, or its beginning is damaged; {remedy}"
        )
    if head != MAGIC + hashlib.sha256(payload).hexdigest().encode():
        raise CheckpointError(f"the checkpoint {path} is damaged (its checksum does not fit); {remedy}")
    try:
        return torch.load(io.BytesIO(payload), map_location="cpu", weights_only=True)
    except Exception as error:  # whatever an older torch says to a newer one's file
        raise CheckpointError(f"torch {torch.__version__} cannot read the checkpoint {path} ({error})") from error
