"""Leapfrog network: the second-order equation Y'' = -K^T s(K Y + b) with a velocity."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn

from ..errors import NotInvertibleError
from ..shear import Shear, State
from ._base import Scheme


class Leapfrog(Scheme):
    r"""V -= h f(Y);  Y += h V,  the same as Y_{j+1} = 2 Y_j - Y_{j-1} - h^2 f(Y_j).

    A block holds f, in the paper f(Y) = K^T s(K Y + b). State: (Y, V) with V = (Y_j - Y_{j-1}) / h, the velocity half
    a step before. In this form the sum of many small increments rounds ten times less than the two-step form, which
    subtracts nearly equal values.

    Args:
        h: Step size.
        start: Rule for Y_{-1}. "rest" sets Y_{-1} = Y_0, so V = 0 half a step early: order 1. "half-kick" begins with
            V -= (h/2) f(Y_0), the second-order start from rest: order 2.

    Stable for h * omega <= 2.

    Source: Chang et al. 2018 (arXiv 1709.03698), leapfrog network; the rest start as in the group's released code.
    """

    name = "leapfrog"
    stability_limit = 2.0
    source = "Chang et al. 2018 (arXiv 1709.03698), leapfrog network; start rule of the group's code (Y_{-1} = Y_0)"
    STARTS: ClassVar = {"rest": (1, 1.0), "half-kick": (2, 0.5)}  # name: (order, first kick in units of h)

    def __init__(self, h: float = 1.0, start: str = "rest"):
        super().__init__(h)
        if start not in self.STARTS:
            raise ValueError(f"start = {start!r} must be one of {sorted(self.STARTS)}")
        self.start_rule = start

    @property
    def order(self) -> int:
        """Order of accuracy, by the starting rule."""
        return self.STARTS[self.start_rule][0]

    def start(self, x: Tensor) -> State:
        return x, torch.zeros_like(x)

    def shears(self, block: nn.ModuleList, j: int) -> tuple[Shear, ...]:
        (f,) = block
        kick = self.h * (self.STARTS[self.start_rule][1] if j == 0 else 1.0)
        return Shear(1, 0, f, -kick), Shear(0, 1, None, self.h)

    def finish(self, state: State, steps: int) -> Tensor:
        return state[0]

    def resume(self, y: Tensor) -> State:
        raise NotInvertibleError(
            "the output of a leapfrog network is the position without the velocity, which does not determine the "
            "state; keep the whole state: Stage.forward_state and Stage.inverse_state"
        )
