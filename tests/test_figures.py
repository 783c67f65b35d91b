"""Drawings follow the page's theme, have a text alternative, and can stand side by side in one page."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET

import numpy as np
import pytest

from revode import figures

DRAWINGS = {
    "step_size_overview": lambda: figures.step_size_overview(steps=20),
    "stability_regions": figures.stability_regions,
    "norm_over_depth": lambda: figures.norm_over_depth("pendulum", h=0.5),
    "layer_frequencies": lambda: figures.layer_frequencies(np.random.default_rng(0).standard_normal((9, 9)), h=0.3),
}


@pytest.fixture(params=DRAWINGS, scope="module")
def drawing(request) -> figures.Drawing:
    return DRAWINGS[request.param]()


def test_drawing_is_wellformed_and_says_what_it_shows(drawing):
    svg = ET.fromstring(drawing.svg)
    assert svg.tag == "{http://www.w3.org/2000/svg}svg"
    assert svg.attrib["role"] == "img"
    assert svg.attrib["aria-label"] == drawing.alt
    assert len(drawing.alt) > 30
    assert drawing.svg in drawing._repr_html_()


def test_drawing_has_no_colour_of_its_own_but_the_fallbacks_of_variables(drawing):
    without = re.sub(r"var\(--[\w-]+, #[0-9a-f]{6}\)", "", drawing.svg)
    assert re.findall(r"#[0-9a-fA-F]{6}\b", without) == []
    assert "white" not in without
    assert "currentColor" in without
    assert "<style" not in drawing.svg  # it would apply to the whole page


def test_two_drawings_share_no_id():
    ids = [set(re.findall(r' id="([^"]+)"', DRAWINGS["norm_over_depth"]().svg)) for _ in range(2)]
    assert ids[0]
    assert not ids[0] & ids[1]
    used = re.findall(r"url\(#([^)]+)\)", DRAWINGS["norm_over_depth"]().svg)
    assert used


def test_ids_that_are_used_are_there(drawing):
    ids = set(re.findall(r' id="([^"]+)"', drawing.svg))
    assert set(re.findall(r'(?:url\(#|href="#)([\w-]+)', drawing.svg)) == ids


def test_a_caption_is_text_and_not_markup():
    figure, ax = figures.axes()
    figures.line(ax, [0, 1], [0, 1], "euler")
    drawing = figures.show(figure, 'a line, "h" < 1', "h < 1 & no more")
    assert "<figcaption>h &lt; 1 &amp; no more</figcaption>" in drawing._repr_html_()
    assert ET.fromstring(drawing.svg).attrib["aria-label"] == 'a line, "h" < 1'


def test_a_drawing_without_words_is_refused():
    figure, _ = figures.axes()
    with pytest.raises(ValueError, match="alt is empty"):
        figures.show(figure, " ")
