r"""Design choices of reversible networks: what each does to the eigenvalues, to the state, and to the way back.

One block of random dense weights is repeated at every depth, so that what is seen is the block, and not the change of
the weights from layer to layer. With Gaussian weights, one activation s for all, no biases, in float64:

==================================  =======================================  ==========================
choice                              equation                                 eigenvalues of the Jacobian
==================================  =======================================  ==========================
two-layer Hamiltonian               Y' = K1^T s(K1 Z), Z' = -K2^T s(K2 Y)    imaginary
one-layer Hamiltonian               Y' = s(K Z), Z' = -s(K^T Y)              imaginary
one-layer Hamiltonian, two kernels  Y' = s(K1 Z), Z' = -s(K2 Y)              any
RevNet                              Y' = W2 s(W1 Z), Z' = W4 s(W3 Y)         any
midpoint                            Y' = s((K - K^T) Y)                      imaginary
midpoint, damped                    Y' = s((K - K^T - gamma I) Y)            real part <= 0
midpoint, two-layer symmetric       Y' = -K^T s(K Y)                         real, <= 0
midpoint, two-layer antisymmetric   Y' = (L - L^T) K^T s(K Y)                imaginary
==================================  =======================================  ==========================

The schemes are stable for imaginary eigenvalues only, and h times the largest of them within the limit: 2 for the
pairs (Y, Z), 1 for midpoint. That is a statement about a constant Jacobian. With a nonlinear s the Jacobian changes
along the way: a bounded s turns exponential growth into linear, and stable eigenvalues at every state are no proof
that states stay bounded.

Sources: as for the fields, :mod:`revode.fields`; Haber and Ruthotto 2017 (arXiv 1705.03341) for the damping, which they
use with Euler.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from .. import stability
from ..fields import (
    AntisymmetricField,
    BranchField,
    DoubleAntisymmetricField,
    Field,
    OneLayerField,
    SymmetricField,
    choose,
)
from ..schemes import Euler, Hamiltonian, Midpoint, RevNet, Scheme
from ..stage import Stage
from . import drift, maps
from .spectra import Jacobian, eigenvalues, off_axis

#: gamma of the damped midpoint network.
DAMPING = 0.3


class _Negative(nn.Module):
    """-f."""

    def __init__(self, f: nn.Module):
        super().__init__()
        self.f = f

    def forward(self, y: Tensor) -> Tensor:
        return -self.f(y)


def _pair(kind: Callable[..., Field], **more) -> Callable[..., list[nn.Module]]:
    return lambda n, **options: [kind(n // 2, **options, **more) for _ in range(2)]


#: Choice: the scheme, and the functions of one block for a width.
CHOICES: dict[str, tuple[type[Scheme], Callable[..., Sequence[nn.Module]]]] = {
    "two-layer Hamiltonian": (Hamiltonian, _pair(SymmetricField)),
    "one-layer Hamiltonian": (Hamiltonian, lambda n, **options: OneLayerField.pair(n // 2, **options)),
    "one-layer Hamiltonian, two kernels": (Hamiltonian, _pair(OneLayerField)),
    "RevNet": (RevNet, _pair(BranchField, activate=False)),
    "midpoint": (Midpoint, lambda n, **options: [AntisymmetricField(n, **options)]),
    "midpoint, damped": (Midpoint, lambda n, **options: [AntisymmetricField(n, **options, damping=DAMPING)]),
    "midpoint, two-layer symmetric": (Midpoint, lambda n, **options: [_Negative(SymmetricField(n, **options))]),
    "midpoint, two-layer antisymmetric": (Midpoint, lambda n, **options: [DoubleAntisymmetricField(n, **options)]),
}


def network(
    choice: str, depth: int = 1, h: float = 0.1, *, activation: str = "tanh", width: int = 64, seed: int = 0
) -> Stage:
    """A stage with one random block at every depth.

    Args:
        choice: Name in :data:`CHOICES`.
        depth: Number of layers.
        h: Step size.
        activation: Name of s.
        width: Number of entries of the input, even.
        seed: Of the weights, which are normal with deviation 1/sqrt(fan-in).

    Raises:
        ValueError: for an unknown choice or activation.
    """
    choose("choice", choice, CHOICES)
    scheme, functions = CHOICES[choice]
    return _repeated(scheme(h), functions(width, activation=activation, normalization="none", dense=True), depth, seed)


def _repeated(scheme: Scheme, functions: Sequence[nn.Module], depth: int, seed: int) -> Stage:
    """A stage of one block with Gaussian weights and no biases, float64."""
    block = nn.ModuleList(functions).double()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for p in block.parameters():
            p.copy_(
                torch.randn(p.shape, generator=generator, dtype=p.dtype) * (p[0].numel() ** -0.5 if p.dim() > 1 else 0)
            )
    return Stage(scheme, [block] * depth)


def linear_revnet(alpha: float, beta: float, depth: int, h: float = 1.0) -> Stage:
    """The RevNet Y += h alpha Z, Z += h beta Y on two channels (N, 2), float64, with one block at every depth."""
    block = nn.ModuleList(nn.Linear(1, 1, bias=False, dtype=torch.float64) for _ in range(2))
    with torch.no_grad():
        for f, slope in zip(block, (alpha, beta)):
            f.weight.fill_(slope)
    return Stage(RevNet(h), [block] * depth)


def spectrum(stage: Stage, x: Tensor) -> NDArray[np.complex128]:
    """Eigenvalues of the Jacobian of a stage's first field, at the state that the input x (1, C, ...) begins with."""
    scheme, block = stage.scheme, stage.blocks[0]
    state = scheme.start(x)
    one = not scheme.reversible or isinstance(scheme, Midpoint)
    return eigenvalues(Jacobian(maps.field(scheme, block), state[0] if one else maps.join(scheme, state, 0)))


def measure(stage: Stage, x: Tensor) -> dict:
    """The eigenvalues, the root and the round trip of a stage of one repeated block.

    Args:
        stage: From :func:`network`, or of the Hamiltonian, RevNet or midpoint scheme with one block at every depth.
        x: Inputs (N, C, ...); the Jacobian is taken at the first.

    Returns:
        "off_axis", the largest real part over the largest modulus of the eigenvalues; "radius", the largest modulus;
        "root", the largest modulus of the scheme's roots: what one layer multiplies the worst small change by while
        the Jacobian is this one; "growth" of the norm and "error", the relative error of the round trip in float32,
        both at the stage's depth.
    """
    lam = spectrum(stage, x[:1])
    rule = "midpoint" if isinstance(stage.scheme, Midpoint) else "hamiltonian"  # of RevNet's roots too
    trip = drift.round_trip(stage, x)
    return {
        "off_axis": off_axis(lam),
        "radius": float(np.abs(lam).max()),
        "root": float(stability.growth(rule, stage.h * lam).max()),
        "growth": trip.growth[-1],
        "error": trip.error[-1],
    }


@torch.no_grad()
def damping(
    gammas: Sequence[float], x: Tensor, depth: int = 300, h: float = 0.1, *, activation: str = "identity", seed: int = 0
) -> list[dict]:
    """Euler and midpoint on Y' = s((K - K^T - gamma I) Y), for several gamma.

    Args:
        gammas: Values of gamma, 0 or more.
        x: Inputs (N, C), float64.
        depth: Number of layers.
        h: Step size.
        activation: Name of s.
        seed: Of the weights.

    Returns:
        For each gamma a dictionary: "gamma"; for "euler" and "midpoint" the largest stable step size "..._step", the
        largest root at h "..._root", and the growth of the norm "..._growth" over the layers.
    """
    rows = []
    for gamma in gammas:
        row: dict = {"gamma": float(gamma)}
        for scheme in (Euler(h), Midpoint(h)):
            options = {"activation": activation, "normalization": "none", "dense": True, "damping": gamma}
            stage = _repeated(scheme, [AntisymmetricField(x.shape[1], **options)], depth, seed)
            lam = spectrum(stage, x[:1])
            row[f"{scheme.name}_step"] = stability.critical_step(scheme.name, lam)
            row[f"{scheme.name}_root"] = float(stability.growth(scheme.name, h * lam).max())
            row[f"{scheme.name}_growth"] = (stage(x).norm() / x.norm()).item()
        rows.append(row)
    return rows


# --- channels or checkerboard -----------------------------------------------------------------------------------

_FUNCTIONS = {"hamiltonian": (Hamiltonian, SymmetricField), "revnet": (RevNet, BranchField)}


def split_stage(name: str, split: str, depth: int, channels: int = 8, h: float = 0.1, *, seed: int = 0) -> Stage:
    """A stage of convolutions with tanh on the halves of the channels or on the colours of a checkerboard, float32.

    Args:
        name: "hamiltonian" or "revnet".
        split: "channels" or "checkerboard".
        depth: Number of layers, each with its own weights.
        channels: C of the images (N, C, H, W), even.
        h: Step size.
        seed: Of the weights, drawn as for the training of networks.

    Raises:
        ValueError: for another name or split.
    """
    choose("name", name, _FUNCTIONS)
    rule, kind = _FUNCTIONS[name]
    scheme = rule(h, split)
    width = channels // 2 if split == "channels" else channels
    generator = torch.Generator().manual_seed(seed)
    blocks = [[kind(width, activation="tanh", normalization="none") for _ in range(2)] for _ in range(depth)]
    for f in (f for block in blocks for f in block):
        f.reset_parameters(generator)
    return Stage(scheme, blocks)


def compare_splits(images: Tensor, labels: Tensor, *, depth: int = 100, steps: int = 30, seed: int = 0) -> list[dict]:
    """Both splits for the Hamiltonian scheme and RevNet, on 8 channels: weights, eigenvalues, round trip, training.

    The training is of a network with a 3x3 convolution to 8 channels, 4 blocks at h = 0.2, the mean over the pixels and
    a linear layer: all images as one batch in every step of Adam with rate 0.01. It shows that gradients flow, and
    says nothing about accuracy.

    Args:
        images: (N, 3, H, W), normalised, of even width.
        labels: (N,), whole numbers from 0 on.
        depth: Number of layers of the round trip, which begins with standard normal numbers of the images' size.
        steps: Of the training.
        seed: Of all weights and numbers.

    Returns:
        For each scheme and split a dictionary: "scheme", "split", "weights" of a block, "radius" and "off_axis" of the
        first block at a normal state of 8 channels and 8x8 pixels, "growth" and "error" of the round trip in float32,
        "loss" before and "trained" after the training.
    """
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(4, 8, *images.shape[2:], generator=generator)
    small = torch.randn(1, 8, 8, 8, generator=generator, dtype=torch.float64)
    rows = []
    for name, (rule, _) in _FUNCTIONS.items():
        for split in rule.SPLITS:
            stage = split_stage(name, split, depth, seed=seed)
            trip = drift.round_trip(stage, x)
            lam = spectrum(split_stage(name, split, 1, seed=seed).double(), small)
            losses = _losses(split_stage(name, split, 4, h=0.2, seed=seed), images, labels, steps, generator)
            rows.append(
                {
                    "scheme": name,
                    "split": split,
                    "weights": sum(p.numel() for p in stage.blocks[0].parameters()),
                    "radius": float(np.abs(lam).max()),
                    "off_axis": off_axis(lam),
                    "growth": trip.growth[-1],
                    "error": trip.error[-1],
                    "loss": losses[0],
                    "trained": losses[-1],
                }
            )
    return rows


def _losses(stage: Stage, images: Tensor, labels: Tensor, steps: int, generator: torch.Generator) -> list[float]:
    """The loss before each step of the training that :func:`compare_splits` describes, and at the end."""
    stem = nn.Conv2d(3, 8, 3, padding=1)
    head = nn.Linear(8, int(labels.max()) + 1)
    for layer in (stem, head):
        with torch.no_grad():
            layer.weight.copy_(torch.randn(layer.weight.shape, generator=generator) / layer.weight[0].numel() ** 0.5)
            layer.bias.zero_()
    optimizer = torch.optim.Adam([*stem.parameters(), *stage.parameters(), *head.parameters()], lr=0.01)
    losses = []
    for _ in range(steps + 1):
        loss = nn.functional.cross_entropy(head(stage(stem(images)).mean((2, 3))), labels)
        losses.append(loss.item())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return losses
