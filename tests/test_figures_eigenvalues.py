"""Figures of eigenvalues: they say in words what they show, and the numbers in them are those of the result."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET

import pytest

from revode import figures


def unit(number: int, off: float, radius: float = 2.0) -> dict:
    return {
        "unit": number, "block": 2, "shape": [1, 4, 2, 2], "dimension": 16, "image": 8, "radius": radius,
        "off_axis": off, "share": 0.25 if off > 1e-6 else 0.0, "growth": 1 + off, "critical_h": 1.0,
        "re": [0.0, off * radius, -off * radius], "im": [radius, 0.5, 0.0],
    }  # fmt: skip


def layer(number: int, off: float) -> dict:
    return {
        "unit": number, "block": 0, "dimension": 64, "radius": 2.0, "off_axis": off, "off_axis_bound": 0.5,
        "products": 9, "converged": True, "residual": 1e-5,
    }  # fmt: skip


def record(scheme: str = "hamiltonian", off: float = 0.008) -> dict:
    clouds = {"none": [unit(0, 1e-9), unit(1, 1e-16)], "fresh": [unit(0, 1e-9), unit(1, 0.0)]}
    return {
        "settings": {"model": f"{scheme}-1", "scheme": scheme, "extremes_tol": 1e-4},
        "final": {
            "clouds": clouds | {"trained": [unit(0, 1e-7), unit(1, off)]},
            "extremes": [layer(0, 1e-7), layer(1, off), layer(1, 0.0)],
        },
    }


GROUPS = {
    "eigenvalue_clouds": lambda: figures.eigenvalue_clouds(record()),
    "unit_circle": lambda: figures.unit_circle({"one": [1j, -1j], "two": [2.0, 0.5]}),
    "off_axis_by_layer": lambda: figures.off_axis_by_layer([record(), record("euler", 0.7)]),
    "shares": lambda: figures.shares({"one": [1j, -1j], "two": [3j, -3j]}),
    "norm_of_map": lambda: figures.norm_of_map([1, 4], {"hamiltonian": [1.1, 2.5], "euler": [0.9, 0.1]}),
}


@pytest.mark.parametrize("name", GROUPS)
def test_each_drawing_says_what_it_shows_in_the_colours_of_the_page(name):
    made = GROUPS[name]()
    for drawing in getattr(made, "drawings", [made]):
        svg = ET.fromstring(drawing.svg)
        assert svg.attrib["role"] == "img"
        assert len(svg.attrib["aria-label"]) > 30
        assert re.findall(r"#[0-9a-fA-F]{6}\b", re.sub(r"var\(--[\w-]+, #[0-9a-f]{6}\)", "", drawing.svg)) == []


@pytest.mark.parametrize(("off", "magnify"), [(0.008, 100), (0.7, 1), (0.1, 5), (1e-9, 1000)])
def test_real_axis_is_magnified_by_a_round_number_that_is_said(off, magnify):
    """The widest cloud, here the trained one of unit 2, fills the panel and does not leave it."""
    made = figures.eigenvalue_clouds(record(off=off))
    assert magnify * off <= 1
    assert f"real axis × {magnify:g}." in made.drawings[1].alt
    assert (f"magnified {magnify:g} times" in made.caption) == (magnify > 1)
    assert f"{off:.1e} after" in made.drawings[1].alt


def test_clouds_on_the_axis_to_the_last_digit_are_lines():
    flat = record()
    for rows in flat["final"]["clouds"].values():
        rows[:] = [unit(0, 0.0)]
    assert "magnified 1000 times" in figures.eigenvalue_clouds(flat).caption


def test_table_has_a_row_for_each_unit_with_the_three_states():
    made = figures.distance_from_axis([record()])
    assert made.rows[1] == ("hamiltonian-1, unit 2", 16, "1.0e-16", "0.0e+00", "8.0e-03", "25 %", "2.00", "1.008")
    assert made.columns[2:5] == tuple(figures.STATES.values())


def test_roots_outside_the_circle_are_told():
    made = figures.unit_circle({"one": [1j, -1j], "two": [2.0, 0.5]})
    assert "modulus 1." in made.drawings[0].alt
    assert "modulus 2." in made.drawings[1].alt


def test_ends_of_the_curves_are_in_the_words():
    assert "Verlet 2.5, Euler 0.1" in GROUPS["norm_of_map"]().alt
    assert "one from -1.00 to 1.00; two from -3.00 to 3.00" in GROUPS["shares"]().alt
    words = GROUPS["off_axis_by_layer"]().alt
    assert "hamiltonian-1 up to 8.0e-03; euler-1 up to 7.0e-01" in words
