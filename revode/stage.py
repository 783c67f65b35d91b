"""A stage: blocks of one shape, one scheme, one way to keep memory."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from . import shear as primitive
from .backward import propagate
from .replay import Modules
from .schemes import Scheme
from .shear import Shear, State

MEMORY = ("reversible", "stored")


class Stage(nn.Module):
    """A sequence of blocks that keep the shape, integrated by one scheme.

    Args:
        scheme: The rule of a step, with its step size.
        blocks: Each an iterable of the residual functions of one step (``scheme.fields`` of them); every function
            is a module that keeps the shape of its input. One block may stand at several places: weights are shared.
        memory: "reversible" rebuilds activations in the backward pass; "stored" keeps them. A scheme that is not
            reversible is always "stored".
        store_last: Keep the activations of this many last blocks: less is computed again, for their memory.

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
    ):
        super().__init__()
        self.scheme = scheme
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

    def shears(self, first: int = 0, last: int | None = None) -> list[Shear]:
        """The shears of blocks first, ..., last - 1 in order."""
        last = len(self.blocks) if last is None else last
        return [s for j in range(first, last) for s in self.scheme.shears(self.blocks[j], j)]

    def forward(self, x: Tensor, **kwargs) -> Tensor:
        """The output for input x of shape (N, C, ...); ``kwargs`` go to every residual function."""
        return self.scheme.finish(self.forward_state(self.scheme.start(_full(x)), **kwargs), len(self.blocks))

    def forward_state(self, state: State, **kwargs) -> State:
        """The final state from the initial one."""
        if not self.scheme.reversible:
            for j, block in enumerate(self.blocks):
                state = self.scheme.step(state, block, j, **kwargs)
            return state
        shears = self.shears()
        primitive.check(shears, len(state))
        split = len(self.shears(0, max(len(self.blocks) - self.store_last, 0))) if self.store_last else len(shears)
        state = propagate(shears[:split], state, kwargs, memory=self.memory) if split else state
        return propagate(shears[split:], state, kwargs, memory="stored") if split < len(shears) else state

    @torch.no_grad()
    def inverse(self, y: Tensor, **kwargs) -> Tensor:
        """The input x that gave the output y, without gradient; running statistics are left alone.

        Raises:
            NotInvertibleError: if the scheme is not reversible, or its output does not determine the state.
        """
        state = self.inverse_state(self.scheme.resume(_full(y)), **kwargs)
        return self.scheme.finish(state, 0)

    @torch.no_grad()
    def inverse_state(self, state: State, **kwargs) -> State:
        """The initial state from the final one, without gradient."""
        if not self.scheme.reversible:
            return self.scheme.inverse(state, self.blocks[-1])
        with Modules(self.blocks).replayed():
            return primitive.inverse(self.shears(), state, kwargs)

    def extra_repr(self) -> str:
        """Scheme, memory mode and number of blocks."""
        last = f", store_last={self.store_last}" if self.store_last else ""
        return f"{self.scheme}, memory={self.memory!r}{last}"


def _full(x: Tensor) -> Tensor:
    """x in float32 where autocast would hand on half precision: only increments are computed in half precision."""
    half = x.dtype in (torch.bfloat16, torch.float16)
    kind = x.device.type
    return x.float() if half and torch.amp.is_autocast_available(kind) and torch.is_autocast_enabled(kind) else x
