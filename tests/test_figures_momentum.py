"""Figures of the chapter on momentum: their words and cells are what the records say."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from functools import cache

import numpy as np
import pytest

from revode import figures, results
from revode.experiments import linear_maps

CROSSING = [results.load(n) for n in ("crossing", "crossing-seed1", "crossing-seed2")]
RINGS = [results.load("rings")]
LISTA = [results.load("lista")]

DRAWINGS = {
    "paths": lambda: figures.crossing_paths(CROSSING[0]),
    "over_momentum": lambda: figures.over_momentum(CROSSING, RINGS),
    "rings": lambda: figures.rings_over_depth(RINGS[0], 0.99, count=5),
    "gain": figures.linear_gain,
    "orders": lambda: figures.orders(linear_maps.second_order()),
    "solvers": lambda: figures.learned_solvers(LISTA),
}


@cache
def made(name):
    return DRAWINGS[name]()


@pytest.mark.parametrize("name", DRAWINGS)
def test_drawings_follow_the_theme_and_say_what_they_show(name):
    drawing = made(name)
    for one in getattr(drawing, "drawings", [drawing]):
        assert ET.fromstring(one.svg).attrib["aria-label"] == one.alt
        assert len(one.alt) > 30
        assert re.findall(r"#[0-9a-fA-F]{6}\b", re.sub(r"var\(--[\w-]+, #[0-9a-f]{6}\)", "", one.svg)) == []


def test_the_words_are_the_numbers():
    mse = np.mean([r["final"]["momenta"][-1]["mse"] for r in CROSSING])
    assert f"c = 0.99: {mse:.3g}." in made("over_momentum").drawings[0].alt
    share = made("rings").drawings[-1].alt
    assert 0.95 < int(re.search(r"has (\d+)%", share)[1]) / 100 <= 1
    assert f"c = 0.9: {linear_maps.gain(np.linspace(-1, 0, 999), 0.9).min():.2g}" in made("gain").alt
    assert "leapfrog: 2.00" in made("orders").alt
    last = LISTA[0]["final"]["depths"][-1]
    assert f"RevNet {last['RevNet']:.2g}" in made("solvers").drawings[0].alt


def test_tables_have_a_row_for_each_network():
    rows = figures.seeds_table({"line": CROSSING}, (0.0, 0.9), "mse", "x").rows
    assert [row[:2] for row in rows] == [("line: ResNet", 3), ("line: c = 0.9", 3)]
    assert rows[0][3] <= rows[0][2] <= rows[0][4]
    turned = figures.turned(results.load("crossing-turning"))
    assert [row[0] for row in turned.rows] == ["15 blocks", "16 blocks"]
    table = figures.linear_table(results.load("linear-maps"))
    assert table.columns[:2] == ("map", "least with det > 0")
    assert table.rows[1][0] == "reflection"
    assert table.rows[1][1] == pytest.approx(3**-0.5)
