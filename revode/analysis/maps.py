r"""The functions whose Jacobians are of interest: the field of a scheme, its step, a row of steps, a whole stage.

Each is a function of one tensor (1, C, H, W), the joined state: the parts of the scheme's state side by side in the
channels, which for the Hamiltonian scheme and RevNet is the layout of the network itself (unless its halves are the
colours of a checkerboard: these stand one after the other in the channels too).

=============  =====================  ===================================  ===============================
scheme         joined state           field                                step
=============  =====================  ===================================  ===============================
hamiltonian    (Y, Z)                 (f(Z), -g(Y))                        Y += h f(Z), Z -= h g(Y)
revnet         (Y, Z)                 (F(Z), G(Y))                         Y += h F(Z), Z += h G(Y)
leapfrog       (Y, V)                 (V, -f(Y))                           V -= h f(Y), Y += h V
midpoint       (Y_j, Y_{j-1})         F(Y), a function of Y alone          (Y_{j-1} + 2 h F(Y_j), Y_j)
momentum       (x, v)                 f(x), a function of x alone          v <- c v + (1 - c) f(x), x += h v
euler          Y                      F(Y)                                 Y + h F(Y)
=============  =====================  ===================================  ===============================

Fields and steps are made of the scheme's own shears (:mod:`revode.shear`), so they are what the network computes.
All run as ordinary differentiable code whatever the memory mode of the stage is.

A step of the Hamiltonian scheme, or of leapfrog, with f and g the gradients of functions (a symmetric Jacobian, as
K^T s(K y + b) has) is symplectic: with M its Jacobian and O = [[0, I], [-I, 0]], M^T O M = O. So M^-1 is similar to
M^T, the singular values come in pairs s, 1/s, and the norm of M is at least 1, for any depth, since products of
symplectic matrices are symplectic (Galimberti et al. 2023, arXiv 2105.13205). For midpoint with a skew F' the same
holds by the form [[0, I], [I, 0]]. Nothing bounds the norm from above.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor, nn

from .. import shear as primitive
from ..fields import ACTIVATIONS
from ..networks import Network
from ..schemes import Midpoint, Momentum, Scheme
from ..shear import State
from ..stage import Stage

Map = Callable[[Tensor], Tensor]


def join(scheme: Scheme, state: State, j: int) -> Tensor:
    """The joined state (N, parts * C, H, W) of a scheme's state before step j."""
    return torch.cat(_newest_first(scheme, state, j), dim=1)


def split(scheme: Scheme, x: Tensor, j: int) -> State:
    """The scheme's state before step j from the joined state; the inverse of :func:`join`."""
    return _newest_first(scheme, x.chunk(_parts(scheme), dim=1), j)


def _parts(scheme: Scheme) -> int:
    return len(scheme.start(torch.empty(1, 2, 1, 2)))


def _newest_first(scheme: Scheme, state: State, j: int) -> State:
    """Midpoint writes its values into two places in turn: Y_j is in place j mod 2."""
    return state[::-1] if isinstance(scheme, Midpoint) and j % 2 else tuple(state)


def field(scheme: Scheme, block: Iterable[nn.Module]) -> Map:
    """The right-hand side of the differential equation that a scheme integrates, without its step size.

    Args:
        scheme: The scheme.
        block: The residual functions of one block.

    Returns:
        The field of the joined state; for midpoint, momentum and Euler the function F of Y alone.
    """
    block = list(block)
    if not scheme.reversible or isinstance(scheme, (Midpoint, Momentum)):
        return block[0]
    unit = copy.copy(scheme)
    unit.h = 1.0
    shears = unit.shears(block, 1)  # not step 0, which may be a starting rule

    def rate(x: Tensor) -> Tensor:
        state = split(scheme, x, 0)
        rates = [torch.zeros_like(part) for part in state]
        for s in shears:
            rates[s.target] = rates[s.target] + s.scale * primitive.increment(s, state, {})
        return torch.cat(rates, dim=1)

    return rate


def steps(scheme: Scheme, blocks: Iterable[Iterable[nn.Module]], first: int = 0) -> Map:
    """Steps first, first + 1, ... as one function of the joined state, one for each block."""
    blocks = [list(block) for block in blocks]

    def run(x: Tensor) -> Tensor:
        state = split(scheme, x, first)
        for j, block in enumerate(blocks, first):
            state = scheme.step(state, block, j)
        return join(scheme, state, first + len(blocks))

    return run


def step(scheme: Scheme, block: Iterable[nn.Module], j: int = 1) -> Map:
    """Step j as a function of the joined state. With j = 0 midpoint and leapfrog follow their starting rules."""
    return steps(scheme, [block], j)


def whole(stages: Stage | Iterable[nn.Module]) -> Map:
    """A stage, or several with what lies between them, from the input tensor to the output tensor.

    Args:
        stages: A stage, or modules in their order, for example ``network.stages[0], network.transitions[0], ...``.

    Returns:
        The function (N, C, ...) to (N, C', ...). It need not be square; singular values exist all the same.
    """
    stages = [stages] if isinstance(stages, Stage) else list(stages)

    def run(x: Tensor) -> Tensor:
        for m in stages:
            if isinstance(m, Stage):
                state = m.scheme.start(x)
                for j, block in enumerate(m.blocks):
                    state = m.scheme.step(state, block, j)
                x = m.scheme.finish(state, len(m.blocks))
            else:
                x = m(x)
        return x

    return run


class Place(NamedTuple):
    """The state that an image has at the entry of a block.

    Attributes:
        unit: Index of the stage.
        block: Index of the block in it.
        stage: The stage.
        state: The parts of the state before this block, as the scheme keeps them.
    """

    unit: int
    block: int
    stage: Stage
    state: State

    def field(self) -> tuple[Map, Tensor]:
        """The field of this block, and the tensor to take its Jacobian at."""
        scheme, x = self.stage.scheme, join(self.stage.scheme, self.state, self.block)
        x = x.chunk(2, dim=1)[0] if isinstance(scheme, (Midpoint, Momentum)) else x
        return field(scheme, self.stage.blocks[self.block]), x

    def step(self) -> tuple[Map, Tensor]:
        """The step of this block, and the tensor to take its Jacobian at."""
        scheme = self.stage.scheme
        return step(scheme, self.stage.blocks[self.block], self.block), join(scheme, self.state, self.block)


@torch.no_grad()
def states(network: Network, image: Tensor) -> Iterator[Place]:
    """The states of an image at the entry of every block of a network.

    Args:
        network: In evaluation mode, since batch normalization by the statistics of one image is another network.
        image: (1, in_channels, H, W), normalised as for the training.

    Yields:
        One place for each block, in their order.

    Raises:
        ValueError: if the network is in training mode.
        ImageError, ChannelError: as the network itself.
    """
    if network.training:
        raise ValueError("network is in training mode; call network.eval() for the layers as they are used")
    network.check_images(image)
    x = ACTIVATIONS[network.activation](network.stem_norm(network.stem(image)))
    for unit, stage in enumerate(network.stages):
        state = stage.scheme.start(network.transitions[unit - 1](x) if unit else x)
        for j, block in enumerate(stage.blocks):
            yield Place(unit, j, stage, state)
            state = stage.scheme.step(state, block, j)
        x = stage.scheme.finish(state, len(stage.blocks))
