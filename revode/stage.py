"""A stage: blocks of one shape, one scheme, one way to keep memory."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from . import shear as primitive
from .backward import propagate
from .errors import NonFiniteIncrementError, NotInvertibleError, RecomputationError
from .fixed_point import FixedPoint, Scale
from .replay import Generators, Modules
from .schemes import Scheme
from .shear import Shear, State

MEMORY = ("reversible", "stored")
ARITHMETIC = ("float", "exact")
BITS = "fraction_bits"  # key of the scale in state_dict

#: A run in floating point that grows by more than this gives no scale: what it started from does.
LARGEST_GROWTH = 2.0**12


class Stage(nn.Module):
    """A sequence of blocks that keep the shape, integrated by one scheme.

    Args:
        scheme: The rule of a step, with its step size.
        blocks: Each an iterable of the residual functions of one step (``scheme.fields`` of them); every function
            is a module that keeps the shape of its input. One block may stand at several places: weights are shared.
        memory: "reversible" rebuilds activations in the backward pass; "stored" keeps them. A scheme that is not
            reversible is always "stored".
        store_last: Keep the activations of this many last blocks: less is computed again, for their memory.
        arithmetic: "float", or "exact": the state in 32-bit fixed point, so that :meth:`inverse_state` gives it back
            bit for bit (:mod:`revode.fixed_point`). A scheme that is not reversible is always "float".
        verify: In exact arithmetic, keep a checksum of each increment and compare it in the backward pass.

    Shapes: input and output (N, C, ...), C even for schemes that split the channels.

    Raises:
        ValueError: for a wrong number of residual functions, an unknown memory mode or a negative store_last.
        ChannelError: for an odd number of channels where the scheme needs an even one.
    """

    def __init__(
        self,
        scheme: Scheme,
        blocks: Iterable[Iterable[nn.Module]],
        *,
        memory: str = "reversible",
        store_last: int = 0,
        arithmetic: str = "float",
        verify: bool = False,
    ):
        super().__init__()
        self.scheme = scheme
        self.scale = Scale(verify=verify)
        made: dict[int, nn.ModuleList] = {}
        blocks = list(blocks)
        self.blocks = nn.ModuleList(
            made.setdefault(id(b), b if isinstance(b, nn.ModuleList) else nn.ModuleList(b)) for b in blocks
        )
        for j, block in enumerate(self.blocks):
            if len(block) != scheme.fields:
                raise ValueError(
                    f"block {j} holds {len(block)} residual functions, but scheme '{scheme.name}' needs {scheme.fields}"
                )
        self.memory = memory
        self.store_last = store_last
        self.arithmetic = arithmetic

    @property
    def h(self) -> float:
        """Step size; may be set at any time."""
        return self.scheme.h

    @h.setter
    def h(self, value: float) -> None:
        self.scheme.h = value

    @property
    def memory(self) -> str:
        """How activations are kept: "reversible" or "stored"."""
        return self._memory if self.scheme.reversible else "stored"

    @memory.setter
    def memory(self, value: str) -> None:
        if value not in MEMORY:
            raise ValueError(f"memory = {value!r} must be one of {MEMORY}")
        self._memory = value

    @property
    def store_last(self) -> int:
        """Number of last blocks whose activations are kept."""
        return self._store_last

    @store_last.setter
    def store_last(self, value: int) -> None:
        if not isinstance(value, int) or value < 0:
            raise ValueError(f"store_last = {value!r} must be a whole number of blocks, 0 or more")
        self._store_last = value

    @property
    def arithmetic(self) -> str:
        """How the state is held: "float" or "exact"; may be set at any time."""
        return self._arithmetic if self.scheme.reversible else "float"

    @arithmetic.setter
    def arithmetic(self, value: str) -> None:
        if value not in ARITHMETIC:
            raise ValueError(f"arithmetic = {value!r} must be one of {ARITHMETIC}")
        self._arithmetic = value

    def shears(self, first: int = 0, last: int | None = None) -> list[Shear]:
        """The shears of blocks first, ..., last - 1 in order."""
        last = len(self.blocks) if last is None else last
        return [s for j in range(first, last) for s in self.scheme.shears(self.blocks[j], j)]

    def forward(self, x: Tensor, **kwargs) -> Tensor:
        """The output for input x of shape (N, C, ...); ``kwargs`` go to every residual function."""
        return self.scheme.finish(self.forward_state(self.scheme.start(_full(x)), **kwargs), len(self.blocks))

    def forward_state(self, state: State, **kwargs) -> State:
        """The final state from the initial one: of tensors, or without gradient of one that :meth:`encode` made.

        Raises:
            FixedPointRangeError, NonFiniteIncrementError: in exact arithmetic, if tensors are given and entries leave
                the range, or if a value is not finite. Of an encoded state what left the range is only counted.
        """
        if not self.scheme.reversible:
            for j, block in enumerate(self.blocks):
                state = self.scheme.step(state, block, j, **kwargs)
            return state
        shears = self.shears()
        primitive.check(shears, len(state))
        if isinstance(state[0], FixedPoint):
            with torch.no_grad(), self._located():
                return primitive.forward(shears, state, kwargs)
        scale = None
        if self.arithmetic == "exact":
            scale = self.scale
            if scale.bits is None:
                self._calibrate(state, kwargs)
        split = len(self.shears(0, max(len(self.blocks) - self.store_last, 0))) if self.store_last else len(shears)
        with self._located():
            state = propagate(shears[:split], state, kwargs, memory=self.memory, scale=scale) if split else state
            if split < len(shears):
                state = propagate(shears[split:], state, kwargs, memory="stored", scale=scale)
        return state

    @torch.no_grad()
    def inverse(self, y: Tensor, **kwargs) -> Tensor:
        """The input x that gave the output y, without gradient; running statistics are left alone.

        Exact arithmetic gives back what :meth:`encode` makes of x only from the encoded final state, by
        :meth:`inverse_state`: an output in float32 has 24 of its 32 digits.

        Raises:
            NotInvertibleError: if the scheme is not reversible, or its output does not determine the state.
        """
        state = self.inverse_state(self.scheme.resume(_full(y)), **kwargs)
        return self.scheme.finish(state, 0)

    @torch.no_grad()
    def inverse_state(self, state: State, **kwargs) -> State:
        """The initial state from the final one, without gradient; bit for bit if the state is encoded."""
        if not self.scheme.reversible:
            return self.scheme.inverse(state, self.blocks[-1])
        with Modules(self.blocks).replayed(), self._located():
            return primitive.inverse(self.shears(), state, kwargs)

    # ---- exact arithmetic ----

    @torch.no_grad()
    def encode(self, x: Tensor) -> tuple[FixedPoint, ...]:
        """The initial state for input x (N, C, ...) in fixed point, at the stage's scale, chosen from x if need be.

        Raises:
            NotInvertibleError: if the scheme is not reversible.
        """
        if not self.scheme.reversible:
            raise NotInvertibleError(
                f"scheme '{self.scheme.name}' is not made of shears, so it has no exact arithmetic"
            )
        state = self.scheme.start(_full(x))
        if self.scale.bits is None:
            self._calibrate(state, {})
        return self.scale.enter(state)

    def decode(self, state: tuple[FixedPoint, ...]) -> Tensor:
        """The output (N, C, ...) of a final state in fixed point."""
        return self.scheme.finish(tuple(p.decode() for p in state), len(self.blocks))

    def calibrate(self, x: Tensor, **kwargs) -> tuple[int, ...]:
        """Choose the scale of exact arithmetic: the finest that leaves 4 bits above the largest value over the depth.

        The values are those of a run in floating point on the input x (N, C, ...); running statistics and random
        generators are left alone. Called by itself before the first use; the scale is kept in ``state_dict``.

        Returns:
            The number of binary digits after the point, for each part of the state.

        Raises:
            NonFiniteIncrementError: if x is not finite.
        """
        self._calibrate(self.scheme.start(_full(x)), kwargs)
        return self.scale.bits

    @torch.no_grad()
    def _calibrate(self, state: State, kwargs: dict) -> None:
        largest = lambda p: p.abs().amax().item() if p.numel() else 0.0  # noqa: E731
        parts, peaks = list(state), [largest(p) for p in state]
        start = max(peaks)
        with Modules(self.blocks).replayed(), Generators(parts[0].device)():
            for s in self.shears():
                parts[s.target] = primitive.add(s, parts[s.target], primitive.increment(s, parts, kwargs))
                peaks[s.target] = max(peaks[s.target], largest(parts[s.target]))
                if not peaks[s.target] <= LARGEST_GROWTH * start:  # unstable: sooner or later it passes every scale
                    peaks = [start for _ in parts]
                    break
        self.scale.choose(peaks)

    @contextmanager
    def _located(self) -> Iterator[None]:
        """Errors of exact arithmetic name the block."""
        try:
            yield
        except (NonFiniteIncrementError, RecomputationError) as error:
            g = error.shear.g if hasattr(error, "shear") else None
            for j, block in enumerate(self.blocks):
                if any(g is f for f in block):
                    raise type(error)(f"block {j} of {len(self.blocks)}: {error}") from error
            raise

    def _save_to_state_dict(self, destination, prefix, keep_vars):
        super()._save_to_state_dict(destination, prefix, keep_vars)
        if self.arithmetic == "exact" and self.scale.bits is not None:
            destination[prefix + BITS] = torch.tensor(self.scale.bits)

    def _load_from_state_dict(self, state_dict, prefix, *args):
        # A network may change its arithmetic between saving and loading, so the scale may be there or not.
        bits = state_dict.pop(prefix + BITS, None)
        self.scale.bits = None if bits is None else tuple(bits.tolist())
        super()._load_from_state_dict(state_dict, prefix, *args)

    def extra_repr(self) -> str:
        """Scheme, memory mode and number of blocks."""
        last = f", store_last={self.store_last}" if self.store_last else ""
        exact = ", arithmetic='exact'" if self.arithmetic == "exact" else ""
        return f"{self.scheme}, memory={self.memory!r}{last}{exact}"


def _full(x: Tensor) -> Tensor:
    """x in float32 where autocast would hand on half precision: only increments are computed in half precision."""
    half = x.dtype in (torch.bfloat16, torch.float16)
    kind = x.device.type
    return x.float() if half and torch.amp.is_autocast_available(kind) and torch.is_autocast_enabled(kind) else x
