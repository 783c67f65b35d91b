r"""Kernels of 3x3 convolutions at another resolution: the Galerkin map from A to Q A P.

A 3x3 convolution A on a grid of pixels acts on images of a coarser grid, of pixels n times as wide, if one prolongs
them to the fine grid (P), convolves, and restricts the result by averages over n x n pixels (Q). The outcome
is again a 3x3 convolution, whose kernel is a linear map of the fine one: a 9x9 matrix, for both prolongations the
Kronecker product of a 3x3 matrix with itself, since everything is done in x and y alike. That matrix has an inverse,
so kernels move in both directions.

Seen as a differential operator, a kernel is a combination of nine stencils (:func:`stencils`), and their coefficients
should not depend on the resolution. Those of the mass and of the first derivatives stay with either P. Second
derivatives come out n times too large on the coarse grid with the piecewise constant P, and right with the bilinear
one; beside its own coefficient, a mass brings a little of them with both.

Both maps commute with flipping the kernel and with exchanging its channels, so K^T and K - K^T of the moved kernel are
the moved K^T and K - K^T: a Hamiltonian, leapfrog or midpoint network stays one.

Sources: Haber, Ruthotto, Holtham and Jun 2017 (arXiv 1703.02009) for the idea; the released code of the same group,
Meganet.m, for the two prolongations with n = 2. The matrices are derived here.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable

import torch
from torch import Tensor, nn

from .data.sets import whole
from .fields import choose

#: Piecewise constant, P = n^2 Q^T; or bilinear between the centres of the coarse pixels.
PROLONGATIONS = ("constant", "bilinear")

#: Names of :func:`stencils`, in their order: which derivative each is.
STENCILS = ("mass", "dx", "dy", "dxx", "dxy", "dyy", "dxxy", "dxyy", "dxxyy")

_ORDERS = ((0, 0), (1, 0), (0, 1), (2, 0), (1, 1), (0, 2), (2, 1), (1, 2), (2, 2))  # of the derivatives in x and y


def stencils(side: float = 1.0) -> Tensor:
    """The nine 3x3 stencils that all kernels are combinations of, float64 of shape (9, 3, 3).

    Each is a product of two of [1 2 1]/4, [-1 0 1]/(2 side) and [1 -2 1]/side^2, in y (rows) and in x (columns), and
    gives the derivative of that name at unit weight, as cross-correlation, which is what torch calls a convolution. The
    released code has some with another factor or sign: dx and dy 4/3, dxy -4, dxxyy -1/2 times these, and -1 times dxyy
    under the name of dxxy. That changes the coefficients of a kernel, and not what becomes of it at another resolution.

    Args:
        side: Of a pixel.
    """
    line = torch.tensor([[1, 2, 1], [-1, 0, 1], [1, -2, 1]], dtype=torch.float64)
    line = line / torch.tensor([4, 2 * side, side**2], dtype=torch.float64)[:, None]
    return torch.stack([torch.outer(line[y], line[x]) for x, y in _ORDERS])


def coefficients(kernel: Tensor, side: float = 1.0) -> Tensor:
    """What a kernel (..., 3, 3) is made of: its coefficients (..., 9) in :func:`stencils`, float64."""
    _check_kernel(kernel)
    return torch.linalg.solve(stencils(side).flatten(1).T, kernel.double().flatten(-2).unsqueeze(-1)).squeeze(-1)


def line_map(prolongation: str = "constant", factor: int = 2) -> Tensor:
    r"""The Galerkin map of a 3-point kernel on a line, float64 (3, 3): coarse kernel from fine one.

    Entry (k, d) is what coarse pixel k contributes to the average over the ``factor`` fine pixels of coarse pixel 0
    when each looks at the fine pixel d beside it; k and d are -1, 0, 1. Further coarse pixels contribute nothing.
    For factor n it is, with the piecewise constant P, [[1, 0, 0], [n-1, n, n-1], [0, 0, 1]] / n.

    Raises:
        ValueError: for an unknown prolongation or a factor that is no whole number from 2 up.
    """
    choose("prolongation", prolongation, PROLONGATIONS)
    n = whole("factor", factor, 2)
    beside, fine = torch.arange(-1, 2), torch.arange(n)
    at = fine + beside[:, None] - n * beside[:, None, None]  # (k, d, fine pixel), counted from coarse pixel k's first
    distance = (at + 0.5 - n / 2).abs().double() / n  # from the centre of coarse pixel k, in coarse pixels
    weight = (1 - distance).clamp(min=0) if prolongation == "bilinear" else (distance < 0.5).double()
    return weight.mean(2)


def galerkin(prolongation: str = "constant", factor: int = 2) -> Tensor:
    """The Galerkin map of a 3x3 kernel, float64 (9, 9): coarse kernel from fine one, both flattened row by row.

    Raises:
        ValueError: as :func:`line_map`.
    """
    line = line_map(prolongation, factor)
    return torch.kron(line, line)


def restrict(kernel: Tensor, prolongation: str = "constant", factor: int = 2) -> Tensor:
    """The kernel of Q A P, for pixels ``factor`` times as wide.

    It is that operator exactly on a periodic grid and inside any grid. With the piecewise constant P it is so at the
    border too, for zero padding on both grids; with the bilinear one, weights of the outermost pixels differ there.

    Args:
        kernel: (..., 3, 3).
        prolongation: One of :data:`PROLONGATIONS`.
        factor: How many fine pixels are as wide as a coarse one.

    Returns:
        Kernels of the same shape, dtype and device; computed in float64.

    Raises:
        ValueError: the kernel is not 3x3, or as :func:`line_map`.
    """
    return _apply(galerkin(prolongation, factor), kernel)


def prolong(kernel: Tensor, prolongation: str = "constant", factor: int = 2) -> Tensor:
    """The kernel whose restriction this is: for pixels ``factor`` times as narrow. The inverse of :func:`restrict`.

    Arguments, result and errors are as there.
    """
    return _apply(torch.linalg.inv(galerkin(prolongation, factor)), kernel)


def _apply(matrix: Tensor, kernel: Tensor) -> Tensor:
    _check_kernel(kernel)
    moved = kernel.double().flatten(-2) @ matrix.T.to(kernel.device)
    return moved.reshape(kernel.shape).to(kernel.dtype)


def _check_kernel(kernel: Tensor) -> None:
    if kernel.shape[-2:] != (3, 3):
        raise ValueError(f"kernel has shape {tuple(kernel.shape)}; the last two dimensions must be 3 x 3")


def coarsen_space(network: nn.Module, prolongation: str = "constant", factor: int = 2) -> nn.Module:
    r"""A copy of a network for images with pixels ``factor`` times as wide: its 3x3 kernels are restricted.

    Biases, 1x1 kernels, matrices and the parameters of normalizations are copied. So are the running statistics of
    batch normalization, which are those of the old resolution: :func:`estimate_statistics` makes new ones. A
    convolution of stride 2 is moved as the convolution that it samples: that keeps its coefficients and its place on
    the pixel it is centred on, and is no Galerkin product of its own (which has three weights a line only with the
    piecewise constant P, and no inverse).

    The norm of no convolution grows on an unbounded grid, since \|\|Q\|\| \|\|P\|\| is at most 1.

    Args:
        network: Any module; of its parameters with four dimensions all are kernels, 3x3 or 1x1.
        prolongation: One of :data:`PROLONGATIONS`.
        factor: How many fine pixels are as wide as a coarse one.

    Raises:
        ValueError: a kernel is neither 3x3 nor 1x1, or as :func:`line_map`.
    """
    return _moved(network, galerkin(prolongation, factor))


def refine_space(network: nn.Module, prolongation: str = "constant", factor: int = 2) -> nn.Module:
    """A copy of a network for images with pixels ``factor`` times as narrow: its 3x3 kernels are prolonged.

    The inverse of :func:`coarsen_space`, with the same arguments and the same treatment of the rest. Norms of
    operators can grow, so that a step size may have to be smaller: see :func:`revode.stable_step`.
    """
    return _moved(network, torch.linalg.inv(galerkin(prolongation, factor)))


def to_size(network: nn.Module, old: int, new: int, prolongation: str = "constant") -> nn.Module:
    """A copy of a network for images of another size: coarsened, refined, or as it is.

    Args:
        network: As for :func:`coarsen_space`.
        old: Side in pixels of the images that it was made for.
        new: Side of the same images at the other resolution.
        prolongation: One of :data:`PROLONGATIONS`.

    Raises:
        ValueError: neither size is a multiple of the other, or as :func:`coarsen_space`.
    """
    old, new = whole("old", old, 1), whole("new", new, 1)
    if max(old, new) % min(old, new):
        raise ValueError(f"old = {old} and new = {new}: one size must be a multiple of the other")
    if old == new:
        return copy.deepcopy(network)
    move = coarsen_space if new < old else refine_space
    return move(network, prolongation, max(old, new) // min(old, new))


@torch.no_grad()
def _moved(network: nn.Module, matrix: Tensor) -> nn.Module:
    network = copy.deepcopy(network)
    for name, p in network.named_parameters():
        if p.dim() != 4 or p.shape[2:] == (1, 1):
            continue
        if p.shape[2:] != (3, 3):
            raise ValueError(f"{name} has shape {tuple(p.shape)}: only 3x3 and 1x1 kernels have a known map")
        p.copy_(_apply(matrix, p))
    return network


@torch.no_grad()
def estimate_statistics(network: nn.Module, batches: Iterable[Tensor]) -> None:
    """Give batch normalization new running statistics: the mean of those of these batches, each of equal weight.

    The network is changed, its parameters and its mode are not. As in training, each layer's statistics are of the
    activations that the layers before it give with the statistics of their own batch.

    Args:
        network: Any module.
        batches: Inputs of the network, each large enough for statistics.

    Raises:
        ValueError: there is no batch.
    """
    norms = [m for m in network.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    mode, decays = {m: m.training for m in network.modules()}, [m.momentum for m in norms]
    number = -1
    try:
        for m in norms:
            m.momentum = None  # a plain mean over all batches
        network.train()
        for number, x in enumerate(batches):
            if number == 0:
                for m in norms:
                    m.reset_running_stats()
            network(x)
    finally:
        for m, decay in zip(norms, decays, strict=True):
            m.momentum = decay
        for m, training in mode.items():
            m.training = training
    if number < 0:
        raise ValueError("batches are empty: statistics need at least one batch of images")
