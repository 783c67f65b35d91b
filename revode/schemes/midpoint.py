"""Midpoint network: the two-step rule on an antisymmetric field."""

from __future__ import annotations

from torch import Tensor, nn

from ..errors import NotInvertibleError
from ..shear import Shear, State
from ._base import Scheme


class Midpoint(Scheme):
    r"""Y_{j+1} = Y_{j-1} + 2 h F(Y_j);  Y_1 = Y_0 + h F(Y_0).

    A block holds F, in the paper F(Y) = s((K - K^T) Y + b). The state is two successive values in two places, one at
    even and one at odd times; each step overwrites the older one. Both places begin with Y_0, and the first step is
    forward Euler.

    Order 2. Stable for imaginary h * lambda with h * \|lambda\| <= 1 only: every real part, damping included, makes
    one of the two modes grow.

    Source: Chang et al. 2018 (arXiv 1709.03698), midpoint network.
    """

    name = "midpoint"
    order = 2
    stability_limit = 1.0
    source = "Chang et al. 2018 (arXiv 1709.03698), midpoint network, first step by Euler"

    def start(self, x: Tensor) -> State:
        return x, x

    def shears(self, block: nn.ModuleList, j: int) -> tuple[Shear, ...]:
        (f,) = block
        new, old = (j + 1) % 2, j % 2  # Y_{j+1} overwrites Y_{j-1}
        return (Shear(new, old, f, self.h if j == 0 else 2 * self.h),)

    def finish(self, state: State, steps: int) -> Tensor:
        return state[steps % 2]

    def resume(self, y: Tensor) -> State:
        raise NotInvertibleError(
            "the output of a midpoint network is one of two successive values, which does not determine the state; "
            "keep the whole state: Stage.forward_state and Stage.inverse_state"
        )
