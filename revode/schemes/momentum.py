"""Momentum network: a residual network with a velocity."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn

from ..errors import NotInvertibleError
from ..shear import Shear, State
from ._base import Scheme


class Momentum(nn.Module, Scheme):
    r"""v <- c v + (1 - c) f(x);  x <- x + h v.

    A block holds f. State: (x, v). The velocity follows f with a delay: for 1 - c = h / eps the steps are those of
    eps x'' + x' = f(x), and for a fixed c they tend to x' = f(x) as h does to 0. Each step shrinks volume by c^d, so
    the inverse, which divides by c, grows by about 1/c per layer.

    Args:
        h: Step size; 1 in the paper.
        c: The momentum, gamma in the paper, 0 < c < 1: one number for all layers, or one for each. c = 0 is the plain
            residual network x <- x + h f(x), which is not reversible: its activations are always stored.
        start: Velocity before the first step. "rest" is v = 0; "field" is v = f(x) of the first block, whose step is
            then x <- x + h f(x).
        learn: Learn c, from the given values on. It is c = 1 / (1 + exp(-r)) of the parameter ``r``, and so stays
            between 0 and 1.

    Order 1. Unstable on every undamped oscillation, as forward Euler is.

    Raises:
        ValueError: if c is not between 0 and 1, or for an unknown start.

    Source: Sander et al. 2021 (arXiv 2102.07870), h = 1 and one fixed c.
    """

    name = "momentum"
    order = 1
    stability_limit = 0.0
    source = "Sander et al. 2021 (arXiv 2102.07870), h = 1"
    STARTS: ClassVar = ("rest", "field")
    C: ClassVar = 0.9  #: Of the paper's experiments on images.

    def __init__(self, h: float = 1.0, c: float | Sequence[float] = C, start: str = "rest", *, learn: bool = False):
        super().__init__()
        Scheme.__init__(self, h)
        if start not in self.STARTS:
            raise ValueError(f"start = {start!r} must be one of {self.STARTS}")
        self.start_rule = start
        self.r = nn.Parameter(torch.zeros(len(c) if isinstance(c, Sequence) else ())) if learn else None
        self.c = c

    @property
    def c(self) -> float | tuple[float, ...]:
        """Present momentum: one number, or one for each layer; may be set at any time."""
        if self.r is None:
            return self._c
        values = torch.sigmoid(self.r.detach()).tolist()
        return values if isinstance(values, float) else tuple(values)

    @c.setter
    def c(self, value: float | Sequence[float]) -> None:
        values = [float(c) for c in value] if isinstance(value, Sequence) else [float(value)]
        for c in values:
            if not 0 <= c < 1 or (c == 0 and self.r is not None):
                raise ValueError(
                    f"c = {c!r} must lie between 0 and 1, for example 0.9; with c = 0 nothing can be undone"
                )
        if self.r is None:
            self._c = tuple(values) if isinstance(value, Sequence) else values[0]
            return
        with torch.no_grad():
            r = [math.log(c) - math.log1p(-c) for c in values]
            self.r.copy_(torch.tensor(r if isinstance(value, Sequence) else r[0]))

    @property
    def reversible(self) -> bool:
        """Whether the steps can be undone: not for c = 0."""
        return self.r is not None or (all(self._c) if isinstance(self._c, tuple) else self._c != 0)

    def halve(self, layers: Sequence[int]) -> None:
        """Halve the step, for the same eps = h / (1 - c): c becomes (1 + c) / 2, but 0 stays 0, for x' = f(x)."""
        super().halve(layers)
        finer = lambda c: (1 + c) / 2 if c else 0.0  # noqa: E731
        c = self.c
        if isinstance(c, float):
            self.c = finer(c)
            return
        if self.r is not None:
            self.r = nn.Parameter(self.r.new_zeros(len(layers)), self.r.requires_grad)
        self.c = [finer(c[j]) for j in layers]

    def __repr__(self) -> str:
        c = self.c
        c = f"{c:g}" if isinstance(c, float) else f"{min(c):g} to {max(c):g}"
        return f"Momentum(h={self.h:g}, c={c}{', learned' if self.r is not None else ''})"

    def factors(self, j: int) -> tuple[float | Tensor, float | Tensor]:
        """1 - c and c of layer j.

        Raises:
            ValueError: if there is no c for this layer.
        """
        many = isinstance(self._c, tuple) if self.r is None else self.r.dim() > 0
        held = self._c if self.r is None else self.r
        if many and j >= len(held):
            raise ValueError(f"c has {len(held)} values, but there is a layer {j}; give one number, or one for each")
        held = held[j] if many else held
        return (1 - held, held) if self.r is None else (torch.sigmoid(-held), torch.sigmoid(held))

    def start(self, x: Tensor) -> State:
        return x, torch.zeros_like(x)

    def shears(self, block: nn.ModuleList, j: int) -> tuple[Shear, ...]:
        (f,) = block
        drift = Shear(0, 1, None, self.h)
        if j == 0 and self.start_rule == "field":  # c f + (1 - c) f = f, onto a velocity that is 0
            return Shear(1, 0, f), drift
        return Shear(1, 0, f, *self.factors(j)), drift

    def finish(self, state: State, steps: int) -> Tensor:
        return state[0]

    def resume(self, y: Tensor) -> State:
        raise NotInvertibleError(
            "the output of a momentum network is x without the velocity, which does not determine the state; "
            "keep the whole state: Stage.forward_state and Stage.inverse_state"
        )
