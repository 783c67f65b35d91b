"""The contract of a scheme: how a differential equation becomes a sequence of shears."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn

from .. import shear as primitive
from ..errors import ChannelError, ImageError, StepSizeError
from ..shear import Shear, State, layout


class Scheme(ABC):
    """A rule for one step of a network seen as a differential equation.

    A block holds the residual functions of one step as an ``nn.ModuleList``; a scheme says how many it needs
    (``fields``), how the input becomes the state (:meth:`start`), which shears make step j (:meth:`shears`), and
    what of the state is the output (:meth:`finish`).

    Args:
        h: Step size, finite. May be set to another value at any time.

    Attributes:
        name: As in :data:`revode.schemes.SCHEMES`.
        fields: Number of residual functions of one block.
        order: Order of accuracy in h of the output at a fixed time.
        stability_limit: Largest h * omega for which the scheme is stable on an oscillation of frequency omega.
        reversible: Whether the steps can be undone.
        source: Paper and equation.

    Raises:
        StepSizeError: if h is not a finite number.
    """

    name: ClassVar[str]
    fields: ClassVar[int] = 1
    order: ClassVar[int]
    stability_limit: ClassVar[float]
    reversible: ClassVar[bool] = True
    source: ClassVar[str]

    def __init__(self, h: float = 1.0):
        self.h = h

    @property
    def h(self) -> float:
        """Step size."""
        return self._h

    @h.setter
    def h(self, value: float) -> None:
        try:
            value = float(value)
        except (TypeError, ValueError):
            value = math.nan
        if not math.isfinite(value):
            raise StepSizeError(f"h = {value!r} must be a finite number, for example 0.1")
        self._h = value

    def halve(self, layers: Sequence[int]) -> None:
        """Halve the step, for the same differential equation: step j is then half of what step layers[j] was."""
        self.h /= 2

    def __repr__(self) -> str:
        return f"{type(self).__name__}(h={self.h:g})"

    @abstractmethod
    def start(self, x: Tensor) -> State:
        """The state at time 0 from the input x of shape (N, C, ...)."""

    @abstractmethod
    def shears(self, block: nn.ModuleList, j: int) -> tuple[Shear, ...]:
        """The shears of step j, j = 0, 1, ..., with the residual functions of its block."""

    @abstractmethod
    def finish(self, state: State, steps: int) -> Tensor:
        """The output after this number of steps."""

    @abstractmethod
    def resume(self, y: Tensor) -> State:
        """The final state where the output determines it; the inverse of :meth:`finish`."""

    def step(self, state: State, block: nn.ModuleList, j: int = 0, **kwargs) -> State:
        """One step: the state at time (j + 1) h from that at time j h."""
        return primitive.forward(self.shears(block, j), state, kwargs)

    def inverse(self, state: State, block: nn.ModuleList, j: int = 0, **kwargs) -> State:
        """The step undone: the state at time j h from that at time (j + 1) h."""
        return primitive.inverse(self.shears(block, j), state, kwargs)


def halves(x: Tensor) -> State:
    """The two halves of the channels, each laid out like x (contiguous or channels_last).

    Raises:
        ChannelError: if x has an odd number of channels.
    """
    if x.dim() < 2 or x.shape[1] % 2:
        raise ChannelError(
            f"x has shape {tuple(x.shape)}: this scheme splits the channels (dimension 1) into two halves, so their "
            "number must be even; pad with a zero channel or choose an even width"
        )
    return tuple(part.contiguous(memory_format=layout(x)) for part in x.chunk(2, dim=1))


def colours(x: Tensor) -> State:
    """The pixels of the two colours of a checkerboard, each packed into half the width: (N, C, H, W/2).

    The first part has the pixels (i, j) with i + j even. Each row keeps the order of its pixels, so that neighbours in
    a packed row are two pixels apart in the image.

    Raises:
        ImageError: if x is not (N, C, H, W) with an even width.
    """
    if x.dim() != 4 or x.shape[3] % 2:
        raise ImageError(
            f"x has shape {tuple(x.shape)}: split='checkerboard' needs images (N, C, H, W) of even width W; pad a "
            "column, or use split='channels'"
        )
    return tuple(part.contiguous(memory_format=layout(x)) for part in _swapped(*x.unflatten(3, (-1, 2)).unbind(4)))


def images(state: State) -> Tensor:
    """The images (N, C, H, W) of two packed colours; the inverse of :func:`colours`."""
    x = torch.stack(_swapped(*state), dim=4).flatten(3)
    return x.contiguous(memory_format=layout(state[0]))


def _swapped(a: Tensor, b: Tensor) -> State:
    """Exchanges two tensors in every second row."""
    odd = torch.arange(a.shape[2], device=a.device)[:, None] % 2 == 1
    return torch.where(odd, b, a), torch.where(odd, a, b)


class Halves(Scheme):
    """Base of the schemes whose state is the input in two halves, so that the output determines it.

    Args:
        h: Step size, finite.
        split: Which halves. "channels": (N, C/2, ...) each, the first and the second half of the channels.
            "checkerboard": (N, C, H, W/2) each, the pixels of either colour of a checkerboard.

    Raises:
        ValueError: for an unknown split.

    Source: channels as in Chang et al. 2018 and Gomez et al. 2017; the checkerboard is that of Dinh et al. 2017
    (arXiv 1605.08803), there as a mask, here packed.
    """

    SPLITS: ClassVar = ("channels", "checkerboard")

    def __init__(self, h: float = 1.0, split: str = "channels"):
        super().__init__(h)
        if split not in self.SPLITS:
            raise ValueError(f"split = {split!r} must be one of {self.SPLITS}")
        self.split = split

    def start(self, x: Tensor) -> State:
        return halves(x) if self.split == "channels" else colours(x)

    def finish(self, state: State, steps: int) -> Tensor:
        return torch.cat(state, dim=1) if self.split == "channels" else images(state)

    def resume(self, y: Tensor) -> State:
        return self.start(y)
