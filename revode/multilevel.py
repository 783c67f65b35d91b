"""Multilevel training in depth: the same differential equation in twice as many steps of half the size.

A trained network of N blocks with step h gives the starting values of one of 2 N blocks with step h / 2: what a block
did in one step, its two successors do in two. Training then goes on with the finer network. A step of it costs twice
as much, so that the steps before were half as dear.
"""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor, nn

from .fields import BranchField, choose
from .networks import Downsample, Network
from .stage import Stage

INTERPOLATIONS = ("copy", "linear")


class _Place(NamedTuple):
    """A block of the finer stage: its form is that of one old block, its numbers are the mean of one or two."""

    form: int
    parents: tuple[int, ...]


def refine(model: Network | Stage, interpolation: str = "copy") -> Network | Stage:
    r"""The network or stage with twice as many blocks and half the step size, for the same differential equation.

    After each block comes a new one: a copy of it, weights, normalization and running statistics; or, where the
    weights are read as piecewise linear in time, the mean of it and the next block. The last block of a unit has no
    next one, so a copy follows it in either case. With weights that are smooth in time, the outputs of the two
    networks differ by O(h).

    Units (n_1, n_2, ...) become (2 n_1, 2 n_2, ...). The first block of a unit leads to another shape, by its stride
    or because pooling comes after it, so its copy cannot follow it: a copy of the next block does. Of the time h that
    a block before pooling had, the second half then lies behind the pooling. A strided block is no step in time: its
    last kernels are doubled, so that with half the step its increment stays as it was. What the copy of a network's
    first block has and the first block has not, normalization before the first kernel, is that of the second block.

    A momentum network keeps eps = h / (1 - c) in eps x'' + x' = f(x), so 1 - c is halved too. The first step of a
    midpoint network stays one of Euler.

    Args:
        model: A network, or a stage. It is not changed.
        interpolation: "copy" or "linear".

    Returns:
        Another network or stage with weights of its own. A block that stands at several places of a stage is repeated
        rather than copied.

    Raises:
        ValueError: for another interpolation, a network with a unit of one block, or one of torchvision.

    Source: copies as in Chang et al. 2018 (arXiv 1710.10348), where nothing is said of strided blocks; linear
    interpolation as in Haber et al. 2017 (arXiv 1703.02009).
    """
    finer = copy.deepcopy(model)
    planned = list(_stages(finer, interpolation))
    for _, stage, places in planned:
        old, often = list(stage.blocks), Counter(map(id, stage.blocks))
        repeated = [len(p.parents) == 1 and often[id(old[p.form])] > 1 for p in places]
        stage.blocks = nn.ModuleList(
            old[p.form] if again else copy.deepcopy(old[p.form]) for p, again in zip(places, repeated, strict=True)
        )
    state = model.state_dict()
    finer.load_state_dict({name: _mean([state[o] for o in old]) for name, old in origins(model, interpolation).items()})
    # The stages of a network may share their scheme, where they share a learned c.
    for scheme, places in {stage.scheme: places for _, stage, places in planned}.items():
        scheme.halve([p.parents[0] for p in places])
    if isinstance(finer, Network):
        finer.units = tuple(2 * n for n in finer.units)
        finer.h = finer.stages[0].h  # of the transitions too
        finer.store_last = model.store_last
        for transition in finer.transitions:
            if not isinstance(transition, Downsample):
                _double(transition)
    return finer


def origins(model: Network | Stage, interpolation: str = "copy") -> dict[str, tuple[str, ...]]:
    """Where the numbers of the refined model come from: for each name in its ``state_dict``, one or two of the model.

    Two stand for the mean of both. The last kernels of strided blocks are doubled besides.

    Args and raises: as :func:`refine`.
    """
    out = {name: (name,) for name in model.state_dict()}
    for prefix, stage, places in _stages(model, interpolation):
        names = [list(block.state_dict()) for block in stage.blocks]
        for name in [f"{prefix}{j}.{name}" for j, block in enumerate(names) for name in block]:
            del out[name]
        for j, place in enumerate(places):
            for name in names[place.form]:
                having = [i for i in place.parents if name in names[i]] or [place.form]
                out[f"{prefix}{j}.{name}"] = tuple(f"{prefix}{i}.{name}" for i in having)
    return out


@torch.no_grad()
def carry(
    optimizer: torch.optim.SGD, model: Network | Stage, finer: Network | Stage, into: torch.optim.SGD,
    interpolation: str = "copy",
) -> None:  # fmt: skip
    """Hand the momentum of SGD on from a model to the refined one; without it the new optimiser begins at rest.

    A block with half the step has half the gradient, so its share of the momentum is halved too.

    Args:
        optimizer: Of the model, with momentum.
        model: The model before :func:`refine`.
        finer: The model after it.
        into: Optimiser of the refined model; its state is written.
        interpolation: As for :func:`refine`.
    """
    momenta = {name: optimizer.state[p].get("momentum_buffer") for name, p in model.named_parameters()}
    inside = tuple(prefix for prefix, *_ in _stages(model, interpolation))
    of = origins(model, interpolation)
    for name, p in finer.named_parameters():
        found = [momenta[o] for o in of[name]]
        if all(m is not None and m.shape == p.shape for m in found):
            into.state[p]["momentum_buffer"] = _mean(found) * (0.5 if name.startswith(inside) else 1.0)


def _stages(model: Network | Stage, interpolation: str) -> Iterator[tuple[str, Stage, list[_Place]]]:
    """Each stage with the prefix of its blocks' names and the blocks of the finer one."""
    choose("interpolation", interpolation, INTERPOLATIONS)
    linear = interpolation == "linear"
    if isinstance(model, Stage):
        yield "blocks.", model, _places(model, linear)
        return
    if not isinstance(model, Network):
        raise ValueError(
            f"model is a {type(model).__name__}, whose blocks are no steps in time that could be halved; give a "
            "Network or a Stage"
        )
    if min(model.units) < 2:
        raise ValueError(
            f"units = {model.units} must hold 2 or more blocks each: a unit's second block is what follows its first"
        )
    for unit, stage in enumerate(model.stages):
        # Where pooling comes after it, the last block of a stage is the first one of the next unit.
        carries = not model.strided and unit < len(model.units) - 1
        yield f"stages.{unit}.blocks.", stage, _places(stage, linear, first=unit == 0, lead=unit > 0, tail=carries)


def _places(stage: Stage, linear: bool, first: bool = False, lead: bool = False, tail: bool = False) -> list[_Place]:
    """The blocks of the finer stage.

    Args:
        stage: The stage as it is.
        linear: New blocks are means, not copies.
        first: It begins with a network's first block, whose form is its own.
        lead: A new block comes before it, which follows another shape.
        tail: Its last block precedes another shape, and no new one comes after it.
    """
    blocks = list(stage.blocks)
    last = len(blocks) - 1 - tail
    out = [_Place(0, (0,))] * lead
    for j in range(last + 1):
        between = (j, j + 1) if linear and j < last and blocks[j] is not blocks[j + 1] else (j,)
        out += [_Place(j, (j,)), _Place(1 if first and j == 0 else j, between)]
    return out + [_Place(last + 1, (last + 1,))] * tail


def _mean(values: list[Tensor]) -> Tensor:
    """The mean; of counters the first."""
    return torch.stack(values).mean(dim=0) if len(values) > 1 and values[0].is_floating_point() else values[0].clone()


@torch.no_grad()
def _double(transition: nn.Module) -> None:
    """What a strided block adds, doubled: h is halved, and the last kernel is linear."""
    for branch in transition.modules():
        if isinstance(branch, BranchField):
            branch.weight2.mul_(2)
            if branch.bias2 is not None:
                branch.bias2.mul_(2)
