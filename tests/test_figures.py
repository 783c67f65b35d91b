"""Drawings follow the page's theme, have a text alternative, and can stand side by side in one page."""

from __future__ import annotations

import io
import re
import xml.etree.ElementTree as ET

import matplotlib as mpl
import numpy as np
import pytest

from revode import figures
from revode.figures.drawing import _STYLE, _short

from .helpers import corners

DRAWINGS = {
    "step_size_overview": lambda: figures.step_size_overview(steps=20),
    "stability_regions": lambda: figures.stability_regions().drawings[2],
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


# --- drawings side by side, pictures and tables; networks as differential equations ---------------------------

H = [0.4, 0.2, 0.1]
GROUPS = {
    "depth_is_time": figures.depth_is_time,
    "three_fates": figures.three_fates,
    "slopes": lambda: figures.slopes(H, {"euler": [4.0, 2.0, 1.0], "other": [16.0, 4.0, 1.0]}, "Error"),
    "spectra": lambda: figures.spectra({"one": [1j, -1j], "two": [1, -1]}),
    "round_trip_errors": lambda: figures.round_trip_errors(
        [0.5, 1.0, 1.5], {"one": {"midpoint": [1e-7, 1e-6, float("inf")]}, "many": {"leapfrog": [1e-7, 1e-2, 1.0]}}
    ),
}


@pytest.fixture(params=GROUPS, scope="module")
def group(request) -> figures.Group:
    return GROUPS[request.param]()


def test_each_drawing_of_a_group_stands_for_itself(group):
    page = group._repr_html_()
    assert page.count("<svg") == len(group.drawings)
    ids = [i for d in group.drawings for i in re.findall(r' id="([^"]+)"', d.svg)]
    assert len(ids) == len(set(ids))
    for d in group.drawings:
        svg = ET.fromstring(d.svg)
        assert svg.attrib["role"] == "img"
        assert len(svg.attrib["aria-label"]) > 30
        assert re.findall(r"#[0-9a-fA-F]{6}\b", re.sub(r"var\(--[\w-]+, #[0-9a-f]{6}\)", "", d.svg)) == []


def test_observed_order_is_that_of_the_finest_steps():
    h = np.array([1.0, 0.4, 0.2, 0.1])
    assert figures.observed_order(h, 3 * h**2) == pytest.approx(2)
    assert figures.observed_order(h[::-1], 3 * h[::-1] ** 2) == pytest.approx(2)
    assert figures.observed_order(h, [1e9, *(3 * h[1:] ** 1.5)]) == pytest.approx(1.5)


def test_slopes_prints_the_observed_order():
    alt = GROUPS["slopes"]().alt
    assert "Euler: slope 1.00" in alt
    assert "other: slope 2.00" in alt


def test_film_shows_the_pixels_it_was_given():
    import base64

    from matplotlib.image import imread

    image = np.linspace(-1.2, 1.2, 3 * 4 * 5).reshape(3, 4, 5)
    film = figures.film({"row <1>": [image, -image]}, ["a", "b"], caption="& so on")
    page = film._repr_html_()
    alts = re.findall(r'alt="([^"]*)"', page)
    assert alts == ["row &lt;1&gt;, a", "row &lt;1&gt;, b"]
    assert "&amp; so on" in page
    for sign, png in zip((1, -1), film.rows["row <1>"]):
        pixels = imread(io.BytesIO(base64.b64decode(png)), format="png")[..., :3]
        np.testing.assert_allclose(
            pixels, ((sign * image.transpose(1, 2, 0) + 1) / 2).clip(0, 1), atol=0.5 / 255 + 1e-6
        )


def test_film_needs_an_image_for_each_column():
    with pytest.raises(ValueError, match="row 'one' has 1 images for 2 columns"):
        figures.film({"one": [np.zeros((3, 2, 2))]}, ["a", "b"])


def test_table_has_headings_a_name_and_numbers_to_the_right():
    page = figures.table(("name", "n", "x"), [("a <b>", 1202, 0.12345), ("c", 19421274, 1.0)], "What it shows")
    text = page._repr_html_()
    assert 'aria-label="What it shows"' in text
    assert text.count('scope="col"') == 3
    assert text.count('scope="row"') == 2
    assert "a &lt;b&gt;" in text
    assert re.findall(r'<td style="[^"]*text-align: right[^>]*>([^<]*)', text) == ["1202", "0.123", "19,421,274", "1"]


def test_table_refuses_ragged_rows_and_no_caption():
    with pytest.raises(ValueError, match="caption is empty"):
        figures.table(("a",), [], " ")
    with pytest.raises(ValueError, match=r"row \(1, 2\) has 2 values for 1 columns"):
        figures.table(("a",), [(1, 2)], "x")


def test_every_unverified_number_of_a_named_network_is_listed():
    from revode.models import MODELS

    listed = {(number, name) for number, names, _ in figures.numbers_with_status("unverified").rows
              for name in names.split(", ")}  # fmt: skip
    assert listed == {
        (number.replace("_", " "), spec.name)
        for spec in MODELS.values()
        for number, source in spec.sources.items()
        if source.status == "unverified"
    }
    with pytest.raises(ValueError, match="status = 'true' must be one of"):
        figures.numbers_with_status("true")


def test_paths_are_short_and_stay_where_they_were():
    """A hundredth of a point is finer than a screen; a page with thousands of dots is a quarter as long."""
    points = np.random.default_rng(0).uniform(-300, 300, (1000, 2))
    text = "M " + "L ".join(f"{x:.6f} {y:.6f} \n" for x, y in points)
    assert len(_short(text)) < 0.6 * len(text)
    assert np.abs(corners(_short(text)) - points).max() <= 0.005 + 1e-9, "rounding does not add up"
    assert np.abs(corners(_short(text, digits=1)) - points).max() <= 0.05 + 1e-9
    dots = "".join(f"M {x:.6f} {y:.6f} \nL {x + 0.5:.6f} {y:.6f} \n" for x, y in points)
    assert len(_short(dots)) < 0.4 * len(dots)
    np.testing.assert_allclose(corners(_short(dots))[::2], points, atol=0.005 + 1e-9)
    np.testing.assert_allclose(corners(_short(dots))[1::2], points + np.array([0.5, 0]), atol=0.01)


def test_paths_of_every_kind_of_stroke_in_few_letters():
    assert (
        _short("M 1 2 \nL 1 2.5 \nL -3 2.5 \nL -3.25 2 \nL -4 1 \nz\nM 0 0 \nL 1 1")
        == "m1 2v.5h-4l-.25-.5-.75-1zm-1-2l1 1"
    )
    assert _short("M 0 1 \nC 0.1 1.25 1 2 3 4.125 \nC 3 5 4 5 6 7 \nz") == "m0 1c.1 .25 1 1 3 3.12 0 .88 1 .88 3 2.88z"
    assert _short("M 0.004 -0.004 \nL 0.001 0") == "m0 0h0"


def test_what_nobody_sees_is_left_out_and_the_rest_stays():
    """Beside matplotlib's own file: the same texts at the same places, the same markers, clips and strokes."""
    figure, ax = figures.axes()
    figures.line(ax, [0, 1, 2], [0.125, 1, 0.001], "euler", marker="o", label="0.123456")
    ax.plot([0, 1], [1, 0], "s", color=figures.COLORS["midpoint"], markerfacecolor="none", markeredgewidth=1.6)
    ax.set(ylabel="1.234567", yscale="log")
    ax.legend()
    out = io.StringIO()
    drawing = figures.show(figure, "a line and two squares")
    with mpl.rc_context(_STYLE):
        figure.savefig(out, format="svg")
    plain, light = (list(ET.fromstring(text).iter()) for text in (out.getvalue(), drawing.svg))

    def found(tree, tag, *attributes):
        return [
            ((e.text or "").strip(), *(e.attrib.get(a) for a in attributes)) for e in tree if e.tag.endswith("}" + tag)
        ]

    for tag in ("text", "tspan"):  # tick labels with powers are made of tspans, with a place for each letter
        places = [found(tree, tag, "x", "y") for tree in (plain, light)]
        assert [text for text, *_ in places[0]] == [text for text, *_ in places[1]]
        numbers = [" ".join(v for _, *place in tree for v in place if v).split() for tree in places]
        assert len(numbers[0]) > 10
        np.testing.assert_allclose(*[np.array(n, float) for n in numbers], atol=0.006)
    assert {"1.234567", "0.123456"} <= {text for text, *_ in found(light, "text")}
    turned = [t for _, t in found(light, "text", "transform") if t and "rotate" in t]
    assert len(turned) == 1
    assert turned[0].startswith("rotate(-90 ")
    uses = [found(tree, "use", "x", "y") for tree in (plain, light)]
    np.testing.assert_allclose(*[[[float(v) for v in place] for _, *place in tree] for tree in uses], atol=0.006)
    assert drawing.svg.count("clip-path=") == out.getvalue().count("clip-path=")
    assert len(drawing.svg) < 0.6 * len(out.getvalue())
    # the squares are outlines still, the line's markers are filled
    assert re.search(r'<path id="[^"]+" d="[^"]+" style="fill-opacity: 0; stroke: var\(--rv-midpoint', drawing.svg)
    assert re.search(r'<path id="[^"]+" d="[^"]+" style="fill: var\(--rv-euler', drawing.svg)


def test_a_filled_area_keeps_its_colour_and_opacity():
    figure, ax = figures.axes()
    ax.fill_between([0, 1], [0, 1], [1, 2], color=figures.COLORS["midpoint"], alpha=0.25, linewidth=0)
    svg = figures.show(figure, "an area").svg
    assert re.search(r'<path id="[^"]+" d="[^"]+" style="fill: var\(--rv-midpoint, #0064a0\); fill-opacity: 0.25', svg)


def test_a_marker_in_two_styles_keeps_both():
    figure, ax = figures.axes()
    ax.scatter([1, 2, 3], [1, 2, 3], c=[figures.COLORS["euler"], figures.COLORS["midpoint"], figures.COLORS["euler"]])
    svg = figures.show(figure, "three dots in two colours").svg
    assert re.findall(r'<use[^>]* style="fill: var\(--rv-(\w+)', svg) == ["euler", "midpoint", "euler"]


def test_a_cloud_of_dots_is_one_path_and_a_few_markers_stay():
    z = np.random.default_rng(0).normal(size=300) + 1j * np.random.default_rng(1).normal(size=300)
    (many,) = figures.spectra({"many": z}).drawings
    (few,) = figures.spectra({"few": z[:20]}).drawings
    (cloud,) = (d for d in re.findall(r' d="([^"]*)"', many.svg) if d.count("h0") == 300)
    assert len(cloud) < 15 * 300
    assert "h0" not in few.svg
    assert few.svg.count("<use") >= 20
    x, y = corners(cloud)[::2].T
    assert np.corrcoef(x, z.real)[0, 1] > 0.99999
    assert np.corrcoef(y, -z.imag)[0, 1] > 0.99999
    (twice,) = figures.spectra({"twice": np.r_[z, z]}).drawings
    assert twice.svg.count("h0") == 300, "a dot on a dot is drawn once"
