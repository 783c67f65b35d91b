"""What a momentum network keeps, and what its remainders are good for, at small sizes."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch

from revode import models
from revode.experiments import momentum_memory as measure
from revode.fixed_point import FixedPoint, fraction

from .training import RECIPE, TINY


def test_kept_bytes_by_depth_and_batch():
    rows = measure.measure_memory(seed=0, depths=(8, 40, 72), batches=(1, 3), depth=4, size=4).final["rows"]
    kept = {(r["way"], r["c"], r["depth"], r["batch"]): r["kept"] for r in rows}
    state = {(r["depth"], r["batch"]): r["state_bytes"] for r in rows}
    assert state[8, 8] == 2 * 8 * 8 * 4 * 4 * 4
    first = kept["stored", 0.9, 40, 8] - kept["stored", 0.9, 8, 8]
    assert kept["stored", 0.9, 72, 8] - kept["stored", 0.9, 40, 8] == first  # linear
    # 32 blocks at c = 0.9 multiply an error by 29: there is one state more for each, and at c = 0.99 none
    small = 0.2 * state[8, 8]
    assert kept["snapshots", 0.9, 40, 8] - kept["snapshots", 0.9, 8, 8] == pytest.approx(state[8, 8], abs=small)
    assert kept["snapshots", 0.9, 72, 8] - kept["snapshots", 0.9, 40, 8] == pytest.approx(state[8, 8], abs=small)
    assert kept["snapshots", 0.99, 72, 8] - kept["snapshots", 0.99, 8, 8] < small
    assert {r["snapshots"] for r in rows if r["way"] == "snapshots" and r["c"] == 0.9} == {0, 1, 2}
    for way, c, *_ in measure.WAYS:
        assert kept[way, c, 4, 3] == pytest.approx(3 * kept[way, c, 4, 1], rel=0.3)


def test_remainders_give_every_bit_back_and_are_counted():
    rows = measure.measure_remainders(seed=0, depths=(15, 30)).final["depths"]
    assert all(r["wrong"] == 0 == r["exact"] for r in rows)
    assert rows[1]["float"] > rows[0]["float"] > 0
    assert rows[1]["x_in_float"] == pytest.approx(rows[1]["float"], rel=4)  # claim 25: the buffer alone does not help
    assert rows[1]["x_in_float"] > 1e-7
    assert rows[1]["expected_bits"] == pytest.approx(30 * math.log2(1 / 0.9))
    part = FixedPoint.of(torch.arange(0.0, 64.0), 4)
    for _ in range(40):
        part = part._times(fraction(0.5))
    assert measure.bits_held(part.remainder) == pytest.approx(40, abs=0.2)  # one for each
    assert measure.bits_held(None) == 0


def test_other_c(monkeypatch):
    tiny = dataclasses.replace(TINY, scheme="momentum", c=0.9, recipe=RECIPE)
    monkeypatch.setitem(models.MODELS, "tiny", tiny)
    found = measure.measure_other_c(
        seed=0, trained_at=0.0, tested_at=(0.0, 0.9), model="tiny", data="sample", steps=2, refit_steps=1,
        test_images=100, threads=1,
    ).final  # fmt: skip
    assert found["tested"][0]["before"] == found["accuracy"]
    assert {row["c"] for row in found["tested"]} == {0.0, 0.9}
    assert all(0 <= row["after"] <= 1 for row in found["tested"])


def test_every_run_has_its_function():
    for experiment in measure.EXPERIMENTS:
        for run in experiment.runs:
            assert callable(getattr(measure, run.make.partition(":")[2]))
