"""An encoder-decoder for segmentation on the same stages as the classifiers of :mod:`revode.networks`.

The stem, a convolution of stride 2, halves the resolution. On the way down each level has a stage, and between levels
the resolution is halved by 2x2 averages and zero channels are added. On the way up the state of the level below,
brought to the level's channels by a 1x1 convolution (after normalization and activation) and to its resolution by
interpolation, is added to the state that the way down had there, and a stage follows. The head gives a number for each
class, interpolated to the images' pixels. What lies between stages loses values and is stored; within a stage a
reversible scheme keeps the last state, whatever the number of blocks.

Sources: a ladder of this form is U-Net (Ronneberger et al. 2015, arXiv 1505.04597), with the sum in the place of
concatenation as in LinkNet (Chaurasia and Culurciello 2017, arXiv 1707.03718); the stages are those of this package.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .errors import ImageError
from .fields import ACTIVATIONS, BranchField, Convolution, Field, batch_norm, choose, init_kernel
from .networks import FIELDS, Downsample, _check_units, undisturbed
from .schemes import SCHEMES, Scheme
from .stage import Stage


def _doubled(x: Tensor) -> Tensor:
    """x at twice the resolution, interpolated linearly."""
    return F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)


class Upsample(nn.Module):
    """K s(BN(x)) with a 1x1 convolution K to fewer channels, interpolated linearly to twice the resolution.

    Shapes: (N, in_channels, H, W) to (N, out_channels, 2 H, 2 W).
    """

    def __init__(self, in_channels: int, out_channels: int, activation: str = "relu"):
        super().__init__()
        self.activation = activation
        self.norm = batch_norm(nn.BatchNorm2d, in_channels)
        self.weight = nn.Parameter(torch.empty(out_channels, in_channels, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        """What is added to the state of the level above."""
        return _doubled(F.conv2d(ACTIVATIONS[self.activation](self.norm(x)), self.weight))


class SegmentationNetwork(nn.Module):
    """An encoder-decoder whose stages integrate a differential equation by one of the schemes.

    Args:
        scheme: Name in :data:`revode.schemes.SCHEMES`, or a function from the step size to a scheme object.
        units: Number of blocks of each level, the finest first; the way down and the way up have as many each, the
            lowest level has them once.
        widths: Number of channels of each level, not decreasing; even where the scheme splits the channels.
        in_channels: Channels of the images.
        num_classes: Number of classes, the ground among them.
        h: Step size.
        activation: Name of s in :data:`revode.fields.ACTIVATIONS`.
        memory: "reversible" rebuilds activations in the backward pass, "stored" keeps them. A plain residual network
            (scheme "euler") is always "stored".
        seed: Seed of the initial weights, drawn on the CPU; None draws from torch's global generator.

    Attributes:
        down: Stages of the way down and of the lowest level.
        up: Stages of the way up, the lowest first.

    Shapes: (N, in_channels, H, W) to logits (N, num_classes, H, W); H and W are multiples of 2^levels.

    Raises:
        ValueError: for an unknown name, no levels, a level without blocks or decreasing widths.
        ChannelError: for an odd width where the scheme splits the channels.
        StepSizeError: if h is not a finite number.
    """

    def __init__(
        self,
        scheme: str | Callable[[float], Scheme],
        units: Sequence[int],
        widths: Sequence[int],
        *,
        in_channels: int = 3,
        num_classes: int,
        h: float = 1.0,
        activation: str = "relu",
        memory: str = "reversible",
        seed: int | None = None,
    ):
        super().__init__()
        if isinstance(scheme, str):
            choose("scheme", scheme, SCHEMES)
            scheme = SCHEMES[scheme]
        choose("activation", activation, ACTIVATIONS)
        rule, self.activation = scheme(h), activation
        _check_units(rule, units, widths)

        kind = FIELDS[rule.name]

        def stage(level: int, first: dict) -> Stage:
            width, count = widths[level] // rule.fields, rule.fields * units[level]
            options = [first] + [{}] * (count - 1)  # of the first function, and of the others
            functions = [kind(width, activation=activation, **more) for more in options]
            blocks = zip(*[iter(functions)] * rule.fields, strict=True)
            return Stage(scheme(h), blocks, memory=memory)

        # A branch that begins with normalization and activation would see zero channels at the bend of the ReLU, where
        # the rounding error of a rebuilt state decides on the slope.
        branches = kind is BranchField
        first = [{"activate": False} if branches else {"first_norm": level > 0} for level in range(len(units))]
        with undisturbed(seed is not None):
            self.stem = nn.Conv2d(in_channels, widths[0], 3, stride=2, padding=1, bias=False)
            self.stem_norm = batch_norm(nn.BatchNorm2d, widths[0])
            self.down = nn.ModuleList(stage(level, first[level]) for level in range(len(units)))
            self.pools = nn.ModuleList(Downsample(old, new, rule.fields) for old, new in pairwise(widths))
            self.lifts = nn.ModuleList(Upsample(new, old, activation) for old, new in reversed(list(pairwise(widths))))
            self.up = nn.ModuleList(stage(level, {}) for level in reversed(range(len(units) - 1)))
            self.norm = batch_norm(nn.BatchNorm2d, widths[0])
            self.head = nn.Conv2d(widths[0], num_classes, 1)
        self.reset_parameters(seed)

    def reset_parameters(self, seed: int | None = None) -> None:
        """Draw new weights; with a seed, the global generator is left alone."""
        generator = None if seed is None else torch.Generator().manual_seed(seed)
        init_kernel(self.stem.weight, Convolution.taps, generator)
        for m in self.modules():
            if isinstance(m, Field):
                m.reset_parameters(generator)
            elif isinstance(m, Upsample):
                init_kernel(m.weight, 1, generator)
                m.norm.reset_parameters()
        for m in (self.stem_norm, self.norm):
            m.reset_parameters()
        init_kernel(self.head.weight, 1, generator)  # zeros would let Adam give all channels the same feature
        nn.init.zeros_(self.head.bias)

    @property
    def stages(self) -> list[Stage]:
        """All stages, in the order of their use."""
        return [*self.down, *self.up]

    @property
    def memory(self) -> str:
        """How activations are kept: "reversible" or "stored"; may be set at any time."""
        return self.down[0].memory

    @memory.setter
    def memory(self, value: str) -> None:
        for stage in self.stages:
            stage.memory = value

    def forward(self, x: Tensor) -> Tensor:
        """Logits (N, num_classes, H, W) of images x (N, in_channels, H, W).

        Raises:
            ImageError: if H or W is no multiple of 2^levels.
        """
        multiple = 2 ** len(self.down)
        if x.dim() != 4 or x.shape[2] % multiple or x.shape[3] % multiple:
            raise ImageError(
                f"images have shape {tuple(x.shape)}, but the resolution is halved {len(self.down)} times: they must "
                f"be (N, C, H, W) with H and W multiples of {multiple}; pad or resize them"
            )
        s = ACTIVATIONS[self.activation]
        y = self.down[0](s(self.stem_norm(self.stem(x))))
        left = []
        for pool, stage in zip(self.pools, self.down[1:], strict=True):
            left.append(y)
            y = stage(pool(y))
        for lift, stage in zip(self.lifts, self.up, strict=True):
            y = stage(left.pop() + lift(y))
        return _doubled(self.head(s(self.norm(y))))
