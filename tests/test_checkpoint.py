"""Checkpoints are whole or not there, whatever happens while they are written."""

from __future__ import annotations

import contextlib
import errno
import os
from pathlib import Path

import pytest
import torch

from revode import checkpoint
from revode.errors import CheckpointError

FULL = [errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO]


def state(step: int) -> dict:
    return {"step": step, "lr": 0.1, "network": {"w": torch.full((1000,), float(step))}, "sums": [0.5, 3, (1, "a")]}


@pytest.fixture
def file(tmp_path) -> Path:
    path = tmp_path / "runs" / "checkpoint.pt"
    checkpoint.save(path, state(1))
    return path


def test_what_is_saved_is_loaded(file):
    loaded = checkpoint.load(file)
    assert torch.equal(loaded.pop("network")["w"], state(1)["network"]["w"])
    assert loaded == {k: v for k, v in state(1).items() if k != "network"}


def test_the_one_before_is_kept(file):
    assert not checkpoint.backup(file).exists()
    for step in (2, 3):
        checkpoint.save(file, state(step))
        assert checkpoint.load(file)["step"] == step
        assert checkpoint.load(checkpoint.backup(file))["step"] == step - 1
    assert sorted(p.name for p in file.parent.iterdir()) == ["checkpoint.pt", "checkpoint.pt.bak"]


def test_a_file_system_without_links(file, monkeypatch):
    monkeypatch.setattr(os, "link", _fail(errno.EPERM))
    checkpoint.save(file, state(2))
    assert checkpoint.load(checkpoint.backup(file))["step"] == 1
    assert checkpoint.load(file)["step"] == 2


@pytest.mark.parametrize(
    "damage",
    [
        lambda b: b[:-1],
        lambda b: b[: len(b) // 2],
        lambda b: b + b"\0",
        lambda b: b[:-100] + bytes([b[-100] ^ 1]) + b[-99:],
        lambda b: b"",
        lambda b: b"\0" * len(b),
        lambda b: b.partition(b"\n")[2],
    ],
    ids=["truncated", "half", "longer", "one bit", "empty", "zeros", "without its first line"],
)
def test_a_damaged_file_is_an_error_that_names_the_one_before(file, damage):
    checkpoint.save(file, state(2))
    file.write_bytes(damage(file.read_bytes()))
    with pytest.raises(CheckpointError, match=r"damaged.*rename") as error:
        checkpoint.load(file)
    assert str(file) in str(error.value)
    assert str(checkpoint.backup(file)) in str(error.value)
    checkpoint.backup(file).unlink()
    with pytest.raises(CheckpointError, match="there is none before it"):
        checkpoint.load(file)


def test_no_file(tmp_path):
    with pytest.raises(CheckpointError, match=r"no checkpoint that can be read at .*No such file"):
        checkpoint.load(tmp_path / "checkpoint.pt")


class Evil:
    def __reduce__(self):
        return os.getcwd, ()


def test_a_checkpoint_runs_no_code(file):
    checkpoint.save(file, {"step": 1, "evil": Evil()})
    with pytest.raises(CheckpointError, match="cannot read"):
        checkpoint.load(file)


def _fail(number: int):
    def fail(*args, **kwargs):
        raise OSError(number, os.strerror(number))

    return fail


@pytest.mark.parametrize("number", FULL)
@pytest.mark.parametrize("call", ["fsync", "replace", "write"])
def test_a_full_disk_keeps_the_last_one(file, monkeypatch, number, call):
    before = file.read_bytes()
    with monkeypatch.context() as patch:
        if call == "write":
            patch.setattr(checkpoint, "open", _unwritable(number), raising=False)
        else:
            patch.setattr(os, call, _fail(number))
        with pytest.raises(CheckpointError, match=r"could not be written: .*the file that was there is kept") as error:
            checkpoint.save(file, state(2))
    assert "\n" not in str(error.value)
    words = {errno.ENOSPC: "the disk is full", errno.EDQUOT: "quota", errno.EFBIG: "larger"}
    assert words.get(number, os.strerror(number)) in str(error.value)
    assert file.read_bytes() == before
    assert not list(file.parent.glob("*.part"))
    checkpoint.save(file, state(2))  # once there is space again
    assert checkpoint.load(file)["step"] == 2


def _unwritable(number: int):
    def opened(path, mode):
        Path(path).write_bytes(b"half of it")
        return _fail(number)()

    return opened


@pytest.mark.parametrize("call", ["link", "replace", "fsync"])
def test_killed_between_any_two_calls_a_whole_file_is_there(file, call, monkeypatch):
    """Whatever call is the last one that happens, checkpoint.pt is the old or the new one."""
    checkpoint.save(file, state(2))
    real = getattr(os, call)
    for done in range(3):
        left = [done]

        def dying(*args, left=left):
            if left[0] == 0:
                raise Killed
            left[0] -= 1
            return real(*args)

        with monkeypatch.context() as patch:
            patch.setattr(os, call, dying)
            with contextlib.suppress(Killed):
                checkpoint.save(file, state(3))
        assert checkpoint.load(file)["step"] in (2, 3)
        assert checkpoint.load(checkpoint.backup(file))["step"] in (1, 2, 3)
        checkpoint.save(file, state(2))


class Killed(BaseException):
    """The process ends here."""


def test_a_folder_that_is_a_file(tmp_path):
    (tmp_path / "runs").write_text("")
    with pytest.raises(CheckpointError, match="could not be written"):
        checkpoint.save(tmp_path / "runs" / "checkpoint.pt", state(1))
