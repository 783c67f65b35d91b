"""x -> -x^3 on [-1, 1] by one tied block: trajectories of a momentum network cross, those of a flow cannot.

The paper's network: 16 hidden units with tanh, depth 15, the same weights at each depth. Not the paper's: every c gets
the same start, the same inputs and the same number of steps of Adam (the released code uses plain gradient descent,
301 steps for c = 0.99 and 2,001 for the residual network).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import torch
from torch import Tensor, nn

from ..models import Source
from ..stage import Stage
from . import toys
from ._base import Experiment, Measured, Run
from .toys import DEPTH, MOMENTA, Trained, block, fit, packed, seeded, states, tied

BATCH = 200
KEPT = (0, 20, 50, 100, 200, 400, 800, 1500)  # steps after which the weights are kept


def target(x: Tensor) -> Tensor:
    """-x^3."""
    return -(x**3)


def grid(points: int = 401) -> Tensor:
    """Equidistant inputs from -1 to 1, (points, 1)."""
    return torch.linspace(-1, 1, points)[:, None]


def error(network: nn.Module) -> float:
    """Mean squared error over [-1, 1]. Of the constant 0, the best that no decreasing function beats: 1/7."""
    x = grid()
    with torch.no_grad():
        return (network(x) - target(x)).square().mean().item()


def least_slope(field: nn.Module, x: Tensor) -> float:
    """The least slope 1 + f'(x) of a residual step over these states; below 0 the step turns the line around."""
    x = x.detach().reshape(-1, 1).clone().requires_grad_()
    return (1 + torch.autograd.grad(field(x).sum(), x)[0]).min().item()


def trained(c: float, seed: int, steps: int, rate: float, keep: Collection[int] = ()) -> tuple[nn.Sequential, Trained]:
    """The block after training with momentum c, and what :func:`fit` saw."""
    with seeded(seed):
        field = block(1)
        network = tied(field, c)

        def loss() -> Tensor:
            x = 2 * torch.rand(BATCH, 1) - 1
            return (network(x) - target(x)).square().mean()

        return field, fit(field, loss, steps=steps, rate=rate, keep=keep)


def measure_crossing(
    *, seed: int, momenta: Sequence[float] = MOMENTA, steps: int = 1500, rate: float = 0.03, weights: bool = False
) -> Measured:
    """Trains the network for each c and records its error, "mse".

    "least_slope" is the least slope of one step on its way for c = 0, None for the others. Where ``weights`` are asked
    for, they are kept at the steps of :data:`KEPT`.
    """
    rows, curve, kept = [], [], {}
    for c in momenta:
        field, found = trained(c, seed, steps, rate, KEPT if weights else ())
        network = tied(field, c)
        slope = None if c else least_slope(field, states(network, grid()))
        rows.append({"c": c, "mse": error(network), "least_slope": slope})
        curve += [{"c": c} | point for point in found.curve]
        kept[str(c)] = found.weights
    return toys.over_momenta(rows, curve, kept if weights else {}, [k for k in KEPT if k <= steps])


def measure_turning(
    *, seed: int, depths: Sequence[int] = (DEPTH, DEPTH + 1), steps: int = 1500, rate: float = 0.003
) -> Measured:
    """A plain residual network that is started with steps that turn the line around.

    The map -sign(x) |x|^p with p = 3^(1/depth), applied depth times, is -x^3 for an odd depth and x^3 for an even one.
    One block is fitted to its step, then the whole network is trained. What it has learnt in the end shows that the
    no-crossing argument holds for the differential equation, not for a network of large steps.
    """
    return Measured({"depths": [_turning(depth, seed, steps, rate) for depth in depths]})


def _turning(depth: int, seed: int, steps: int, rate: float) -> dict:
    """One depth of :func:`measure_turning`."""
    with seeded(seed):
        field, p, x = block(1), 3 ** (1 / depth), grid()
        step = -x.sign() * x.abs() ** p - x
        fit(field, lambda: (field(x) - step).square().mean(), steps=steps, rate=0.02)
        network = tied(field, 0, depth)
        before = error(network)
        fit(field, lambda: (network(x) - target(x)).square().mean(), steps=steps, rate=rate)
    slope = least_slope(field, states(network, x))
    found = {"depth": depth, "start": before, "mse": error(network), "least_slope": slope, "p": p}
    return found | {"weights": packed(field)}


def kept(record: Mapping, c: float, step: int | None = None) -> Stage:
    """The network of the record at this c, after so many steps of training; None: at the end."""
    field = block(1)
    toys.kept(field, record, c, step)
    return tied(field, c)


EXPERIMENTS = (
    Experiment(
        "crossing",
        "x to -x^3: does a residual network learn a map that reverses the order of points?",
        (21,),
        Source("V", "Sander et al. 2021, figure 1; settings from the authors' code examples/plot_dynamics_1D.py"),
        (
            Run("crossing", "crossing:measure_crossing", {"weights": True}, 0, 1),
            *(Run(f"crossing-seed{s}", "crossing:measure_crossing", {}, s, 1) for s in (1, 2)),
            Run("crossing-turning", "crossing:measure_turning", {}, 0, 0.5),
        ),
    ),
)
