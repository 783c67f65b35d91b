"""Result files: one JSON file a run, with what is needed to judge and repeat it."""

from __future__ import annotations

import datetime
import json
import os
import platform
import subprocess
from pathlib import Path

import torch

from . import paths
from ._version import __version__
from .checkpoint import write_atomic
from .errors import CheckpointError

#: What every result file has.
KEYS = ("name", "kind", "status", "settings", "seed", "wall_seconds", "evidence", "curve", "final")
STATUS = ("finished", "unfinished", "failed")


def evidence(device: str | torch.device = "cpu") -> dict:
    """Where and with what a number was measured: commit, date, hardware, versions."""
    device = torch.device(device)
    gpu = torch.cuda.get_device_name(device) if device.type == "cuda" else None
    return {
        "revode": __version__,
        "commit": _git("rev-parse", "HEAD"),
        "uncommitted_changes": bool(_git("status", "--porcelain", "--", "revode")),
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "hardware": {"cpu": _cpu(), "cores": os.cpu_count(), "threads": torch.get_num_threads(), "gpu": gpu},
        "system": platform.platform(),
        "python": platform.python_version(),
        "torch": torch.__version__,
    }


def _git(*args: str) -> str | None:
    here = Path(__file__).resolve().parent
    try:
        run = subprocess.run(["git", "-C", str(here), *args], capture_output=True, text=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError):
        return None  # installed from a wheel, or no git
    return run.stdout.strip()


def _cpu() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def folder() -> Path:
    """Where the result files of the package are."""
    return paths.bundled() / "results"


def check(record: dict, source: str = "record") -> dict:
    """The record itself, refused if it is no result.

    Raises:
        CheckpointError: if a key is missing or the status is unknown.
    """
    missing = [k for k in KEYS if k not in record] if isinstance(record, dict) else list(KEYS)
    if missing or record["status"] not in STATUS:
        raise CheckpointError(
            f"{source} is no result file: it needs {', '.join(missing) or 'status in ' + str(STATUS)}; "
            "write it with `revode train`, or remove it"
        )
    return record


def write(path: Path, record: dict) -> None:
    """Write a result file atomically.

    Raises:
        CheckpointError: if the record is incomplete, or the file cannot be written.
    """
    check(record)
    write_atomic(Path(path), (json.dumps(record, indent=1, allow_nan=False) + "\n").encode())


def load(name: str) -> dict:
    """The bundled result of this name (file name without .json).

    Raises:
        CheckpointError: if there is none (the names are listed) or it is broken.
    """
    path = folder() / f"{name}.json"
    if not path.exists():
        raise CheckpointError(f"there is no result {name!r}; there are: {', '.join(names()) or 'none'}")
    try:
        record = json.loads(path.read_text("utf-8"))
    except ValueError as error:
        raise CheckpointError(f"{path} is no JSON file ({error}); write it again, or remove it") from error
    return check(record, str(path))


def names(kind: str | None = None) -> list[str]:
    """Names of the bundled results, sorted; of one kind ("training", "benchmark") if asked for."""
    found = sorted(p.stem for p in folder().glob("*.json"))
    return found if kind is None else [n for n in found if load(n)["kind"] == kind]


def everything(kind: str | None = None) -> list[dict]:
    """All bundled results, sorted by name."""
    return [load(n) for n in names(kind)]


def table() -> str:
    """The training results as a text table."""
    rows = [("result", "status", "data", "steps", "seed", "test accuracy", "hours", "hardware", "commit")]
    for r in everything("training"):
        s, e = r["settings"], r["evidence"]
        accuracy = r["final"].get("test_accuracy")
        rows.append(
            (
                r["name"],
                r["status"],
                s["data"] + (f", {s['subset']} images" if s["subset"] else ""),
                str(s["steps"]),
                str(r["seed"]),
                "-" if accuracy is None else f"{100 * accuracy:.2f} %",
                f"{r['wall_seconds'] / 3600:.2f}",
                e["hardware"]["gpu"] or f"{e['hardware']['cpu']}, {e['hardware']['threads']} thread(s)",
                (e["commit"] or "-")[:9],
            )
        )
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return "\n".join("  ".join(cell.ljust(w) for cell, w in zip(row, widths)).rstrip() for row in rows)


def add_arguments(parser) -> None:
    """`revode results` has no options."""


def main(args) -> int:
    """Print the table of results."""
    print(table())
    return 0
