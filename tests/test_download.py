"""Downloading, against a real server on this machine that stalls, lies, breaks off and ignores ranges."""

import contextlib
import errno
import hashlib
import http.server
import io
import os
import pickle
import re
import shutil
import subprocess
import sys
import tarfile
import threading
import time
from collections import namedtuple

import numpy as np
import pytest
import torchvision.datasets as official

from revode.data import download, load, sets
from revode.data.download import ARCHIVES, Archive, fetch, unpack
from revode.errors import DataError, RevodeError


def packed(files):
    """A tar.gz with these files, name: contents."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as tar:
        for name, contents in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(contents)
            tar.addfile(member, io.BytesIO(contents))
    return stream.getvalue()


def archive_of(contents, *mirrors, folder="folder", file="toy.tar.gz", **changes):
    checksums = {
        "md5": hashlib.md5(contents, usedforsecurity=False).hexdigest(),
        "sha256": hashlib.sha256(contents).hexdigest(),
    }
    return Archive(file, len(contents), **checksums | changes, folder=folder, unpacked=10**6, mirrors=mirrors)


NOISE = np.random.default_rng(0).bytes(300_000)  # does not compress
FILES = {"folder/one": NOISE, "folder/two": b"second"}
CONTENTS = packed(FILES)
HALF = len(CONTENTS) // 2


class Handler(http.server.BaseHTTPRequestHandler):
    """The first part of the path says how it behaves; each request is noted as (path, range asked for)."""

    def do_GET(self):
        server, how = self.server, self.path.split("/")[1]
        asked = self.headers.get("Range")
        server.requests.append((self.path, asked))
        contents = server.contents
        if how.isdigit():
            return self.send_error(int(how))
        start = int(re.fullmatch(r"bytes=(\d+)-", asked)[1]) if asked and how != "norange" else 0
        if how == "liar":
            contents = bytes(len(contents))
        if how == "wrong":
            contents = contents[:-1] + bytes([contents[-1] ^ 1])
        if how == "html":
            contents = b"<html>we have moved</html>"
        claimed = start + 1 if how == "shifted" else start
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {claimed}-{len(contents) - 1}/{len(contents)}")
        if how not in ("more", "endless"):
            self.send_header("Content-Length", str(len(contents) - start))
        self.end_headers()
        with contextlib.suppress(ConnectionError):  # the client may have left
            if how in ("truncate", "liar", "stall", "hold"):
                self.wfile.write(contents[start : max(start, HALF)])
                if how in ("stall", "hold") and not server.released.wait(20):
                    server.requests.append(("the client never left", None))
            elif how == "endless":
                while server.sent < 100e6:
                    self.wfile.write(bytes(100_000))
                    server.sent += 100_000
            elif how == "dribble":
                for i in range(start, len(contents), 10_000):
                    self.wfile.write(contents[i : i + 10_000])
                    time.sleep(0.01)
            else:
                self.wfile.write(contents[start:] + (b"!" if how == "more" else b""))

    def log_message(self, *_):
        pass


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.requests, server.contents, server.sent, server.released = [], CONTENTS, 0, threading.Event()
    server.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield server
    server.released.set()
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def get(server, tmp_path):
    """Fetches the toy archive from mirrors of these behaviours into tmp_path."""

    def get(*behaviours, timeout=0.5, **changes):
        mirrors = [f"{server.url}/{how}/{i}" for i, how in enumerate(behaviours)]
        return fetch(archive_of(CONTENTS, *mirrors, **changes), tmp_path, timeout=timeout, progress=False)

    return get


def here(folder):
    return sorted(path.name for path in folder.iterdir())


def test_fetch_downloads_once(get, server, tmp_path):
    path = get("good")
    assert path == tmp_path / "toy.tar.gz"
    assert path.read_bytes() == CONTENTS
    assert here(tmp_path) == ["toy.tar.gz"]
    assert get("good") == path
    assert server.requests == [("/good/0", None)]


def test_a_damaged_archive_is_fetched_anew(get, server, tmp_path):
    (tmp_path / "toy.tar.gz").write_bytes(CONTENTS[:-1] + b"?")
    assert get("good").read_bytes() == CONTENTS
    assert len(server.requests) == 1


@pytest.mark.parametrize("fault", ["404", "403", "500", "wrong", "html", "more", "truncate", "stall"])
def test_the_next_mirror_takes_over(get, server, fault):
    assert get(fault, "good").read_bytes() == CONTENTS
    went_on = fault in ("truncate", "stall")
    assert server.requests == [(f"/{fault}/0", None), ("/good/1", f"bytes={HALF}-" if went_on else None)]


def test_a_mirror_that_broke_off_is_asked_again_and_one_without_the_archive_is_not(get, server):
    with pytest.raises(DataError):
        get("404", "wrong", "503", "truncate")
    asked = [path for path, _ in server.requests]
    assert asked == ["/404/0", "/wrong/1", "/503/2", "/truncate/3", "/503/2", "/truncate/3"]


def test_a_mirror_without_end_is_left(get, server):
    assert get("endless", "good").read_bytes() == CONTENTS
    assert server.sent < 50e6


def test_a_download_goes_on_where_it_stopped(get, server, tmp_path):
    (tmp_path / "toy.tar.gz.part").write_bytes(CONTENTS[:1000])
    assert get("good").read_bytes() == CONTENTS
    assert server.requests == [("/good/0", "bytes=1000-")]
    assert here(tmp_path) == ["toy.tar.gz"]


def test_a_server_that_ignores_ranges_starts_over(get, server, tmp_path):
    (tmp_path / "toy.tar.gz.part").write_bytes(b"x" * 1000)
    assert get("norange").read_bytes() == CONTENTS
    assert server.requests == [("/norange/0", "bytes=1000-")]


def test_a_range_that_was_not_asked_for_is_not_taken(get, server, tmp_path):
    (tmp_path / "toy.tar.gz.part").write_bytes(CONTENTS[:1000])
    assert get("shifted", "good").read_bytes() == CONTENTS
    assert server.requests == [("/shifted/0", "bytes=1000-"), ("/good/1", "bytes=1000-")]


@pytest.mark.parametrize("length", [1000, len(CONTENTS), len(CONTENTS) + 5])
def test_bad_bytes_left_from_before_are_thrown_away(get, tmp_path, length):
    (tmp_path / "toy.tar.gz.part").write_bytes(b"x" * length)
    assert get("good").read_bytes() == CONTENTS  # though the first try, from those bytes, has the wrong checksum


def test_a_mirror_is_not_blamed_for_the_bytes_of_another(get, server):
    assert get("liar", "good").read_bytes() == CONTENTS
    assert server.requests == [("/liar/0", None), ("/good/1", f"bytes={HALF}-"), ("/good/1", None)]


def test_a_whole_part_needs_no_server(tmp_path):
    (tmp_path / "toy.tar.gz.part").write_bytes(CONTENTS)
    nowhere = archive_of(CONTENTS, "http://127.0.0.1:9/")
    assert fetch(nowhere, tmp_path, progress=False).read_bytes() == CONTENTS
    assert here(tmp_path) == ["toy.tar.gz"]


@pytest.mark.parametrize("kind", ["md5", "sha256"])
def test_either_checksum_alone_refuses(get, tmp_path, kind):
    with pytest.raises(DataError, match="wrong checksum"):
        get("good", **{kind: "0" * 32})
    assert here(tmp_path) == []


def test_a_slow_mirror_is_left_for_a_faster_one(get, server, monkeypatch):
    monkeypatch.setattr(download, "SLOW", (1e9, 0.05))
    assert get("dribble", "good").read_bytes() == CONTENTS
    (first, _), (second, asked) = server.requests
    assert (first, second) == ("/dribble/0", "/good/1")
    assert asked.startswith("bytes=")  # what came slowly is kept


def test_where_all_are_slow_the_download_is_slow(get, server, monkeypatch):
    monkeypatch.setattr(download, "SLOW", (1e9, 0.05))
    assert get("dribble", "dribble").read_bytes() == CONTENTS
    assert [path for path, _ in server.requests] == ["/dribble/0", "/dribble/1", "/dribble/0"]


def test_a_download_that_no_mirror_completes_never_looks_finished(get, tmp_path):
    with pytest.raises(DataError, match=r"0\.2 of 0\.3 MB are here and kept"):
        get("truncate", "stall")
    assert here(tmp_path) == ["toy.tar.gz.part"]
    assert (tmp_path / "toy.tar.gz.part").read_bytes() == CONTENTS[:HALF]


def test_offline_is_one_sentence_that_names_the_ways_out(tmp_path, monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1,nowhere.invalid")
    offline = archive_of(CONTENTS, "http://127.0.0.1:9/toy.tar.gz", "http://nowhere.invalid/toy.tar.gz")
    with pytest.raises(DataError) as error:
        fetch(offline, tmp_path, progress=False)
    message = str(error.value)
    assert "\n" not in message
    for word in ("toy.tar.gz", "127.0.0.1:9", "nowhere.invalid", "bundled sample", "REVODE_DATA", "load('sample'"):
        assert word in message
    assert isinstance(error.value, RevodeError)
    assert here(tmp_path) == []


def test_the_progress_bar_counts_from_the_bytes_at_hand(server, tmp_path, capsys):
    (tmp_path / "toy.tar.gz.part").write_bytes(CONTENTS[:HALF])
    fetch(archive_of(CONTENTS, f"{server.url}/404/", f"{server.url}/good/"), tmp_path)
    out, err = capsys.readouterr()
    assert out == ""
    assert "toy.tar.gz:  50%" in err
    assert "toy.tar.gz: 100%" in err
    assert re.search(r"127\.0\.0\.1:\d+: HTTP 404", err)


def fetch_in_a_process(mirror, root):
    """The command of a process that fetches the toy archive."""
    archive = archive_of(CONTENTS, mirror)
    code = (
        "from pathlib import Path; from revode.data.download import Archive, fetch\n"
        f"fetch({archive!r}, Path({str(root)!r}), timeout=60, progress=False)"
    )
    return [sys.executable, "-c", code]


def test_a_killed_download_goes_on_where_it_stopped(get, server, tmp_path):
    process = subprocess.Popen(fetch_in_a_process(f"{server.url}/hold/", tmp_path))
    part = tmp_path / "toy.tar.gz.part"
    deadline = time.monotonic() + 60
    while not part.exists() or part.stat().st_size < HALF // 2:
        assert time.monotonic() < deadline, "nothing arrived"
        assert process.poll() is None, "the process has ended"
        time.sleep(0.01)
    process.kill()
    process.wait()
    assert here(tmp_path) == ["toy.tar.gz.part"]
    had = part.stat().st_size
    assert part.read_bytes() == CONTENTS[:had]
    assert get("good").read_bytes() == CONTENTS
    assert server.requests[-1] == ("/good/0", f"bytes={had}-")


def test_two_at_once_download_once(server, tmp_path):
    """As the processes of one torchrun do; a lock is each opened file's own, so threads show it too."""
    archive, results = archive_of(CONTENTS, f"{server.url}/dribble/"), []

    def work():
        results.append(fetch(archive, tmp_path, progress=False).read_bytes())

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [CONTENTS] * 3
    assert len(server.requests) == 1


# --- the disk


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_disk_that_fills_is_a_clear_error_and_the_download_goes_on_later(get, server, tmp_path, monkeypatch, number):
    class Filling(io.FileIO):
        def write(self, chunk):
            if self.tell() + len(chunk) > 100_000:
                raise OSError(number, os.strerror(number))
            return super().write(chunk)

    def opened(path, mode="r"):
        return Filling(path, "ab" if "a" in mode else "w") if str(path).endswith(".part") else open(path, mode)

    with monkeypatch.context() as patched:
        patched.setattr(download, "open", opened, raising=False)
        with pytest.raises(DataError, match=f"the disk is full: toy.tar.gz .* {tmp_path} .* REVODE_DATA"):
            get("dribble", "good")
    assert here(tmp_path) == ["toy.tar.gz.part"]
    had = (tmp_path / "toy.tar.gz.part").stat().st_size
    assert 0 < had <= 100_000
    assert get("good").read_bytes() == CONTENTS
    assert server.requests[-1] == ("/good/0", f"bytes={had}-")
    assert len(server.requests) == 2  # a full disk is no mirror's fault


def test_too_little_room_is_told_before_anything_is_fetched(get, server, monkeypatch):
    Usage = namedtuple("Usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(10**9, 10**9, 0))
    with pytest.raises(DataError, match=r"the disk is full: .* take 1 MB in .* \(0 MB are free where 1 MB are needed"):
        get("good")
    assert server.requests == []


def test_a_folder_that_cannot_be_made_is_a_clear_error(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(DataError, match=r"cannot be written or unpacked .* REVODE_DATA"):
        fetch(archive_of(CONTENTS, "http://127.0.0.1:9/"), tmp_path / "file", progress=False)


# --- unpacking


@pytest.fixture
def toy(tmp_path):
    (tmp_path / "toy.tar.gz").write_bytes(CONTENTS)
    return archive_of(CONTENTS), tmp_path / "toy.tar.gz"


def contents_of(folder):
    return {f"folder/{path.name}": path.read_bytes() for path in folder.iterdir()}


def test_unpack_leaves_the_folder_and_nothing_else(toy, tmp_path):
    folder = unpack(*toy)
    assert folder == tmp_path / "folder"
    assert contents_of(folder) == FILES
    assert here(tmp_path) == ["folder", "toy.tar.gz"]


def test_unpack_mends_a_folder_and_leaves_what_it_does_not_know(toy, tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "one").write_bytes(b"damaged")
    (tmp_path / "folder" / "mine").write_bytes(b"mine")
    assert contents_of(unpack(*toy)) == FILES | {"folder/mine": b"mine"}
    assert here(tmp_path) == ["folder", "toy.tar.gz"]


def test_a_killed_unpacking_does_not_look_finished(toy, tmp_path):
    """A process that dies after the last file is written and before the folder is named."""
    archive, path = toy
    code = (
        "import os, pathlib; from revode.data.download import Archive, unpack\n"
        "pathlib.Path.replace = lambda *_: os._exit(9)\n"
        f"unpack({archive!r}, pathlib.Path({str(path)!r}))"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 9
    assert here(tmp_path) == ["folder.part", "toy.tar.gz"]
    (tmp_path / "folder.part" / "folder" / "stale").write_bytes(b"from before")
    assert contents_of(unpack(archive, path)) == FILES
    assert here(tmp_path) == ["folder", "toy.tar.gz"]


def test_unpack_takes_only_plain_files_of_the_folder(tmp_path):
    root = tmp_path / "root"
    root.mkdir()
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as tar:
        for name in ("../outside", "folder/../../outside", str(tmp_path / "outside"), "other/file", "folder/good"):
            member = tarfile.TarInfo(name)
            member.size = 4
            tar.addfile(member, io.BytesIO(b"text"))
        link = tarfile.TarInfo("folder/link")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(link)
    (root / "toy.tar.gz").write_bytes(stream.getvalue())
    folder = unpack(archive_of(stream.getvalue()), root / "toy.tar.gz")
    assert here(folder) == ["good"]
    assert here(root) == ["folder", "toy.tar.gz"]
    assert here(tmp_path) == ["root"]


TEXT = packed({"folder/text": " ".join(map(str, range(10_000))).encode()})


@pytest.mark.parametrize(
    "contents",
    [CONTENTS[:HALF], b"no archive at all", TEXT[:5000] + bytes(5000) + TEXT[10_000:], packed({"a/b": b""})],
    ids=["cut", "text", "damaged", "another"],
)
def test_what_cannot_be_unpacked_is_a_clear_error(tmp_path, contents):
    (tmp_path / "toy.tar.gz").write_bytes(contents)
    with pytest.raises(DataError, match=r"toy.tar.gz cannot be unpacked .* fetch it anew"):
        unpack(archive_of(contents), tmp_path / "toy.tar.gz")
    assert here(tmp_path) == ["toy.tar.gz"]


def test_a_disk_that_fills_while_unpacking_leaves_no_folder(toy, tmp_path, monkeypatch):
    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(shutil, "copyfileobj", full)
    monkeypatch.setattr(tarfile, "copyfileobj", full)
    with pytest.raises(DataError, match="the disk is full"):
        unpack(*toy)
    assert here(tmp_path) == ["toy.tar.gz"]


# --- load(..., download=True)


@pytest.fixture
def published(server, monkeypatch):
    """A tiny CIFAR-10 on the server, with torchvision's checksums and ours set to it."""
    folder, cls = official.CIFAR10.base_folder, official.CIFAR10
    files = {
        name: pickle.dumps({"data": np.full((3, 3072), i, np.uint8), "labels": [0, 1, 1]})
        for i, name in enumerate(("data_batch_1", "test_batch"))
    }
    files["batches.meta"] = pickle.dumps({"label_names": ["cat", "dog"]})
    md5 = {name: hashlib.md5(contents, usedforsecurity=False).hexdigest() for name, contents in files.items()}
    monkeypatch.setattr(cls, "train_list", [["data_batch_1", md5["data_batch_1"]]])
    monkeypatch.setattr(cls, "test_list", [["test_batch", md5["test_batch"]]])
    monkeypatch.setattr(cls, "meta", {"filename": "batches.meta", "key": "label_names", "md5": md5["batches.meta"]})
    server.contents = packed({f"{folder}/{name}": contents for name, contents in files.items()})
    archive = archive_of(server.contents, f"{server.url}/good/", folder=folder, file=ARCHIVES["cifar10"].file)
    monkeypatch.setitem(sets.ARCHIVES, "cifar10", archive)
    return archive


def test_load_fetches_what_is_not_there(published, server, tmp_path):
    root = tmp_path / "new" / "folder"
    train = load("cifar10", "train", root, download=True)
    assert train.counts() == (1, 2)
    assert train.classes == ("cat", "dog")
    assert load("cifar10", "test", root, download=True).images.unique().tolist() == [1]
    assert load("cifar10", "test", root).counts() == (1, 2)
    assert len(server.requests) == 1


def test_load_mends_what_is_damaged_from_the_archive_at_hand(published, server, tmp_path):
    load("cifar10", "train", tmp_path, download=True)
    (tmp_path / published.folder / "test_batch").write_bytes(b"damaged")
    with pytest.raises(DataError, match="cifar-10-batches-py is incomplete or damaged"):
        load("cifar10", "train", tmp_path)
    assert len(load("cifar10", "train", tmp_path, download=True)) == 3
    assert len(server.requests) == 1


def test_load_says_so_where_even_a_fresh_archive_does_not_do(published, tmp_path, monkeypatch):
    monkeypatch.setattr(official.CIFAR10, "test_list", [["test_batch", "0" * 32]])
    with pytest.raises(DataError, match=r"was fetched, but then cifar-10-batches-py is incomplete"):
        load("cifar10", "train", tmp_path, download=True)


def test_the_archives_are_torchvisions():
    classes = {"cifar10": official.CIFAR10, "cifar100": official.CIFAR100, "stl10": official.STL10}
    assert set(ARCHIVES) == set(classes)
    for name, archive in ARCHIVES.items():
        cls = classes[name]
        assert archive.md5 == cls.tgz_md5
        assert (archive.file, archive.folder) == (cls.filename, cls.base_folder)
        assert len(archive.sha256) == 64
        assert len(archive.mirrors) >= 2
        assert any(url.split("://")[1] == cls.url.split("://")[1] for url in archive.mirrors)
