"""Training by several processes, started by torchrun as a user would."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from revode import build, checkpoint, results, train
from revode.errors import CheckpointError

from .helpers import relative
from .training import lines, weights

STEPS = 4
OPTIONS = {
    "data": "sample", "batch": 8, "steps": STEPS, "lr": 0.02, "smoothness": 0.5, "weight_decay": 0.1,
    "normalization": "none", "h": 0.2, "eval_every": 2, "eval_images": 12, "device": "cpu", "threads": 1,
}  # fmt: skip


def torchrun(out: Path, *more: str, processes: int = 2) -> subprocess.CompletedProcess:
    options = [word for k, v in OPTIONS.items() for word in ("--" + k.replace("_", "-"), str(v))]
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}", "-m",
               "revode", "train", "midpoint-26", *options, "--out", str(out), *more]  # fmt: skip
    return subprocess.run(command, capture_output=True, text=True, timeout=300)


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """One process on the whole batches; two processes, cut off after a step and resumed."""
    folder = tmp_path_factory.mktemp("runs")
    one, two = folder / "one", folder / "two"
    train.fit(train.TrainConfig("midpoint-26", out=str(one), **OPTIONS), quiet=True)
    first = torchrun(two, "--limit-seconds", "0")
    assert first.returncode == 0, first.stderr
    assert checkpoint.load(two / train.CHECKPOINT)["step"] == 1
    second = torchrun(two, "--resume")
    assert second.returncode == 0, second.stderr
    return one, two, first, second


def test_two_processes_train_as_one_on_the_joined_batch(runs):
    one, two, *_ = runs
    a, b = weights(one), weights(two)
    for name in a:
        torch.testing.assert_close(b[name], a[name], rtol=1e-5, atol=1e-6)
    first = build("midpoint-26", seed=0, normalization="none", h=0.2).state_dict()
    assert min(relative(first[n], a[n]) for n in a if n.endswith("weight")) > 1e-3  # they have moved


def test_log_and_curve_are_of_the_whole_batch(runs):
    one, two, *_ = runs
    for a, b in zip(lines(one), lines(two), strict=True):
        assert (a["step"], a["accuracy"], a["lr"]) == (b["step"], b["accuracy"], b["lr"])
        assert b["loss"] == pytest.approx(a["loss"], rel=1e-5)
    a, b = (results.read(out / train.RESULT) for out in (one, two))
    assert (a["settings"]["processes"], b["settings"]["processes"]) == (1, 2)
    assert len(a["curve"]) == len(b["curve"]) == 2
    for p, q in zip(a["curve"], b["curve"], strict=True):
        for key in ("step", "epoch", "train_loss", "train_accuracy", "test_loss", "test_accuracy", "test_images"):
            assert q[key] == pytest.approx(p[key], rel=1e-4), key


def test_only_the_first_process_writes(runs):
    _, two, first, second = runs
    assert sorted(p.name for p in two.iterdir()) == ["checkpoint.pt", "checkpoint.pt.bak", "log.jsonl", "result.json"]
    assert [e["step"] for e in lines(two)] == [1, 2, 3, 4]
    assert first.stderr.count("unfinished at step 1 of 4") == 1
    assert second.stdout.count("test accuracy") == 1
    assert [s["from_step"] for s in results.read(two / train.RESULT)["sessions"]] == [0, 1]


def test_one_process_does_not_go_on_with_a_run_of_two(runs):
    config = train.TrainConfig("midpoint-26", out=str(runs[1]), **OPTIONS)
    with pytest.raises(CheckpointError, match="processes = 1 differs from 2"):
        train.fit(config, quiet=True, resume=True)
    assert torch.distributed.is_initialized() is False
