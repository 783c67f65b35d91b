"""``revode claims``: measure the claims of :mod:`revode.analysis.drift` and print them, or write a result file."""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

from .. import results
from .drift import reproduce


def record() -> dict:
    """All claims measured on the CPU, as a result file has them: ``final["claims"]``, None for what is not finite."""
    began, rows = results.begin(), reproduce()
    settings = {"device": "cpu", "threads": torch.get_num_threads()}
    return results.record("claims", "claims", {"claims": rows}, began=began, settings=settings)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of ``revode claims``."""
    parser.add_argument("--out", type=Path, metavar="FILE", help="write a result file as well")


def main(args: argparse.Namespace) -> int:
    """``revode claims``: prints a line for each; the exit status is 1 if one does not reproduce."""
    found = record()
    for row in found["final"]["claims"]:
        value = "overflow" if row["measured"] is None else f"{row['measured']:.4g}"
        verdict = "ok" if row["holds"] else "NOT REPRODUCED"
        wanted = f"{row['relation']} {row['expected']:.4g}"
        print(f"{row['number']:3d}  {row['quantity']}: {value}, expected {wanted}: {verdict}")
    if args.out:
        results.write(args.out, found)
    return 0 if all(row["holds"] for row in found["final"]["claims"]) else 1
