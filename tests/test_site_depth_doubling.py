"""The depth doubling figure in the built book: by key, and its numbers against the package's."""

from __future__ import annotations

import numpy as np
import pytest

from revode import stability
from revode.widgets import depth_doubling as figure

from .browser import choose, drawn, figure_on, picture, points_of, set_slider, spoken

PAGE = "book/16_multilevel_and_multiscale"
DATA = figure.bundled()
NETWORKS = {n["name"]: n for n in DATA["networks"]}


@pytest.fixture
def doubling(visit):
    return figure_on(visit(PAGE), "doubling")


@pytest.fixture
def used(share):
    """The same on a page that other tests have used."""
    return figure_on(share(PAGE), "doubling")


@pytest.mark.parametrize(
    ("network", "interpolation", "level"),
    [("hamiltonian", "copy", 5), ("antisymmetric", "linear", 10), ("resnet", "copy", 8)],
)
def test_page_draws_the_numbers_of_the_package(used, network, interpolation, level):
    choose(used, network)
    choose(used, interpolation)
    set_slider(used, level)
    got, n = drawn(used), NETWORKS[network]
    found, k, count = n[interpolation], level - 4, len(DATA["classes"])
    assert (got["network"], got["interpolation"], got["level"]) == (network, interpolation, level)
    features = n["quantum"] * stability.unpack(found["features"], "<i2").reshape(-1, count, 2)[k]
    np.testing.assert_allclose(got["features"], features, rtol=1e-9)
    assert got["gaps"] == found["gaps"]
    scale = got["scale"]
    x = scale["cx"] + scale["k"] * features[:, 0]
    y = scale["cy"] - scale["k"] * features[:, 1]
    for cls, digit in (("rv-first", "0"), ("rv-second", "1")):
        places = used.locator(f"svg.rv-plane circle.{cls}").evaluate_all(
            "all => all.map(e => [e.cx.baseVal.value, e.cy.baseVal.value])"
        )
        of = np.array([c == digit for c in DATA["classes"]])
        np.testing.assert_allclose(places, np.stack((x, y), 1)[of], atol=0.02)
    way = points_of(used.locator("svg.rv-plane path.rv-way-of-one"))
    assert len(way) == min(2**level, 64) + 1
    np.testing.assert_allclose(way[-1], (x[DATA["followed"]], y[DATA["followed"]]), atol=0.02)
    assert f"{2**level} layers" in spoken(used)
    assert f"{100 * found['accuracy'][k]:.1f} %" in spoken(used)


def test_the_slider_by_key_changes_drawing_and_sentence(doubling):
    seen, said = {picture(doubling)}, {spoken(doubling)}
    slider = doubling.get_by_role("slider", name="number of layers")
    slider.focus()
    for layers, h in ((32, 0.625), (64, 0.3125)):
        doubling.page.keyboard.press("ArrowRight")
        assert slider.get_attribute("aria-valuetext") == f"{layers} layers, h = {h}"
        seen.add(picture(doubling))
        said.add(spoken(doubling))
    assert len(seen) == len(said) == 3
    doubling.page.keyboard.press("End")
    assert drawn(doubling)["level"] == 10
    doubling.page.keyboard.press("ArrowRight")
    assert drawn(doubling)["level"] == 10
