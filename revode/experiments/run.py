"""Makes the result file of a run, or goes on with it."""

from __future__ import annotations

import importlib
from pathlib import Path

import torch

from .. import results, train
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
    """
    file = folder / f"{run.name}.json"
    if file.exists() and (done := results.read(file))["status"] == "finished":
        return done
    if run.make == "train":
        config = train.TrainConfig(
            **run.settings, seed=run.seed, device=device, out=str(folder / run.name), limit_seconds=limit_seconds
        )
        found = train.fit(config, resume=True) | {"name": run.name}
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
