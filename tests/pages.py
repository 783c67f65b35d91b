"""Where the built book is, and which pages it must have."""

from __future__ import annotations

import os
import re
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parent.parent
SITE = Path(os.environ.get("SITE", ROOT / "_build" / "html"))
TOC = yaml.safe_load((ROOT / "_toc.yml").read_text("utf-8"))
#: From the table of contents and not from what was built: a page that is missing must fail.
PAGES = [
    TOC["root"],
    *re.findall(r"file: (\S+)", (ROOT / "_toc.yml").read_text("utf-8")),
    "index",
    "search",
    "genindex",
]
