"""Experiments: a run makes its file once, and what it says is what the function returned."""

from __future__ import annotations

import pytest

from revode import results
from revode.errors import CheckpointError
from revode.experiments import Measured, Run, _base, run


def test_a_measured_run_is_made_once(tmp_path, monkeypatch):
    calls = []

    def double(*, seed, n):
        calls.append(seed)
        return Measured({"twice": 2 * n}, [{"step": 1}])

    monkeypatch.setattr(_base, "double", double, raising=False)
    one = Run("twice", "_base:double", {"n": 3}, seed=5)
    made = run.make(one, tmp_path)
    assert made["final"] == {"twice": 6}
    assert made["curve"] == [{"step": 1}]
    assert made["seed"] == 5
    assert made["settings"]["n"] == 3
    assert made["settings"]["make"] == "_base:double"
    assert results.read(tmp_path / "twice.json") == made == run.make(one, tmp_path)
    assert calls == [5]


def test_a_training_stops_in_time_and_goes_on(tmp_path):
    settings = {"data": "sample", "model": "resnet-32", "steps": 2, "batch": 4, "eval_images": 4}
    one = Run("small", "train", settings, seed=1)
    assert run.make(one, tmp_path, device="cpu", limit_seconds=0)["status"] == "unfinished"
    done = run.make(one, tmp_path, device="cpu")
    assert done["status"] == "finished"
    assert done["name"] == "small"
    assert done["final"]["step"] == 2


def test_a_damaged_file_is_not_written_over(tmp_path):
    (tmp_path / "twice.json").write_text("{")
    with pytest.raises(CheckpointError, match="no JSON"):
        run.make(Run("twice", "_base:double"), tmp_path)
