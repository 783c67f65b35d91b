"""Which linear maps a linear network can be: (I + B)^N of a residual network, a polynomial of B with momentum.

The paper's theorem is known to us from its abstract only: momentum networks can represent any linear map up to a
multiplicative factor, residual networks cannot. Shown here is what follows by counting and by training. With steps
smaller than the state (norm of B below 1) every I + B has a positive determinant, and so has their product: a
reflection is out of reach of a residual network at any depth, with shared weights or without. With momentum the state
is (x, v), whose map has a positive determinant too, but that of x alone may have either sign.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor, nn

from ..models import Source
from ..schemes import Leapfrog, Momentum
from ..stage import Stage
from ._base import Experiment, Measured, Run
from .toys import DEPTH, fit, scheme, seeded

MOMENTA = (0.0, 0.5, 0.9)
SIZE = 3


def gain(slope: ArrayLike, c: float, depth: int = DEPTH) -> NDArray[np.float64]:
    """The factor by which a linear network x' = slope x multiplies x over its depth, with h = 1 and from rest.

    Args:
        slope: Of the residual function f(x) = slope * x, an array or a number.
        c: The momentum; 0 is the residual network, (1 + slope)^depth.
        depth: Number of steps.
    """
    slope = np.asarray(slope, float)
    x, v = np.ones_like(slope), np.zeros_like(slope)
    for _ in range(depth):
        v = c * v + (1 - c) * slope * x
        x = x + v
    return x


def turning_slope(c: float) -> float:
    """The slope below which the two roots of a linear momentum step are complex: x then swings through 0.

    The roots of r^2 - (1 + c + (1 - c) slope) r + c are real down to slope = -(1 - sqrt(c)) / (1 + sqrt(c)).
    """
    return -(1 - c**0.5) / (1 + c**0.5)


class Maps(nn.Module):
    """x -> B x for many matrices at once, one for each entry of the batch; with a bound, norm B never exceeds it.

    Args:
        count: Number of matrices.
        size: Their size.
        bound: Bound of the spectral norm, or None.

    Shapes: x is (count, size, columns).
    """

    def __init__(self, count: int, size: int = SIZE, bound: float | None = None):
        super().__init__()
        self.weight = nn.Parameter(0.1 * torch.randn(count, size, size))
        self.bound = bound

    def matrix(self) -> Tensor:
        """The matrices B, (count, size, size)."""
        if self.bound is None:
            return self.weight
        norm = torch.linalg.matrix_norm(self.weight, 2, keepdim=True)
        return self.weight * self.bound / norm.clamp_min(self.bound)

    def forward(self, x: Tensor) -> Tensor:
        return self.matrix() @ x


def targets(size: int = SIZE, seed: int = 0) -> dict[str, Tensor]:
    """Matrices to be represented, by name; the first has a positive determinant, the others a negative one."""
    with seeded(seed):
        drawn = torch.randn(size, size)
    if torch.det(drawn) > 0:
        drawn[0] = -drawn[0]
    turn = torch.eye(size)
    turn[:2, :2] = torch.tensor([[0.0, -1.0], [1.0, 0.0]])
    mirror = torch.diag(torch.tensor([1.0] * (size - 1) + [-1.0]))
    return {"quarter turn": turn, "reflection": mirror, "minus identity": -torch.eye(size), "random": drawn}


def angle_error(made: Tensor, wanted: Tensor) -> Tensor:
    """How far matrices are from a positive multiple of others: the least norm of wanted - s made over s > 0, relative.

    Args:
        made: (..., n, n).
        wanted: (..., n, n).

    Returns:
        The sine of the angle between them, 1 where it is a right one or more, (...).
    """
    cosine = (made * wanted).sum((-2, -1)) / (made.norm(dim=(-2, -1)) * wanted.norm(dim=(-2, -1)))
    return (1 - cosine.clamp(0, 1) ** 2).sqrt()


def least_error(wanted: Tensor) -> float:
    """The least :func:`angle_error` of a matrix with a positive determinant: its infimum.

    0 if that of ``wanted`` is positive, else its smallest singular value over its Frobenius norm (Eckart and Young).
    """
    if torch.det(wanted) > 0:
        return 0.0
    return (torch.linalg.svdvals(wanted)[-1] / wanted.norm()).item()


def network(c: float, fields: Sequence[nn.Module], depth: int = DEPTH) -> Stage:
    """A linear network of these residual functions, repeated over the depth."""
    return Stage(scheme(c), [[fields[j % len(fields)]] for j in range(depth)], memory="stored")


def measure_linear_maps(
    *, seed: int, trials: int = 4, steps: int = 400, rate: float = 0.02, bound: float = 0.99
) -> Measured:
    """Trains linear networks of 15 steps to be a multiple of each target: the error of every trial.

    Residual and momentum networks, weights shared or not, the residual function smaller than the state (norm of B
    below ``bound``) or not bounded. "least_det" is the least determinant of I + B over the layers of a residual
    network's best trial: a negative one is a step that turns space inside out.
    """
    wanted = targets(seed=seed)
    many = torch.stack([a for a in wanted.values() for _ in range(trials)])
    x = torch.eye(SIZE).expand(len(many), SIZE, SIZE)
    rows = []
    for c in MOMENTA:
        for shared in (True, False):
            for limit in (bound, None):
                with seeded(seed):
                    fields = nn.ModuleList(Maps(len(many), bound=limit) for _ in range(1 if shared else DEPTH))
                net = network(c, fields)

                def loss(net=net) -> Tensor:
                    made = net(x)
                    return (1 - (made * many).sum((1, 2)) / (made.norm(dim=(1, 2)) * many.norm(dim=(1, 2)))).sum()

                fit(fields, loss, steps=steps, rate=rate)
                with torch.no_grad():
                    errors = angle_error(net(x), many).reshape(len(wanted), trials)
                    dets = torch.stack([torch.det(torch.eye(SIZE) + f.matrix()) for f in fields]).amin(0)
                    dets = dets.reshape(len(wanted), trials)
                for name, each, det in zip(wanted, errors, dets):
                    best = each.argmin()
                    rows.append(
                        {"target": name, "c": c, "shared": shared, "bounded": limit is not None}
                        | {"errors": each.tolist(), "least_det": None if c else det[best].item()}
                    )
    least = {name: least_error(a) for name, a in wanted.items()}
    return Measured({"rows": rows, "least_errors": least, "bound": bound})


def second_order(counts: Sequence[int] = (20, 40, 80, 160), eps: float = 1.0, time: float = 2.0) -> dict:
    """Errors at a fixed time on linear oscillations, for step sizes h = time / count.

    "momentum": c = 1 - h / eps on eps x'' + x' = -2 x. "leapfrog": x'' = -x with the second-order start. "fixed c":
    c = 0.5 at every h, on x' = -x. All start at x = 1 from rest.

    Returns:
        "h", and the absolute error by name.
    """
    x = torch.ones(1, 1, dtype=torch.float64)
    found = {"h": [time / n for n in counts], "momentum": [], "leapfrog": [], "fixed c": []}
    damped = np.roots([eps, 1, 2]).astype(complex)
    end = (damped[1] * np.exp(damped[0] * time) - damped[0] * np.exp(damped[1] * time)) / (damped[1] - damped[0])
    for n in counts:
        h = time / n
        for name, rule, slope, exact in (
            ("momentum", Momentum(h, 1 - h / eps), -2.0, end.real),
            ("leapfrog", Leapfrog(h, "half-kick"), 1.0, np.cos(time)),
            ("fixed c", Momentum(h, 0.5), -1.0, np.exp(-time)),
        ):
            field = nn.Linear(1, 1, bias=False).double()
            nn.init.constant_(field.weight, slope)
            with torch.no_grad():
                found[name].append(float(abs(Stage(rule, [[field]] * n)(x).item() - exact)))
    return found


EXPERIMENTS = (
    Experiment(
        "linear-maps",
        "Which linear maps can a residual network be, and which a momentum network?",
        (),
        Source("V", "Sander et al. 2021, abstract: any linear map up to a factor; the theorem itself was not read"),
        (Run("linear-maps", "linear_maps:measure_linear_maps", {}, 0, 3),),
    ),
)
