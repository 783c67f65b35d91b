"""Makes the result file of a run, or goes on with it."""

from __future__ import annotations

import importlib
import shlex
import subprocess
import sys
from pathlib import Path

import torch

from .. import cli, results, train
from ..errors import RevodeError
from ._base import Run


def make(run: Run, folder: Path, *, device: str = "auto", limit_seconds: float | None = None) -> dict:
    """The result of a run: read if it is finished, else gone on with or begun.

    Args:
        run: The run.
        folder: Gets ``NAME.json``, and for trainings a folder ``NAME`` with checkpoint and log.
        device: Where trainings run.
        limit_seconds: A training stops after this time with a checkpoint, "unfinished".

    Raises:
        CheckpointError: a file cannot be read or written.
        RevodeError: a command that should have made the file did not.
    """
    file = folder / f"{run.name}.json"
    if file.exists() and (done := results.read(file))["status"] == "finished":
        return done
    if run.make == "train":
        config = train.TrainConfig(
            **run.settings, seed=run.seed, device=device, out=str(folder / run.name), limit_seconds=limit_seconds
        )
        found = train.fit(config, resume=True) | {"name": run.name}
    elif " " in run.make:
        return _command(run, folder, file)
    else:
        module, _, function = run.make.partition(":")
        call = getattr(importlib.import_module(f".{module}", __package__), function)
        began = results.begin()
        final, curve = call(seed=run.seed, **run.settings)
        settings = {"make": run.make, "device": "cpu", "threads": torch.get_num_threads()} | dict(run.settings)
        found = results.record(
            run.name, "experiment", final, began=began, settings=settings, seed=run.seed, curve=curve
        )
    results.write(file, found)
    return found


def _command(run: Run, folder: Path, file: Path) -> dict:
    """The result of a run that is a command line."""
    folder.mkdir(parents=True, exist_ok=True)
    words = [w.format(folder=folder, file=file) for w in shlex.split(run.make)]
    own = words[0] == "revode"
    status = cli.main(words[1:]) if own else subprocess.run([sys.executable, *words[1:]]).returncode
    if not file.exists():
        where = "" if own else "; it runs in the top folder of a checkout of revode only"
        raise RevodeError(f"`{shlex.join(words)}` ended with status {status} and left no {file}{where}")
    return results.read(file)
