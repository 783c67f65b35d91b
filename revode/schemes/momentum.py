"""Momentum network: a residual network with a velocity."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn

from ..errors import NotInvertibleError
from ..shear import Shear, State
from ._base import Scheme


class Momentum(Scheme):
    r"""v <- c v + (1 - c) f(x);  x <- x + h v.

    A block holds f. State: (x, v). The velocity follows f with a delay: for 1 - c = h / eps the steps are those of
    eps x'' + x' = f(x), and for a fixed c they tend to x' = f(x) as h does to 0. Each step shrinks volume by c^d, so
    the inverse, which divides by c, grows by about 1/c per layer.

    Args:
        h: Step size; 1 in the paper.
        c: The momentum, gamma in the paper, 0 < c < 1.
        start: Velocity before the first step. "rest" is v = 0; "field" is v = f(x) of the first block, whose step is
            then x <- x + h f(x).

    Order 1. Unstable on every undamped oscillation, as forward Euler is.

    Raises:
        ValueError: if c is not between 0 and 1, or for an unknown start.

    Source: Sander et al. 2021 (arXiv 2102.07870), h = 1.
    """

    name = "momentum"
    order = 1
    stability_limit = 0.0
    source = "Sander et al. 2021 (arXiv 2102.07870), h = 1"
    STARTS: ClassVar = ("rest", "field")

    def __init__(self, h: float = 1.0, c: float = 0.9, start: str = "rest"):
        if not 0 < c < 1:
            raise ValueError(f"c = {c!r} must lie between 0 and 1, for example 0.9; with c = 0 nothing can be undone")
        super().__init__(h)
        if start not in self.STARTS:
            raise ValueError(f"start = {start!r} must be one of {self.STARTS}")
        self.c = float(c)
        self.start_rule = start

    def halve(self, layers: Sequence[int]) -> None:
        """Halve the step, for the same eps = h / (1 - c): c becomes (1 + c) / 2."""
        super().halve(layers)
        self.c = (1 + self.c) / 2

    def __repr__(self) -> str:
        return f"Momentum(h={self.h:g}, c={self.c:g})"

    def start(self, x: Tensor) -> State:
        return x, torch.zeros_like(x)

    def shears(self, block: nn.ModuleList, j: int) -> tuple[Shear, ...]:
        (f,) = block
        drift = Shear(0, 1, None, self.h)
        if j == 0 and self.start_rule == "field":  # c f + (1 - c) f = f, onto a velocity that is 0
            return Shear(1, 0, f), drift
        return Shear(1, 0, f, 1 - self.c, self.c), drift

    def finish(self, state: State, steps: int) -> Tensor:
        return state[0]

    def resume(self, y: Tensor) -> State:
        raise NotInvertibleError(
            "the output of a momentum network is x without the velocity, which does not determine the state; "
            "keep the whole state: Stage.forward_state and Stage.inverse_state"
        )
