"""Make the data of the depth doubling figure: ``python -m revode.widgets.depth_doubling_data``, a minute on one core.

Networks of 16 layers trained on the Swiss roll (:mod:`revode.experiments.multilevel`), refined to 1024 layers without
more training, by copies and by means: their features, and the way of one point; written beside the widget with their
origin.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from .. import results, stability
from ..checkpoint import write_atomic
from ..experiments.multilevel import Classifier, T, swiss_roll
from ..multilevel import refine
from ..stage import Stage
from .depth_doubling import DATA_FILE, INTERPOLATIONS, LEVELS, NETWORKS

#: Evaluations of the training at the first level, and every how many-th point is drawn.
EVALUATIONS, EVERY = 400, 4
#: Most stretches of the way of one point that are drawn.
STRETCHES = 64
#: Place of the followed point among those drawn: on the inner spiral, in its middle.
FOLLOWED = 40


@torch.no_grad()
def ways(stage: Stage, x: Tensor) -> Tensor:
    """The first two features (times, N, 2) of points (N, 2) at up to 65 equally spaced times, 0 and T among them."""
    state = stage.scheme.start(F.pad(x, (0, 2)))
    every = max(len(stage.blocks) // STRETCHES, 1)
    out = [x]
    for j, block in enumerate(stage.blocks):
        state = stage.scheme.step(state, block, j)
        if (j + 1) % every == 0:
            out.append(stage.scheme.finish(state, j + 1)[:, :2])
    return torch.stack(out)


def make(
    levels: Sequence[int] = LEVELS, evaluations: int = EVALUATIONS, *, every: int = EVERY, seed: int = 0
) -> dict[str, Any]:
    """All that the figure draws, ready for JSON.

    Args:
        levels: Powers of 2 of the depths, successive.
        evaluations: Of the training at the first of them.
        every: Every how many-th validation point is drawn.
        seed: Of the start of the training.

    Returns:
        "levels", "time", "classes" (of each point drawn, a digit), "followed", and "networks", each with its "quantum"
        and for either interpolation in base64 "features" (levels, points, 2) and "ways" (all times of all levels, 2) in
        quanta, and numbers: "gaps" (root mean square distance of features to those at the next level, relative to their
        size at the last; one fewer than levels) and "accuracy" (of all validation points).
    """
    train, validation = swiss_roll()
    points = validation.x[::every]
    followed = min(FOLLOWED, len(points) - 1)
    networks = []
    for name in NETWORKS:
        model = Classifier(name, 2 ** levels[0], seed)
        model.fit(train, model.optimizer(evaluations))
        coarse, found = model.stage, {}
        for interpolation in INTERPOLATIONS:
            model.stage, rows, all_features, accuracy = coarse, [], [], []
            for level in levels:
                if level > levels[0]:
                    model.stage = refine(model.stage, interpolation)
                rows.append(ways(model.stage, points))
                with torch.no_grad():
                    all_features.append(model.features(validation.x))
                accuracy.append(model.point(train, validation)["validation_accuracy"])
            size = all_features[-1].square().mean().sqrt()
            gaps = [((b - a).square().mean().sqrt() / size).item() for a, b in pairwise(all_features)]
            found[interpolation] = (rows, gaps, accuracy)
        largest = max(row.abs().max().item() for rows, *_ in found.values() for row in rows)
        quantum = largest / 32_000

        def packed(values: Tensor, quantum: float = quantum) -> str:
            return stability.pack(np.rint(values.numpy() / quantum), "<i2")

        networks.append(
            {"name": name, "quantum": quantum}
            | {
                interpolation: {
                    "features": packed(torch.stack([row[-1] for row in rows])),
                    "ways": packed(torch.cat([row[:, followed] for row in rows])),
                    "gaps": gaps,
                    "accuracy": accuracy,
                }
                for interpolation, (rows, gaps, accuracy) in found.items()
            }
        )
    return {
        "levels": list(levels),
        "time": T,
        "classes": "".join(str(y) for y in validation.y[::every].tolist()),
        "followed": followed,
        "networks": networks,
    }


if __name__ == "__main__":
    torch.set_num_threads(1)
    began = time.process_time()
    data = make()
    data["origin"] = results.evidence() | {"cpu_seconds": round(time.process_time() - began, 1)}
    write_atomic(DATA_FILE, json.dumps(data, allow_nan=False).encode() + b"\n")
    print(f"{DATA_FILE}: {DATA_FILE.stat().st_size:,} bytes in {data['origin']['cpu_seconds']:.0f} CPU seconds")
