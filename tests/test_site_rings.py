"""The rings in the built book: by key and by play, and its states against the package's."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from revode import results
from revode.experiments import crossing, rings, toys
from revode.widgets import RingsExplorer
from revode.widgets.rings import POINTS, SEED

from .browser import LIVE, choose, drawn, figure_on, picture, points_of, set_slider, spoken

PAGE = "book/15_momentum_and_second_order"
MOMENTA = RingsExplorer().spec["momenta"]


@pytest.fixture
def figure(visit):
    return figure_on(visit(PAGE), "rings")


@pytest.fixture
def used(share):
    """The same on a page that other tests have used."""
    return figure_on(share(PAGE), "rings")


def put(widget, problem: str, c: float, trained: int, block: int = 15) -> dict:
    choose(widget, problem)
    set_slider(widget, MOMENTA.index(c), "momentum c")
    set_slider(widget, trained, "steps of training")
    set_slider(widget, block, "blocks")
    return drawn(widget)


@pytest.mark.parametrize(("c", "trained", "block"), [(0.0, 7, 15), (0.99, 7, 15), (0.9, 3, 4), (0.5, 0, 0)])
def test_rings_are_where_the_package_moves_them(used, c, trained, block):
    got = put(used, "rings", c, trained, block)
    record = results.load("rings")
    step = record["final"]["kept"][trained]
    assert (got["problem"], got["c"], got["steps"], got["block"]) == ("rings", c, step, block)
    network = rings.kept(record, c, step).double()
    x, labels = rings.points(POINTS, SEED)
    way = toys.states(network.stage, x.double()).detach()
    np.testing.assert_allclose(np.reshape(got["states"], way.shape), way, rtol=1e-9, atol=1e-9)
    right = (network(x.double()).argmax(1) == labels).double().mean().item()
    assert got["accuracy"] == pytest.approx(right)
    assert f"{100 * right:.0f} % of 400 points end on the right side" in spoken(used)

    dots = used.locator("svg.rv-now .rv-point").evaluate_all(
        "l => l.map(e => [e.cx.baseVal.value, e.cy.baseVal.value])"
    )
    s = got["scale"]
    shown = (np.array(dots) - [s["cx"], s["cy"]]) / [s["k"], -s["k"]]
    np.testing.assert_allclose(shown, way[block], atol=0.02 / s["k"])
    wrong = used.locator("svg.rv-input .rv-wrong").count()
    assert wrong == round((1 - right) * len(labels))
    assert used.locator(".rv-border").count() == (block == 15)


@pytest.mark.parametrize(("c", "trained"), [(0.0, 7), (0.95, 5)])
def test_the_line_is_what_the_package_makes_of_it(used, c, trained):
    got = put(used, "line", c, trained)
    record = results.load("crossing")
    network = crossing.kept(record, c, record["final"]["kept"][trained]).double()
    x = torch.linspace(-1, 1, 201, dtype=torch.float64)[:, None]
    way = toys.states(network, x).detach()
    np.testing.assert_allclose(np.array(got["states"]), way[..., 0], rtol=1e-9, atol=1e-9)
    error = (way[-1] + x**3).square()[:, 0]
    assert got["mse"] == pytest.approx(torch.trapezoid(error, x[:, 0]).item() / 2, rel=1e-6)
    s, out = got["scale"], points_of(used.locator("svg.rv-input .rv-out"))
    want = s["y1"] - (s["y1"] - s["y0"]) * (way[-1, :, 0].numpy() + s["top"]) / (2 * s["top"])
    np.testing.assert_allclose(out[:, 1], want, atol=0.02)
    assert "the output 0 would have 0.143" in spoken(used)
    if c == 0.95:
        assert "reversed" in spoken(used)


def test_sliders_by_key_change_the_drawing_and_the_spoken_sentence(used):
    put(used, "rings", 0.0, 7)
    seen, said = {picture(used)}, {spoken(used)}
    slider = used.get_by_role("slider", name="momentum c")
    slider.press("End")
    assert drawn(used)["c"] == 0.99
    assert slider.get_attribute("aria-valuetext") == "momentum 0.99"
    seen.add(picture(used))
    said.add(spoken(used))
    used.get_by_role("slider", name="steps of training").press("Home")
    assert drawn(used)["steps"] == 0
    seen.add(picture(used))
    said.add(spoken(used))
    used.get_by_role("button", name="set c to 0.9", exact=True).press("Enter")
    assert drawn(used)["c"] == 0.9
    assert len(seen) == len(said) == 3
    assert "untrained" in spoken(used)


def test_training_plays_and_can_be_stopped(visit):
    figure = figure_on(visit(PAGE), "rings")
    button = figure.get_by_role("button", name="train")
    # Read in the same breath: on a busy machine the next picture may be there before another question is.
    assert button.evaluate("b => { b.click(); return b.closest('.rv-rings').revode.trained; }") == 0
    figure.page.wait_for_function("() => document.querySelector('.rv-rings').revode.trained >= 1")
    figure.get_by_role("button", name="stop").click()
    still = drawn(figure)["trained"]
    figure.page.wait_for_timeout(800)
    assert drawn(figure)["trained"] == still
    assert "steps of training" in spoken(figure)
    calm = figure_on(visit(PAGE, reduced_motion="reduce"), "rings")
    assert calm.locator(".rv-play").is_hidden()


def test_figure_hears_python_and_goes_quietly(visit):
    page = visit(PAGE)
    page.evaluate(LIVE)
    live = page.locator("#live")
    page.evaluate("window.model.told('problem', 'line')")
    page.evaluate("window.model.told('c', 0.88)")
    assert (drawn(live)["problem"], drawn(live)["c"]) == ("line", 0.9)
    set_slider(live, 4, "blocks")
    assert page.evaluate("window.model.get('block')") == 4
    page.evaluate("window.stop()")
    assert page.evaluate("window.model.listening()") == 0
