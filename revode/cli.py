"""The command ``revode``."""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Sequence

from ._version import __version__
from .errors import RevodeError

#: Subcommand: module (with ``add_arguments`` and ``main``) and one line of help. Loaded when it is asked for.
COMMANDS = {
    "check": ("check", "show on this device that inverse, gradients, memory and recomputation are as promised"),
    "models": ("models", "list the papers' networks with their parameter counts"),
    "data": ("data", "download or verify a data set"),
    "train": ("train", "train a network by the papers' schedule, resumable"),
    "results": ("results", "list the bundled results"),
    "export": ("weights", "put result and float16 weights of a run into the package's data folder"),
}


def parser(command: str | None = None) -> argparse.ArgumentParser:
    """The parser; only the options of the named subcommand are loaded."""
    top = argparse.ArgumentParser(prog="revode", description="Reversible, ODE-inspired residual networks.")
    top.add_argument("--version", action="version", version=f"revode {__version__}")
    commands = top.add_subparsers(dest="command", required=True, metavar="command")
    for name, (module, text) in COMMANDS.items():
        sub = commands.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".")
        if name == command:
            loaded = importlib.import_module(f".{module}", __package__)
            loaded.add_arguments(sub)
            sub.set_defaults(run=loaded.main)
    return top


def main(argv: Sequence[str] | None = None) -> int:
    """Run a subcommand; returns its exit status: 2 for an error that has a name, 130 after Ctrl-C."""
    argv = list(sys.argv[1:] if argv is None else argv)
    named = next((a for a in argv if not a.startswith("-")), None)
    args = parser(named).parse_args(argv)
    try:
        return args.run(args)
    except KeyboardInterrupt:
        print("revode: stopped; what was saved is kept", file=sys.stderr)
        return 130
    except (RevodeError, ValueError) as error:
        print(f"revode: error: {error}", file=sys.stderr)
        return 2
