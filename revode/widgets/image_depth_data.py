"""Make the data of the image depth figure: ``python -m revode.widgets.image_depth_data``, 20 minutes of one core.

Two trainings from 2-2-2 to 8-8-8 blocks (:mod:`revode.experiments.multilevel`) that are stopped before and after each
doubling and at the end, to look at what three test images become; written beside the widget with their origin. CIFAR-10
is read from ``$REVODE_DATA``.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .. import checkpoint, data, results, stability
from ..experiments.multilevel import EXPERIMENTS
from ..networks import Network
from ..train import TrainConfig
from ..train.run import Run
from .image_depth import DATA_FILE, NETWORKS

IMAGES = (8, 67, 6)  # a ship, a horse and a frog that are easy to make out, chosen before any training
#: Of a component from its smallest to its largest value; two of them fit in a byte.
LEVELS = 16
#: Share of the values of a unit that its colours hold; what lies beyond is drawn as the last colour.
HELD = 0.99


@torch.no_grad()
def features(network: Network, x: Tensor) -> tuple[list[Tensor], Tensor]:
    """What is at the end of each unit, (N, C, H, W), and the probabilities of the classes, (N, classes).

    Args:
        network: Any; evaluated in evaluation mode, and left as it was.
        x: Images (N, 3, H, W), normalised.
    """
    found: list[Tensor] = []
    hooks = [s.register_forward_hook(lambda _, args, out: found.append(out.contiguous())) for s in network.stages]
    training = network.training
    try:
        return found, network.eval()(x).softmax(dim=1)
    finally:
        network.train(training)
        for hook in hooks:
            hook.remove()


class Watched(Run):
    """A run that looks at images before and after each doubling, and at the end.

    Args:
        config: Of the run.
        images: uint8 of shape (N, 3, H, W).

    Attributes:
        moments: For each moment a dict with "units" (blocks), "h", "kind" ("trained" or "doubled"), "step", "accuracy"
            of the first test images as in the evaluations on the way, their number "test_images", "features" of each
            unit and "probabilities".
    """

    def __init__(self, config: TrainConfig, images: Tensor):
        super().__init__(config, quiet=True, callback=None)
        self.watched = data.normalize(images, self.batches.mean, self.batches.std).to(self.device)
        self.moments: list[dict] = []

    def look(self, kind: str) -> None:
        """Add a moment."""
        units, probabilities = features(self.network, self.watched.contiguous(memory_format=self.layout))
        _, accuracy, count = self.evaluate(self.config.eval_images)
        self.moments.append(
            {"units": self.network.units, "h": self.network.h, "kind": kind, "step": self.step, "accuracy": accuracy}
            | {"test_images": count, "features": units, "probabilities": probabilities}
        )

    def refine(self) -> None:
        """Go on with twice the blocks."""
        self.look("trained")
        super().refine()
        self.look("doubled")


def train(name: str, folder: Path, images: Tensor, changes: Mapping[str, Any] | None = None) -> dict:
    """The moments of a training: read, or made and written.

    Args:
        name: One of ``NETWORKS``.
        folder: Gets the run's folder.
        images: uint8 of shape (N, 3, H, W).
        changes: Settings that differ from those of the experiment.

    Returns:
        A dict with "moments" as in :class:`Watched` and "origin".
    """
    run = next(r for e in EXPERIMENTS for r in e.runs if r.name == f"multilevel-{name}-copy-seed0")
    file = folder / run.name / "moments.pt"
    if file.exists():
        return checkpoint.load(file)
    began, cpu = results.begin(), time.process_time()
    settings = dict(run.settings) | {"device": "cpu"} | dict(changes or {})
    watched = Watched(TrainConfig(**settings, seed=run.seed, out=str(file.parent)), images)
    watched.start()
    watched.run()
    watched.look("trained")
    origin = began.evidence | {"run": run.name, "cpu_seconds": round(time.process_time() - cpu, 1)}
    found = {"moments": watched.moments, "origin": origin}
    checkpoint.save(file, found)
    return found


def colours(moments: Sequence[Tensor]) -> tuple[np.ndarray, float]:
    """The three leading principal components of a unit's features, in whole numbers from 0 to 15.

    The mean is subtracted over all pixels, images and moments, and the components are those of all of them; one scale
    holds 99 % of the values of the three components, and is centred.

    Args:
        moments: For each moment (N, C, H, W).

    Returns:
        uint8 of shape (moments, N, H, W, 3), and the share of the variance that three components have.
    """
    every = torch.stack(list(moments)).double().movedim(2, -1)
    every = every - every.flatten(0, -2).mean(dim=0)
    rows = every.flatten(0, -2)
    variances, basis = torch.linalg.eigh(rows.T @ rows / len(rows))
    leading = basis.flip(1)[:, :3]
    # An eigenvector has no sign of its own: the largest entry is to be positive.
    leading = leading * leading.gather(0, leading.abs().argmax(dim=0, keepdim=True)).sign()
    values = (every @ leading).numpy()
    half = (LEVELS - 1) / 2
    levels = np.clip(np.rint(half + half * values / np.quantile(np.abs(values), HELD)), 0, LEVELS - 1)
    return levels.astype(np.uint8), (variances[-3:].sum() / variances.sum()).item()


def packed(levels: np.ndarray) -> str:
    """Whole numbers from 0 to 15, two in a byte, the first in its upper half, as base64."""
    flat = levels.reshape(-1)
    return stability.pack(flat[0::2] << 4 | flat[1::2], "u1")


def moves(moments: Sequence[Tensor]) -> list[list[float]]:
    """For each moment but the first and each image the distance to the moment before over the norm at that one."""
    return [
        ((new - old).flatten(1).norm(dim=1) / old.flatten(1).norm(dim=1)).tolist()
        for old, new in pairwise([m.double() for m in moments])
    ]


def make(folder: Path, images: Sequence[int] = IMAGES, changes: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """All that the figure draws, ready for JSON.

    Args:
        folder: Where the trainings leave their files; what is there is not made again.
        images: Positions in the sample's test split.
        changes: Settings of the trainings that differ from those of the experiment.

    Returns:
        "classes"; "pictures", with index and class; "pixels", base64 of uint8 (images, H, W, 3); "test_images"; and
        "networks", each with its name, "origin", "moments" (units, h, kind, step, accuracy, and of each image
        "probabilities" and, but for the first, "moved": of each unit), and for each unit in "features" its "side" in
        pixels, its "channels", the share of the "variance" and the "levels" (:func:`colours`) packed in four bits.
    """
    sample = data.load("sample", "test")
    chosen = sample.images[list(images)]
    networks = []
    for name in NETWORKS:
        found = train(name, folder, chosen, changes)
        moments = found["moments"]
        by_unit = [list(unit) for unit in zip(*(m["features"] for m in moments), strict=True)]
        drawn = [colours(unit) for unit in by_unit]
        moved = np.array([moves(unit) for unit in by_unit]).transpose(1, 2, 0)  # moments, images, units
        told = [
            {k: m[k] for k in ("units", "h", "kind", "step", "accuracy")}
            | {"probabilities": [[round(p, 4) for p in row] for row in m["probabilities"].tolist()]}
            | ({"moved": [[_rounded(v) for v in row] for row in moved[k - 1].tolist()]} if k else {})
            for k, m in enumerate(moments)
        ]
        units = [
            {"side": unit[0].shape[-1], "channels": unit[0].shape[1], "variance": _rounded(share), "levels": packed(lv)}
            for unit, (lv, share) in zip(by_unit, drawn, strict=True)
        ]
        networks.append({"name": name, "origin": found["origin"], "moments": told, "features": units})
    return {
        "classes": list(sample.classes),
        "pictures": [{"index": i, "class": sample.classes[sample.labels[i]]} for i in images],
        "pixels": stability.pack(chosen.permute(0, 2, 3, 1).numpy(), "u1"),
        "test_images": moments[0]["test_images"],
        "networks": networks,
    }


def _rounded(value: float) -> float:
    """To four digits, which is more than is drawn or said."""
    return float(f"{value:.4g}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", default="runs/image-depth", help="folder of the trainings (default: %(default)s)")
    torch.set_num_threads(1)
    made = make(Path(parser.parse_args().out))
    trainings = {n["name"]: n.pop("origin") for n in made["networks"]}
    made["origin"] = results.evidence() | {"trainings": trainings}
    checkpoint.write_atomic(DATA_FILE, json.dumps(made, allow_nan=False).encode() + b"\n")
    print(f"{DATA_FILE}: {DATA_FILE.stat().st_size:,} bytes")
