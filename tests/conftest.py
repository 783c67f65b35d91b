"""What all tests share: one thread, one seed, the checkout first, and reasons for whatever cannot run here."""

from __future__ import annotations

import os
import runpy
import shutil
import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).resolve().parent.parent

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
