"""The image depth figure in the built book: by key, and its pictures and numbers against the package's."""

from __future__ import annotations

import numpy as np
import pytest

from revode import data, stability
from revode.widgets import image_depth as figure

from .browser import LIVE, choose, drawn, figure_on, picture, set_slider, spoken

PAGE = "book/16_multilevel_and_multiscale"
DATA = figure.bundled()
NETWORKS = {n["name"]: n for n in DATA["networks"]}
PICTURES = [p["class"] for p in DATA["pictures"]]
CHOICES = [("resnet", 0, 0), ("resnet", 1, 3), ("hamiltonian", 2, 1), ("hamiltonian", 0, 4)]


@pytest.fixture
def moments(visit):
    return figure_on(visit(PAGE), "moments")


@pytest.fixture
def used(share):
    """The same on a page that other tests have used."""
    return figure_on(share(PAGE), "moments")


def put(widget, network: str, i: int, k: int) -> dict:
    choose(widget, network)
    choose(widget, PICTURES[i])
    set_slider(widget, k)
    return drawn(widget)


def pixels(widget, kind: str) -> np.ndarray:
    """What is on a canvas, (H, W, 3)."""
    read = "e => [e.width, ...e.getContext('2d').getImageData(0, 0, e.width, e.height).data]"
    side, *values = widget.locator(f"canvas.rv-{kind}").evaluate(read)
    found = np.array(values).reshape(side, side, 4)
    assert (found[..., 3] == 255).all()
    return found[..., :3]


def widths(widget, selector: str, side: str) -> np.ndarray:
    return np.array(widget.locator(selector).evaluate_all(f"all => all.map(e => e.{side}.baseVal.value)"))


@pytest.mark.parametrize(("network", "i", "k"), CHOICES)
def test_pictures_are_those_of_the_package(used, network, i, k):
    put(used, network, i, k)
    image = data.load("sample", "test").images[DATA["pictures"][i]["index"]]
    np.testing.assert_array_equal(pixels(used, "image"), image.permute(1, 2, 0).numpy())
    for u, unit in enumerate(NETWORKS[network]["features"]):
        flat = stability.unpack(unit["levels"], "u1").astype(int)
        levels = np.stack((flat // 16, flat % 16), 1).reshape(figure.MOMENTS, len(PICTURES), *[unit["side"]] * 2, 3)
        np.testing.assert_array_equal(pixels(used, f"unit{u + 1}"), 17 * levels[k, i])
        words = used.locator(f"canvas.rv-unit{u + 1}").get_attribute("aria-label")
        assert f"end of unit {u + 1}" in words
        assert f"{unit['side']} by {unit['side']} pixels" in words
        assert f"{unit['channels']} channels" in words
    assert PICTURES[i] in used.locator("canvas.rv-image").get_attribute("aria-label")


@pytest.mark.parametrize(("network", "i", "k"), CHOICES)
def test_bars_and_words_are_the_numbers_of_the_package(used, network, i, k):
    got, m = put(used, network, i, k), NETWORKS[network]["moments"][k]
    assert (got["network"], got["picture"], got["moment"]) == (network, PICTURES[i], k)
    probabilities = m["probabilities"][i]
    assert (got["probabilities"], got["accuracy"], got["h"]) == (probabilities, m["accuracy"], m["h"])
    full = got["scale"]["bars"]["full"]
    np.testing.assert_allclose(widths(used, "svg.rv-bars .rv-bar", "width"), full * np.array(probabilities), atol=0.01)
    names = used.locator("svg.rv-bars text.rv-note[text-anchor=end]").all_text_contents()
    marked = [name for name in names if name.startswith("▸ ")]
    assert marked == [f"▸ {PICTURES[i]}"]
    moved = np.array([other["moved"][i] for other in NETWORKS[network]["moments"][1:]])
    heights = widths(used, "svg.rv-moved .rv-bar", "height").reshape(4, 3)
    np.testing.assert_allclose(heights, got["scale"]["moved"]["unit"] * moved, atol=0.05)
    text = spoken(used)
    assert "-".join(map(str, m["units"])) in text
    assert f"h = {m['h']:g}" in text
    assert f"{100 * m['accuracy']:.1f} % of the first {DATA['test_images']:,} test images" in text.replace("\xa0", " ")
    answer = DATA["classes"][np.argmax(probabilities)]
    assert ("told right, with" in text) == (answer == PICTURES[i])
    assert answer == PICTURES[i] or f" {answer}, with a probability" in text
    feet = used.locator(".rv-photo-foot b").all_text_contents()
    for u in range(3):
        if k:
            share = f"{100 * m['moved'][i][u]:.1f}"
            assert abs(float(feet[u].removeprefix("moved by ").removesuffix("\xa0%")) - float(share)) <= 0.51
            assert feet[u].removeprefix("moved by ") in text
        else:
            assert feet[u].strip("\xa0") == ""


def test_keys_and_choices_change_drawing_and_sentence(moments):
    def everything() -> str:
        return str([pixels(moments, f"unit{u}").tolist() for u in (1, 2, 3)]) + picture(moments)

    seen, said = {everything()}, {spoken(moments)}
    slider = moments.get_by_role("slider", name="moment")
    slider.focus()
    for k, words in ((1, "4-4-4 just doubled, h = 0.5"), (2, "4-4-4 trained, h = 0.5")):
        moments.page.keyboard.press("ArrowRight")
        right = f"{100 * NETWORKS['resnet']['moments'][k]['accuracy']:.1f}\xa0%"
        assert slider.get_attribute("aria-valuetext") == f"{words}, {right} of the test images right"
        seen.add(everything())
        said.add(spoken(moments))
    moments.page.keyboard.press("End")
    moments.page.keyboard.press("ArrowRight")
    assert drawn(moments)["moment"] == figure.MOMENTS - 1
    for change in ("hamiltonian", PICTURES[1]):
        choose(moments, change)
        seen.add(everything())
        said.add(spoken(moments))
    assert len(seen) == len(said) == 5
    moments.get_by_role("button", name="go to 8-8-8 just doubled").click()
    assert drawn(moments)["moment"] == 3


@pytest.mark.parametrize("width", [390, 1280])
def test_nothing_leaves_the_figure(visit, width):
    widget = figure_on(visit(PAGE, viewport={"width": width, "height": 900}), "moments")
    put(widget, "hamiltonian", 0, 4)
    frame = widget.locator("figure").bounding_box()
    for thing in widget.locator("figure button, figure text, figure canvas").all():
        box = thing.bounding_box()
        assert box["x"] >= frame["x"] - 1
        assert box["x"] + box["width"] <= frame["x"] + frame["width"] + 1, thing.text_content()


def test_figure_hears_python_and_goes_quietly(visit):
    page = visit(PAGE)
    page.evaluate(LIVE, "moment")
    live = page.locator("#live")
    page.evaluate("window.model.told('moment', 2)")
    page.evaluate("window.model.told('network', 'hamiltonian')")
    assert (drawn(live)["moment"], drawn(live)["network"]) == (2, "hamiltonian")
    set_slider(live, 4)
    choose(live, PICTURES[2])
    assert page.evaluate("[window.model.get('moment'), window.model.get('picture')]") == [4, PICTURES[2]]
    page.evaluate("window.stop()")
    assert page.evaluate("window.model.listening()") == 0
