"""How far the spectra of a trained network's layers leave the imaginary axis, unit by unit.

The theory of the antisymmetric and Hamiltonian layers is about the printed equations. With batch normalization
between K and K^T, as in the released code and in trained networks, the Jacobian of the residual function becomes
K^T diag(s') G2 K G1, where G1 and G2 are the gains of the normalizations: it is no longer symmetric. With gains of
any sign nothing is promised. With positive ones midpoint layers, diag(s') G2 (K - K^T) G1, keep imaginary eigenvalues,
and so do leapfrog layers, whose one function has the eigenvalues of a symmetric matrix. Hamiltonian layers do not:
-lambda^2 belongs to a product of two such functions, A G1 B G1', with A and B symmetric, and the gains between them
take the eigenvalues off the axis unless they are all equal. What they are has to be measured.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterable

import numpy as np
from torch import Tensor

from ..networks import Network
from .maps import Place, states
from .spectra import RESTARTS, TOLERANCE, Jacobian, eigenvalues, extreme, numerical_range, off_axis

#: Up to this dimension all eigenvalues are computed as well: some seconds, and 100 MB.
DENSE = 2048


def measure(
    network: Network,
    image: Tensor,
    *,
    blocks: Iterable[tuple[int, int]] | None = None,
    k: int = 20,
    tol: float | None = None,
    restarts: int = RESTARTS,
    seed: int = 0,
    dense: int = DENSE,
) -> dict:
    r"""Extreme eigenvalues and numerical range of the fields of a network, at the state that an image has there.

    By Arnoldi on the plain products: no symmetry is assumed. ``off_axis`` is a lower bound of max \|Re lambda\| / rho
    over the whole spectrum, since it looks at the extreme eigenvalues alone; ``off_axis_bound`` is an upper one, since
    the numerical range holds all eigenvalues. Where the dimension is at most ``dense``, ``off_axis_all`` is the value
    itself, from the dense matrix.

    Args:
        network: In evaluation mode, in float32 or float64; ``network.double()`` for 1e-8.
        image: (1, in_channels, H, W), normalised, in the network's type.
        blocks: Which blocks, as pairs (unit, block) counted from 0; None: the middle one of each unit.
        k: Number of extreme eigenvalues.
        tol: Their residual relative to the modulus; None as for :func:`revode.analysis.extreme`.
        restarts: Of the solver.
        seed: Of the starting vectors.
        dense: Largest dimension of which all eigenvalues are computed.

    Returns:
        For JSON: "network", "scheme", "h", "normalization", "image" (its shape), "dtype", "tol", "k", "seed", and
        "units", one dictionary for each block with "unit", "block", "shape" and "dimension" of the state,
        "eigenvalues" as pairs (Re, Im), "residuals", "products", "converged", "radius", "off_axis", "numerical_range"
        ("real", "imag", "norm", "residuals", "products", "converged"), "off_axis_bound" and "off_axis_all". None
        stands for what did not converge or was not computed.

    Raises:
        ValueError: if the network is in training mode, or a unit has no such block.
        JacobianError, SpectrumError: as :func:`revode.analysis.extreme`.
        ImageError, ChannelError: as the network itself.
    """
    sizes = [len(stage.blocks) for stage in network.stages]
    chosen = [(unit, size // 2) for unit, size in enumerate(sizes)] if blocks is None else list(blocks)
    for unit, block in chosen:
        if not (0 <= unit < len(sizes) and 0 <= block < sizes[unit]):
            raise ValueError(f"blocks = {chosen} must be pairs (unit, block) of units that have {sizes} blocks")
    places = [place for place in states(network, image) if (place.unit, place.block) in chosen]
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".* eigenvalues converged", RuntimeWarning)  # the result tells
        units = [_unit(place, k, tol, restarts, seed, dense) for place in places]
    return {
        "network": network.name,
        "scheme": network.scheme.name,
        "h": network.h,
        "normalization": network.normalization,
        "image": list(image.shape),
        "dtype": str(image.dtype).removeprefix("torch."),
        "tol": TOLERANCE[image.dtype] if tol is None else tol,
        "k": k,
        "seed": seed,
        "units": units,
    }


def _unit(place: Place, k: int, tol: float | None, restarts: int, seed: int, dense: int) -> dict:
    f, x = place.field()
    J = Jacobian(f, x)
    found = extreme(J, k, tol=tol, restarts=restarts, seed=seed)
    box = numerical_range(J, restarts=restarts, seed=seed)
    bound = max(map(abs, box.real)) / found.radius if found.radius else math.nan
    return {
        "unit": place.unit,
        "block": place.block,
        "shape": list(x.shape),
        "dimension": x.numel(),
        "eigenvalues": [[float(v.real), float(v.imag)] for v in found.values],
        "residuals": _numbers(found.residuals),
        "products": found.products,
        "converged": found.converged,
        "radius": found.radius,
        "off_axis": found.off_axis,
        "numerical_range": {
            "real": _numbers(box.real),
            "imag": _numbers([box.imag])[0],
            "norm": box.norm,
            "residuals": _numbers(box.residuals),
            "products": box.products,
            "converged": box.converged,
        },
        "off_axis_bound": _numbers([bound])[0],
        "off_axis_all": off_axis(eigenvalues(J)) if x.numel() <= dense else None,
    }


def _numbers(values) -> list[float | None]:
    """For JSON, which knows neither nan nor inf."""
    return [float(v) if np.isfinite(v) else None for v in values]
