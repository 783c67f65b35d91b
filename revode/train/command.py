"""The command ``revode train``."""

from __future__ import annotations

import argparse
import dataclasses
import inspect
import os
import re

from .. import data
from ..fields import NORMALIZATIONS
from ..multiscale import PROLONGATIONS
from ..networks import LEARN
from ..stage import ARITHMETIC, MEMORY
from .config import AMP, REFINE, RESULT, SCHEDULES, TrainConfig
from .run import fit


def _descriptions() -> dict[str, str]:
    """What the docstring of :class:`TrainConfig` says about each setting."""
    text = inspect.getdoc(TrainConfig) or ""
    entries = re.findall(r"^    (\w+): (.*(?:\n {8}.*)*)", text, re.MULTILINE)
    return {name: re.sub(r"\s+", " ", about).replace("`", "").replace("%", "%%") for name, about in entries}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The settings of :class:`TrainConfig` as options of ``revode train``."""
    about = {k: re.sub(r":(?:data|func|meth):revode\.", "revode.", v) for k, v in _descriptions().items()}
    choices = {"data": data.SPLITS, "memory": MEMORY, "arithmetic": ARITHMETIC}
    choices |= {"normalization": NORMALIZATIONS, "amp": AMP, "refine": REFINE, "schedule": SCHEDULES}
    choices |= {"prolongation": PROLONGATIONS, "learn_c": LEARN}
    kinds = {"int": int, "float": float, "str": str}
    parser.add_argument("model", help="name of the network; `revode models` lists them")
    for f in dataclasses.fields(TrainConfig)[1:]:
        option, kind = "--" + f.name.replace("_", "-"), str(f.type).partition(" ")[0]
        text = about.get(f.name, "") + ("" if f.default is None or kind == "bool" else f" (default: {f.default})")
        if kind == "bool":
            parser.add_argument(option, action=argparse.BooleanOptionalAction, default=f.default, help=text)
        elif kind.startswith("tuple"):
            parser.add_argument(option, type=int, nargs="*", metavar="N", default=f.default, help=text)
        else:
            allowed = choices.get(f.name)
            metavar = None if allowed else {"int": "N", "float": "X", "str": f.name.upper()}[kind]
            parser.add_argument(
                option,
                type=kinds[kind],
                choices=allowed and list(allowed),
                metavar=metavar,
                default=f.default,
                help=text,
            )
    parser.add_argument("--resume", action="store_true", help="go on from the checkpoint in the folder of the run")
    parser.add_argument("--quiet", action="store_true", help="no progress bar and no messages")


def main(args: argparse.Namespace) -> int:
    """``revode train``: the exit status, 0 also for a run that stopped at its time limit."""
    config = TrainConfig(**{f.name: getattr(args, f.name) for f in dataclasses.fields(TrainConfig)})
    record = fit(config, resume=args.resume, quiet=args.quiet)
    if int(os.environ.get("RANK", 0)) == 0 and record["status"] == "finished":
        final, out = record["final"], config.out or os.path.join("runs", record["name"])
        print(
            f"test accuracy {100 * final['test_accuracy']:.2f} % of {final['test_images']:,} images after "
            f"{final['step']:,} steps, {record['wall_seconds']:.0f} s; result in {os.path.join(out, RESULT)}"
        )
    return 0
