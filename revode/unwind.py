"""The walk back over the shears: the one backward pass, written once for eager and for compiled execution."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import Tensor

from . import shear as primitive
from .errors import NotInvertibleError
from .shear import Shear, State

#: A snapshot of the state is kept before the inverse would amplify rounding errors by more than this.
MAX_AMPLIFICATION = 30.0


def snapshot_positions(shears: Sequence[Shear], limit: float = MAX_AMPLIFICATION, exact: bool = False) -> list[int]:
    """Indices of the shears before which the state is kept.

    Undoing a shear divides by c and so multiplies rounding errors of its target by 1/abs(c). A snapshot is placed
    whenever the product of these factors since the last one would pass ``limit``, for any part of the state.
    With abs(c) = 1 there are none, and none in exact arithmetic, which amplifies nothing.

    Raises:
        NotInvertibleError: if a shear has c = 0.
    """
    positions: list[int] = []
    growth: dict[int, float] = {}
    for k, s in enumerate(shears):
        if s.c == 0:
            raise NotInvertibleError(
                f"shear {k} has c = 0: it forgets the part it changes, so the reversible backward pass cannot rebuild "
                "it; use c != 0, or memory='stored'"
            )
        if exact:
            continue
        factor = growth.get(s.target, 1.0) / abs(s.c)
        if factor > limit:
            positions.append(k)
            growth.clear()
            factor = 1.0 / abs(s.c)
        growth[s.target] = max(factor, 1.0)
    return positions


def unwind(
    shears: Sequence[Shear],
    state: State,
    cotangents: Sequence[Tensor],
    pull: Callable[[int, Tensor, Tensor], tuple[Tensor, Tensor | None]],
    snapshots: dict[int, State],
    first: int = 0,
) -> list[Tensor]:
    """Walk back over the shears: rebuild each state from the next one and carry the cotangents along.

    Args:
        shears: The updates, in the order of the forward pass.
        state: The final state.
        cotangents: Gradient of the loss with respect to the final state.
        pull: ``pull(k, b, w)`` evaluates g of shear k at b once; returns its value and the gradient of <w, g(b)>
            with respect to b (None if there is none), and accumulates the gradients of parameters by itself.
        snapshots: Kept states, by the index of the shear they stand before.
        first: Index of the shear to stop at; nothing before it needs gradient.

    Returns:
        The gradient with respect to the initial state.
    """
    parts = list(state)
    # In the state's layout, or each addition and convolution below would work across two layouts.
    grads = [w.contiguous(memory_format=primitive.layout(p)) for w, p in zip(cotangents, parts)]
    for k in range(len(shears) - 1, first - 1, -1):
        s = shears[k]
        w = grads[s.target]
        v, d = pull(k, primitive.value(parts[s.source]), w if s.scale == 1 else w * s.scale)
        if d is not None:
            grads[s.source] = grads[s.source] + d
        if s.c != 1:
            grads[s.target] = s.c * w
        if k in snapshots:
            parts = list(snapshots[k])
        elif k > first:
            parts[s.target] = primitive.subtract(s, parts[s.target], v)
    return grads
