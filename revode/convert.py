"""Residual networks of torchvision in their momentum form, with the same parameters under the same names.

A stage of a ResNet is a row of blocks, of which those behind the first keep the shape. In torchvision the last ReLU of
a block comes after the addition, so the residual function is what the block changes, f(x) = block(x) - x, and
c = 0 gives the original network. Blocks that keep the shape make a reversible :class:`revode.stage.Stage` with a
velocity of its own; blocks that change it stay as they are, and their activations are stored.

Source: Sander et al. 2021 (arXiv 2102.07870), who do the same with their released package.
"""

from __future__ import annotations

import copy
import os
from collections.abc import Iterator, Sequence
from itertools import groupby

import torch
from torch import Tensor, nn

from .checkpoint import reason
from .errors import CheckpointError, ConversionError
from .fields import choose
from .networks import LEARN, stage_schemes
from .schemes import Momentum
from .stage import Stage


class Increment(nn.Module):
    """f(x) = block(x) - x, what a block changes."""

    def __init__(self, block: nn.Module):
        super().__init__()
        self.block = block

    def forward(self, x: Tensor) -> Tensor:
        """f(x)."""
        return self.block(x) - x


class MomentumLayer(nn.Module):
    """A row of residual blocks, those that keep the shape integrated by the momentum rule.

    The blocks have the names that they have in an ``nn.Sequential``, and are counted and indexed as in one.

    Attributes:
        scheme: The momentum rule of the blocks that keep the shape.
        stage: The stage they make. It is no submodule, so that each parameter has one name.
    """

    def __init__(self, blocks: Sequence[nn.Module], scheme: Momentum, **options):
        super().__init__()
        for j, block in enumerate(blocks):
            self.add_module(str(j), block)
        self.scheme = scheme
        kept = [b for b in blocks if _keeps_shape(b)]
        self._before = len(blocks) - len(kept)
        self._hidden = (Stage(scheme, [[Increment(b)] for b in kept], **options),)

    @property
    def stage(self) -> Stage:
        """The reversible blocks."""
        return self._hidden[0]

    @property
    def memory(self) -> str:
        """How activations are kept: "reversible" or "stored"; may be set at any time."""
        return self.stage.memory

    @memory.setter
    def memory(self, value: str) -> None:
        self.stage.memory = value

    def __len__(self) -> int:
        return self._before + len(self.stage.blocks)

    def __getitem__(self, j: int) -> nn.Module:
        return self._modules[str(range(len(self))[j])]

    def __iter__(self) -> Iterator[nn.Module]:
        return (self[j] for j in range(len(self)))

    def forward(self, x: Tensor) -> Tensor:
        """The output of the last block."""
        for j in range(self._before):
            x = self[j](x)
        return self.stage(x)

    def extra_repr(self) -> str:
        """The stage's rule and memory mode."""
        return self.stage.extra_repr()


def to_momentum(
    model: nn.Module,
    c: float | Sequence[float] = Momentum.C,
    start: str = "rest",
    memory: str = "reversible",
    *,
    learn_c: str = "no",
    arithmetic: str = "float",
) -> nn.Module:
    """A residual network of torchvision in its momentum form.

    Each row of residual blocks becomes a :class:`MomentumLayer`; all else stays. Converted are the ResNets, ResNeXts
    and wide ResNets, and models with one of them inside (segmentation, detection, video).

    To fine-tune a pretrained network::

        from torchvision.models import resnet50

        model = revode.to_momentum(resnet50(num_classes=2))
        new = revode.load_checkpoint(model, "resnet50.pth")  # ["fc.weight", "fc.bias"]
        optimizer = torch.optim.SGD(model.parameters(), lr=1e-3, momentum=0.9)
        for x, y in batches:
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(model(x), y).backward()
            optimizer.step()

    The momentum form is another network than the one that was trained: with c = 0.9 a stage of few blocks moves x by
    less, so that the accuracy before fine-tuning is not the original's.

    Args:
        model: The network; it is copied and not changed.
        c: The momentum, between 0 and 1: one number, or one for each block that keeps the shape, over all rows.
            With c = 0 it is the original network, whose activations are stored.
        start: Velocity at the beginning of each row: "rest" (0) or "field" (that of its first block).
        memory: "reversible" rebuilds activations in the backward pass, "stored" keeps them. May be set later, for each
            :class:`MomentumLayer` of ``model.modules()``.
        learn_c: Learn c: "no", "shared" (one number) or "layer" (one for each block); adds ``scheme.r`` to the names.
        arithmetic: "float", or "exact" (:mod:`revode.fixed_point`); its scale is chosen anew after loading.

    Returns:
        A copy of the model with the same parameters under the same names.

    Raises:
        ConversionError: if the model has no row of torchvision's residual blocks.
        ValueError: for a c outside of [0, 1), or another argument that is not allowed.
    """
    choose("learn_c", learn_c, LEARN)
    if isinstance(model, MomentumLayer) or any(isinstance(m, MomentumLayer) for m in model.modules()):
        raise ConversionError(f"{type(model).__name__} is a momentum network already; convert the original")
    model = copy.deepcopy(model)
    options = {"c": c, "start": start} | ({} if learn_c == "no" else {"learn": learn_c})
    convert(model, options, memory=memory, arithmetic=arithmetic)
    return model


def convert(model: nn.Module, options: dict, **of_stages) -> None:
    """Turn the rows of residual blocks inside a model into their momentum form, in place.

    Args:
        model: The network.
        options: Arguments of :class:`revode.schemes.Momentum` beside h.
        of_stages: Arguments of :class:`revode.stage.Stage`.

    Raises:
        ConversionError: as of :func:`to_momentum`.
    """
    kinds = _kinds()
    rows = [
        (parent, name, list(row))
        for parent in model.modules()
        for name, row in parent.named_children()
        if isinstance(row, nn.Sequential) and len(row) and all(isinstance(b, kinds) for b in row)
    ]
    rows = [(parent, name, blocks) for parent, name, blocks in rows if any(map(_keeps_shape, blocks))]
    if not rows:
        raise ConversionError(
            f"{type(model).__name__} has no row (nn.Sequential) of residual blocks of torchvision that keep the shape; "
            "convert a ResNet, ResNeXt or wide ResNet of torchvision.models, or build your blocks into a revode.Stage "
            "with the scheme revode.Momentum"
        )
    for _, name, blocks in rows:
        if [k for k, _ in groupby(map(_keeps_shape, blocks))] not in ([True], [False, True]):
            raise ConversionError(
                f"{type(model).__name__}: in '{name}' a block changes the shape behind one that keeps it; split the "
                "nn.Sequential there"
            )
    counts = [sum(map(_keeps_shape, blocks)) for *_, blocks in rows]
    for (parent, name, blocks), scheme in zip(rows, stage_schemes(Momentum, 1.0, options, counts), strict=True):
        layer = MomentumLayer(blocks, scheme.to(next(blocks[0].parameters())), **of_stages)
        layer.training = scheme.training = parent.training
        setattr(parent, name, layer)


def load_checkpoint(model: nn.Module, file: str | os.PathLike[str]) -> list[str]:
    """Load pretrained weights from a file into a model, original or converted.

    The file holds a ``state_dict``, or a dict with one under "state_dict" or "model"; names may begin with "module.",
    as DistributedDataParallel writes them. It is read with ``weights_only=True``, so it runs no code.

    Args:
        model: The model; its weights are overwritten.
        file: The checkpoint.

    Returns:
        Names that keep the values they had: the last linear layer where the file has another number of classes or
        none, and c where it is learned.

    Raises:
        CheckpointError: if the file cannot be read, or other names or shapes do not fit; they are listed.
    """
    try:
        found = torch.load(file, map_location="cpu", weights_only=True)
    except OSError as error:
        raise CheckpointError(f"{os.fspath(file)} cannot be read: {reason(error)}") from error
    except Exception as error:  # of many types, whatever is not understood
        raise CheckpointError(
            f"{os.fspath(file)} is no file of weights that can be read safely ({type(error).__name__}); save the "
            "state_dict of the model by torch.save(model.state_dict(), file)"
        ) from error
    for key in ("state_dict", "model"):
        if isinstance(found, dict) and isinstance(found.get(key), dict):
            found = found[key]
    if not isinstance(found, dict) or not all(isinstance(t, Tensor) for t in found.values()):
        raise CheckpointError(f"{os.fspath(file)} holds no state_dict, a dict of tensors by their names")
    found = {name.removeprefix("module."): t for name, t in found.items()}
    own = model.state_dict()
    linear = [name for name, m in model.named_modules() if isinstance(m, nn.Linear)]
    head = tuple(f"{name}." for name in linear[-1:])
    different = {n for n in own.keys() & found.keys() if own[n].shape != found[n].shape}
    missing = {n for n in own.keys() - found.keys() if not n.endswith("num_batches_tracked")}
    kept = {n for n in missing | different if n.startswith(head) or n.endswith("scheme.r")}
    wrong = {
        "not in the file": missing - kept,
        "of another shape": different - kept,
        "only in the file": {n for n in found.keys() - own.keys() if not n.startswith(head)},
    }
    if any(wrong.values()):
        listed = "; ".join(f"{what}: {', '.join(sorted(names)[:5])}{' ...' if len(names) > 5 else ''} ({len(names)})"
                           for what, names in wrong.items() if names)  # fmt: skip
        raise CheckpointError(
            f"{os.fspath(file)} does not fit {type(model).__name__}: {listed}; build the same network"
        )
    model.load_state_dict({n: t for n, t in found.items() if n in own and n not in kept}, strict=False)
    return [n for n in own if n in kept]


def _kinds() -> tuple[type[nn.Module], ...]:
    """The residual blocks of torchvision."""
    try:
        from torchvision.models import resnet
        from torchvision.models.video import resnet as video
    except ImportError as error:
        raise ConversionError("torchvision is not installed; pip install torchvision") from error
    return resnet.BasicBlock, resnet.Bottleneck, video.BasicBlock, video.Bottleneck


def _keeps_shape(block: nn.Module) -> bool:
    return block.downsample is None
