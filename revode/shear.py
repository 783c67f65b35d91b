"""The one primitive: the shear ``x[target] <- c * x[target] + scale * g(x[source])``.

A shear changes one part of the state by a function of *another* part, so it can be undone exactly in algebra,
whatever ``g`` is: the value that was added is computed again from the part that did not change. Every
reversible network of this package is a sequence of shears; the schemes only choose targets, signs and step sizes.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import Tensor, nn

from .errors import (
    FieldDtypeError,
    FieldModifiedInputError,
    FieldShapeError,
    NonFiniteIncrementError,
    NotInvertibleError,
    RecomputationError,
)
from .fixed_point import FixedPoint, times

#: The parts of a state: tensors, or numbers in fixed point where the arithmetic is exact.
State = tuple[Tensor, ...] | tuple[FixedPoint, ...]


class Shear(NamedTuple):
    """One update ``x[target] <- c * x[target] + scale * g(x[source])``.

    Attributes:
        target: Index of the part of the state that changes.
        source: Index of the part that is read; never the target.
        g: Module that maps the source to a tensor of the target's shape; None stands for the identity.
        scale: Factor of the increment, for example the step size h or -h. Finite.
        c: Factor of the old value, 1 for every scheme but the momentum rule. Finite; c = 0 forgets the old
            value, so such a shear cannot be undone.

    Either factor may be a tensor of no dimensions, and learned. All of one state are on one device.
    """

    target: int
    source: int
    g: nn.Module | None
    scale: float | Tensor = 1.0
    c: float | Tensor = 1.0


def check(shears: Sequence[Shear], parts: int) -> None:
    """Refuse shears that are no shears of a state with the given number of parts.

    Raises:
        ValueError: for an index outside the state, target equal to source, a factor that is not finite, or one that
            is a tensor with dimensions.
        TypeError: if ``g`` is not a module: the parameters of a bare function cannot be found.
    """
    for k, s in enumerate(shears):
        if s.target == s.source or not (0 <= s.target < parts and 0 <= s.source < parts):
            raise ValueError(
                f"shear {k}: target = {s.target} and source = {s.source} must be two different parts of the state, "
                f"0 to {parts - 1}: a part that is changed by a function of itself cannot be undone"
            )
        if s.g is not None and not isinstance(s.g, nn.Module):
            raise TypeError(
                f"shear {k}: g = {s.g!r} must be a torch.nn.Module or None, so that its parameters are known; "
                "wrap the function in a module"
            )
        for name, factor in (("scale", s.scale), ("c", s.c)):
            if isinstance(factor, Tensor):
                if factor.dim():
                    raise ValueError(
                        f"shear {k}: {name} has shape {tuple(factor.shape)}, but a factor that is a tensor has none: "
                        "one number for all entries of the part"
                    )
            elif not math.isfinite(factor):
                raise ValueError(f"shear {k}: {name} = {factor} must be a finite number; check the step size h")


def numbers(shears: Sequence[Shear]) -> list[Shear]:
    """The shears with the present values of factors that are tensors, all read at once.

    Raises:
        ValueError: if one of them is not finite.
    """
    tensors = list(dict.fromkeys(t for s in shears for t in (s.scale, s.c) if isinstance(t, Tensor)))
    if not tensors:
        return list(shears)
    found = torch.stack([t.detach() for t in tensors]).tolist()
    if not all(map(math.isfinite, found)):
        raise ValueError(f"factors of shears must be finite numbers, not {found}; lower the rate at which they learn")
    known = dict(zip(tensors, found, strict=True))
    return [s._replace(scale=known.get(s.scale, s.scale), c=known.get(s.c, s.c)) for s in shears]


def value(a: Tensor | FixedPoint) -> Tensor:
    """A part of the state as g sees it."""
    return a.value() if isinstance(a, FixedPoint) else a


def increment(shear: Shear, state: State, kwargs: dict) -> Tensor:
    """The value g(x[source]), cast to the target's dtype.

    Raises:
        FieldModifiedInputError: if g wrote into its input.
        FieldShapeError, FieldDtypeError: as :func:`checked`.
    """
    b, a = value(state[shear.source]), state[shear.target]
    if shear.g is None:
        return b.to(a.dtype)
    v = shear.g(b, **kwargs) if torch.compiler.is_compiling() else _guarded(shear.g, b, kwargs)
    return checked(shear, v, a)


def checked(shear: Shear, v: Tensor, a: Tensor | FixedPoint) -> Tensor:
    """The value v of g in the dtype of the part a that it changes, refused if it does not fit.

    Raises:
        FieldShapeError: if the value has not the shape of a.
        FieldDtypeError: if the value is not a tensor of a floating type.
    """
    if not isinstance(v, Tensor) or not v.is_floating_point():
        kind = v.dtype if isinstance(v, Tensor) else type(v).__name__
        raise FieldDtypeError(
            f"g = {type(shear.g).__name__} returned {kind}; it must return one tensor of a floating type"
        )
    if v.shape != a.shape:
        raise FieldShapeError(
            f"g = {type(shear.g).__name__} returned shape {tuple(v.shape)}, but the part it changes has shape "
            f"{tuple(a.shape)}; g must keep the shape: use stride 1, 'same' padding and as many outputs as inputs"
        )
    return v.to(a.dtype)


def _guarded(g: nn.Module, b: Tensor, kwargs: dict) -> Tensor:
    """g(b), refused if g changed b: the inverse needs the input that the forward saw."""
    if b.is_inference():
        return g(b, **kwargs)
    version = b._version
    v = g(b, **kwargs)
    if b._version != version:
        raise FieldModifiedInputError(
            f"g = {type(g).__name__} modified its input in place, so the step could not be undone; "
            "set inplace=False in its first layer (or clone the input there)"
        )
    return v


def add(shear: Shear, a: Tensor | FixedPoint, v: Tensor) -> Tensor | FixedPoint:
    """c * a + scale * v; in fixed point modulo 2^32.

    Raises:
        NonFiniteIncrementError: in fixed point, if v is not finite.
    """
    if isinstance(a, FixedPoint):
        with _named(shear):
            return a.plus(shear.scale, v, shear.c)
    if isinstance(shear.scale, Tensor):
        return times(shear.c, a) + shear.scale * v
    return torch.add(times(shear.c, a), v, alpha=shear.scale)


def subtract(shear: Shear, a: Tensor | FixedPoint, v: Tensor) -> Tensor | FixedPoint:
    """(a - scale * v) / c, the inverse of :func:`add` in its first argument.

    Raises:
        NotInvertibleError: if c = 0.
        NonFiniteIncrementError: in fixed point, if v is not finite.
        RecomputationError: in fixed point with checksums, if v is not what :func:`add` got.
    """
    if not isinstance(shear.c, Tensor) and shear.c == 0:
        raise NotInvertibleError(
            "c = 0: this shear forgets the part it changes, so it cannot be undone; use c != 0, or memory='stored'"
        )
    if isinstance(a, FixedPoint):
        with _named(shear):
            return a.minus(shear.scale, v, shear.c)
    a = a - shear.scale * v if isinstance(shear.scale, Tensor) else torch.sub(a, v, alpha=shear.scale)
    return a if not isinstance(shear.c, Tensor) and shear.c == 1 else a / shear.c


@contextmanager
def _named(shear: Shear) -> Iterator[None]:
    """Errors of the arithmetic carry the shear that they met."""
    try:
        yield
    except (NonFiniteIncrementError, RecomputationError) as error:
        error.shear = shear
        raise


def layout(x: Tensor | FixedPoint) -> torch.memory_format:
    """The memory format of x: channels_last where x is laid out so, else contiguous."""
    x = x.ints if isinstance(x, FixedPoint) else x
    last = x.dim() == 4 and not x.is_contiguous() and x.is_contiguous(memory_format=torch.channels_last)
    return torch.channels_last if last else torch.contiguous_format


def forward(shears: Sequence[Shear], state: State, kwargs: dict | None = None) -> State:
    """Apply the shears one after the other; ordinary autograd sees every operation.

    Args:
        shears: The updates, in order.
        state: Parts of the state, tensors of one shape.
        kwargs: Extra keyword arguments handed to every g.

    Returns:
        The new state; the tensors given are not modified.
    """
    parts = list(state)
    for s in shears:
        parts[s.target] = add(s, parts[s.target], increment(s, parts, kwargs or {}))
    return tuple(parts)


def inverse(shears: Sequence[Shear], state: State, kwargs: dict | None = None) -> State:
    """Undo the shears, last first: ``inverse(shears, forward(shears, x))`` is x up to rounding.

    Raises:
        NotInvertibleError: if a shear has c = 0.
    """
    parts = list(state)
    for s in reversed(shears):
        parts[s.target] = subtract(s, parts[s.target], increment(s, parts, kwargs or {}))
    return tuple(parts)
