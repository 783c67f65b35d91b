"""Find a Chromium for the browser tests, or install one: prints its path, or says in one sentence what to do.

Looked for in this order: $CHROMIUM, the usual names on the PATH, the usual folders of macOS, Playwright's own. Where
there is none, apt installs it for root, and Playwright's installer does for everybody else.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator

NAMES = ["chromium", "chromium-browser", "google-chrome", "google-chrome-stable"]
APPS = [
    "/Applications/Chromium.app/Contents/MacOS/Chromium",
    "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
]


def playwrights_own() -> str | None:
    try:
        from playwright.sync_api import Error, sync_playwright
    except ImportError:
        return None
    try:
        with sync_playwright() as p:
            return p.chromium.executable_path
    except Error:
        return None


def candidates() -> Iterator[str | None]:
    yield from map(shutil.which, NAMES)
    yield from APPS
    yield playwrights_own()


def runs(path: str | None) -> bool:
    """Ubuntu's `chromium-browser` is a stub that only names a snap, so existing is not enough."""
    if not path or not os.path.exists(path):
        return False
    try:
        return subprocess.run([path, "--version"], capture_output=True, timeout=60).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        return False


def find() -> str | None:
    """Path of a Chromium that runs, or None. $CHROMIUM, where it is set, is the only one that counts."""
    if named := os.environ.get("CHROMIUM"):
        path = shutil.which(named) or named
        return path if runs(path) else None
    return next(filter(runs, candidates()), None)


def install() -> None:
    def run(*command: str) -> bool:
        print("+", *command, file=sys.stderr, flush=True)
        env = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
        return subprocess.run(command, stdin=subprocess.DEVNULL, stdout=sys.stderr, env=env).returncode == 0

    root = hasattr(os, "geteuid") and os.geteuid() == 0
    if root and shutil.which("apt-get") and run("apt-get", "update", "-qq"):
        run("apt-get", "install", "-y", "-qq", "--no-install-recommends", "chromium")
        if find():
            return
    run(sys.executable, "-m", "playwright", "install", *(["--with-deps"] if root else []), "chromium")


def main() -> str | None:
    if named := os.environ.get("CHROMIUM"):
        if not (path := find()):
            return f"CHROMIUM={named} does not start: name a Chromium or Chrome that does, or unset it."
    elif not (path := find()):
        install()
        if not (path := find()):
            return (
                "The browser tests need Chromium, and it could neither be found nor installed: install Chromium or "
                "Chrome, or name one with CHROMIUM=/path/to/chromium."
            )
    print(path)


if __name__ == "__main__":
    sys.exit(main())
