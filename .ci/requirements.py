"""Print requirements from pyproject.toml: requirements.py [--lowest] [package] [EXTRA ...]

`package` stands for what the package itself needs; `--lowest` turns each lower bound into an exact version.
`requirements.py --freeze` prints what is installed now below the packages of requirements.txt.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def requirements(names: list[str], lowest: bool = False) -> list[str]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    groups = project["optional-dependencies"] | {"package": project["dependencies"]}
    found = [line for name in names for line in groups[name]]
    return [pin(line) for line in found] if lowest else found


def pin(requirement: str) -> str:
    """``numpy>=1.26,<3`` becomes ``numpy==1.26``."""
    match = re.fullmatch(r"([\w.-]+)\s*[>=]=\s*([\w.]+)(,.*)?", requirement)
    if not match:
        raise SystemExit(f"pyproject.toml: {requirement!r} has no lower bound to test")
    return f"{match[1]}=={match[2]}"


def name(requirement: str) -> str:
    return re.split(r"[^\w.-]", requirement.strip())[0].lower().replace("_", "-").replace(".", "-")


def freeze() -> list[str]:
    installed = subprocess.run([sys.executable, "-m", "pip", "freeze"], capture_output=True, text=True, check=True)
    elsewhere = {name(line) for line in (ROOT / "requirements.txt").read_text("utf-8").splitlines()}
    elsewhere |= {name(line) for line in requirements(["dev"]) if "==" in line} | {"revode"}
    comment = "# Below requirements.txt and above it: what `make pins` found installed. Not edited by hand."
    return [comment, *(line for line in installed.stdout.splitlines() if name(line) not in elsewhere)]


if __name__ == "__main__":
    arguments = sys.argv[1:]
    if arguments == ["--freeze"]:
        print(*freeze(), sep="\n")
    else:
        print(*requirements([a for a in arguments if a != "--lowest"], "--lowest" in arguments), sep="\n")
