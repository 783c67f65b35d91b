"""Result files: one JSON file a run, with what is needed to judge and repeat it.

A file has the keys of :data:`KEYS`. "evidence" says where, when and with which commit the numbers were made, "settings"
how, "curve" has the points of a training run in order (keys as in :data:`POINT`), "final" the last numbers.
"""

from __future__ import annotations

import argparse
import datetime
import functools
import json
import math
import os
import platform
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch

from . import paths
from ._version import __version__
from .checkpoint import write_atomic
from .errors import CheckpointError

Number = (int, float)

#: What every result file has, and of which type.
KEYS: Mapping[str, type | tuple[type, ...]] = {
    "name": str,
    "kind": str,
    "status": str,
    "settings": dict,
    "seed": int,
    "wall_seconds": Number,
    "evidence": dict,
    "curve": list,
    "final": dict,
}

#: What its evidence has; a commit is not known where revode was installed from a wheel.
EVIDENCE: Mapping[str, type | tuple[type, ...]] = {
    "revode": str,
    "commit": (str, type(None)),
    "date": str,
    "hardware": dict,
    "python": str,
    "torch": str,
}

#: What a point of a training run's curve has. Accuracies lie in 0..1.
POINT: Mapping[str, type | tuple[type, ...]] = {
    "step": int,
    "epoch": Number,
    "lr": Number,
    "train_loss": Number,
    "train_accuracy": Number,
    "test_loss": (*Number, type(None)),  # None where it is not finite
    "test_accuracy": Number,
    "test_images": int,
    "images_per_second": (*Number, type(None)),  # None where no time was measured
    "seconds": Number,
}

STATUS = ("finished", "unfinished", "failed")


def now() -> str:
    """The time, UTC, in ISO format."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


def evidence(device: str | torch.device = "cpu") -> dict:
    """Where and with what a number was measured: version, commit, date, hardware, system, Python and torch."""
    device = torch.device(device)
    gpu = torch.cuda.get_device_name(device) if device.type == "cuda" else None
    commit, changed = _commit()
    return {
        "revode": __version__,
        "commit": commit,
        "uncommitted_changes": changed,
        "date": now(),
        "hardware": {"cpu": _cpu(), "cores": os.cpu_count(), "threads": torch.get_num_threads(), "gpu": gpu},
        "system": platform.platform(),
        "python": platform.python_version(),
        "torch": str(torch.__version__),  # a class of its own, which a checkpoint does not take
        "cuda": torch.version.cuda if gpu else None,
    }


class Beginning(NamedTuple):
    """When and with what a measurement began: a commit made in the meantime is not its own.

    Attributes:
        time: Of ``time.perf_counter``.
        evidence: As :func:`evidence` gives it.
    """

    time: float
    evidence: dict


def begin(device: str | torch.device = "cpu") -> Beginning:
    """To be called before a measurement; for :func:`record`."""
    return Beginning(time.perf_counter(), evidence(device))


def record(
    name: str,
    kind: str,
    final: dict,
    *,
    began: Beginning,
    settings: dict,
    seed: int = 0,
    curve: Sequence[dict] = (),
    status: str = "finished",
) -> dict:
    """A result as its file has it.

    Args:
        name: Of the result, the file's name without ".json".
        kind: "training", "experiment" or another word for what ``final`` holds.
        final: The last numbers; what is not finite becomes None.
        began: What :func:`begin` gave.
        settings: What the numbers depend on.
        seed: Of everything random.
        curve: What was measured on the way.
        status: One of :data:`STATUS`.
    """
    found = {
        "name": name,
        "kind": kind,
        "status": status,
        "seed": seed,
        "settings": settings,
        "wall_seconds": round(time.perf_counter() - began.time, 1),
        "evidence": began.evidence | {"date": now()},
        "curve": list(curve),
        "final": final,
    }
    return json.loads(json.dumps(_plain(found)))  # as it is read from the file: tuples are lists there


def _plain(value: Any) -> Any:
    """The same with None for numbers that are not finite, which JSON does not have."""
    if isinstance(value, dict):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


@functools.cache
def _commit() -> tuple[str | None, bool | None]:
    """Commit of the checkout that this package lies in, and whether its code differs from it; None without one."""
    package = Path(__file__).resolve().parent
    top = _git(package, "rev-parse", "--show-toplevel")
    if top is None or Path(top).resolve() != package.parent:  # installed into an environment in another project
        return None, None
    return _git(package, "rev-parse", "HEAD"), bool(_git(package, "status", "--porcelain", "--", "."))


def _git(folder: Path, *args: str) -> str | None:
    try:
        run = subprocess.run(["git", *args], cwd=folder, capture_output=True, text=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
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


def check(record: Any, source: str = "record") -> dict:
    """The record itself, refused if it is no result.

    Raises:
        CheckpointError: a key is missing or has a value of the wrong type; the message says which.
    """
    fault = _fault(record)
    if fault:
        raise CheckpointError(f"{source} is no result file: {fault}; write it with `revode train`, or remove it")
    return record


def _fault(record: Any) -> str | None:
    if not isinstance(record, dict):
        return f"it holds a {type(record).__name__}, not an object"
    if fault := _mistyped(record, KEYS) or _mistyped(record["evidence"], EVIDENCE, "evidence."):
        return fault
    if record["status"] not in STATUS:
        return f"status = {record['status']!r} must be one of {', '.join(STATUS)}"
    if record["kind"] != "training":
        return None
    last = -1
    for i, point in enumerate(record["curve"]):
        where = f"curve[{i}]."
        if not isinstance(point, dict):
            return f"curve[{i}] must be an object"
        if fault := _mistyped(point, POINT, where):
            return fault
        if point["step"] <= last:
            return f"{where}step = {point['step']} must be more than that of the point before"
        last = point["step"]
        for name in ("train_accuracy", "test_accuracy"):
            if not 0 <= point[name] <= 1:
                return f"{where}{name} = {point[name]} must lie in 0..1"
    if record["status"] == "finished" and "test_accuracy" not in record["final"]:
        return "final.test_accuracy is missing in a finished run"
    return None


def _mistyped(values: dict, types: Mapping[str, Any], where: str = "") -> str | None:
    for name, kind in types.items():
        if name not in values:
            return f"{where}{name} is missing"
        value = values[name]
        if not isinstance(value, kind) or (kind in (int, Number) and isinstance(value, bool)):
            return f"{where}{name} = {value!r} is of the wrong type"
        if isinstance(value, float) and not math.isfinite(value):
            return f"{where}{name} = {value} is not finite"
    return None


def write(path: str | os.PathLike[str], record: dict) -> None:
    """Write a result file atomically.

    Raises:
        CheckpointError: the record is incomplete, or the file cannot be written.
    """
    check(record)
    try:
        text = json.dumps(record, indent=1, allow_nan=False)
    except ValueError as error:
        raise CheckpointError(f"record cannot be written as JSON ({error}); numbers in it must be finite") from error
    write_atomic(path, text.encode() + b"\n")


def read(path: str | os.PathLike[str]) -> dict:
    """A result file, checked.

    Raises:
        CheckpointError: it is not there, is no JSON, or is no result.
    """
    try:
        record = json.loads(Path(path).read_text("utf-8"), parse_constant=_refuse)
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read ({error.strerror}); write it with `revode train`") from error
    except ValueError as error:
        raise CheckpointError(f"{path} is no JSON file ({error}); write it again, or remove it") from error
    return check(record, str(path))


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is no number of JSON")


def load(name: str) -> dict:
    """The bundled result of this name, its file's name without ".json".

    Raises:
        CheckpointError: there is none (the names are listed), or it is broken.
    """
    if name not in names():
        raise CheckpointError(f"there is no result {name!r}; there are: {', '.join(names()) or 'none'}")
    return read(folder() / f"{name}.json")


def names(kind: str | None = None) -> list[str]:
    """Names of the bundled results, sorted; of one kind ("training", ...) if asked for."""
    found = sorted(p.stem for p in folder().glob("*.json"))
    return found if kind is None else [n for n in found if load(n)["kind"] == kind]


def everything(kind: str | None = None) -> list[dict]:
    """All bundled results, sorted by name; of one kind if asked for."""
    return [load(n) for n in names(kind)]


def table(records: list[dict] | None = None) -> str:
    """Training results as a text table; by default the bundled ones."""
    rows = [("result", "status", "data", "steps", "seed", "test accuracy", "hours", "hardware", "commit")]
    for r in everything("training") if records is None else records:
        s, e = r["settings"], r["evidence"]
        accuracy, done = r["final"].get("test_accuracy"), r["final"].get("step")
        h = e["hardware"]
        rows.append(
            (
                r["name"],
                r["status"],
                s["data"] + (f", {s['subset']:,} images" if s["subset"] else ""),
                f"{s['steps']:,}" if done == s["steps"] else f"{done:,} of {s['steps']:,}",
                str(r["seed"]),
                "-" if accuracy is None else f"{100 * accuracy:.2f} %",
                f"{r['wall_seconds'] / 3600:.2f}",
                h["gpu"] or f"{h['cpu']}, {h['threads']} thread{'s' * (h['threads'] > 1)}",
                (e["commit"] or "-")[:9] + "+" * bool(e["uncommitted_changes"]),
            )
        )
    widths = [max(map(len, column)) for column in zip(*rows)]
    right = {3, 4, 5, 6}
    return "\n".join(
        "  ".join(c.rjust(w) if i in right else c.ljust(w) for i, (c, w) in enumerate(zip(row, widths))).rstrip()
        for row in rows
    )


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of ``revode results``."""
    parser.add_argument("files", nargs="*", metavar="FILE", help="result files (default: the bundled ones)")


def main(args: argparse.Namespace) -> int:
    """``revode results``: prints the table."""
    records = [read(f) for f in args.files] if args.files else everything("training")
    print(table(records) if records else f"no results in {folder()}; `revode train` makes some")
    return 0
