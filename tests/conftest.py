"""What all tests share: one thread, one seed, the checkout first, and reasons for whatever cannot run here."""

from __future__ import annotations

import functools
import http.server
import os
import runpy
import shutil
import sys
import threading
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).resolve().parent.parent

# For a Chromium in a container, that asks its maker nothing.
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"]
FLAGS += ["--disable-component-update", "--disable-sync"]

# The tests are of the checkout, in the processes that they start too.
os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))

# One thread each: results repeat, and the workers of pytest-xdist share the cores.
torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def root() -> Path:
    """The checkout."""
    return ROOT


@pytest.fixture(scope="session")
def chromium() -> str:
    """Path of a Chromium that starts. Where there is none the test fails: a skip would look like a pass."""
    path = runpy.run_path(str(ROOT / ".ci" / "chromium.py"))["find"]()
    if path is None:
        pytest.fail("no Chromium: run `make test`, which installs one, or name one with CHROMIUM=...", pytrace=False)
    return path


@pytest.fixture(scope="session")
def origin():
    """Where the built book is served."""
    from .pages import SITE

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

    if not (SITE / "index.html").exists():
        pytest.fail("the book is not built: run `make book`, or name a built one with SITE=...", pytrace=False)
    handler = functools.partial(Quiet, directory=str(SITE))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.fixture(scope="session")
def browser(chromium):
    from playwright.sync_api import sync_playwright  # only where the site is tested

    with sync_playwright() as p:
        browser = p.chromium.launch(executable_path=chromium, args=FLAGS)
        yield browser
        browser.close()


def open_page(browser, origin: str, name: str, **options):
    """A page of the book in a context of its own; ``page.complaints`` has what the browser complains of."""
    context = browser.new_context(**{"viewport": {"width": 1280, "height": 900}, **options})
    page = context.new_page()
    page.complaints, page.bytes = [], {}

    def gate(route):
        url = route.request.url
        if url.startswith((origin, "data:", "blob:")):
            route.continue_()
        else:
            page.complaints.append(f"{name}: outside request: {url}")
            route.abort()

    def complain(what: str) -> None:
        page.complaints.append(f"{name}: {what}")

    context.route("**/*", gate)
    page.on("console", lambda m: m.type in ("error", "warning") and complain(f"{m.type}: {m.text}"))
    page.on("pageerror", lambda e: complain(f"page error: {e}"))
    page.on("response", lambda r: r.status >= 400 and complain(f"{r.status} {r.url}"))
    page.on("requestfinished", lambda r: page.bytes.update({r.url: r}))
    path, _, query = name.partition("?")
    page.goto(f"{origin}/{path}.html{'?' * bool(query)}{query}", wait_until="load")
    page.wait_for_load_state("networkidle")
    page.wait_for_function("() => !document.querySelector('script[type$=\"widget-view+json\"]')")
    return page


@pytest.fixture
def visit(browser, origin):
    """visit(name, **context options) -> a new page; the test fails at its end on any complaint of the browser."""
    opened = []

    def go(name: str, **options):
        opened.append(open_page(browser, origin, name, **options))
        return opened[-1]

    yield go
    for page in opened:
        page.context.close()
    assert not (complaints := [c for page in opened for c in page.complaints]), complaints


@pytest.fixture(scope="session")
def _left_open(browser):
    """Pages by name and options; opening one takes longer than most tests, and many tests are of one page."""
    pages: dict = {}
    yield pages
    for page in pages.values():
        page.context.close()


@pytest.fixture
def share(browser, origin, _left_open):
    """As visit, but the page may have been used by other tests: for tests that set everything that they look at."""
    used = []

    def go(name: str, **options):
        key = (name, str(options))
        if key not in _left_open:
            while len(_left_open) >= 3:
                _left_open.pop(next(iter(_left_open))).context.close()
            _left_open[key] = open_page(browser, origin, name, **options)
        used.append(_left_open[key])
        return used[-1]

    yield go
    complaints = [c for page in used for c in page.complaints]
    if complaints:  # told once, and not by the tests that come after
        for key in [k for k, page in _left_open.items() if page in used]:
            _left_open.pop(key).context.close()
    assert not complaints, complaints


def _compiler() -> str | None:
    """The C++ compiler that torch.compile would call."""
    if named := os.environ.get("CXX"):
        return shutil.which(named)
    return shutil.which("clang++" if sys.platform == "darwin" else "g++")


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("needs_compiler") and _compiler() is None:
        pytest.skip("torch.compile needs a C++ compiler, and there is none (install g++, or set CXX)")
    if item.get_closest_marker("needs_cuda") and not torch.cuda.is_available():
        pytest.skip("needs a CUDA device, and there is none")
