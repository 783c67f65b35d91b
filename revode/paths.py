"""Where files live: what rides in the package, and where data sets are kept."""

from __future__ import annotations

import os
from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent


def bundled() -> Path:
    """The folder with the bundled ``sample``, ``results`` and ``weights``.

    Returns:
        ``_data`` inside the package when revode was installed from a wheel, else the checkout's ``data``.
    """
    inside = _PACKAGE / "_data"
    return inside if inside.is_dir() else _PACKAGE.parent / "data"


def data_root() -> Path:
    """The folder that downloaded data sets live in: ``$REVODE_DATA`` where it is set, else ``./data``."""
    return Path(os.environ.get("REVODE_DATA") or "data").expanduser()
