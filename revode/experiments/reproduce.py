"""``revode reproduce``: make the result files of an experiment, or go on with them."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import torch

from .. import results
from ..fields import choose
from ._base import Run
from .registry import find, hours
from .run import make


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of ``revode reproduce``."""
    parser.add_argument("name", help="of an experiment; `revode experiments` lists them")
    parser.add_argument("--only", metavar="RUN", help="one of its runs (default: all, in order)")
    parser.add_argument("--folder", type=Path, default=Path("runs"), help="of the results (default: %(default)s)")
    parser.add_argument("--device", default="auto", help="for trainings (default: CUDA where there is one)")
    parser.add_argument("--limit-seconds", type=float, help="stop after this time; a training keeps a checkpoint")


def main(args: argparse.Namespace) -> int:
    """Make the runs; the exit status is 1 if some are unfinished."""
    experiment = find(args.name)
    if experiment.needs:
        raise ValueError(
            f"{experiment.name} has no runs: it needs {experiment.needs}; about "
            f"{hours(experiment.gpu_minutes)} on one H200, estimated"
        )
    runs = {run.name: run for run in experiment.runs}
    if args.only is not None:
        choose("--only", args.only, runs)
        runs = {args.only: runs[args.only]}
    end = None if args.limit_seconds is None else time.monotonic() + args.limit_seconds
    unfinished = []
    for k, run in enumerate(runs.values(), 1):
        file = args.folder / f"{run.name}.json"
        left = None if end is None else end - time.monotonic()
        if left is not None and left <= 0 and not file.exists():
            unfinished.append(run.name)
            continue
        need_gpu(run, args.device)
        print(f"{run.name} ({k} of {len(runs)}), {cost(run)}", file=sys.stderr)
        record = make(run, args.folder, device=args.device, limit_seconds=left)
        if record["status"] != "finished":
            unfinished.append(run.name)
        print(f"{file}: {record['status']}, {hours(record['wall_seconds'] / 60)}")
    if unfinished:
        print(f"unfinished: {', '.join(unfinished)}; go on with `revode reproduce {args.name}` in the same folder")
        return 1
    print(f"`revode experiments --claims --folder {args.folder}` says what the papers' claims make of it.")
    print(
        f"For the book (developers): commit first, so that the file names a commit, then copy it to {results.folder()}"
    )
    return 0


def need_gpu(run: Run, device: str) -> None:
    """Refuse a run that a CPU cannot make.

    Raises:
        ValueError: the run has a cost on a GPU only, and there is none; says how long it takes, and on what.
    """
    if run.make == "train" and run.cpu_minutes is None and device == "auto" and not torch.cuda.is_available():
        raise ValueError(
            f"{run.name} needs a GPU: about {hours(run.gpu_minutes or 0)} on one H200, estimated, and torch sees none "
            "here; --device cpu runs it all the same, which takes days to weeks"
        )


def cost(run: Run) -> str:
    """What a run takes, in words."""
    parts = [f"about {hours(run.cpu_minutes)} on one CPU core"] if run.cpu_minutes is not None else []
    parts += [f"about {hours(run.gpu_minutes)} on one H200"] if run.gpu_minutes else []
    return ", ".join(parts) or "no cost known"
