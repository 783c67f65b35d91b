"""The bent kernel in the built book: by key and by drag, and its numbers against the package's and scipy's."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.linalg import expm

from revode import analysis
from revode.stability import unpack
from revode.widgets import BentKernel
from revode.widgets.bent_kernel import PER_UNIT, POINTS, TIME
from revode.widgets.bent_kernel_data import jacobian, unpacked

from .browser import LIVE, choose, drawn, figure_on, picture, points_of, set_slider, spoken
from .helpers import paired

PAGE = "book/06_jacobian_eigenvalues"
SLIDER = "bend κ of K − κ Kᵀ"
KERNELS = {k["name"]: k for k in BentKernel().spec["kernels"]}


@pytest.fixture
def figure(visit):
    return figure_on(visit(PAGE), "bent")


@pytest.fixture
def used(share):
    """The same on a page that other tests have used."""
    return figure_on(share(PAGE), "bent")


def put(widget, kernel: str, activation: str, bend: float) -> dict:
    choose(widget, kernel)
    choose(widget, activation)
    set_slider(widget, round(bend * PER_UNIT))
    return drawn(widget)


@pytest.mark.parametrize(
    ("kernel", "activation", "bend"),
    [
        ("random", "linear", 0.0), ("random", "linear", -1.0), ("random", "tanh", 0.45), ("chain", "linear", 0.0),
        ("chain", "tanh", -0.3), ("chain", "linear", 1.0), ("trained", "linear", 0.5), ("trained", "tanh", 1.0),
    ],
)  # fmt: skip
def test_page_draws_the_numbers_that_the_package_computes(used, kernel, activation, bend):
    got = put(used, kernel, activation, bend)
    assert (got["kernel"], got["activation"], got["bend"]) == (kernel, activation, bend)
    data = KERNELS[kernel]
    k = unpacked(data)
    J = jacobian(k, bend, activation)
    dense = J.dense().numpy()
    np.testing.assert_allclose(np.reshape(got["jacobian"], dense.shape), dense, rtol=1e-12, atol=1e-14)
    lam = analysis.eigenvalues(J)
    assert paired([complex(*v) for v in got["eigenvalues"]], lam) < 1e-4
    assert [got["rate"], got["low"], got["high"]] == pytest.approx(
        [lam.real.max(), *analysis.numerical_range(J).real], abs=1e-6
    )
    assert got["off"] == pytest.approx(analysis.off_axis(lam), rel=1e-5, abs=1e-12)

    # growth: the flow itself, by another exponential
    np.testing.assert_allclose(got["times"], np.linspace(0, TIME, POINTS + 1), rtol=1e-12)
    start = unpack(data["change"], "<f4")
    for i in (0, 1, 7, 40, POINTS):
        flow = expm(got["times"][i] * dense)
        assert got["worst"][i] == pytest.approx(np.linalg.norm(flow, 2), rel=1e-3), "by the power method"
        assert got["one"][i] == pytest.approx(np.linalg.norm(flow @ start), rel=1e-8)

    # and what is on the screen is those numbers
    place = got["scale"]["plane"]
    dots = used.locator("svg.rv-plane .rv-mark").evaluate_all(
        "l => l.map(e => [e.cx.baseVal.value, e.cy.baseVal.value])"
    )
    shown = [complex((x - place["cx"]) / place["k"], (place["cy"] - y) / place["k"]) for x, y in dots]
    assert paired(shown, lam) < 1e-3
    edges = used.locator("svg.rv-plane .rv-belt-edge").evaluate_all("l => l.map(e => e.x1.baseVal.value)")
    assert edges == pytest.approx([place["cx"] + place["k"] * got[end] for end in ("low", "high")], abs=0.01)
    rings = used.locator("svg.rv-plane .rv-ghost").evaluate_all(
        "l => l.map(e => [e.cx.baseVal.value, e.cy.baseVal.value])"
    )
    ghosts = [complex((x - place["cx"]) / place["k"], (place["cy"] - y) / place["k"]) for x, y in rings]
    assert paired(ghosts, analysis.eigenvalues(jacobian(k, 0.0, activation))) < 1e-3
    axis = got["scale"]["growth"]
    for name, values in (
        ("rv-worst", got["worst"]),
        ("rv-one", got["one"]),
        ("rv-exact", np.exp(got["rate"] * np.array(got["times"]))),
    ):
        points = points_of(used.locator(f"svg.rv-growth .{name}"))
        y = axis["y1"] - (axis["y1"] - axis["y0"]) * (np.log10(values) - axis["floor"]) / (axis["ceil"] - axis["floor"])
        np.testing.assert_allclose(points[:, 1], y, atol=0.02)
        np.testing.assert_allclose(points[:, 0], np.linspace(axis["x0"], axis["x1"], POINTS + 1), atol=0.02)


def test_worst_change_lies_between_the_two_lines(used):
    for kernel in KERNELS:
        for bend in (-0.5, 0.0, 0.8):
            got = put(used, kernel, "tanh", bend)
            t, worst = np.array(got["times"]), np.log(got["worst"])
            assert (worst >= got["rate"] * t - 1e-4).all()
            assert (worst <= got["high"] * t + 1e-4).all()
            assert (np.log(got["one"]) <= worst + 1e-4).all()


def test_slider_by_key_and_by_drag_changes_the_drawing_and_the_spoken_sentence(figure):
    slider = figure.get_by_role("slider", name=SLIDER)
    seen, said = [picture(figure)], [spoken(figure)]
    slider.focus()
    for _ in range(4):
        figure.page.keyboard.press("ArrowRight")
    assert drawn(figure)["bend"] == 0.2
    assert slider.get_attribute("aria-valuetext").startswith("kappa = 0.20, rightmost eigenvalue at ")
    seen.append(picture(figure))
    said.append(spoken(figure))

    box = slider.bounding_box()
    y, at = box["y"] + box["height"] / 2, (0.2 + 1) / 2  # the knob is 22 pixels wide
    figure.page.mouse.move(box["x"] + 11 + (box["width"] - 22) * at, y)
    figure.page.mouse.down()
    figure.page.mouse.move(box["x"] + box["width"] - 2, y, steps=4)
    figure.page.mouse.up()
    assert drawn(figure)["bend"] == 1
    assert figure.locator("output").inner_text() == "1.00"
    assert slider.get_attribute("aria-valuetext") == "kappa = 1.00, all eigenvalues on the imaginary axis"
    seen.append(picture(figure))
    said.append(spoken(figure))
    assert len(set(seen)) == len(set(said)) == 3
    assert said[0].startswith("Random kernel, κ = 0.00, linear: the rightmost of 24 eigenvalues")
    assert "every change keeps its size" in said[2]
    slider.press("Home")
    assert "all 24 eigenvalues are real" in spoken(figure)


def test_sentences_tell_transient_growth_and_the_strip_that_tanh_leaves(used):
    got = put(used, "chain", "linear", 0.0)
    assert got["rate"] < 0
    assert max(got["worst"]) > 5
    assert got["worst"][-1] < max(got["worst"])
    assert "Every eigenvalue says decay, yet the worst change first grows" in spoken(used)
    got = put(used, "trained", "tanh", 1.0)
    text = spoken(used)
    assert "all 32 eigenvalues are on the imaginary axis" in text
    assert got["high"] > 0.1
    bound = float(text.rsplit("= ", 1)[1].removesuffix(" times."))
    assert 1 < max(got["worst"]) <= bound * 1.01
    assert "midpoint-26" in used.locator(".rv-about").inner_text()


def test_choices_and_ticks_by_keyboard(figure):
    figure.locator("input[value=random]").focus()
    figure.page.keyboard.press("ArrowRight")
    assert drawn(figure)["kernel"] == "chain"
    figure.locator("input[value=linear]").focus()
    figure.page.keyboard.press("ArrowRight")
    assert drawn(figure)["activation"] == "tanh"
    for kappa, name in ((1, "antisymmetric"), (-1, "symmetric"), (0, "K itself")):
        figure.get_by_role("button", name=f"set kappa to {kappa}, {name}", exact=True).press("Enter")
        assert drawn(figure)["bend"] == kappa


def test_names_at_the_slider_stand_within_the_figure_of_a_phone(visit):
    widget = visit(PAGE, viewport={"width": 390, "height": 800}).locator(".rv-bent").first
    outer = widget.locator("figure").bounding_box()
    boxes = [b.bounding_box() for b in widget.locator(".rv-tick-button").all()]
    assert len(boxes) == 3
    assert boxes[0]["x"] >= outer["x"]
    assert boxes[-1]["x"] + boxes[-1]["width"] <= outer["x"] + outer["width"]
    assert boxes[0]["x"] + boxes[0]["width"] < boxes[1]["x"]
    assert boxes[1]["x"] + boxes[1]["width"] < boxes[2]["x"]


def test_figure_hears_python_and_goes_quietly(visit):
    page = visit(PAGE)
    page.evaluate(LIVE)
    live = page.locator("#live")
    page.evaluate("window.model.told('kernel', 'chain')")
    page.evaluate("window.model.told('bend', -0.34)")  # between two steps of the slider
    assert (drawn(live)["kernel"], drawn(live)["bend"]) == ("chain", -0.35)
    set_slider(live, 10)
    assert page.evaluate("window.model.get('bend')") == 0.5
    page.evaluate("window.stop()")
    assert page.evaluate("window.model.listening()") == 0
