"""A run that dies within the writing of its files, at each system call that matters, goes on as if nothing was."""

from __future__ import annotations

import contextlib
import errno
import os
from pathlib import Path

import pytest
import torch
from torch import nn

from revode import checkpoint, models, train
from revode.errors import CheckpointError

from .training import TINY, lines, same, timeless, tiny

__all__ = ["tiny"]

#: As in :func:`tests.training.tiny`, with a checkpoint at each step.
USUAL = {"data": "sample", "eval_images": 20, "device": "cpu", "threads": 1}
OFTEN = {"steps": 2, "checkpoint_every": 1, "eval_every": 5, "milestones": ()}


def learned(out: str) -> tuple:
    """All that must be repeated bit by bit."""
    state = checkpoint.load(Path(out) / train.CHECKPOINT)
    momentum = {str(k): v["momentum_buffer"] for k, v in state["optimizer"]["state"].items()}
    return state["network"], momentum, state["step"], timeless(state["curve"]), lines(out)


def equal(a: tuple, b: tuple) -> bool:
    return same(a[0], b[0]) and same(a[1], b[1]) and a[2:] == b[2:]


class Killed(BaseException):
    """Caught by nothing in the package, as kill -9 is."""


@contextlib.contextmanager
def at_call(name: str, nth: int, error: BaseException):
    """``error`` instead of the n-th call of ``os.<name>``; yields a list that is empty if there were fewer."""
    real, reached, count = getattr(os, name), [], 0

    def call(*args, **kwargs):
        nonlocal count
        count += 1
        if count == nth:
            reached.append(nth)
            raise error
        return real(*args, **kwargs)

    setattr(os, name, call)
    try:
        yield reached
    finally:
        setattr(os, name, real)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """What an undisturbed run learns."""
    out = str(tmp_path_factory.mktemp("whole"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(models.MODELS, "tiny", TINY)
        train.fit(train.TrainConfig("tiny", out=out, **USUAL | OFTEN), quiet=True)
    return learned(out)


#: The calls of the second checkpoint and its result file: the first one that has one before it.
CALLS = [("fsync", n) for n in range(6, 11)] + [("link", 1)] + [("replace", n) for n in (3, 4, 5)]


@pytest.mark.parametrize(("call", "nth"), CALLS)
def test_killed_in_each_system_call_of_a_checkpoint(tiny, call, nth, whole):
    c = tiny(**OFTEN)
    with at_call(call, nth, Killed()) as reached, contextlib.suppress(Killed):
        train.fit(c, quiet=True)
    assert reached
    assert len(lines(c.out)) == 1
    assert checkpoint.load(Path(c.out) / train.CHECKPOINT)["step"] in (0, 1)  # whole at every moment
    assert train.fit(c, quiet=True, resume=True)["status"] == "finished"
    assert equal(learned(c.out), whole)


@pytest.mark.parametrize(("call", "nth"), [("fsync", 7), ("fsync", 9), ("replace", 4)])
def test_full_disk_in_a_system_call_of_a_checkpoint(tiny, call, nth, whole):
    c = tiny(**OFTEN)
    error = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    with at_call(call, nth, error) as reached, pytest.raises(CheckpointError, match="the disk is full"):
        train.fit(c, quiet=True)
    assert reached
    assert not list(Path(c.out).glob("*.part"))
    train.fit(c, quiet=True, resume=True)
    assert equal(learned(c.out), whole)


def test_dropout_goes_on_where_it_was(tiny, monkeypatch):
    def dropping(*args, **kwargs):
        network = models.build(*args, **kwargs)
        network.stem_norm = nn.Sequential(network.stem_norm, nn.Dropout(0.5))
        return network

    monkeypatch.setattr(train.run, "build", dropping)
    train.fit(tiny("whole", **OFTEN), quiet=True)
    c = tiny(**OFTEN, limit_seconds=0)
    record = train.fit(c, quiet=True)
    while record["status"] == "unfinished":
        torch.rand(3)  # what the caller draws in between is no part of the run
        record = train.fit(c, quiet=True, resume=True)
    assert len(record["sessions"]) > 2
    assert equal(learned(c.out), learned(tiny("whole").out))
