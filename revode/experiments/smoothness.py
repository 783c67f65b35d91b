"""Weight smoothness decay: how much kernels change over the depth with it and without, and what it does to accuracy.

A term r R in the loss pulls neighbouring kernels together at a pace of r times the learning rate, so over a run its
effect grows with r times the number of steps. The paper's 80,000 steps are 80 times the 1,000 here, so the same effect
needs 80 times the factor.

Activations are stored, and increments computed in bfloat16, in all three kinds of runs: that saves time on a CPU.
"""

from __future__ import annotations

import math
import statistics

from ..models import MODELS, Source, build
from ..weights import load_trained
from ._base import Experiment, Measured, Run

MODEL = "hamiltonian-74"

#: The images of chapter 5 and half its steps.
PROTOCOL = {"model": MODEL, "data": "cifar10", "subset": 10_000, "subset_seed": 0, "steps": 1000, "batch": 100}

SEEDS = (0, 1, 2)

#: The papers' factor times what their run is longer than these.
LONGER = MODELS[MODEL].recipe.steps / PROTOCOL["steps"]

#: The factor in the loss by the kind of run.
FACTORS = {"off": 0.0, "paper": MODELS[MODEL].recipe.smoothness, "strong": LONGER * MODELS[MODEL].recipe.smoothness}


def measure_change(*, seed: int, weights: tuple[str, ...], fresh: int = 3) -> Measured:
    """Change of the kernels over the depth in trained networks of the package and in fresh ones of the same form.

    Args:
        seed: Of the first fresh network.
        weights: Names for :func:`revode.load_trained`, those of networks too.
        fresh: Number of fresh networks.

    Returns:
        For each name "trained" and "fresh": "kernel_change" as :meth:`revode.Network.kernel_change` gives it (for
        fresh networks of the first seed), its "mean" over all pairs of blocks (a list over seeds for fresh ones), and
        "smoothness", R; and "unrelated", the change between kernels that have nothing in common.
    """
    final: dict = {"unrelated": math.sqrt(2)}
    for name in weights:
        trained, others = load_trained(name), [build(name, seed=seed + k) for k in range(fresh)]
        changes = [n.kernel_change() for n in others]
        final[name] = {
            "trained": {
                "kernel_change": trained.kernel_change(),
                "mean": mean_change(trained.kernel_change()),
                "smoothness": trained.smoothness().item(),
            },
            "fresh": {
                "kernel_change": changes[0],
                "mean": [mean_change(c) for c in changes],
                "smoothness": [n.smoothness().item() for n in others],
            },
        }
    return Measured(final)


def mean_change(change: list[list[float]]) -> float:
    """The mean over all pairs of consecutive blocks."""
    return statistics.fmean(x for path in change for x in path)


def _run(kind: str, seed: int) -> Run:
    settings = PROTOCOL | {"smoothness": FACTORS[kind], "memory": "stored", "amp": "bf16", "threads": 1}
    return Run(f"smoothness-{kind}-seed{seed}", "train", settings, seed, cpu_minutes=14, gpu_minutes=1)


EXPERIMENTS = (
    Experiment(
        "smoothness",
        "Does weight smoothness decay make kernels change less over the depth, and the gap to the test images smaller?",
        (19,),
        Source("unverified", "Chang et al. 2018 (arXiv 1709.03698): the factor is code, its effect no number at hand"),
        (
            Run(
                "smoothness-change",
                "smoothness:measure_change",
                {"weights": ("hamiltonian-74", "leapfrog-26", "midpoint-26", "resnet-32")},
                cpu_minutes=0.1,
            ),
            *(_run(kind, seed) for seed in SEEDS for kind in FACTORS),
        ),
    ),
)
