"""The drift explorer in the built book: by key and by drag, and its numbers against the package's."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from revode import stability
from revode.analysis import drift
from revode.widgets import drift as figure
from revode.widgets.drift_data import restored

from .browser import LIVE, choose, drawn, figure_on, picture, points_of, set_slider, spoken

PAGE = "book/08_reversibility_drift"
DATA = figure.bundled()
SCHEMES = {s["name"]: s for s in DATA["schemes"]}
STEP, FACTOR = "step size h", "factor c of the momentum rule"


@pytest.fixture
def explorer(visit):
    return figure_on(visit(PAGE), "drift")


@pytest.fixture
def used(share):
    """The same on a page that other tests have used."""
    return figure_on(share(PAGE), "drift")


def put(widget, scheme: str, dtype: str, value: float) -> dict:
    choose(widget, scheme)
    choose(widget, dtype)
    s = SCHEMES[scheme]
    set_slider(widget, s["values"].index(value), STEP if s["parameter"] == "h" else FACTOR)
    return drawn(widget)


def numbers(scheme: str, value: float, dtype: str | None = None) -> np.ndarray:
    """What is bundled for a setting: the measured errors, or without a dtype the prediction in units of u."""
    s, n = SCHEMES[scheme], len(DATA["depths"])
    k = s["values"].index(value)
    if dtype is None:
        return restored(stability.unpack(s["predicted"], "<i2").reshape(-1, n)[k])
    return restored(stability.unpack(s["measured"], "<i2").reshape(-1, len(drift.DTYPES), n)[k, place(dtype)])


def place(dtype: str) -> int:
    return figure.DTYPES.index(dtype)


@pytest.mark.parametrize(
    ("scheme", "dtype", "value"),
    [
        ("hamiltonian", "float32", 0.1),
        ("midpoint", "float16", 1.4),
        ("leapfrog", "float64", 0.5),
        ("revnet", "bfloat16", 0.3),
        ("hamiltonian", "float16", 0.7),
        ("momentum", "float32", 0.9),
        ("momentum", "float16", 0.5),
    ],
)
def test_page_draws_the_numbers_of_the_package(used, scheme, dtype, value):
    got = put(used, scheme, dtype, value)
    s, u = SCHEMES[scheme], drift.unit_roundoff(drift.DTYPES[place(dtype)])
    assert (got["scheme"], got["dtype"], got[s["parameter"]], got["u"]) == (scheme, dtype, value, u)
    measured, guess, depths = (np.array(got[k], float) for k in ("measured", "predicted", "depths"))
    np.testing.assert_allclose(measured, numbers(scheme, value, dtype), rtol=1e-9)
    np.testing.assert_allclose(guess, numbers(scheme, value) * u, rtol=1e-9)
    assert set(got["exact"]) == {0}
    for other in set(SCHEMES) - {scheme}:
        at = got[SCHEMES[other]["parameter"]]
        np.testing.assert_allclose(np.array(got["others"][other], float), numbers(other, at, dtype), rtol=1e-9)

    # measured here and now, at a depth that costs little
    depth = got["depths"].index(32)
    made, x = drift.random_stage(scheme, 32, value), drift.random_input()
    trip = drift.round_trip(made, x, [32], drift.DTYPES[place(dtype)])
    if np.isfinite(trip.error[0]) and 0 < trip.error[0] < 1e30:
        assert got["measured"][depth] == pytest.approx(trip.error[0], rel=0.5), "another processor rounds otherwise"
    assert got["predicted"][depth] == pytest.approx(drift.predicted(made, x)[0] / 2.0**-24 * u, rel=0.01)

    # and what is on the screen is those numbers
    axis = got["scale"]

    def x_of(d):
        return axis["x0"] + (axis["x1"] - axis["x0"]) * np.log(d) / np.log(depths[-1])

    def y_of(e):
        return axis["y1"] - (axis["y1"] - axis["y0"]) * (np.log10(e) - axis["floor"]) / (axis["ceil"] - axis["floor"])

    seen = np.isfinite(measured) & (measured > 0)
    points = points_of(used.locator(f"svg.rv-depth path.rv-path.rv-{scheme}"))
    np.testing.assert_allclose(points[: seen.sum(), 0], x_of(depths[seen]), atol=0.02)
    np.testing.assert_allclose(points[: seen.sum(), 1], y_of(measured[seen]), atol=0.02)
    dashes = points_of(used.locator("svg.rv-depth path.rv-predicted"))
    known = np.isfinite(guess)
    np.testing.assert_allclose(dashes[known, 1], y_of(guess[known]), atol=0.02)
    roundoff = used.locator("svg.rv-depth line.rv-roundoff").evaluate("e => e.y1.baseVal.value")
    assert roundoff == pytest.approx(y_of(u), abs=0.02)
    zero = points_of(used.locator("svg.rv-depth path.rv-zero"))
    assert set(zero[:, 1]) == {axis["zero"]}
    assert axis["zero"] > axis["y1"], "0 has its place below the logarithmic axis"
    np.testing.assert_allclose(zero[[0, -1], 0], x_of(np.array([1, 1000])), atol=0.02)
    cross = used.locator("svg.rv-depth .rv-cross")
    assert cross.count() == bool(got["overflow"])
    if got["overflow"]:
        assert f"translate({x_of(got['overflow']):.1f}" in cross.get_attribute("transform")
        assert f"overflow at block {got['overflow']}" in used.locator("svg.rv-depth").text_content()
        assert f"overflows from {got['overflow']} blocks on" in spoken(used)
        with np.errstate(all="ignore"):
            trip = drift.round_trip(
                drift.random_stage(scheme, got["overflow"], value), x, dtype=drift.DTYPES[place(dtype)]
            )
        # another processor rounds otherwise, and leaves the range some blocks earlier or later
        assert not trip.error[0] < torch.finfo(drift.DTYPES[place(dtype)]).max / 1000


def test_slider_by_key_and_by_drag_changes_the_drawing_and_the_spoken_sentence(explorer):
    seen, said = [picture(explorer)], [spoken(explorer)]
    slider = explorer.get_by_role("slider", name=STEP)
    values = SCHEMES["hamiltonian"]["values"]
    slider.focus()
    explorer.page.keyboard.press("ArrowRight")
    h = values[values.index(0.1) + 1]
    assert drawn(explorer)["h"] == h
    assert slider.get_attribute("aria-valuetext") == f"h = {h}, each layer alone is stable"
    assert explorer.locator("output").first.inner_text() == str(h)
    seen.append(picture(explorer))
    said.append(spoken(explorer))

    box = slider.bounding_box()
    y = box["y"] + box["height"] / 2
    at = (values.index(h)) / (len(values) - 1)  # the knob is 22 pixels wide
    explorer.page.mouse.move(box["x"] + 11 + (box["width"] - 22) * at, y)
    explorer.page.mouse.down()
    explorer.page.mouse.move(box["x"] + box["width"] - 11, y, steps=5)
    explorer.page.mouse.up()
    assert drawn(explorer)["h"] == values[-1]
    assert slider.get_attribute("aria-valuetext") == f"h = {values[-1]}, layers are unstable"
    seen.append(picture(explorer))
    said.append(spoken(explorer))
    assert len(set(seen)) == len(set(said)) == 3
    assert said[0].startswith(
        "Verlet in float32, h = 0.1, where each layer alone is stable: after 1000 blocks and back"
    )
    assert all(text.endswith("Exact arithmetic returned every bit.") for text in said)


def test_sentence_names_error_prediction_and_their_ratio(used):
    got = put(used, "hamiltonian", "float32", 0.1)
    error, guess = got["measured"][-1], got["predicted"][-1]
    text = spoken(used)
    for number in (error, guess):
        mantissa, power = f"{number:.1e}".split("e")
        assert f"{mantissa} × 10⁻{'⁰¹²³⁴⁵⁶⁷⁸⁹'[-int(power)]}" in text
    assert f"{guess / error:.2f} times as much" in text
    put(used, "hamiltonian", "float32", 0.2)
    assert "nothing of the input is left" in spoken(used)


def test_tick_leads_to_the_critical_step_size_of_the_scheme(explorer):
    for name, title in (("hamiltonian", "Verlet"), ("midpoint", "midpoint"), ("leapfrog", "leapfrog")):
        choose(explorer, name)
        limit = SCHEMES[name]["limit"]
        explorer.get_by_role("button", name=f"set h to {limit}, critical for {title}").click()
        assert drawn(explorer)["h"] == limit
        slider = explorer.get_by_role("slider", name=STEP)
        assert "each layer alone is stable" in slider.get_attribute("aria-valuetext")
        slider.press("ArrowRight")
        assert "layers are unstable" in slider.get_attribute("aria-valuetext")
    choose(explorer, "revnet")
    assert explorer.locator(".rv-tick-button").count() == 0
    assert "stable at no step size" in explorer.locator(".rv-ticks").first.inner_text()


def test_momentum_has_a_factor_in_the_place_of_a_step_size(explorer):
    assert not explorer.get_by_role("slider", name=FACTOR).is_visible()
    choose(explorer, "momentum")
    assert not explorer.get_by_role("slider", name=STEP).is_visible()
    slider = explorer.get_by_role("slider", name=FACTOR)
    assert slider.get_attribute("aria-valuetext") == "c = 0.9"
    slider.press("Home")
    assert drawn(explorer)["c"] == min(SCHEMES["momentum"]["values"])
    assert "c = 0.5" in spoken(explorer)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_every_choice_fits_a_phone(share, scheme):
    widget = share(PAGE, viewport={"width": 390, "height": 800}).locator(".rv-drift").first
    choose(widget, scheme)
    slider = widget.locator("input[type=range]:visible")
    for k in range(int(slider.get_attribute("max")) + 1):
        set_slider(widget, k, STEP if SCHEMES[scheme]["parameter"] == "h" else FACTOR)
        assert widget.page.evaluate("document.documentElement.scrollWidth") <= 390
    over = widget.locator(".rv-ticks:visible").bounding_box()
    for tick in widget.locator(".rv-tick-button:visible").all():
        place = tick.bounding_box()
        assert over["x"] <= place["x"] + 0.5
        assert place["x"] + place["width"] <= over["x"] + over["width"] + 0.5
    names = widget.locator("svg.rv-depth text.rv-end, svg.rv-depth text.rv-exact-text")
    tops = sorted(names.evaluate_all("list => list.map(e => e.getBoundingClientRect().y)"))
    assert min(np.diff(tops)) > 11, "names of lines stand apart"


def test_figure_hears_python_and_goes_quietly(visit):
    page = visit(PAGE)
    page.evaluate(LIVE)
    live = page.locator("#live")
    page.evaluate("window.model.told('dtype', 'float16')")
    assert drawn(live)["dtype"] == "float16"
    choose(live, "leapfrog")
    assert page.evaluate("window.model.get('scheme')") == "leapfrog"
    page.evaluate("window.stop()")
    assert page.evaluate("window.model.listening()") == 0
