"""Plain residual network: forward Euler. Not reversible."""

from __future__ import annotations

from torch import Tensor, nn

from ..errors import NotInvertibleError
from ..shear import Shear, State
from ._base import Scheme


class Euler(Scheme):
    r"""Y_{j+1} = Y_j + h F(Y_j).

    A block holds F. The state is Y alone: it is changed by a function of itself, which is no shear, so the step
    cannot be undone without solving an equation, and activations are always stored.

    Order 1. Unstable on every undamped oscillation: \|1 + i h omega\| > 1 for each h > 0.

    Source: He et al. 2016 (arXiv 1512.03385) with h = 1; as Euler's method Haber and Ruthotto 2017 (arXiv 1705.03341).
    """

    name = "euler"
    order = 1
    stability_limit = 0.0
    reversible = False
    source = "He et al. 2016 (arXiv 1512.03385); Haber and Ruthotto 2017 (arXiv 1705.03341)"

    def start(self, x: Tensor) -> State:
        return (x,)

    def shears(self, block: nn.ModuleList, j: int) -> tuple[Shear, ...]:
        raise NotInvertibleError(_MESSAGE)

    def finish(self, state: State, steps: int) -> Tensor:
        return state[0]

    def resume(self, y: Tensor) -> State:
        return (y,)

    def step(self, state: State, block: nn.ModuleList, j: int = 0, **kwargs) -> State:
        (f,) = block
        (y,) = state
        return (y + self.h * f(y, **kwargs).to(y.dtype),)

    def inverse(self, state: State, block: nn.ModuleList, j: int = 0, **kwargs) -> State:
        raise NotInvertibleError(_MESSAGE)


_MESSAGE = (
    "scheme 'euler' (a plain residual network) is not reversible: Y + h F(Y) changes Y by a function of itself; "
    "use memory='stored', or one of the schemes hamiltonian, midpoint, leapfrog, revnet"
)
