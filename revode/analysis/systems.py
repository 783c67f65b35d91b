"""Small systems whose Lyapunov exponents are published, to test a method on before it is let loose on a network."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from .lyapunov import Lyapunov, Step, exponents, flow


@dataclass(frozen=True)
class System:
    """A map or a flow, with what is known of its exponents and how they are measured in a second.

    Attributes:
        name: Of the system.
        step: From states (N, D) to the next ones.
        box: Lower and upper corner of the box of initial states.
        published: The exponents, the largest first, per step of a map or per unit of time of a flow.
        within: How far the mean may lie from them: some standard errors, and the bias of a short time.
        total: Their sum, known in closed form.
        source: Of the values.
        inputs: Number of initial states N.
        count: Number of steps.
        skip: Steps of them that are not counted.
        dt: Time of a step.
        every: Steps between renormalisations.
    """

    name: str
    step: Step
    box: tuple[tuple[float, ...], tuple[float, ...]]
    published: tuple[float, ...]
    within: float
    total: float
    source: str
    inputs: int
    count: int
    skip: int = 0
    dt: float = 1.0
    every: int = 1

    def start(self, seed: int = 0) -> Tensor:
        """Initial states (N, D), uniform in the box, float64."""
        low, high = torch.tensor(self.box, dtype=torch.float64)
        generator = torch.Generator().manual_seed(seed)
        return low + (high - low) * torch.rand(self.inputs, len(low), generator=generator, dtype=torch.float64)

    def measure(self, seed: int = 0) -> Lyapunov:
        """All exponents by the method of :func:`revode.analysis.lyapunov.exponents`."""
        settings = {"count": self.count, "skip": self.skip, "dt": self.dt, "every": self.every}
        return exponents(self.step, self.start(seed), seed=seed, **settings)


# alpha in the place of a product with a number, as in flow(): torch differentiates it much faster
def _logistic(x: Tensor) -> Tensor:
    return 4 * x * (1 - x)


def _henon(s: Tensor) -> Tensor:
    x, y = s.unbind(1)
    return torch.stack([(1 + y).sub(x * x, alpha=1.4), 0.3 * x], dim=1)


def _lorenz(s: Tensor) -> Tensor:
    x, y, z = s.unbind(1)
    return torch.stack([10 * (y - x), x * (28 - z) - y, (x * y).sub(z, alpha=8 / 3)], dim=1)


def _oscillator(s: Tensor) -> Tensor:
    q, p = s.unbind(1)
    return torch.stack([p, -q], dim=1)


#: The systems by a short name.
SYSTEMS = {
    "logistic": System(
        "logistic map, r = 4", _logistic, ((0.01,), (0.99,)), (math.log(2),), 1e-3, math.log(2),
        "Ott 2002, exact", inputs=200, count=500, skip=20,
    ),
    "henon": System(
        "Hénon map, a = 1.4, b = 0.3", _henon, ((-0.1, -0.1), (0.1, 0.1)), (0.4192, -1.6232), 2.5e-3, math.log(0.3),
        "Sprott 2003", inputs=2000, count=400, skip=50,
    ),
    "lorenz": System(
        "Lorenz 1963, σ = 10, ρ = 28, β = 8/3", flow(_lorenz, 0.025), ((-15, -15, 10), (15, 15, 40)),
        (0.9056, 0.0, -14.572), 0.025, -41 / 3, "Sprott 2003", inputs=700, count=1000, skip=600, dt=0.025, every=4,
    ),
    "oscillator": System(
        "harmonic oscillator, ω = 1", flow(_oscillator, 0.05), ((-1, -1), (1, 1)), (0.0, 0.0), 1e-8, 0.0,
        "exact", inputs=20, count=200, dt=0.05,
    ),
}  # fmt: skip


def compare(names: Iterable[str] = SYSTEMS, seed: int = 0) -> list[dict]:
    """Published and measured exponents.

    Args:
        names: Short names in :data:`SYSTEMS`.
        seed: Of the initial states and tangents.

    Returns:
        A row for each exponent, and one for each sum that is more than one exponent: "system", "exponent" ("λ1", ...
        or "sum"), "expected", "measured", "error" (standard error of the mean), "within" and "holds". A sum is known
        in closed form, and the QR method has it exact but for the error of the flow's step.
    """
    rows = []
    for name in names:
        system = SYSTEMS[name]
        found = system.measure(seed)
        values = list(zip(system.published, found.mean, found.standard_error))
        if len(values) > 1:
            total = found.values.sum(axis=1)
            values.append((system.total, total.mean(), total.std(ddof=1) / math.sqrt(len(total))))
        for i, (expected, measured, error) in enumerate(values):
            rows.append(
                {
                    "system": system.name,
                    "exponent": "sum" if i == len(system.published) else f"λ{i + 1}",
                    "expected": expected,
                    "measured": float(measured),
                    "error": float(error),
                    "within": system.within,
                    "holds": bool(abs(measured - expected) <= system.within),
                }
            )
    return rows
