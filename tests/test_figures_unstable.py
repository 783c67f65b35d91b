"""Figures of the chapter on instability: their words and cells are what was computed."""

from __future__ import annotations

import argparse
import math
import re
import xml.etree.ElementTree as ET

import numpy as np
import pytest
import torch

from revode import figures, results
from revode.analysis import choices, claims, drift
from revode.analysis.drift import CLAIMS, RoundTrip

from .helpers import corners

TRIPS = {
    "calm": RoundTrip((1, 10, 100), (0.0, 1e-7, 1e-6), (1.0, 1.1, 1.2)),
    "wild": RoundTrip((1, 10, 100), (1e-8, 5.0, math.nan), (1.0, 1e4, math.inf)),
}
DRAWINGS = {
    "coupling_window": figures.coupling_window,
    "damping_roots": figures.damping_roots,
    "growth": lambda: figures.growth_and_error(TRIPS).drawings[0],
    "error": lambda: figures.growth_and_error(TRIPS).drawings[1],
}


@pytest.mark.parametrize("name", DRAWINGS)
def test_drawings_follow_the_theme_and_say_what_they_show(name):
    drawing = DRAWINGS[name]()
    assert ET.fromstring(drawing.svg).attrib["aria-label"] == drawing.alt
    assert len(drawing.alt) > 30
    assert re.findall(r"#[0-9a-fA-F]{6}\b", re.sub(r"var\(--[\w-]+, #[0-9a-f]{6}\)", "", drawing.svg)) == []


def test_the_words_of_a_drawing_are_the_numbers():
    growth, error = (d.alt for d in figures.growth_and_error(TRIPS).drawings)
    assert "calm 1.2e+00, wild beyond the range" in growth
    assert "calm 1.0e-06, wild beyond the range" in error
    assert "2.618 at the dot" in figures.coupling_window().alt
    words = figures.damping_roots(h_omega=0.3, most=0.6).alt
    assert "below 1 at hγ = 0.046" in words  # 1 - sqrt(1 - 0.3^2)
    assert "1.797" in words  # |z + sqrt(1 + z^2)|, z = -0.6 + 0.3i


def points(drawing) -> list[np.ndarray]:
    """Coordinates on the page of the lines with markers, in the order of drawing."""
    paths = re.findall(r'<path d="(m[^"]*)" clip-path[^>]*?stroke-width: 1.8', drawing.svg)
    return [corners(p) for p in paths]


def test_what_leaves_the_range_is_on_the_strip_and_an_error_of_0_is_left_out():
    growth, error = (points(d) for d in figures.growth_and_error(TRIPS).drawings)
    calm, wild = growth
    assert len(calm) == len(wild) == 3
    assert wild[2][1] < wild[1][1] < calm[2][1]  # the page's y points down
    calm, wild = error
    assert len(calm) == 2
    assert len(wild) == 3


def test_claims_are_measured_or_read_from_a_record():
    live = figures.claims([1], "Claim 1")
    assert [row[0] for row in live.rows] == [f"1: {c.quantity}" for c in CLAIMS if c.number == 1]
    assert [row[1:3] for row in live.rows][:2] == [("2.618", "2.618"), ("2.618", "2.618")]
    assert {row[4] for row in live.rows} == {"yes"}
    row = {"number": 7, "quantity": "error", "relation": ">", "expected": 1.0, "within": 10.0, "measured": None}
    rows = [row | {"holds": True}, row | {"number": 6, "relation": "=", "measured": 50.0, "holds": False}]
    read = figures.claims([6, 7], "both", {"final": {"claims": rows}})
    assert read.rows == [("7: error", "> 1", "overflow", "bound", "yes"), ("6: error", "1", "50", "10", "NO")]
    assert len(figures.claims([6], "one", {"final": {"claims": rows}}).rows) == 1
    with pytest.raises(ValueError, match=r"there is no claim \[99\]"):
        figures.claims([1, 99], "x")


def test_the_bundled_record_of_claims_is_that_of_this_list():
    rows = results.load("claims")["final"]["claims"]
    assert [(r["number"], r["quantity"], r["expected"], r["within"]) for r in rows] == [
        (c.number, c.quantity, c.expected, c.within) for c in CLAIMS
    ]
    for row, claim in zip(rows, CLAIMS):
        assert row["holds"] == claim.holds(math.nan if row["measured"] is None else row["measured"])


@pytest.mark.parametrize(("expected", "status", "word"), [(2.618, 0, "ok"), (3.0, 1, "NOT REPRODUCED")])
def test_revode_claims_prints_writes_and_tells_by_its_status(expected, status, word, monkeypatch, tmp_path, capsys):
    rows = [
        {"number": 1, "quantity": "growth", "relation": "=", "expected": expected, "within": 1.005,
         "measured": 2.618, "holds": expected == 2.618},
        {"number": 7, "quantity": "error", "relation": ">", "expected": 1.0, "within": 10.0,
         "measured": math.nan, "holds": True},
    ]  # fmt: skip
    monkeypatch.setattr(claims, "reproduce", lambda: rows)
    assert claims.main(argparse.Namespace(out=tmp_path / "claims.json")) == status
    out = capsys.readouterr().out.splitlines()
    assert out[0] == f"  1  growth: 2.618, expected = {expected:.4g}: {word}"
    assert out[1] == "  7  error: overflow, expected > 1: ok"
    record = results.read(tmp_path / "claims.json")
    assert record["kind"] == "claims"
    assert [row["measured"] for row in record["final"]["claims"]] == [2.618, None]


def test_tables_show_measured_numbers():
    x = drift.random_input(2, 8)
    found = choices.measure(choices.network("RevNet", 5, width=8), x)
    ((name, *cells),) = figures.design_choices({"RevNet": found}, "One").rows
    assert name == "RevNet"
    assert cells == [found["off_axis"], found["radius"], f"{found['root']:.4f}", found["growth"], found["error"]]
    lost = found | {"growth": math.inf, "error": math.nan}
    assert figures.design_choices({"RevNet": lost}, "One").rows[0][4:] == ("overflow", "overflow")
    rows = choices.damping([0.0, 1.0], x, depth=3)
    table = figures.damping_measured(rows, "Two")
    assert [row[0] for row in table.rows] == [0.0, 1.0]
    assert table.rows[1][1:3] == (rows[1]["euler_step"], f"{rows[1]['euler_root']:.4f}")
    assert table.rows[1][4:6] == (0.0, f"{rows[1]['midpoint_root']:.4f}")
    rows = choices.compare_splits(torch.randn(2, 3, 4, 4), torch.tensor([0, 1]), depth=2, steps=1)
    table = figures.splits(rows, "Four")
    assert table.rows[1][0] == "hamiltonian, checkerboard"
    assert [row[1] for row in table.rows] == [row["weights"] for row in rows]
    assert [row[-1] for row in table.rows] == [row["trained"] for row in rows]
    ways = [{"way": "stored", "loss": 1 / 3, "seconds": 1.0, "ratio": 1.0, "saved_bytes": 12}]
    assert figures.gradient_ways(ways, "One").rows == [("stored", "0.333333333333", 12)]
