"""What the small experiments with momentum networks share: one tied block, its training, its states over depth."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.utils import parameters_to_vector, vector_to_parameters

from .. import stability
from ..schemes import Euler, Momentum, Scheme
from ..stage import Stage
from ._base import Measured

#: Momenta c that are compared; c = 0 is the plain residual network.
MOMENTA = (0.0, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99)
HIDDEN, DEPTH = 16, 15  # of the paper's small networks


def scheme(c: float, h: float = 1.0) -> Scheme:
    """The momentum rule from rest, v = 0, and for c = 0 the residual step that it is then."""
    return Momentum(h, c) if c else Euler(h)


def tied(field: nn.Module, c: float, depth: int = DEPTH) -> Stage:
    """One residual function at every depth, with h = 1; activations are stored, since these networks are small."""
    return Stage(scheme(c), [[field]] * depth, memory="stored")


def block(width: int, hidden: int = HIDDEN) -> nn.Sequential:
    """W2 tanh(W1 x + b1) + b2 for x of shape (N, width), with torch's random start."""
    return nn.Sequential(nn.Linear(width, hidden), nn.Tanh(), nn.Linear(hidden, width))


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Random numbers of torch from this seed; the generator of before comes back."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield


class Trained(NamedTuple):
    """What :func:`fit` has seen.

    Attributes:
        curve: ``{"step", "loss"}``, about 20 of them.
        weights: Text of :func:`packed` after each number of steps that was to be kept.
    """

    curve: list[dict]
    weights: list[str]


def fit(
    module: nn.Module, loss: Callable[[], Tensor], *, steps: int, rate: float, keep: Collection[int] = ()
) -> Trained:
    """Minimise with Adam: the rate is constant over the first half and falls to 0 over the second.

    Args:
        module: Whose parameters are trained, in place.
        loss: The loss of one step.
        steps: How many steps.
        rate: Learning rate.
        keep: After how many steps the weights are kept.
    """
    optimiser = torch.optim.Adam(module.parameters(), rate)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda k: min(1.0, 2 * (1 - k / steps)))
    curve, weights = [], []
    for k in range(steps + 1):
        if k in keep:
            weights.append(packed(module))
        value = loss()
        if k % max(1, steps // 20) == 0:
            curve.append({"step": k, "loss": value.item()})
        if k == steps:
            break
        optimiser.zero_grad()
        value.backward()
        optimiser.step()
        schedule.step()
    return Trained(curve, weights)


def packed(module: nn.Module) -> str:
    """All parameters in order as base64 text of float32."""
    return stability.pack(parameters_to_vector(module.parameters()).detach(), "<f4")


def unpacked(module: nn.Module, text: str) -> nn.Module:
    """The module with the parameters that :func:`packed` wrote."""
    vector = torch.from_numpy(stability.unpack(text, "<f4")).to(next(module.parameters()))
    vector_to_parameters(vector, module.parameters())
    return module


def over_momenta(rows: list[dict], curve: list[dict], weights: Mapping[str, list], steps: Sequence[int]) -> Measured:
    """What a training for each c has found, with the weights at these steps where they were kept."""
    return Measured({"momenta": rows} | ({"kept": list(steps), "weights": dict(weights)} if weights else {}), curve)


def kept(module: nn.Module, record: Mapping, c: float, step: int | None = None) -> nn.Module:
    """The module with the weights that a result file keeps.

    Args:
        module: Of the record's experiment, untrained.
        record: Result file of seed 0.
        c: One of its momenta.
        step: After how many steps of training; None: at the end.

    Raises:
        ValueError: if the record keeps no weights for this c or step.
    """
    weights = record["final"].get("weights", {})
    if str(c) not in weights:
        raise ValueError(f"c = {c!r}: {record['name']!r} keeps weights for c in {list(weights)}; take that of seed 0")
    at = record["final"]["kept"]
    if step not in (None, *at):
        raise ValueError(f"step = {step!r} must be one of {at}")
    return unpacked(module, weights[str(c)][-1 if step is None else at.index(step)])


def states(stage: Stage, x: Tensor, steps: int | None = None, **kwargs) -> Tensor:
    """The output after every number of steps: (steps + 1, ...) with x itself first.

    Args:
        stage: The network.
        x: Input (N, C).
        steps: How far; beyond the last block it goes on with the blocks from the first one. None: the depth.
        **kwargs: For the residual functions.
    """
    state = stage.scheme.start(x)
    out = [stage.scheme.finish(state, 0)]
    for j in range(len(stage.blocks) if steps is None else steps):
        state = stage.scheme.step(state, stage.blocks[j % len(stage.blocks)], j, **kwargs)
        out.append(stage.scheme.finish(state, j + 1))
    return torch.stack(out)
