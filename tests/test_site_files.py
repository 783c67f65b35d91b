"""Read the built book as files: well-formed, links and anchors resolve, nothing from outside, light enough."""

from __future__ import annotations

import functools
import re
from pathlib import Path
from urllib.parse import unquote, urlsplit

import html5lib
import pytest
import yaml

from .pages import PAGES, ROOT, SITE

CONFIG = yaml.safe_load((ROOT / "_config.yml").read_text("utf-8"))
LOADS = {"script": "src", "img": "src", "link": "href", "iframe": "src", "source": "src"}
LOADING_RELS = {"stylesheet", "icon", "preload", "modulepreload"}
HTML_BYTES = 600_000  # one page, widget state included
pages = pytest.mark.parametrize("name", PAGES)


@pytest.fixture(scope="module", autouse=True)
def built() -> None:
    if not (SITE / "index.html").exists():
        pytest.fail("the book is not built: run `make book`, or name a built one with SITE=...", pytrace=False)


@functools.cache
def parse(path: Path):
    parser = html5lib.HTMLParser()
    return parser.parse(path.read_text("utf-8")), parser.errors


def elements(path: Path):
    for e in parse(path)[0].iter():
        if isinstance(e.tag, str):
            yield e.tag.rpartition("}")[2], e


@functools.cache
def ids(path: Path) -> list[str]:
    return [e.attrib["id"] for _, e in elements(path) if e.attrib.get("id")]


@pages
def test_page_is_wellformed(name):
    path = SITE / f"{name}.html"
    _, errors = parse(path)
    assert not errors, errors[:5]
    assert path.stat().st_size < HTML_BYTES
    assert len(ids(path)) == len(set(ids(path))), {i for i in ids(path) if ids(path).count(i) > 1}
    found = dict(elements(path))
    assert found["html"].attrib.get("lang") == "en"
    assert found["title"].text.strip()


@pages
def test_pictures_have_words_and_headings_have_order(name):
    level = 0
    for tag, e in elements(SITE / f"{name}.html"):
        if tag == "img":
            assert "alt" in e.attrib, e.attrib
        if tag == "svg" and e.attrib.get("aria-hidden") != "true":
            assert e.attrib.get("aria-label") or e.attrib.get("aria-labelledby"), "an SVG without words"
        if re.fullmatch("h[1-6]", tag):
            assert int(tag[1]) <= level + 1, f"{tag} after h{level}"
            level = int(tag[1])


@pages
def test_links_lead_somewhere_and_nothing_is_loaded_from_outside(name):
    path = SITE / f"{name}.html"
    for tag, e in elements(path):
        url = e.attrib.get("href") or e.attrib.get("src")
        if not url or tag in ("use", "base") or url.startswith(("data:", "mailto:", "javascript:")):
            continue
        loads = tag in LOADS and (tag != "link" or set(e.attrib.get("rel", "").split()) & LOADING_RELS)
        parts = urlsplit(url)
        if parts.scheme or parts.netloc:
            assert not loads, f"loaded from outside: {url}"
            continue
        if url == "#":
            continue
        target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
        target = target / "index.html" if target.is_dir() else target
        assert target.is_file(), f"dead link: {url}"
        if parts.fragment and target.suffix == ".html":
            assert unquote(parts.fragment) in ids(target), f"dead anchor: {url}"


def test_colab_buttons_open_the_notebooks_of_the_repository():
    repository = CONFIG["repository"]
    start = f"{CONFIG['launch_buttons']['colab_url']}/{repository['url'].removeprefix('https://').removesuffix('.git')}"
    start = start.replace("/github.com/", "/github/") + f"/blob/{repository['branch']}/"
    for name in PAGES:
        buttons = [e.attrib["href"] for t, e in elements(SITE / f"{name}.html") if "colab" in e.attrib.get("href", "")]
        if (ROOT / f"{name}.ipynb").exists():
            assert buttons == [f"{start}{name}.ipynb"]
        else:
            assert buttons == [], "there is no notebook that Colab could open"


def test_no_page_has_a_path_of_the_machine_that_built_it():
    for name in PAGES:
        text = (SITE / f"{name}.html").read_text("utf-8")
        for path in (str(ROOT), str(Path.home()) + "/", "/site-packages/"):
            assert path not in text, path


def test_no_cell_failed_and_every_chapter_ran():
    for name in PAGES:
        if (ROOT / f"{name}.ipynb").exists():
            text = (SITE / f"{name}.html").read_text("utf-8")
            assert "Traceback (most recent call last)" not in text
            assert 'class="cell_output' in text, "no output: was the notebook executed?"


def test_dead_weight_is_gone():
    assert not list(SITE.rglob("*.map"))
    assert (SITE / "_static" / "mathjax" / "tex-chtml.js").stat().st_size < 1_300_000
    assert sum(p.stat().st_size for p in (SITE / "_static" / "mathjax").rglob("*")) < 2_000_000
