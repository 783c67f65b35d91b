"""Make the data of the bent kernel: ``python -m revode.widgets.bent_kernel_data``.

Three kernels K, each scaled so that the largest frequency of K - K^T is 1, are bent from symmetric to antisymmetric,
K_kappa = K - kappa K^T with kappa from -1 to 1. For each kappa all eigenvalues and the numerical range of the Jacobian
of F(y) = s(K_kappa y) go into one file beside the widget, with what the page needs to compute the growth itself.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .. import analysis, results, stability
from ..analysis import Jacobian, fourier
from ..fields import ACTIVATIONS
from ..networks import Network
from ..weights import load_trained
from .bent_kernel import FILE, PER_UNIT

BENDS = np.arange(-PER_UNIT, PER_UNIT + 1) / PER_UNIT
ACTIVE = {"linear": "identity", "tanh": "tanh"}
SEED = 0
SIZE = 24  # of the random kernel
CHAIN, FORGETS = 8, 0.6  # channels of the chain, and what each forgets, per unit of what it hands on
DEVIATION = 2.0  # of the entries of the state: slopes of tanh from nearly 0 to 1
NETWORK, PLACE = "midpoint-26", (0, 3)  # unit and block


def random_kernel(size: int = SIZE, seed: int = SEED) -> NDArray[np.float64]:
    """A matrix of independent normal entries."""
    return np.random.default_rng(seed).standard_normal((size, size))


def chain(size: int = CHAIN, forgets: float = FORGETS) -> NDArray[np.float64]:
    """N - c I: each channel is fed by the one before it and forgets itself at the rate c."""
    return np.eye(size, k=-1) - forgets * np.eye(size)


def trained_kernel(network: Network, unit: int, block: int) -> NDArray[np.float64]:
    """The symbol of a layer's kernel K at the frequency 0, a real matrix: the sum of its nine taps.

    It is what the convolution does to a state that is constant in space. Normalization is left out.
    """
    weight = network.stages[unit].blocks[block][0].weight
    return fourier.symbol(weight, 1)[0, 0].real.cpu().numpy()


def scaled(kernel: NDArray) -> NDArray[np.float64]:
    """K divided by the largest frequency of K - K^T, in numbers that float32 holds."""
    return (kernel / stability.frequencies(kernel)[0]).astype(np.float32).astype(np.float64)


def field(kernel: NDArray, bend: float, activation: str) -> Callable[[Tensor], Tensor]:
    """F(y) = s((K - kappa K^T) y) for y of shape (1, n)."""
    bent = torch.from_numpy(kernel - bend * kernel.T)
    return lambda y: ACTIVATIONS[ACTIVE[activation]](y @ bent.T)


def vectors(size: int, seed: int = SEED) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """The state at which the Jacobian is taken, and the small change at time 0, of norm 1."""
    state, change = np.random.default_rng(seed + 1).standard_normal((2, size))
    return (DEVIATION * state).astype(np.float32), (change / np.linalg.norm(change)).astype(np.float32)


def jacobian(kernel: NDArray, bend: float, activation: str) -> Jacobian:
    """The Jacobian diag(s') (K - kappa K^T) at the state."""
    state = torch.from_numpy(vectors(len(kernel))[0]).double()[None]
    return Jacobian(field(kernel, bend, activation), state)


def measured(kernel: NDArray, activation: str) -> dict[str, Any]:
    """All eigenvalues and the numerical range for every kappa.

    Returns:
        A dictionary: "eigenvalues", whole numbers of 16 bits in base64, (kappa, eigenvalue, real and imaginary part),
        in units of "quantum"; "bounds", float32 in base64, (kappa, 4): the real part of the rightmost eigenvalue, the
        largest modulus of a real part over the largest modulus, the ends of the numerical range on the real axis;
        "reach", the largest modulus.
    """
    spectra, bounds = [], []
    for bend in BENDS:
        j = jacobian(kernel, bend, activation)
        lam = analysis.eigenvalues(j)
        spectra.append(np.stack([lam.real, lam.imag], axis=1))
        bounds.append([lam.real.max(), analysis.off_axis(lam), *analysis.numerical_range(j).real])
    spectra = np.stack(spectra)
    quantum = float(np.abs(spectra).max()) / 32767
    return {
        "eigenvalues": stability.pack(np.rint(spectra / quantum), "<i2"),
        "quantum": quantum,
        "bounds": stability.pack(np.array(bounds), "<f4"),
        "reach": float(np.hypot(*np.moveaxis(spectra, -1, 0)).max()),
    }


def kernels(network: Network) -> list[dict[str, Any]]:
    """The kernels with their names, the state and the change, as the page takes them.

    Args:
        network: The trained network, of which the third kernel is.
    """
    unit, block = PLACE
    made = [
        ("random", "random", f"K is {SIZE} × {SIZE} independent random numbers", random_kernel()),
        (
            "chain",
            "a chain",
            f"K is a chain of {CHAIN} channels: each is fed by the one before it and forgets at a constant rate",
            chain(),
        ),
        (
            "trained",
            f"from {NETWORK}",
            f"K is the trained kernel of block {block + 1} in unit {unit + 1} of {NETWORK}, at frequency 0: what its "
            f"convolution does to the {network.widths[unit]} channels of a state that is constant in space, "
            "normalization left out; the network itself stands at κ = 1",
            trained_kernel(network, unit, block),
        ),
    ]
    found = []
    for name, title, about, kernel in made:
        kernel = scaled(kernel)
        state, change = (stability.pack(v, "<f4") for v in vectors(len(kernel)))
        packed = {"kernel": stability.pack(kernel, "<f4"), "state": state, "change": change}
        found.append({"name": name, "title": title, "about": about, "size": len(kernel), **packed})
    return found


def unpacked(entry: dict[str, Any]) -> NDArray[np.float64]:
    """The matrix K of one of :func:`kernels`."""
    return stability.unpack(entry["kernel"], "<f4").reshape(entry["size"], -1)


def make() -> dict[str, Any]:
    """The data as a record for :func:`revode.results.write`."""
    began = time.perf_counter()
    network = load_trained(NETWORK)
    found = kernels(network)
    for entry in found:
        entry["spectra"] = {activation: measured(unpacked(entry), activation) for activation in ACTIVE}
    return {
        "name": "bent-kernel",
        "kind": "widget",
        "status": "finished",
        "settings": {
            "bends": BENDS.tolist(), "size": SIZE, "chain": CHAIN, "forgets": FORGETS, "deviation": DEVIATION,
            "network": NETWORK, "place": PLACE, "weights": network.meta,
        },
        "seed": SEED,
        "wall_seconds": time.perf_counter() - began,
        "evidence": results.evidence(),
        "curve": [],
        "final": {"kernels": found},
    }  # fmt: skip


if __name__ == "__main__":
    results.write(FILE, make())
    print(f"{FILE}: {FILE.stat().st_size / 1000:.0f} kB")
