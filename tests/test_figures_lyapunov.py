"""Figures and tables of chapter 7 say what their numbers say, and its result is in the package."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET

import numpy as np
import pytest
import torch

from revode import figures, results
from revode.analysis.lyapunov import exponents


@pytest.fixture(scope="module")
def record():
    return results.load("lyapunov-hamiltonian-74")


@pytest.fixture(scope="module")
def found():
    x = torch.tensor([[1.0, 2.0], [3.0, 1.0], [0.5, 0.1]], dtype=torch.float64)
    return exponents(lambda x: x * x.new_tensor([2.0, 0.25]), x, count=60, skip=30)


@pytest.fixture(scope="module")
def drawings(record, found):
    apart = {"noise": [np.array([2.0, 4.0, 8.0]), np.array([3.0, 3.0])], "other": [np.ones(3), np.ones(2)]}
    return [
        figures.exponents_over_depth(found, "A diagonal map"),
        figures.pairing([1, 10], {"singular values": [1e-15, 1e-14], "QR method": [0.1, 0.01]}),
        *figures.growth_over_depth(record, 1.0).drawings,
        figures.growth_over_step(record),
        figures.alignment(record),
        figures.distance_over_depth(apart),
    ]


def test_drawings_are_wellformed_themed_and_have_words(drawings):
    for drawing in drawings:
        svg = ET.fromstring(drawing.svg)
        assert svg.attrib["role"] == "img"
        assert len(svg.attrib["aria-label"]) > 30
        assert re.findall(r"#[0-9a-fA-F]{6}\b", re.sub(r"var\(--[\w-]+, #[0-9a-f]{6}\)", "", drawing.svg)) == []


def test_drawings_tell_the_numbers_they_were_given(record, drawings):
    over_depth, pairs, aligned, random, step, passes, distance = drawings
    assert "from 0.693 to -1.39, their sum is -0.693" in over_depth.alt
    assert "QR method from 1e-01 to 1e-02" in pairs.alt
    assert "noise: 4 times after the first unit" in distance.alt
    runs = {(r["weights"], r["h"]): r for r in record["final"]["runs"]}
    for key, drawing in (("leading", aligned), ("random", random)):
        value = runs["trained", 1.0][key]["mean"][0]
        assert f"trained {value:.2f}" in drawing.alt
    small, large = (np.exp(runs["initial, settled", h]["leading"]["mean"][0]) for h in (0.25, 2.0))
    assert f"initial, settled, aligned from {small:.2f} to {large:.2f}" in step.alt
    last = record["final"]["alignment"][-1]
    assert f"{max(last['mean']):.2f} after {last['passes']} passes" in passes.alt


def test_a_step_size_that_was_not_measured_is_refused(record):
    with pytest.raises(ValueError, match=r"h = 3.0 must be one of \[0.25, 0.5, 1.0, 2.0\]"):
        figures.growth_over_depth(record, 3.0)


def test_table_of_growth_has_every_run_with_its_error(record):
    table = figures.growth_table(record)
    assert len(table.rows) == len(record["final"]["runs"]) == 12
    run = record["final"]["runs"][0]
    rate, error = run["leading"]["mean"][0], run["leading"]["error"][0]
    assert table.rows[0][:3] == ("trained", "0.25", f"{np.exp(rate):.3f} ± {np.exp(rate) * error:.3f}")


def test_table_of_known_exponents_says_where_one_is_missed():
    row = {"system": "a", "exponent": "λ1", "expected": -0.5, "error": 0.01, "within": 0.1}
    rows = [row | {"measured": -0.51, "holds": True}, row | {"measured": -2e-9, "holds": False}]
    table = figures.known_exponents(rows)
    assert [r[2:4] for r in table.rows] == [("−0.5000", "−0.5100"), ("−0.5000", "−2.0e−09")]
    assert [r[-1] for r in table.rows] == ["yes", "NO"]


def test_table_of_drift_names_the_factor_of_momentum():
    rates = dict.fromkeys(("forward", "smallest", "inverse", "state", "predicted", "measured"), -0.25)
    table = figures.inverse_and_drift([{"name": n, "h": 0.9} | rates for n in ("momentum", "hamiltonian")])
    assert [r[0] for r in table.rows] == ["momentum, c = 0.9", "Verlet, h = 0.9"]
    assert table.rows[0][1] == "−0.250"


# --- what the chapter says of the result ------------------------------------------------------------------------


def test_the_result_is_what_the_prose_says(record):
    assert record["evidence"]["uncommitted_changes"] is False
    assert record["settings"]["dimension"] == 32_768
    rate = {
        (r["weights"], r["h"]): {k: r[k]["mean"][0] for k in ("leading", "random")} for r in record["final"]["runs"]
    }
    kinds = ("initial", "initial, settled")
    assert all(rate["trained", 0.25]["leading"] > rate[kind, 0.25]["leading"] for kind in kinds)
    assert all(rate["trained", 2.0]["leading"] < rate[kind, 2.0]["leading"] for kind in kinds)
    trained, settled, initial = (rate[kind, 1.0] for kind in ("trained", "initial, settled", "initial"))
    assert 0 < trained["leading"] - settled["leading"] < 0.1 * (initial["leading"] - settled["leading"])
    assert trained["random"] < settled["random"] < initial["random"]
    assert min(v for run in record["final"]["runs"] for v in run["leading"]["mean"]) > 0
    # nearly as large: the inverse; too low by a few per cent: what few passes aligned
    for run in record["final"]["runs"]:
        assert run["inverse"]["mean"][0] == pytest.approx(run["leading"]["mean"][0], rel=0.08)
    passes = {row["passes"]: max(row["mean"]) for row in record["final"]["alignment"]}
    assert 0.95 < passes[record["settings"]["align"]] / passes[max(passes)] <= 1
