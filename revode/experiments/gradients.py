"""Gradients: rebuilt against stored activations in shallow networks, and norms of input-output Jacobians in deep ones.

Sources: the independent re-implementation of Gal et al. (arXiv 2512.02056) for the difference in float32; Galimberti
et al. (arXiv 2105.13205, IEEE TAC 2023) for the Jacobian of a symplectic network, whose spectral norm is 1 or more.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .. import data
from ..analysis.drift import random_input, random_stage
from ..fields import SymmetricField
from ..models import MODELS, Source
from ..networks import Network
from ..schemes import Euler
from ..stage import Stage
from ._base import Experiment, Measured, Run

SEEDS = (0, 1, 2)


def measure_difference(*, seed: int, activation: str = "relu", blocks: int = 2, batch: int = 16) -> Measured:
    """Gradients from rebuilt and from stored activations, float32, in one unit of few blocks of each reversible rule.

    Untrained networks on images of the bundled sample. The rules and widths are those of the papers' CIFAR networks.
    With ReLU an entry near 0 can fall on the other side when it is rebuilt, and its whole gradient with it.

    Args:
        seed: Of the weights.
        activation: Name of the activation function.
        blocks: Number of blocks.
        batch: Number of images.

    Returns:
        For each network "largest", the largest difference of an entry; "gradient", the largest entry; "relative", the
        2-norm of the difference over that of the gradient.
    """
    sample = data.load("sample", "train")
    x, y = data.normalize(sample.images[:batch], *sample.mean_std()), sample.labels[:batch]
    found = {}
    for name in ("hamiltonian-74", "midpoint-26", "leapfrog-26", "revnet-38"):
        spec = MODELS[name]
        network = Network(spec.scheme, (blocks,), spec.widths[:1], activation=activation, seed=seed).train()
        gradients = {}
        for memory in ("reversible", "stored"):
            network.memory = memory
            loss = F.cross_entropy(network(x), y)
            grads = torch.autograd.grad(loss, list(network.parameters()))
            gradients[memory] = torch.cat([g.flatten().double() for g in grads])
        difference = gradients["reversible"] - gradients["stored"]
        found[spec.scheme] = {
            "layers": 2 * blocks * network.scheme.fields,
            "largest": difference.abs().max().item(),
            "gradient": gradients["stored"].abs().max().item(),
            "relative": (difference.norm() / gradients["stored"].norm()).item(),
        }
    return Measured(found)


class _Downhill(nn.Module):
    """-K^T s(K y): steps of forward Euler with it lose energy."""

    def __init__(self, f: SymmetricField):
        super().__init__()
        self.f = f

    def forward(self, y: Tensor) -> Tensor:
        return -self.f(y)


def measure_norm(*, seed: int, width: int = 16, h: float = 0.5, depths: tuple[int, ...] = (64, 128, 256)) -> Measured:
    """Spectral norm of the input-output Jacobian of random networks, float64.

    "symplectic" are Hamiltonian layers K^T relu(K .) on two halves, "euler" forward Euler steps with -K^T relu(K .);
    Gaussian weights of deviation 1/sqrt(fan-in) in each layer, 8 inputs.

    Args:
        seed: Of weights and inputs.
        width: Number of entries of the input.
        h: Step size.
        depths: Numbers of layers.

    Returns:
        For each network rows of "depth", "smallest" and "largest" norm over the inputs.
    """
    deep, inputs = max(depths), random_input(8, width, seed)
    symplectic = random_stage("hamiltonian", deep, h, width=width, seed=seed)
    generator = torch.Generator().manual_seed(seed)
    blocks = []
    for _ in range(deep):
        f = SymmetricField(width, "relu", "none", dense=True).double()
        nn.init.normal_(f.weight, std=width**-0.5, generator=generator)
        blocks.append([_Downhill(f)])
    found: dict = {}
    for name, stage in (("symplectic", symplectic), ("euler", Stage(Euler(h), blocks))):
        found[name] = []
        for depth in depths:
            short = Stage(stage.scheme, list(stage.blocks)[:depth], memory="stored")
            norms = [
                torch.linalg.matrix_norm(
                    torch.autograd.functional.jacobian(lambda y, s=short: s(y[None])[0], x), ord=2
                ).item()
                for x in inputs
            ]
            found[name].append({"depth": depth, "smallest": min(norms), "largest": max(norms)})
    return Measured(found)


EXPERIMENTS = (
    Experiment(
        "gradient-difference",
        "How far is a gradient from rebuilt activations from one of stored activations, in few layers?",
        (13,),
        Source("V", "README of an independent re-implementation of Gal et al. (arXiv 2512.02056), four layers"),
        tuple(
            Run(
                f"gradient-difference-{name}-seed{s}",
                "gradients:measure_difference",
                {"activation": name},
                s,
                cpu_minutes=0.1,
            )
            for name in ("relu", "tanh")
            for s in SEEDS
        ),
    ),
    Experiment(
        "jacobian-norm",
        "Can the gradient vanish in a deep symplectic network?",
        (33,),
        Source("V", "abstract of Galimberti et al. (arXiv 2105.13205): the norm is 1 or more"),
        tuple(Run(f"jacobian-norm-seed{s}", "gradients:measure_norm", {}, s, cpu_minutes=0.2) for s in SEEDS),
    ),
)
