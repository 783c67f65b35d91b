"""The command ``revode``."""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from collections.abc import Sequence

from ._version import __version__
from .errors import RevodeError

#: Subcommand: module (with ``add_arguments`` and ``main``) and one line of help. Loaded when it is asked for.
COMMANDS = {
    "check": ("check", "show on this device that inverse, gradients, memory and recomputation are as promised"),
    "claims": ("analysis.claims", "measure the numbers of papers and calculations that this package reproduces"),
    "models": ("models", "list the papers' networks with their parameter counts"),
    "data": ("data", "download or verify a data set"),
    "train": ("train", "train a network by the papers' schedule, resumable"),
    "spectra": ("analysis.clouds", "measure the eigenvalues of a named network's layers before and after training"),
    "lyapunov": ("analysis.lyapunov", "measure Lyapunov exponents of a trained network"),
    "experiments": (
        "experiments.command",
        "list the papers' experiments with status and cost, or the claims with verdicts",
    ),
    "reproduce": ("experiments.reproduce", "make the results of an experiment, or go on with them"),
    "results": ("results", "list the bundled results, or result files"),
    "export": ("weights", "put result and float16 weights of a finished run into the package's data folder"),
}

EPILOG = """\
examples:
  revode check
  revode data cifar10
  revode train hamiltonian-74 --data cifar10 --subset 10000 --steps 2000 --out runs/first
  revode train hamiltonian-74 --data cifar10 --subset 10000 --steps 2000 --out runs/first --resume
  torchrun --nproc-per-node=2 -m revode train hamiltonian-74 --data cifar10

`revode COMMAND --help` tells a command's options. Data sets are kept in $REVODE_DATA, or in ./data."""


def parser(command: str | None = None) -> argparse.ArgumentParser:
    """The parser; the options of the named subcommand only are loaded."""
    top = argparse.ArgumentParser(
        prog="revode",
        description="Reversible, ODE-inspired residual networks: train, check, list.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    top.add_argument("--version", action="version", version=f"revode {__version__}")
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, (module, text) in COMMANDS.items():
        sub = commands.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".")
        if name == command:
            loaded = importlib.import_module(f".{module}", __package__)
            loaded.add_arguments(sub)
            sub.set_defaults(handler=loaded.main)
    return top


def main(argv: Sequence[str] | None = None) -> int:
    """Run a subcommand.

    Returns:
        Its exit status; 2 for an error that has a name (one line on stderr), 130 after Ctrl-C.
    """
    argv = list(sys.argv[1:] if argv is None else argv)
    named = next((a for a in argv if not a.startswith("-")), None)
    try:
        args = parser(named).parse_args(argv)
        status = args.handler(args)
        sys.stdout.flush()
        return status
    except KeyboardInterrupt as stopped:
        print(f"revode: {str(stopped) or 'stopped'}", file=sys.stderr)
        return 130
    except (RevodeError, ValueError, ModuleNotFoundError) as error:
        print(f"revode: error: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    except BrokenPipeError:  # `revode models | head` has read enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
