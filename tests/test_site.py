"""Open the built book in Chromium with all outside network blocked, read it, and turn the slider."""

from __future__ import annotations

import gzip

import numpy as np
import pytest
from axe_playwright_python.sync_playwright import Axe

from revode import stability
from revode.stability import PROBLEMS, STABILITY_LIMIT
from revode.widgets import StepSizeExplorer

from .browser import LIVE, choose, drawn, figure_on, picture, points_of, set_slider, spoken
from .pages import PAGES, TOC

#: The theme lets the keyboard into code that scrolls, a moment after each change of size.
FOCUSABLE = "[...document.querySelectorAll('pre')].every(e => e.scrollWidth <= e.clientWidth || e.tabIndex === 0)"
EXPLORER = "book/02_step_size_and_stability"
PHONE = {"width": 390, "height": 800}
RAW_BYTES, GZIP_BYTES = 3_000_000, 1_000_000  # a first visit, all that the page loads
COMPRESSED = (".woff", ".woff2", ".png", ".jpg")
# preload: axe would fetch style sheets again, from the wrong folder; listing what passes takes most of its time
AXE = {"preload": False, "resultTypes": ["violations"]}
COLOURS = {"runOnly": ["color-contrast", "link-in-text-block"]}
WORDS = {"rules": {"color-contrast": {"enabled": False}}}  # everything but colours
#: Marks one visible text of each look: its colour, size and weight, and what is painted behind it. Texts of drawings
#: may lie on anything that is drawn, and are marked all.
ONE_OF_EACH = """() => {
  const seen = new Set();
  for (const e of document.querySelectorAll("[data-look]")) e.removeAttribute("data-look");
  for (const e of document.querySelectorAll("body *")) {
    if (![...e.childNodes].some((c) => c.nodeType === 3 && c.data.trim()) || !e.checkVisibility()) continue;
    const own = getComputedStyle(e);
    const look = [own.color, own.fontSize, own.fontWeight, own.textDecorationLine, e.localName === "a"];
    for (let up = e; up; up = up.parentElement) {
      const s = getComputedStyle(up);
      if (s.backgroundColor !== "rgba(0, 0, 0, 0)" || s.backgroundImage !== "none" || s.opacity !== "1")
        look.push(s.backgroundColor, s.backgroundImage, s.opacity);
    }
    if (seen.has(look.join()) && !e.closest("svg")) continue;
    seen.add(look.join());
    e.setAttribute("data-look", "");
  }
  return document.querySelectorAll("[data-look]").length;
}"""
MEANINGFUL = [(s, p) for s in STABILITY_LIMIT for p in PROBLEMS if not stability.why_not(s, p)]
pages = pytest.mark.parametrize("name", PAGES)


# --- every page ----------------------------------------------------------------------------------------------


@pages
def test_page_is_quiet_light_and_readable_by_day_and_by_night_on_every_screen(visit, name):
    """One visit for all, since opening a page takes longer than most of what is looked at."""
    page = visit(name, color_scheme="light")
    math_and_widgets_are_there(page)
    first_visit_is_light(page, name)
    everything_fits(page, 1280)
    assert violations(page, WORDS) == []
    assert violations(page, COLOURS, distinct_texts(page)) == []
    page.emulate_media(color_scheme="dark")
    page.wait_for_function("document.documentElement.dataset.theme === 'dark'")
    everything_fits(page, 1280)
    assert violations(page, COLOURS, distinct_texts(page)) == []
    page.set_viewport_size(PHONE)  # where colours are those of the wide page
    everything_fits(page, PHONE["width"])
    page.emulate_media(color_scheme="light")
    page.wait_for_function("document.documentElement.dataset.theme === 'light'")
    everything_fits(page, PHONE["width"])
    assert violations(page, WORDS) == []


def math_and_widgets_are_there(page) -> None:
    text = page.evaluate("document.body.innerText")
    assert "\\(" not in text, "math was not typeset"
    assert "$$" not in text, "math was not typeset"
    assert page.locator(".math").count() <= page.locator("mjx-container").count()
    for widget in page.locator(".anywidget-static:not(.needs-kernel)").all():
        assert widget.get_attribute("data-mounted") == "true"


def first_visit_is_light(page, name: str) -> None:
    raw = packed = 0
    for url, request in list(page.bytes.items()):
        redirect = name == "index" and url.endswith("/index.html") and TOC["root"] not in url
        if not redirect and not url.startswith(("blob:", "data:")):  # those came with the page
            body = request.response().body()
            raw += len(body)
            packed += len(body) if url.split("?")[0].endswith(COMPRESSED) else len(gzip.compress(body, 6))
    assert raw < RAW_BYTES
    assert packed < GZIP_BYTES


def everything_fits(page, width: int) -> None:
    page.wait_for_timeout(300)
    page.wait_for_function(FOCUSABLE)
    assert page.evaluate("document.documentElement.scrollWidth") <= width


def violations(page, which: dict, context: dict | None = None) -> list:
    found = Axe().run(page, context, AXE | which).response
    return [(v["id"], node["target"][0]) for v in found["violations"] for node in v["nodes"]]


def distinct_texts(page) -> dict:
    """For axe: of all texts of one look before one background one; to compare colours takes it most of its time."""
    assert page.evaluate(ONE_OF_EACH) > 3
    return {"include": [["[data-look]"]]}


def test_colours_that_cannot_be_read_are_found(visit):
    """The comparison of one text of each look sees a faint one among thousands."""
    page = visit("book/06_jacobian_eigenvalues", color_scheme="light")
    assert violations(page, COLOURS, distinct_texts(page)) == []
    page.add_style_tag(content="article p:last-of-type, pre .nn { color: #bbb !important; }")
    page.wait_for_timeout(300)
    assert {rule for rule, _ in violations(page, COLOURS, distinct_texts(page))} == {"color-contrast"}


def test_search_finds_without_a_server(visit):
    page = visit("search?q=leapfrog")
    page.locator("#search-results a").first.wait_for()
    assert "step size" in page.locator("#search-results").inner_text().lower()


def test_reader_can_turn_the_lights_out(visit):
    page = visit(EXPLORER, color_scheme="light")

    def colours():
        look = "e => [getComputedStyle(e).stroke, getComputedStyle(document.body).backgroundColor]"
        return page.locator(".rv-step svg.rv-depth .rv-path").first.evaluate(look)

    before = colours()
    for _ in range(3):
        page.locator("button.theme-switch-button:visible").first.click()
        if page.evaluate("document.documentElement.dataset.theme") == "dark":
            break
    page.wait_for_timeout(300)
    after = colours()
    assert before[0] != after[0]
    assert before[1] != after[1]


# --- the step-size explorer ----------------------------------------------------------------------------------


@pytest.fixture
def explorer(visit):
    return figure_on(visit(EXPLORER), "step")


@pytest.fixture
def used(share):
    """The same on a page that other tests have used."""
    return figure_on(share(EXPLORER), "step")


def test_slider_by_key_and_by_drag_changes_the_drawing_and_the_spoken_sentence(explorer):
    slider = explorer.get_by_role("slider", name="step size h")
    seen, said = [picture(explorer)], [spoken(explorer)]

    slider.focus()
    for _ in range(8):
        explorer.page.keyboard.press("ArrowRight")
    seen.append(picture(explorer))
    said.append(spoken(explorer))
    assert slider.get_attribute("aria-valuetext") == "h = 0.18, unstable"
    assert explorer.locator("output").inner_text() == "0.18"

    box = slider.bounding_box()
    y = box["y"] + box["height"] / 2
    at = (18 - 1) / (250 - 1)  # the knob is 22 pixels wide
    explorer.page.mouse.move(box["x"] + 11 + (box["width"] - 22) * at, y)
    explorer.page.mouse.down()
    explorer.page.mouse.move(box["x"] + box["width"] * 0.9, y, steps=5)
    explorer.page.mouse.up()
    seen.append(picture(explorer))
    said.append(spoken(explorer))
    assert drawn(explorer)["h"] > 2

    assert len(set(seen)) == 3
    assert len(set(said)) == 3
    assert said[0].startswith("Euler on the centre, h = 0.10: unstable, the largest root is 1.005")
    slider.press("Home")
    assert drawn(explorer)["h"] == 0.01


def test_choices_by_keyboard(explorer):
    explorer.locator("input[value=euler]").focus()
    explorer.page.keyboard.press("ArrowRight")
    assert drawn(explorer)["scheme"] == "midpoint"
    explorer.locator("input[value=centre]").focus()
    explorer.page.keyboard.press("ArrowRight")
    assert drawn(explorer)["problem"] == "spiral"
    assert spoken(explorer).startswith("Midpoint on the spiral")


def test_what_has_no_meaning_is_disabled_with_its_reason_in_words(explorer):
    choose(explorer, "hamiltonian")
    choose(explorer, "spiral")
    for scheme in ("hamiltonian", "leapfrog"):
        button = explorer.locator(f"input[value={scheme}]")
        assert button.is_disabled()
        why = explorer.locator(f"[id='{button.get_attribute('aria-describedby')}']")
        assert "damping" in why.inner_text()
    assert drawn(explorer)["scheme"] == "euler"
    choose(explorer, "saddle")
    assert explorer.locator("input:disabled").count() == 0
    assert not explorer.locator(".rv-why").is_visible()


def test_ticks_lead_to_the_critical_step_sizes(explorer):
    choose(explorer, "midpoint")
    explorer.get_by_role("button", name="set h to 1.00, critical for midpoint").click()
    assert drawn(explorer)["h"] == 1.0
    assert "exactly critical" in spoken(explorer)
    assert explorer.get_attribute("data-stable") == "true"
    explorer.get_by_role("slider").press("ArrowRight")
    assert explorer.get_attribute("data-stable") == "false"
    choose(explorer, "leapfrog")
    explorer.get_by_role("button", name="set h to 2.00, critical for Verlet, leapfrog").click()
    assert explorer.get_attribute("data-stable") == "true"
    choose(explorer, "spiral")
    explorer.get_by_role("button", name="set h to 0.20, critical for Euler").click()
    assert drawn(explorer)["h"] == 0.2


@pytest.mark.parametrize(("scheme", "problem"), MEANINGFUL)
def test_page_draws_the_numbers_that_the_package_computes(used, scheme, problem):
    choose(used, problem)
    choose(used, scheme)
    chosen = PROBLEMS[problem]
    for h in (0.1, 0.5, 1.0, 1.37, 2.1):
        set_slider(used, round(h * 100))
        got = drawn(used)
        got["sizes"] = np.array(got["sizes"], float)
        assert (got["scheme"], got["problem"], got["source"]) == (scheme, problem, "page")
        assert got["h"] == pytest.approx(h, abs=1e-15)
        want = stability.trajectory(scheme, chosen, h)
        size = chosen.size(want)
        # a pendulum driven past its limits is chaotic: there the two sines' last bits grow
        steps = 12 if chosen.nonlinear and h >= 1 else 100
        np.testing.assert_allclose(
            np.array(got["states"], float).reshape(-1, 2)[:steps],
            want[:steps],
            rtol=1e-11,
            atol=1e-11 * size[:steps].max(),
        )
        np.testing.assert_allclose(got["sizes"][:steps], size[:steps], rtol=1e-11, atol=1e-11)
        assert got["growth"] == pytest.approx(stability.growth(scheme, h * chosen.eigenvalues).max(), rel=1e-12)
        # the dots: h lambda for the first-order schemes, the roots of one block for the others
        z = h * chosen.eigenvalues
        dots = z if scheme in ("euler", "midpoint") else stability.roots(scheme, z[0])
        shown = sorted((complex(*d) for d in got["dots"]), key=lambda d: (round(d.imag, 6), d.real))
        assert shown == pytest.approx(sorted(dots, key=lambda d: (round(d.imag, 6), d.real)), abs=1e-7)

        # and what is on the screen is those numbers
        place = got["scale"]["plane"]
        shown = used.locator("svg.rv-plane .rv-start").evaluate("e => [e.cx.baseVal.value, e.cy.baseVal.value]")
        q, p = chosen.start
        assert shown == pytest.approx([place["cx"] + place["k"] * q, place["cy"] - place["k"] * p], abs=0.01)
        points = points_of(used.locator("svg.rv-depth path.rv-path"))
        axis = got["scale"]["depth"]
        decades = np.log10(got["sizes"])
        y = axis["y1"] - (axis["y1"] - axis["y0"]) * (decades - axis["floor"]) / (axis["ceil"] - axis["floor"])
        inside = np.abs(y) < 9000
        np.testing.assert_allclose(points[inside, 1], y[inside], atol=0.02)
        np.testing.assert_allclose(points[:, 0], np.linspace(axis["x0"], axis["x1"], 101), atol=0.02)


def test_blocks_can_be_run_and_pointed_at_but_not_against_the_readers_wish(visit):
    page = visit(EXPLORER)
    widget = page.locator(".rv-step").first
    widget.get_by_role("button", name="run the blocks").click()
    widget.locator("svg.rv-plane .rv-cursor").wait_for(state="attached")
    widget.get_by_role("button", name="stop").click()
    assert widget.locator(".rv-cursor").count() == 0
    depth = widget.locator("svg.rv-depth")
    depth.hover()
    assert "block 5" in depth.locator("text.rv-cursor").text_content()
    still = visit(EXPLORER, reduced_motion="reduce").locator(".rv-step").first
    assert not still.locator(".rv-play").is_visible()


def test_page_with_a_kernel_asks_and_shows_the_answer(visit):
    """The kernel is played by the test: the page's question goes to the widget class, its answer back to the page."""
    page = visit(EXPLORER)
    page.evaluate(LIVE)
    live = page.locator("#live")
    page.wait_for_function("window.asked.length == 1")
    choose(live, "leapfrog")
    set_slider(live, 125)
    page.wait_for_function("window.asked.at(-1).h == 1.25")
    assert live.get_attribute("data-mode") == "page"

    kernel = StepSizeExplorer()
    kernel._answer(kernel, page.evaluate("window.asked.at(-1)"), [])
    assert kernel.exact["scheme"] == "leapfrog"
    page.evaluate("answer => window.model.told('exact', answer)", kernel.exact)
    assert live.get_attribute("data-mode") == "live"
    assert f"Recomputed in Python ({kernel.exact['device']})" in spoken(live)
    assert drawn(live)["source"] == "kernel"
    np.testing.assert_array_equal(drawn(live)["sizes"], stability.unpack(kernel.exact["sizes"], "<f8"))

    set_slider(live, 126)  # the answer was to another question
    assert live.get_attribute("data-mode") == "page"
    page.evaluate("window.model.told('h', 0.5)")  # Python sets h
    assert drawn(live)["h"] == 0.5
    assert live.locator("output").inner_text() == "0.50"
    page.evaluate("window.stop()")
    assert page.evaluate("window.model.listening()") == 0


def test_landing_page_has_a_figure_that_works(visit):
    page = visit(TOC["root"])
    widget = page.locator(".rv-step").first
    before = picture(widget)
    widget.get_by_role("slider").press("ArrowRight")
    assert picture(widget) != before
    choose(widget, "leapfrog")
    assert "leapfrog on the centre" in spoken(widget).lower()
    assert page.locator(".sd-card").count() >= 5
