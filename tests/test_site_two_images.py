"""The two images in the built book: by key, drag and click, and what is drawn against what the package computes."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from revode import load_trained
from revode.analysis.lyapunov import distances, linear_distances

from .browser import LIVE, choose, drawn, figure_on, picture, points_of, set_slider, spoken
from .test_two_images import SPEC, arrays, neighbours

PAGE = "book/07_lyapunov_exponents"
CHANGE, STEP = "size of the change", "step size h"
NAMES = [p["class"] for p in SPEC["pictures"]]


@pytest.fixture
def figure(visit):
    return figure_on(visit(PAGE), "images")


@pytest.fixture
def used(share):
    """The same on a page that other tests have used."""
    return figure_on(share(PAGE), "images")


def put(widget, i: int, d: int, k: int, e: int) -> dict:
    choose(widget, NAMES[i])
    choose(widget, list(SPEC["directions"])[d])
    set_slider(widget, k, STEP)
    set_slider(widget, e, CHANGE)
    return drawn(widget)


def shown(widget, kind: str) -> np.ndarray:
    """The pixels of a canvas, (3, H, W)."""
    read = "e => Array.from(e.getContext('2d').getImageData(0, 0, e.width, e.height).data)"
    pixels = np.array(widget.locator(f"canvas.rv-{kind}").evaluate(read)).reshape(32, 32, 4)
    assert (pixels[..., 3] == 255).all()
    return pixels[..., :3].transpose(2, 0, 1)


def test_page_draws_what_the_network_does(used):
    network = load_trained("hamiltonian-74").double().eval()
    for i, d, k, e in ((0, 0, 4, 5), (0, 1, 4, 6), (2, 1, 6, 8), (1, 0, 0, 1)):
        got = put(used, i, d, k, e)
        assert (got["picture"], got["h"], got["change"]) == (NAMES[i], SPEC["h"][k], SPEC["changes"][e])
        network.h = got["h"]
        one, other = neighbours(SPEC, i, d, got["change"])
        for name, units in (
            ("distance", distances(network, one, other)),
            ("law", linear_distances(network, one, neighbours(SPEC, i, d, 1e-3)[1] - one)),
        ):
            values = np.concatenate(units) / units[0][0]
            np.testing.assert_allclose(got[name], values, rtol=1e-3)
            # and what is on the screen is those numbers
            axis = got["scale"]
            line = {"distance": "rv-path", "law": "rv-exact"}[name]
            points = points_of(used.locator(f"svg.rv-depth path.{line}"))
            height = (np.log10(values) - axis["floor"]) / (axis["ceil"] - axis["floor"])
            np.testing.assert_allclose(points[:, 1], axis["y1"] - (axis["y1"] - axis["y0"]) * height, atol=0.05)
            assert (np.diff(points[:, 0]) > 0).all()
        with torch.no_grad():
            for answer, logits in zip((got["own"], got["other"]), network(torch.cat([one, other])).softmax(dim=1)):
                assert answer["name"] == SPEC["classes"][logits.argmax()]
                assert answer["probability"] == pytest.approx(logits.max().item(), abs=1e-4)


def test_pictures_on_the_screen_are_those_that_were_computed(used):
    for i, d, e in ((0, 0, 0), (1, 1, 6), (2, 1, 8)):
        got = put(used, i, d, 4, e)
        mean, std = (np.reshape(SPEC[k], (3, 1, 1)) for k in ("mean", "std"))
        one, other = (255 * (v[0].numpy() * std + mean) for v in neighbours(SPEC, i, d, got["change"]))
        np.testing.assert_array_equal(shown(used, "one"), arrays(SPEC)["pixels"][i])
        assert np.abs(shown(used, "other") - other).max() < 0.5 + 1e-6
        difference = shown(used, "difference") - (127.5 + got["factor"] * (other - one))
        assert np.abs(difference).max() < 1.001, "nothing of the difference is cut off"
        assert got["most"] == pytest.approx(np.abs(other - one).max())
        heads = used.locator(".rv-photo-head").all_inner_texts()
        assert heads[0] == f"a {NAMES[i]}"
        assert heads[2] == f"difference × {got['factor']}"
        assert ("equal in 8 bits" in heads[1]) == np.array_equal(shown(used, "one"), shown(used, "other"))


def test_keys_drag_and_choices_change_drawing_and_spoken_sentence(figure):
    choose(figure, "worst")
    seen, said = [picture(figure)], [spoken(figure)]
    assert f"Step size 1: the picture of a {NAMES[0]}" in said[0]
    slider = figure.get_by_role("slider", name=CHANGE)
    slider.focus()
    figure.page.keyboard.press("ArrowRight")
    figure.page.keyboard.press("ArrowRight")
    assert slider.get_attribute("aria-valuetext") == "change 0.1, the neighbour is called a deer"
    seen.append(picture(figure))
    said.append(spoken(figure))
    assert figure.get_attribute("data-same") == "false"

    slider = figure.get_by_role("slider", name=STEP)
    box = slider.bounding_box()
    y, at = box["y"] + box["height"] / 2, drawn(figure)["h"]
    place = box["x"] + 11 + (box["width"] - 22) * SPEC["h"].index(at) / (len(SPEC["h"]) - 1)
    figure.page.mouse.move(place, y)
    figure.page.mouse.down()
    figure.page.mouse.move(box["x"] + 12, y, steps=5)
    figure.page.mouse.up()
    assert drawn(figure)["h"] == SPEC["h"][0]
    seen.append(picture(figure))
    said.append(spoken(figure))
    assert f"λ₁ was measured at h = {', '.join(SPEC['exponents']['growth'])}" in seen[-1]
    assert "trained at h = 1, calls both an airplane" in said[-1]

    figure.locator(f"input[value={NAMES[0]}]").focus()
    figure.page.keyboard.press("ArrowRight")
    assert drawn(figure)["picture"] == NAMES[1]
    seen.append(picture(figure))
    said.append(spoken(figure))
    assert len(set(seen)) == len(set(said)) == 4


def test_ticks_lead_to_the_own_step_size_and_to_another_class(used):
    put(used, 0, 1, 0, 0)
    used.get_by_role("button", name="set h to 1, the network’s own").click()
    assert drawn(used)["h"] == 1
    used.get_by_role("button", name="another class").click()
    got = drawn(used)
    assert got["change"] == got["first"]
    assert got["other"]["name"] != got["own"]["name"]
    used.get_by_role("slider", name=CHANGE).press("ArrowLeft")
    got = drawn(used)
    assert got["other"]["name"] == got["own"]["name"]
    used.get_by_role("button", name="8 bits differ").click()
    assert drawn(used)["most"] >= 0.5
    used.get_by_role("slider", name=CHANGE).press("ArrowLeft")
    assert drawn(used)["most"] < 0.5


def test_pictures_have_texts_and_a_state_can_be_pointed_at(used):
    put(used, 0, 1, 4, 8)
    texts = [used.locator(f"canvas.rv-{k}").get_attribute("aria-label") for k in ("one", "other", "difference")]
    assert texts[0] == f"The picture of a {NAMES[0]}, 32 by 32 pixels."
    assert "a change of 1 times its norm in a direction that is stretched most" in texts[1]
    assert f"{drawn(used)['factor']} times as strong" in texts[2]
    assert "is clipped, which leaves 0.86 of the change" in spoken(used)
    depth = used.locator("svg.rv-depth")
    depth.hover()
    assert "of unit 2" in depth.locator("text.rv-cursor").text_content()


@pytest.mark.parametrize("width", [390, 700, 1280])
def test_no_name_leaves_the_figure(visit, width):
    widget = visit(PAGE, viewport={"width": width, "height": 900}).locator(".rv-images").first
    for d, e in ((0, 8), (1, 0)):
        put(widget, 0, d, 4, e)
        frame = widget.locator("figure").bounding_box()
        for thing in widget.locator("figure button, figure text, figure canvas").all():
            box = thing.bounding_box()
            assert box["x"] >= frame["x"] - 1
            assert box["x"] + box["width"] <= frame["x"] + frame["width"] + 1, thing.inner_text()


def test_figure_hears_python_and_goes_quietly(visit):
    page = visit(PAGE)
    page.evaluate(LIVE)
    live = page.locator("#live")
    page.evaluate("window.model.told('change', 0.3)")
    assert drawn(live)["change"] == 0.3
    set_slider(live, 0, STEP)
    assert page.evaluate("window.model.get('h')") == SPEC["h"][0]
    page.evaluate("window.stop()")
    assert page.evaluate("window.model.listening()") == 0
