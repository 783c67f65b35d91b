r"""A reversible Runge-Kutta method for continuous problems, as shears of a pair (y, z).

With Psi_h(y) = Phi_h(y) - y, the increment of one step of a method Phi, the rule is

    y <- l y + (1 - l) z + Psi_h(z),      z <- z - Psi_{-h}(y),

two shears with c = l and c = 1: the second only adds to z a function of the new y. So the backward pass of this package
rebuilds the solution as it does for networks, with memory that does not grow with the number of steps. y and z are
two copies of the solution that stay close to each other; the order is that of Phi. The inverse divides y - z - Psi_h(z)
by l, which multiplies rounding errors by 1/l in each step: l is near 1, and float64 is wise.

Source: McCallum and Foster 2024 (arXiv 2410.11648).
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from .. import shear as primitive
from ..backward import propagate
from ..errors import StepSizeError
from ..memory import saved_bytes
from ..shear import Shear, State
from .lyapunov import flow, slopes


class _Increment(nn.Module):
    """blend * z + Psi_h(z) for RK4."""

    def __init__(self, f: nn.Module, h: float, blend: float = 0.0):
        super().__init__()
        self.f, self.h, self.blend = f, h, blend

    def forward(self, z: Tensor) -> Tensor:
        return (slopes(self.f, z, self.h) * (self.h / 6)).add(z, alpha=self.blend)


class ReversibleRK4(nn.Module):
    """RK4 made reversible, for y' = f(y): order 4, gradients with memory independent of the number of steps.

    Args:
        f: Right-hand side, a module from (N, ...) to the same shape. Time, if it is needed, is an entry of the state
            with the derivative 1.
        h: Step size, finite and not 0.
        l: The coupling of the two copies, 0 < l <= 1. Below 1 the method has a region of stability.

    Raises:
        StepSizeError: if h is not a finite number other than 0.
        ValueError: if l is not in its range.
        TypeError: if f is not a module.

    Source: McCallum and Foster 2024 (arXiv 2410.11648), l = 0.999.
    """

    def __init__(self, f: nn.Module, h: float, l: float = 0.999):
        super().__init__()
        if not isinstance(f, nn.Module):
            raise TypeError(f"f = {f!r} must be a torch.nn.Module, so that its parameters are known; wrap the function")
        if not (math.isfinite(h) and h):
            raise StepSizeError(f"h = {h!r} must be a finite number other than 0, for example 0.05")
        if not 0 < l <= 1:
            raise ValueError(
                f"l = {l!r} must be larger than 0 and at most 1, for example 0.999: the inverse divides by it"
            )
        self.l = float(l)
        self.ahead, self.behind = _Increment(f, h, 1 - l), _Increment(f, -h)

    def shears(self, steps: int) -> list[Shear]:
        """The shears of this many steps on the state (y, z).

        Raises:
            ValueError: if steps is no whole number, 1 or more.
        """
        if not isinstance(steps, int) or steps < 1:
            raise ValueError(f"steps = {steps!r} must be a whole number, 1 or more")
        return [Shear(0, 1, self.ahead, c=self.l), Shear(1, 0, self.behind, -1.0)] * steps

    def start(self, y: Tensor) -> State:
        """The pair at the beginning: both are the initial value."""
        return y, y

    def advance(self, state: State, steps: int, memory: str = "reversible") -> State:
        """The pair after this many steps.

        Args:
            state: The pair (y, z).
            steps: Number of steps.
            memory: "reversible" rebuilds the pair in the backward pass, "stored" keeps all values.
        """
        return propagate(self.shears(steps), state, memory=memory)

    @torch.no_grad()
    def back(self, state: State, steps: int) -> State:
        """The pair this many steps before, without gradient."""
        return primitive.inverse(self.shears(steps), state)

    def forward(self, y: Tensor, steps: int, memory: str = "reversible") -> Tensor:
        """The solution after this many steps from the initial value y; arguments as for :meth:`advance`."""
        return self.advance(self.start(y), steps, memory)[0]


# --- against checkpoints ---------------------------------------------------------------------------------------


class VanDerPol(nn.Module):
    """q' = p, p' = mu (1 - q^2) p - q, for states (N, 2)."""

    def __init__(self, mu: float = 1.0):
        super().__init__()
        self.mu = mu

    def forward(self, y: Tensor) -> Tensor:
        """The rate of change of states (N, 2)."""
        q, p = y.unbind(1)
        return torch.stack([p, self.mu * (1 - q**2) * p - q], dim=1)


def _reversible(f: nn.Module, h: float, y: Tensor, steps: int, parts: int, memory: str) -> Tensor:
    method, out = ReversibleRK4(f, h), []
    state = method.start(y)
    for _ in range(parts):
        state = method.advance(state, steps // parts, memory)
        out.append(state[0])
    return torch.stack(out)


def _plain(f: nn.Module, h: float, y: Tensor, steps: int, parts: int, checkpoints: int | None = None) -> Tensor:
    """RK4; with a number of checkpoints, values between them are computed again."""
    step, out = flow(f, h), []

    def piece(y: Tensor, n: int) -> Tensor:
        for _ in range(n):
            y = step(y)
        return y

    for _ in range(parts):
        left = steps // parts
        n = left if checkpoints is None else math.ceil(steps / checkpoints)
        while left:
            done = min(n, left)
            y = piece(y, done) if checkpoints is None else checkpoint(piece, y, done, use_reentrant=False)
            left -= done
        out.append(y)
    return torch.stack(out)


def compare(
    *,
    steps: int = 60,
    h: float = 0.05,
    parts: int = 3,
    checkpoints: Sequence[int] = (12, 3),
    epochs: int = 100,
    seed: int = 0,
) -> list[dict]:
    """Fit a small network f to solutions of the van der Pol equation, and compare the ways to get its gradient.

    f is a network 2-16-2 with tanh, in float64; the loss is the mean square of the error at a few times; Adam with
    rate 0.02; one set of initial weights for all. "reversible" is :class:`ReversibleRK4`, "reversible, stored" the
    same with stored values, "stored" plain RK4, and "checkpoints n" plain RK4 that keeps n values and computes the
    rest again, once.

    A reversible step is two steps of RK4, so in theory the ratio of times is 2 with stored and 8/3 with rebuilt values,
    and 4/3 for checkpoints of one level, which have to keep all values between two of them in the backward pass. The
    published comparison is with a recursive scheme that computes values again many times where checkpoints are few.

    Args:
        steps: Number of steps, a multiple of parts.
        h: Step size.
        parts: At how many times the solution is compared, equally spaced.
        checkpoints: Numbers of checkpoints, from parts on.
        epochs: Number of steps of Adam.
        seed: Of the initial weights and the initial values.

    Returns:
        For each way a dictionary: "way", "loss" at the end, "seconds" of wall-clock time, "ratio" of it to stored
        values with plain RK4, "saved_bytes" that one forward pass keeps for the backward pass (which adds to them,
        with checkpoints, the values between two).

    Raises:
        ValueError: if parts does not divide steps.

    Source: the set-up follows McCallum and Foster 2024 (arXiv 2410.11648) in small.
    """
    if steps < 1 or parts < 1 or steps % parts:
        raise ValueError(f"steps = {steps} must be a positive multiple of parts = {parts}")
    ways: dict[str, Callable] = {
        "stored": _plain,
        "reversible": lambda *a: _reversible(*a, "reversible"),
        "reversible, stored": lambda *a: _reversible(*a, "stored"),
    }
    ways |= {f"checkpoints {n}": lambda *a, n=n: _plain(*a, n) for n in checkpoints}
    generator = torch.Generator().manual_seed(seed)
    y = 4 * torch.rand(8, 2, generator=generator, dtype=torch.float64) - 2
    with torch.no_grad():
        wanted = _plain(VanDerPol(), h, y, steps, parts)
    rows: list[dict] = []
    for way, solve in ways.items():
        f = nn.Sequential(nn.Linear(2, 16), nn.Tanh(), nn.Linear(16, 2)).double()
        generator.manual_seed(seed)
        with torch.no_grad():
            for p in f.parameters():
                p.copy_(0.3 * torch.randn(p.shape, generator=generator, dtype=p.dtype))
        optimizer = torch.optim.Adam(f.parameters(), lr=0.02)
        kept = saved_bytes(lambda f=f, solve=solve: solve(f, h, y, steps, parts), f.parameters())
        begin = time.perf_counter()
        for _ in range(epochs):
            optimizer.zero_grad()
            loss = (solve(f, h, y, steps, parts) - wanted).square().mean()
            loss.backward()
            optimizer.step()
        rows.append({"way": way, "loss": loss.item(), "seconds": time.perf_counter() - begin, "saved_bytes": kept})
    return [row | {"ratio": row["seconds"] / rows[0]["seconds"]} for row in rows]
