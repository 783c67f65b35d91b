"""The residual networks of torchvision by name, plain or in momentum form, as training wants a network.

Their names of parameters are those of torchvision, so files of its weights fit (:func:`revode.load_checkpoint`).

Sources: He et al. 2015 (arXiv 1512.03385), Table 1; Sander et al. 2021 (arXiv 2102.07870), who train the one of 101
layers on CIFAR.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn
from torchvision.models.resnet import BasicBlock, Bottleneck, ResNet

from .convert import MomentumLayer, convert
from .fields import choose
from .networks import LEARN, StageOptions, scheme_options, undisturbed
from .schemes import SCHEMES, Scheme
from .stage import Stage

BLOCKS: dict[str, type[nn.Module]] = {"basic": BasicBlock, "bottleneck": Bottleneck}


class TorchvisionNetwork(StageOptions, ResNet):
    """A residual network of torchvision, plain or with the momentum rule in its rows of blocks.

    Args:
        scheme: "euler", the network as torchvision has it, or "momentum".
        block: "basic" or "bottleneck".
        units: Number of blocks of each of the four units.
        small_images: Images of about 32 pixels: the stem is a 3x3 convolution of stride 1 without pooling, in the
            place of a 7x7 convolution and pooling that leave a sixteenth of the pixels.
        num_classes: Number of classes.
        memory: "reversible" or "stored", of the momentum form; the plain network is always stored.
        store_last: Number of blocks, counted from the end of the network, whose activations are kept.
        arithmetic: "float", or "exact", of the momentum form; the plain network is always "float".
        verify: In exact arithmetic, compare a checksum of each increment in the backward pass.
        c: Factor of the momentum rule: one number, or one for each block that keeps the shape.
        start: How a row begins, "rest" or "field" (:class:`revode.schemes.Momentum`).
        learn_c: Learn c: "no", "shared" or "layer".
        seed: Seed of the initial weights; None draws from torch's global generator.
        normalization: "batch"; the blocks of torchvision have no other.
        h: None or 1; a block of torchvision is a step without a size.
        activation: "relu"; the blocks of torchvision have no other.

    Attributes:
        stages: The reversible stages, one for each row of blocks that keep the shape; none in the plain network.
        name: Name in :data:`revode.models.MODELS` if it was built by that, else None.

    Shapes: (N, 3, H, W) to logits (N, num_classes).

    Raises:
        ValueError: for an argument that is not allowed.
    """

    strided = True

    def __init__(
        self,
        scheme: str,
        block: str,
        units: Sequence[int],
        *,
        small_images: bool = False,
        num_classes: int = 10,
        memory: str = "reversible",
        store_last: int = 0,
        arithmetic: str = "float",
        verify: bool = False,
        c: float | Sequence[float] | None = None,
        start: str | None = None,
        learn_c: str = "no",
        seed: int | None = None,
        normalization: str = "batch",
        h: float | None = None,
        activation: str = "relu",
    ):
        for what, value, allowed in (
            ("normalization", normalization, ("batch",)),
            ("activation", activation, ("relu",)),
            ("h", h, (None, 1)),
        ):
            if value not in allowed:
                raise ValueError(f"{what} = {value!r} must be {allowed[-1]!r}: the blocks of torchvision have no other")
        choose("learn_c", learn_c, LEARN)
        rule = SCHEMES[scheme](1.0)
        options = scheme_options(rule, c, start, learn_c)
        with undisturbed(seed is not None):
            if seed is not None:
                torch.manual_seed(seed)
            super().__init__(BLOCKS[block], list(units), num_classes=num_classes)
            if small_images:
                self.conv1 = nn.Conv2d(3, self.conv1.out_channels, 3, padding=1, bias=False)
                nn.init.kaiming_normal_(self.conv1.weight, mode="fan_out", nonlinearity="relu")
                self.maxpool = nn.Identity()
        self.units, self.num_classes, self.normalization = tuple(units), num_classes, normalization
        self.name: str | None = None
        self.stability = None
        self._seed, self._rule = seed, rule
        if scheme == "momentum":
            convert(self, options, memory=memory, arithmetic=arithmetic, verify=verify)
        self.store_last = store_last

    @property
    def stages(self) -> list[Stage]:
        """The reversible stages."""
        return [m.stage for m in self.children() if isinstance(m, MomentumLayer)]

    @property
    def scheme(self) -> Scheme:
        """The rule of a step."""
        return self.stages[0].scheme if self.stages else self._rule

    @property
    def h(self) -> float:
        """1."""
        return 1.0

    @h.setter
    def h(self, value: float) -> None:
        if value != 1:
            raise ValueError(f"h = {value!r} must be 1: a block of torchvision is a step without a size")

    def kernel_change(self) -> list[list[float]]:
        """Nothing: the blocks have several kernels of several shapes, which are no function of time."""
        return []

    @property
    def settings(self) -> dict:
        """Arguments of :func:`revode.build` that make a network of the same form."""
        return self._options | {
            "name": self.name,
            "units": self.units,
            "num_classes": self.num_classes,
            "memory": self.memory,
            "store_last": self.store_last,
            "arithmetic": self.arithmetic,
            "seed": self._seed,
        }
