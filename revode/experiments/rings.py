"""Four nested rings of two classes in the plane: a flow of the plane keeps them nested, momentum takes them apart.

Sizes and radii as in the authors' code, with four rings as in the paper's figure: 16 hidden units with tanh, depth 15,
tied weights, a linear classifier of the two numbers at the end. Not the paper's: every c gets the same start, the same
250 points a ring and the same number of steps of Adam. "rings-long" trains the residual network as long as the
authors' code does.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from ..models import Source
from ..stage import Stage
from . import toys
from ._base import Experiment, Measured, Run
from .toys import MOMENTA, block, fit, seeded, tied

RINGS = 4
KEPT = (0, 20, 50, 100, 200, 400, 700, 1000)  # steps after which the weights are kept


def points(count: int, seed: int) -> tuple[Tensor, Tensor]:
    """Points (RINGS * count, 2) and their classes, ring by ring: ring k has the radii 1.5 k to 1.5 k + 0.6."""
    with seeded(seed):
        k = torch.arange(RINGS).repeat_interleave(count)
        radius = 3 * (0.5 * k + 0.2 * torch.rand(RINGS * count))
        angle = 2 * torch.pi * torch.rand(RINGS * count)
    return torch.stack([radius * angle.cos(), radius * angle.sin()], dim=1), k % 2


class Rings(nn.Module):
    """The block, tied over the depth, and the classifier behind it.

    Attributes:
        field: The block.
        head: The classifier, two logits.
        stage: Block and momentum, over the depth.
    """

    def __init__(self, c: float):
        super().__init__()
        self.field = block(2)
        self.head = nn.Linear(2, 2)
        self.stage: Stage = tied(self.field, c)

    def forward(self, x: Tensor) -> Tensor:
        """Logits (N, 2) of points (N, 2)."""
        return self.head(self.stage(x))


def accuracy(network: nn.Module, x: Tensor, labels: Tensor) -> float:
    """Share of points on the right side."""
    with torch.no_grad():
        return (network(x).argmax(1) == labels).double().mean().item()


def _loss(network: nn.Module, x: Tensor, labels: Tensor) -> Tensor:
    return cross_entropy(network(x), labels)


def measure_rings(
    *,
    seed: int,
    momenta: Sequence[float] = MOMENTA,
    steps: int = 1000,
    rate: float = 0.01,
    count: int = 250,
    weights: bool = False,
) -> Measured:
    """Trains the network for each c and records the accuracy on fresh points, "accuracy", and that in training."""
    x, labels = points(count, 1000 + seed)
    fresh = points(count, 2000 + seed)
    rows, curve, kept = [], [], {}
    for c in momenta:
        with seeded(seed):
            network = Rings(c)
        found = fit(network, partial(_loss, network, x, labels), steps=steps, rate=rate, keep=KEPT if weights else ())
        rows.append({"c": c, "accuracy": accuracy(network, *fresh), "training": accuracy(network, x, labels)})
        rows[-1]["loss"] = found.curve[-1]["loss"]
        curve += [{"c": c} | point for point in found.curve]
        kept[str(c)] = found.weights
    return toys.over_momenta(rows, curve, kept if weights else {}, [k for k in KEPT if k <= steps])


def kept(record: Mapping, c: float, step: int | None = None) -> Rings:
    """The network of the record at this c, after so many steps of training; None: at the end."""
    return toys.kept(Rings(c), record, c, step)


LONG = {"momenta": (0.0,), "steps": 5000}

EXPERIMENTS = (
    Experiment(
        "rings",
        "Four nested rings: can a network that moves points of the plane take them apart?",
        (22,),
        Source("V", "Sander et al. 2021, figure 5; settings from examples_paper/run_separation_nested_rings.py"),
        (
            Run("rings", "rings:measure_rings", {"weights": True}, 0, 1),
            *(Run(f"rings-seed{s}", "rings:measure_rings", {}, s, 1) for s in (1, 2)),
            Run("rings-long", "rings:measure_rings", LONG, 0, 0.5),
            *(Run(f"rings-long-seed{s}", "rings:measure_rings", LONG, s, 0.5) for s in (1, 2)),
        ),
    ),
)
