"""The walk back over the shears: the one backward pass, written once for eager and for compiled execution."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

from torch import Tensor

from . import shear as primitive
from .errors import NotInvertibleError
from .fixed_point import times
from .shear import Shear, State

#: A snapshot of the state is kept before the inverse would amplify rounding errors by more than this.
MAX_AMPLIFICATION = 30.0


def snapshot_positions(shears: Sequence[Shear], limit: float = MAX_AMPLIFICATION, exact: bool = False) -> list[int]:
    """Indices of the shears before which the state is kept.

    Undoing a shear divides by c and so multiplies rounding errors of its target by 1/abs(c). A snapshot is placed
    whenever the product of these factors since the last one would pass ``limit``, for any part of the state.
    With abs(c) = 1 there are none, and none in exact arithmetic, which amplifies nothing. Where c is a tensor whose
    value cannot be read (in a compiled graph) there is one before each such shear.

    Raises:
        NotInvertibleError: if a shear has c = 0.
    """
    positions: list[int] = []
    growth: dict[int, float] = {}
    for k, s in enumerate(shears):
        unknown = isinstance(s.c, Tensor)
        if not unknown and s.c == 0:
            raise NotInvertibleError(
                f"shear {k} has c = 0: it forgets the part it changes, so the reversible backward pass cannot rebuild "
                "it; use c != 0, or memory='stored'"
            )
        if exact:
            continue
        factor = math.inf if unknown else growth.get(s.target, 1.0) / abs(s.c)
        if factor > limit:
            positions.append(k)
            growth.clear()
            factor = 1.0 if unknown else 1.0 / abs(s.c)
        growth[s.target] = max(factor, 1.0)
    return positions


def unwind(
    shears: Sequence[Shear],
    state: State,
    cotangents: Sequence[Tensor],
    pull: Callable[[int, Tensor, Tensor], tuple[Tensor, Tensor | None]],
    snapshots: dict[int, State],
    first: int = 0,
    learned: Mapping[int, Callable[[Tensor, Tensor, Tensor], None]] | None = None,
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
        learned: For shears whose factors need gradient: called with the gradient w behind the shear, the value v of
            g and the part a before the shear. <w, v> is the gradient of ``scale``, <w, a> that of c.

    Returns:
        The gradient with respect to the initial state.
    """
    learned = learned or {}
    parts = list(state)
    # In the state's layout, or each addition and convolution below would work across two layouts.
    grads = [w.contiguous(memory_format=primitive.layout(p)) for w, p in zip(cotangents, parts)]
    for k in range(len(shears) - 1, first - 1, -1):
        s = shears[k]
        w = grads[s.target]
        v, d = pull(k, primitive.value(parts[s.source]), times(s.scale, w))
        if d is not None:
            grads[s.source] = grads[s.source] + d
        grads[s.target] = times(s.c, w)
        if k in snapshots:
            parts = list(snapshots[k])
        elif k > first or k in learned:
            parts[s.target] = primitive.subtract(s, parts[s.target], v)
        if k in learned:
            learned[k](w, v, primitive.value(parts[s.target]))
    return grads
