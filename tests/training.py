"""A tiny network of the shape of the papers' ones, and short runs of it on the bundled sample."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from revode import models, train

RECIPE = models.Recipe(
    batch_size=10, lr=0.1, milestones=(40, 60), steps=80, weight_decay=2e-4, smoothness=2e-4, momentum=0.9,
    lr_factor=0.1, train_images=260, sources={},
)  # fmt: skip
TINY = models.ModelSpec("tiny", "midpoint", (3, 3), (4, 8), 1.0, 32, RECIPE)


@pytest.fixture
def tiny(monkeypatch, tmp_path):
    """Makes settings of a run of the network "tiny", in a folder of its own for each name."""
    monkeypatch.setitem(models.MODELS, "tiny", TINY)

    def config(run: str = "run", **options) -> train.TrainConfig:
        usual = {"data": "sample", "steps": 4, "eval_images": 20, "device": "cpu", "threads": 1}
        return train.TrainConfig("tiny", out=str(tmp_path / run), **usual | options)

    return config


def lines(out: str | Path) -> list[dict]:
    """The log of a run."""
    return [json.loads(line) for line in (Path(out) / train.LOG).read_text().splitlines()]


def timeless(curve: list[dict]) -> list[dict]:
    """The points of a curve without what depends on the clock."""
    return [{k: v for k, v in point.items() if k not in ("seconds", "images_per_second")} for point in curve]


def weights(out: str | Path) -> dict[str, torch.Tensor]:
    """The weights in a run's last checkpoint."""
    return train.load_network(out).state_dict()


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    """Whether all weights are equal, bit for bit."""
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)
