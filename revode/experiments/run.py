"""Makes the result file of a run, or goes on with it."""

from __future__ import annotations

import importlib
import shlex
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
    elif run.make.startswith("revode "):
        folder.mkdir(parents=True, exist_ok=True)
        words = [w.format(folder=folder, file=file) for w in shlex.split(run.make)]
        if (status := cli.main(words[1:])) not in (
            0,
            1,
        ) or not file.exists():  # 1: it was measured, and is not as hoped
            raise RevodeError(f"`{shlex.join(words)}` ended with status {status} and left no {file}")
        return results.read(file)
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
