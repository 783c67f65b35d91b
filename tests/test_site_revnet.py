"""The RevNet pad in the built book: by key and by pointer, and its numbers against the package's."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from revode import stability
from revode.analysis import choices, drift
from revode.widgets.revnet import LAYERS, REACH, START

from .browser import LIVE, drawn, figure_on, picture, points_of, set_slider, spoken

PAGE = "book/10_when_algebra_lies"
FIRST, SECOND = "slope α of the first branch", "slope β of the second branch"


@pytest.fixture
def pad(visit):
    return figure_on(visit(PAGE), "revnet")


@pytest.fixture
def used(share):
    """The same on a page that other tests have used."""
    return figure_on(share(PAGE), "revnet")


def put(widget, alpha: float, beta: float) -> dict:
    set_slider(widget, round(alpha * 20), FIRST)
    set_slider(widget, round(beta * 20), SECOND)
    return drawn(widget)


CASES = [(1, 1), (1, -1), (2, -2), (0.1, 0.1), (-0.5, 2.5), (3, -3), (0, 2), (-0.05, 0.3)]


def test_page_draws_the_numbers_that_the_package_computes(used):
    for alpha, beta in CASES:
        compare(used, alpha, beta)


def compare(pad, alpha: float, beta: float) -> None:
    got = put(pad, alpha, beta)
    assert (got["alpha"], got["beta"]) == (alpha, beta)
    roots = sorted((complex(*r) for r in got["roots"]), key=lambda r: (round(r.real, 9), r.imag))
    want = sorted(stability.coupling_roots(alpha, beta).tolist(), key=lambda r: (round(r.real, 9), r.imag))
    assert roots == pytest.approx(want, rel=1e-7, abs=1e-7)  # where they coincide, half the digits
    assert got["growth"] == pytest.approx(np.abs(want).max(), rel=1e-7)

    x = torch.tensor([START], dtype=torch.float64)
    for j in (1, 7, LAYERS):
        stage = choices.linear_revnet(alpha, beta, j).double()
        with torch.no_grad():
            assert got["there"][j] == pytest.approx(stage(x).norm().item(), rel=1e-10)
            assert got["back"][j] == pytest.approx(stage.inverse(x).norm().item(), rel=1e-10)
    trip = drift.round_trip(choices.linear_revnet(alpha, beta, LAYERS), x.float(), [LAYERS])
    if trip.error[0] < 1:
        assert got["error"] == pytest.approx(trip.error[0], rel=1e-3, abs=1e-12), "the same operations in float32"
    else:
        assert not got["error"] < 1

    stable = -4 <= alpha * beta <= 0
    assert pad.get_attribute("data-stable") == str(stable).lower()
    # and what is on the screen is those numbers
    place = got["scale"]["pad"]
    knob = pad.locator(".rv-knob").evaluate("e => [e.cx.baseVal.value, e.cy.baseVal.value]")
    assert knob == pytest.approx([place["cx"] + place["k"] * alpha, place["cy"] - place["k"] * beta], abs=0.01)
    axis = got["scale"]["depth"]
    for hue, values in (("revnet", got["there"]), ("leapfrog", got["back"])):
        points = points_of(pad.locator(f"svg.rv-depth path.rv-path.rv-{hue}"))
        y = axis["y1"] - (axis["y1"] - axis["y0"]) * (np.log10(np.array(values, float)) - axis["floor"]) / (
            axis["ceil"] - axis["floor"]
        )
        np.testing.assert_allclose(points[:, 1], y, atol=0.02)
        np.testing.assert_allclose(points[:, 0], np.linspace(axis["x0"], axis["x1"], LAYERS + 1), atol=0.02)


def test_slider_by_key_and_pad_by_drag_change_the_drawing_and_the_spoken_sentence(pad):
    seen, said = [picture(pad)], [spoken(pad)]
    slider = pad.get_by_role("slider", name=SECOND)
    slider.focus()
    pad.page.keyboard.press("ArrowLeft")
    assert slider.get_attribute("aria-valuetext") == "beta = 1.45, unstable"
    seen.append(picture(pad))
    said.append(spoken(pad))

    box = pad.locator("svg.rv-pad").bounding_box()
    place = drawn(pad)["scale"]["pad"]
    pixel = box["width"] / (2 * place["cx"])  # the drawing's own pixels, should the page have scaled it

    def at(alpha, beta):
        x, y = place["cx"] + place["k"] * alpha, place["cy"] - place["k"] * beta
        return box["x"] + pixel * x, box["y"] + pixel * y

    pad.page.mouse.move(*at(1.5, 1.45))
    pad.page.mouse.down()
    pad.page.mouse.move(*at(1.5, -1.0), steps=6)
    pad.page.mouse.up()
    got = drawn(pad)
    assert (got["alpha"], got["beta"]) == (1.5, -1.0)
    pad.page.mouse.move(*at(0, 0))  # let go: the pointer no longer pulls
    assert drawn(pad)["alpha"] == 1.5
    seen.append(picture(pad))
    said.append(spoken(pad))
    assert len(set(seen)) == len(set(said)) == 3
    assert "outside the window" in said[0]
    assert "inside the window" in said[2]


def test_ticks_lead_to_the_edge_of_the_window(used):
    put(used, 2, 1)
    used.get_by_role("button", name="set beta to -2.00, αβ = −4").click()
    assert drawn(used)["beta"] == -2
    assert "coincide at −1" in spoken(used)
    used.get_by_role("slider", name=SECOND).press("ArrowLeft")
    assert used.get_attribute("data-stable") == "false"
    put(used, 0, 1)
    assert used.locator(".rv-tick-button").count() == 0
    assert used.get_by_role("slider", name=FIRST).get_attribute("max") == str(round(REACH * 20))


def test_figure_hears_python_and_goes_quietly(visit):
    page = visit(PAGE)
    page.evaluate(LIVE)
    live = page.locator("#live")
    page.evaluate("window.model.told('alpha', -0.5)")
    assert drawn(live)["alpha"] == -0.5
    set_slider(live, 10, FIRST)
    assert page.evaluate("window.model.get('alpha')") == 0.5
    page.evaluate("window.stop()")
    assert page.evaluate("window.model.listening()") == 0
