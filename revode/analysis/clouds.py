"""The command ``revode spectra``: eigenvalues of a named network's layers before and after training, in a result file.

Three networks are compared: without normalization, with it before training, and with the package's trained weights.
The first two have fresh weights; of the first no trained weights exist. One layer of each unit, the middle one, is
taken with all its eigenvalues, from the dense matrix in float64. For that the image is halved until the dimension of
the state is at most a limit, so units see the image at different sizes, and the result file says at which. At the
full size all layers of the trained network are measured by their extreme eigenvalues (:func:`.trained.measure`).
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch.nn.functional as F
from numpy.typing import ArrayLike
from torch import Tensor

from .. import data, results, stability, weights
from ..errors import SpectrumError
from ..models import build
from ..networks import Network
from .maps import Place, states, whole
from .spectra import Jacobian, eigenvalues, off_axis, singular_values
from .trained import measure

#: Largest dimension of which all eigenvalues are computed: some seconds each.
LIMIT = 2048
#: A real part of more than this share of the largest modulus counts as off the axis; a defective 0 scatters by less.
AXIS = 1e-6
#: Numbers of a cloud that are kept.
POINTS = 250


def thinned(values: ArrayLike, most: int = POINTS, digits: int = 4) -> dict[str, list[float]]:
    """The upper half of a conjugate spectrum for a drawing: one eigenvalue of each cell of a grid, rounded.

    The grid spans the largest real and the largest imaginary part and is made coarser until few enough are left; of
    each cell the one farthest from the imaginary axis stays.

    Args:
        values: All eigenvalues of a real matrix.
        most: How many may be left, 4 or more.
        digits: Significant digits.

    Returns:
        "re" and "im", lists of equal length.

    Raises:
        SpectrumError: if most is below 4.
    """
    if most < 4:
        raise SpectrumError(f"most = {most} must be 4 or more, the cells of the coarsest grid")
    lam = np.asarray(values, dtype=complex)
    lam = lam[lam.imag >= 0]
    lam = lam[np.argsort(-np.abs(lam.real), kind="stable")]
    parts = np.stack([lam.real, lam.imag])
    reach = np.abs(parts).max(axis=1, keepdims=True, initial=0.0)
    place = np.divide(parts, reach, out=np.zeros_like(parts), where=reach > 0)
    for cells in (*range(1024, 16, -16), *range(16, 0, -1)):
        _, kept = np.unique(np.floor(place * cells).clip(-cells, cells - 1), axis=1, return_index=True)
        if len(kept) <= most:
            break
    kept.sort()
    re, im = ([float(f"{v:.{digits}g}") for v in part[kept]] for part in parts)
    return {"re": re, "im": im}


def cloud(place: Place) -> dict:
    """All eigenvalues of the field of one layer: a summary, and points for a drawing.

    Returns:
        "unit", "block", "shape" and "dimension" of the state; "radius", "off_axis" and "share", the part of the
        eigenvalues that is off the axis by more than ``AXIS``; "growth", the largest root of the scheme on them
        at the network's step size, and "critical_h", where it would leave 1 if all were imaginary (None for Euler);
        "re" and "im", see :func:`thinned`.
    """
    f, x = place.field()
    lam = eigenvalues(Jacobian(f, x))
    scheme, radius = place.stage.scheme, float(np.abs(lam).max())
    kind = "hamiltonian" if scheme.name == "revnet" else scheme.name
    limit = stability.STABILITY_LIMIT[kind]
    return {
        "unit": place.unit,
        "block": place.block,
        "shape": list(x.shape),
        "dimension": x.numel(),
        "radius": radius,
        "off_axis": off_axis(lam),
        "share": float((np.abs(lam.real) > AXIS * radius).mean()),
        "growth": float(stability.growth(kind, scheme.h * lam).max()),
        "critical_h": limit / radius if limit and radius else None,
        **thinned(lam),
    }


def clouds(network: Network, image: Tensor, limit: int = LIMIT) -> list[dict]:
    """The :func:`cloud` of the middle layer of each unit, at the largest image whose state has at most limit numbers.

    Args:
        network: In evaluation mode and float64.
        image: (1, 3, S, S), normalised, float64.
        limit: Largest dimension.

    Returns:
        One dictionary for each unit, with "image", the size that the image was halved to.

    Raises:
        SpectrumError: if the state is larger than the limit at the smallest image that the network takes.
    """
    units = range(len(network.stages))
    rows: dict[int, dict] = {}
    size, least = image.shape[-1], 2 ** (len(network.stages) - 1)
    while len(rows) < len(units) and size >= least:
        for place in states(network, F.adaptive_avg_pool2d(image, size)):
            middle = place.block == len(place.stage.blocks) // 2
            if middle and place.unit not in rows and place.field()[1].numel() <= limit:
                rows[place.unit] = cloud(place) | {"image": size}
        size //= 2
    if len(rows) < len(units):
        missing = sorted(set(units) - set(rows))
        raise SpectrumError(
            f"limit = {limit} is below the dimension of units {missing} at the smallest image; raise it"
        )
    return [rows[unit] for unit in units]


def norms(network: Network, image: Tensor) -> list[float]:
    """The largest singular value of each unit as a whole: by what a small change of its input can grow."""
    found = []
    for place in states(network, image):
        if place.block == 0:
            x = place.stage.scheme.finish(place.state, 0)
            found.append(singular_values(Jacobian(whole(place.stage), x), 1, tol=1e-3).radius)
    return found


def record(name: str, *, image: int = 0, limit: int = LIMIT, k: int = 10, seed: int = 0) -> dict:
    """The result of ``revode spectra`` for one name of bundled weights, to be written by :func:`revode.results.write`.

    Args:
        name: One of :func:`revode.weights.names`.
        image: Which image of the sample's test split.
        limit: Largest dimension of a dense matrix.
        k: Number of extreme eigenvalues at the full size.
        seed: Of the fresh weights, and of the starting vectors.

    Raises:
        CheckpointError: there are no such weights.
        SpectrumError: as :func:`clouds` and :func:`revode.analysis.extreme`.
        ValueError: there is no such image.
    """
    began = results.begin()
    trained = weights.load_trained(name)
    images = data.load("sample", "test").images
    if not 0 <= image < len(images):
        raise ValueError(f"image = {image} must be 0 to {len(images) - 1}, an image of the sample's test split")
    x = data.normalize(images[image : image + 1], trained.meta["mean"], trained.meta["std"])
    networks = {
        "none": build(name, normalization="none", seed=seed).eval(),
        "fresh": build(name, seed=seed).eval(),
        "trained": trained,
    }
    extremes = measure(
        trained, x, blocks=[(u, b) for u, s in enumerate(trained.stages) for b in range(len(s.blocks))], k=k, dense=0
    )
    final: dict = {"extremes": _short(extremes), "norm": {}, "clouds": {}, "h": {}}
    for key, network in networks.items():
        final["norm"][key] = norms(network, x)
        final["clouds"][key] = clouds(network.double(), x.double(), limit)
        final["h"][key] = network.h
    settings = {
        "model": name, "scheme": trained.scheme.name, "activation": trained.activation, "data": "sample",
        "split": "test", "image": image, "limit": limit, "axis": AXIS, "extremes_dtype": extremes["dtype"],
        "extremes_tol": extremes["tol"], "extremes_k": k, "clouds_dtype": "float64", "weights": trained.meta,
    }  # fmt: skip
    return results.record(f"spectra-{name}", "spectra", final, began=began, settings=settings, seed=seed)


def _short(measured: dict) -> list[dict]:
    """What a result file keeps of :func:`.trained.measure`."""
    kept = ("unit", "block", "dimension", "radius", "off_axis", "off_axis_bound", "products", "converged")
    return [
        {key: row[key] for key in kept}
        | {"residual": max((r for r in row["residuals"] if r is not None), default=None)}
        for row in measured["units"]
    ]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of ``revode spectra``."""
    parser.add_argument("networks", nargs="*", metavar="NETWORK", help="bundled weights (default: all)")
    parser.add_argument("--out", type=Path, metavar="FOLDER", help="where the result files go (default: the package's)")
    parser.add_argument("--image", type=int, default=0, help="image of the sample's test split (default: %(default)s)")
    parser.add_argument(
        "--limit", type=int, default=LIMIT, help="largest dimension of a dense matrix (default: %(default)s)"
    )
    parser.add_argument(
        "-k", type=int, default=10, help="extreme eigenvalues of each layer at the full size (default: %(default)s)"
    )
    parser.add_argument("--seed", type=int, default=0, help="of the fresh weights (default: %(default)s)")


def main(args: argparse.Namespace) -> int:
    """``revode spectra``: measures, writes spectra-NETWORK.json, and prints how far each unit is from the axis."""
    out = results.folder() if args.out is None else args.out
    out.mkdir(parents=True, exist_ok=True)
    for name in args.networks or weights.names():
        found = record(name, image=args.image, limit=args.limit, k=args.k, seed=args.seed)
        path = out / f"{found['name']}.json"
        results.write(path, found)
        print(f"{name}: max |Re λ| / max |λ| of one layer of each unit")
        for key, rows in found["final"]["clouds"].items():
            print(f"  {key:8s}" + "".join(f"  {row['off_axis']:.1e}" for row in rows))
        print(f"  written to {path}", flush=True)
    return 0
