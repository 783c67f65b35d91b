r"""Reversibility drift: what rounding makes of an inverse that is exact in algebra.

A round trip goes forward through the layers and back by the inverse. Each shear commits two rounding errors, one when
it is applied and one when it is undone, and the inverse of the layers before it carries them back to the input. Let
a' = c a + s g(b) be shear j, computed with an error delta, and undone with an error eps. With P the derivative of the
inverse of everything before shear j, at the point of the state where the shear stands, the error of the recovered
input is to first order

    e = sum_j  P_j (D_j delta_j + eps_j),        D_j: derivative of the inverse of shear j.

The errors are independent, of mean zero, and live in the part that the shear changes; an entry of a has the error
kappa u \|a\|, with u the unit roundoff (2^-24 in float32) and kappa = 0.42 the root mean square of the relative error
of rounding to nearest, in units of u. So

    E \|\|e\|\|^2 = kappa^2 u^2 sum_j sum_i ( (P_j D_j)^T (P_j D_j) )_ii a'_i^2 + ( P_j^T P_j )_ii a_i^2.

For a vector w of independent standard normal entries (P^T P)_ii = E (P^T w)_i^2, and P_j^T w is a cotangent that
starts at the input and is carried forward through the layers by the adjoint of the inverse. One sweep gives the sum
for every depth: :func:`predicted`, which has no constant to fit. If the inverse grows like exp(mu j) per layer
(:func:`revode.analysis.lyapunov.inverse_growth`), the error grows like it; without growth it grows like sqrt(2 j).
In few layers the sum is too large, up to three times: an increment that comes out the same on both ways often gives
back the very bits it was added to.
The error of g itself is left out: it is smaller by the step size, and mostly the same on both ways.

Sources: Higham 2002, Accuracy and Stability of Numerical Algorithms, chapters 2 and 3, for rounding errors; Behrmann
et al. 2021 (arXiv 2006.09347) for the instability of inverses; Maclaurin et al. 2015 (arXiv 1502.03492) and Sander et
al. 2021 (arXiv 2102.07870) for the momentum rule.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache

import numpy as np
import torch
from torch import Tensor, nn

from .. import stability
from ..fields import AntisymmetricField, BranchField, Field, SymmetricField, choose
from ..fixed_point import FixedPoint, Scale
from ..networks import Network
from ..schemes import Hamiltonian, Leapfrog, Midpoint, Momentum, RevNet, Scheme
from ..shear import Shear, State, increment
from ..shear import add as applied
from ..stage import ARITHMETIC, Stage
from .lyapunov import first_input, require_evaluation

#: Root mean square of the relative error of rounding to nearest, in units of the unit roundoff, for a mantissa m with
#: density 1 / (m ln 2): sqrt(E 1/(3 m^2)).
KAPPA = math.sqrt(3 / (8 * math.log(2)) / 3)

#: The precisions in which a round trip is made.
DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


def unit_roundoff(dtype: torch.dtype) -> float:
    """u, the largest relative error of rounding to nearest: 2^-11, 2^-8, 2^-24, 2^-53 for :data:`DTYPES`."""
    return torch.finfo(dtype).eps / 2


# --- random dense networks --------------------------------------------------------------------------------------


def _symmetric(width: int) -> Field:
    return SymmetricField(width, "relu", "none", dense=True)


#: Scheme by name: the rule for a step size, the residual function for a width, the parts of the width that it acts on.
_RANDOM: dict[str, tuple[Callable[[float], Scheme], Callable[[int], Field], int]] = {
    "hamiltonian": (Hamiltonian, _symmetric, 2),
    "leapfrog": (Leapfrog, _symmetric, 1),
    "midpoint": (Midpoint, lambda n: AntisymmetricField(n, "tanh", "none", dense=True), 1),
    "revnet": (RevNet, lambda n: BranchField(n, None, 1, "relu", "none", activate=False, dense=True), 2),
    "momentum": (
        lambda c: Momentum(c=c),
        lambda n: BranchField(n, None, 1, "tanh", "none", activate=False, dense=True),
        1,
    ),
}


def random_stage(name: str, depth: int, h: float = 0.1, *, width: int = 64, seed: int = 0) -> Stage:
    """A network of dense layers with fresh Gaussian weights in each, float64: the setting of the claims on drift.

    Weights are normal with deviation 1/sqrt(fan-in). Hamiltonian K^T relu(K .) and RevNet W2 relu(W1 .) on two halves;
    midpoint tanh((K - K^T) .) with one Euler step to start; leapfrog K^T relu(K .); momentum W2 tanh(W1 . + b1) + b2
    with biases of deviation 0.1. All other biases are 0.

    Args:
        name: "hamiltonian", "leapfrog", "midpoint", "revnet" or "momentum".
        depth: Number of layers.
        h: Step size; for momentum its factor c.
        width: Number of entries of the input.
        seed: Of the weights.

    Returns:
        The stage. A shorter depth with the same seed gives the same first layers.

    Raises:
        ValueError: for an unknown name.
    """
    choose("name", name, _RANDOM)
    rule, field, parts = _RANDOM[name]
    scheme = rule(h)
    generator, blocks = torch.Generator().manual_seed(seed), []
    pattern = [field(width // parts).double() for _ in range(scheme.fields)]
    for _ in range(depth):
        blocks.append(copy.deepcopy(pattern))  # quicker than new ones, whose usual weights would be drawn in vain
        for p in (p for f in blocks[-1] for p in f.parameters()):
            std = p.shape[1] ** -0.5 if p.dim() > 1 else 0.1 * (name == "momentum")
            nn.init.normal_(p, std=std, generator=generator)
    return Stage(scheme, blocks)


def random_input(batch: int = 16, width: int = 64, seed: int = 0) -> Tensor:
    """Standard normal inputs (batch, width), float64."""
    return torch.randn(batch, width, generator=torch.Generator().manual_seed(10_000 + seed), dtype=torch.float64)


# --- the round trip -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class RoundTrip:
    r"""Errors of round trips to several depths.

    Attributes:
        depths: Number of layers of each.
        error: Relative 2-norm error of the recovered initial state, over all inputs; inf or nan after an overflow.
        growth: Norm of the state at that depth over that of the initial state.
    """

    depths: tuple[int, ...]
    error: tuple[float, ...]
    growth: tuple[float, ...]


@torch.no_grad()
def round_trip(
    stage: Stage,
    x: Tensor,
    depths: Sequence[int] | None = None,
    dtype: torch.dtype = torch.float32,
    *,
    arithmetic: str = "float",
    tf32: bool = False,
) -> RoundTrip:
    """Forward through the first layers of a stage and back by the inverse, for several depths.

    The weights and the input are rounded to the dtype first, and all is computed in it; errors are formed in float64.
    An overflow is no exception: it is in the result as inf or nan.

    Args:
        stage: A reversible stage, in evaluation mode; it is not changed.
        x: Input of the stage, (N, C, ...).
        depths: Numbers of layers; None: all of the stage.
        dtype: One of :data:`DTYPES`.
        arithmetic: "exact" holds the state in 32-bit fixed point (:mod:`revode.fixed_point`): the error is that of the
            recovered whole numbers, and what left the range is not looked at.
        tf32: Multiply in TF32; float32 on CUDA only.

    Raises:
        NotInvertibleError: if the scheme is not reversible.
        BatchStatisticsError: if there is batch normalization in training mode.
        ValueError: for a depth that the stage has not, another dtype, or TF32 where there is none.
    """
    depths = _depths(stage, depths)
    choose("arithmetic", arithmetic, ARITHMETIC)
    error, growth = {}, {}
    with _cast(stage, dtype), _tf32(tf32, x.to(dtype)):
        start = state = _start(stage, x.to(dtype), arithmetic)
        for d in range(1, depths[-1] + 1):
            state = stage.scheme.step(state, stage.blocks[d - 1], d - 1)
            if d in depths:
                back = state
                for j in reversed(range(d)):
                    back = stage.scheme.inverse(back, stage.blocks[j], j)
                growth[d] = _norm(state) / _norm(start)
                error[d] = _norm([_wide(a) - _wide(b) for a, b in zip(back, start)]) / _norm(start)
    return RoundTrip(depths, tuple(error.values()), tuple(growth.values()))


@torch.no_grad()
def predicted(
    stage: Stage,
    x: Tensor,
    depths: Sequence[int] | None = None,
    dtype: torch.dtype = torch.float32,
    *,
    seed: int = 0,
) -> tuple[float, ...]:
    """The relative error of a round trip as it follows from the unit roundoff and the growth of the inverse.

    The formula of this module, computed in float64 by one cotangent for each input. It is the root of the expected
    square to first order in u: where it comes near 1, or a number overflows, it says only that nothing is recovered.

    Args:
        stage: A reversible stage, in evaluation mode.
        x: Input of the stage, (N, C, ...).
        depths: Numbers of layers; None: all of the stage.
        dtype: The precision of the round trip.
        seed: Of the cotangents.

    Returns:
        One number for each depth.

    Raises:
        NotInvertibleError, BatchStatisticsError, ValueError: as :func:`round_trip`.
    """
    depths = _depths(stage, depths)
    if dtype not in DTYPES:
        raise ValueError(f"dtype = {dtype} must be one of: {', '.join(map(str, DTYPES))}")
    with _cast(stage, torch.float64):
        return _carried_errors(stage, x.double(), depths, unit_roundoff(dtype), seed)


@torch.no_grad()
def critical_step(stage: Stage, x: Tensor) -> float:
    """The largest step size up to which each layer of a stage, repeated for itself, is stable near an input.

    Every layer is linearised at the input; the smallest of their :func:`revode.stability.critical_step`. It promises
    nothing where the weights change from layer to layer: a product of different steps can grow though each is stable.

    Args:
        stage: Of a Hamiltonian, midpoint, leapfrog or RevNet network, in evaluation mode.
        x: One input, (1, C, ...).

    Returns:
        The step size; 0.0 if there is a layer that is stable at none, as in a RevNet with free branches.

    Raises:
        ValueError: for a rule that has no step size.
    """
    choose("scheme", name := stage.scheme.name, [n for n in _RANDOM if n != "momentum"])
    state, sizes = stage.scheme.start(x), []
    for block in stage.blocks:

        def rate(y: Tensor, block: nn.ModuleList = block) -> Tensor:
            """The right-hand side of the differential equation of a block."""
            if name == "midpoint":
                return block[0](y)
            parts = y.chunk(2, dim=1)
            made = {s.target: s.scale / stage.h * increment(s, parts, {}) for s in stage.scheme.shears(block, 1)}
            return torch.cat([made[0], made[1]], dim=1)

        y = x if name == "midpoint" else torch.cat(state, dim=1)
        lam = stability.jacobian_eigenvalues(rate, y)
        # 1e-6: where a slope is 0 the eigenvalue 0 is multiple, and is computed to half the digits
        sizes.append(stability.critical_step("hamiltonian" if name == "revnet" else name, lam, 1e-6))
    return min(sizes)


def _start(stage: Stage, x: Tensor, arithmetic: str) -> State:
    """The initial state, in exact arithmetic at a scale that is right for x; the stage's own scale is left alone."""
    if arithmetic == "float":
        return stage.scheme.start(x)
    own, stage.scale = stage.scale, Scale()
    try:
        return stage.encode(x)
    finally:
        stage.scale = own


def _carried_errors(stage: Stage, x: Tensor, depths: Sequence[int], u: float, seed: int) -> tuple[float, ...]:
    """The sum of this module for every depth."""
    state = list(stage.scheme.start(x))
    size = _norm(state)
    generator = torch.Generator().manual_seed(seed)
    w = [torch.randn(a.shape, generator=generator, dtype=a.dtype).to(a) for a in state]
    square, found = torch.zeros((), dtype=torch.float64), []
    for d in range(1, depths[-1] + 1):
        for s in stage.scheme.shears(stage.blocks[d - 1], d - 1):
            t, b = s.target, s.source
            # c a is rounded on the way forward, and so are the difference and its quotient by c on the way back
            square += (1 if s.c == 1 else 3) * (w[t] * state[t]).square().sum()
            v, pulled = _pulled(s, state, w[t])
            w[b] = w[b] - s.scale / s.c * pulled
            w[t] = w[t] / s.c
            state[t] = applied(s, state[t], v)
            square += (w[t] * state[t]).square().sum()
        if d in depths:
            found.append(KAPPA * u * square.sqrt().item() / size)
    return tuple(found)


def _pulled(shear: Shear, state: Sequence[Tensor], w: Tensor) -> tuple[Tensor, Tensor]:
    """The increment of a shear, and w carried back through the derivative of g."""
    with torch.enable_grad():  # twice as quick as torch.func.vjp on layers as small as these
        b = state[shear.source].detach().requires_grad_()
        v = increment(shear._replace(target=0, source=1), (state[shear.target], b), {})
        return v.detach(), torch.autograd.grad(v, b, w)[0]


def _depths(stage: Stage, depths: Sequence[int] | None) -> tuple[int, ...]:
    n = len(stage.blocks)
    depths = (n,) if depths is None else tuple(sorted(set(depths)))
    if not depths or depths[0] < 1 or depths[-1] > n:
        raise ValueError(f"depths = {depths} must be numbers of layers, 1 to {n}, the number of blocks of the stage")
    return depths


@contextmanager
def _cast(stage: Stage, dtype: torch.dtype) -> Iterator[None]:
    """Inside, the weights of the stage are rounded to a dtype; afterwards they are as before, to the bit.

    Quicker than a copy: a network of a thousand layers has ten thousand small objects and little data.
    """
    if dtype not in DTYPES:
        raise ValueError(f"dtype = {dtype} must be one of: {', '.join(map(str, DTYPES))}")
    require_evaluation([stage])
    tensors = [t for t in (*stage.parameters(), *stage.buffers()) if t.is_floating_point()]
    before = [t.data for t in tensors]
    try:
        for t in tensors:
            t.data = t.data.to(dtype)
        yield
    finally:
        for t, values in zip(tensors, before, strict=True):
            t.data = values


def _wide(a: Tensor | FixedPoint) -> Tensor:
    """A part of the state in float64, which holds the 32 digits of fixed point."""
    return replace(a, dtype=torch.float64).decode() if isinstance(a, FixedPoint) else a.double()


def _norm(state: State) -> float:
    """2-norm of all parts together, in float64; the squares of what float64 holds overflow nothing."""
    parts = [_wide(a) for a in state]
    largest = max(a.abs().amax().item() for a in parts)
    scale = largest if 1e150 < largest < math.inf else 1.0
    return scale * math.sqrt(sum((a / scale).square().sum().item() for a in parts))


@contextmanager
def _tf32(wanted: bool, x: Tensor):
    """Inside, products of float32 matrices and convolutions are rounded to TF32 if wanted, and never otherwise."""
    if wanted and not (x.is_cuda and x.dtype == torch.float32):
        raise ValueError(f"tf32 = True needs float32 on a CUDA device, not {x.dtype} on {x.device.type}")
    before = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
    torch.set_float32_matmul_precision("high" if wanted else "highest")
    torch.backends.cudnn.allow_tf32 = wanted
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before[0])
        torch.backends.cudnn.allow_tf32 = before[1]


@torch.no_grad()
def of_network(network: Network, images: Tensor, dtype: torch.dtype = torch.float32) -> list[dict]:
    """The drift of every unit of a network, on the states that images have there, and what was predicted.

    Args:
        network: A network of a reversible scheme, in evaluation mode.
        images: Normalised images (N, C, H, W).
        dtype: The precision of the round trips.

    Returns:
        For each unit a dictionary: "unit" from 0, "layers", "drift", "predicted" and "growth" of the state.

    Raises:
        NotInvertibleError, BatchStatisticsError, ValueError: as :func:`round_trip`.
    """
    rows, y = [], first_input(network, images).to(images)
    for unit, stage in enumerate(network.stages):
        trip, (guess,) = round_trip(stage, y, dtype=dtype), predicted(stage, y, dtype=dtype)
        rows.append({"unit": unit, "layers": trip.depths[0], "drift": trip.error[0], "predicted": guess})
        rows[-1]["growth"] = trip.growth[0]
        if unit < len(network.transitions):
            y = network.transitions[unit](stage(y))
    return rows


@torch.no_grad()
def forward_error(stage: Stage, x: Tensor, dtype: torch.dtype = torch.float32, *, arithmetic: str = "float") -> float:
    """Relative 2-norm error of the final state against the same stage in float64, which rounds 2^29 times finer.

    Args:
        stage: A reversible stage, in evaluation mode; it is not changed.
        x: Input of the stage, (N, C, ...).
        dtype: The precision that is examined; the weights and the input of both are rounded to it.
        arithmetic: "float", or "exact" for a state in fixed point.

    Raises:
        NotInvertibleError, BatchStatisticsError, ValueError: as :func:`round_trip`.
    """
    choose("arithmetic", arithmetic, ARITHMETIC)
    x = x.to(dtype)
    with _cast(stage, dtype):
        found = stage.forward_state(_start(stage, x, arithmetic))
        with _cast(stage, torch.float64):
            truth = stage.forward_state(stage.scheme.start(x.double()))
    return _norm([_wide(a) - b for a, b in zip(found, truth)]) / _norm(truth)


# --- gradients ----------------------------------------------------------------------------------------------


def gradient_error(
    stage: Stage, x: Tensor, depths: Sequence[int] | None = None, dtype: torch.dtype = torch.float32, *, seed: int = 0
) -> list[dict]:
    """What the drift does to gradients: those of rebuilt activations against stored ones in float64.

    The gradient, with respect to all parameters together, of the output's product with fixed random weights. The
    float64 reference has the weights and the input rounded to the dtype, so only the computation differs. Beside it
    stands the error of stored activations in the same dtype: what the drift adds is the difference.

    Args:
        stage: A reversible stage, in evaluation mode; it is not changed.
        x: Input of the stage.
        depths: Numbers of layers; None: all of the stage.
        dtype: The precision that is examined.
        seed: Of the output's weights.

    Returns:
        For each depth a dictionary: "depth", "angle_degrees" between the gradients and "relative", the relative
        2-norm of their difference; "stored_angle_degrees" and "stored_relative" of stored activations.

    Raises:
        BatchStatisticsError, ValueError: as :func:`round_trip`; also if the stage has no parameters.
    """
    if not any(True for _ in stage.parameters()):
        raise ValueError("stage has no parameters, so there is no gradient to compare")
    out = []
    for d in _depths(stage, depths):
        short, start = Stage(stage.scheme, list(stage.blocks)[:d]), x.detach().to(dtype)
        row: dict = {"depth": d}
        with _cast(short, dtype):
            with _cast(short, torch.float64):
                exact = _gradient(short, start.double(), "stored", seed)
            for prefix, memory in (("", "reversible"), ("stored_", "stored")):
                found = _gradient(short, start, memory, seed)
                row[f"{prefix}angle_degrees"] = angle(found, exact)
                row[f"{prefix}relative"] = ((found - exact).norm() / exact.norm()).item()
        out.append(row)
    return out


def _gradient(stage: Stage, x: Tensor, memory: str, seed: int) -> Tensor:
    """The gradient of <w, output> with respect to all parameters, as one float64 vector."""
    stage.memory = memory
    y = stage(x)
    w = torch.randn(y.shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    parameters = list(stage.parameters())
    grads = torch.autograd.grad(y, parameters, w.to(y), allow_unused=True, materialize_grads=True)
    return torch.cat([g.flatten().double() for g in grads])


def angle(a: Tensor, b: Tensor) -> float:
    """Angle between two vectors in degrees, accurate for small ones too (Kahan 2006)."""
    a, b = a / a.norm(), b / b.norm()
    return math.degrees(2 * math.atan2((a - b).norm().item(), (a + b).norm().item()))


# --- the claims -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Claim:
    """A number that this package should reproduce.

    Attributes:
        number: In the project's list of claims; one claim has several rows.
        quantity: What is measured, in words.
        expected: The number.
        measure: Measures it.
        within: The measured value must lie within this factor of the expected one. Runs on random weights give the
            order of magnitude only: another generator drew them.
        relation: "=", or "<" or ">" where expected is a bound.
    """

    number: int
    quantity: str
    expected: float
    measure: Callable[[], float]
    within: float = 1.005
    relation: str = "="

    def holds(self, measured: float) -> bool:
        """Whether a measured value reproduces the claim; what is not a number exceeds every bound."""
        if self.relation == "<":
            return measured < self.expected
        if self.relation == ">":
            return not measured <= self.expected
        if self.expected == 0:
            return measured == 0
        return 1 / self.within <= measured / self.expected <= self.within


def reproduce(claims: Sequence[Claim] | None = None) -> list[dict]:
    """Measure the claims: rows of number, quantity, relation, expected, within, measured, holds."""
    rows = []
    for claim in CLAIMS if claims is None else claims:
        row = {n: getattr(claim, n) for n in ("number", "quantity", "relation", "expected", "within")}
        measured = float(claim.measure())
        rows.append(row | {"measured": measured, "holds": claim.holds(measured)})
    return rows


@cache
def _trips(name: str, h: float, depths: tuple[int, ...], dtype: torch.dtype = torch.float32) -> RoundTrip:
    return round_trip(random_stage(name, depths[-1], h), random_input(), depths, dtype)


def _claim_euler(h_omega: float) -> float:
    return float(np.linalg.norm(stability.trajectory("euler", "centre", h_omega, 100)[-1]))


def _claim_window(sign: int) -> float:
    """The end of the window of alpha * beta in which no root of the linear RevNet exceeds 1."""
    products = np.arange(-6, 2.001, 1 / 64)
    stable = products[np.abs(stability.coupling_roots(products, 1.0)).max(axis=-1) <= 1 + 1e-7]
    return float(stable.max() if sign > 0 else stable.min())


def _claim_spectrum(kind: str, activation: str, width: int = 64) -> float:
    r"""Largest \|Re lambda\| over largest \|lambda\| of the right-hand side of the equation."""
    generator = torch.Generator().manual_seed(0)

    def field(make: type[Field], n: int) -> Field:
        made = make(n, activation, "none", dense=True).double()
        made.weight.data = torch.randn(n, n, generator=generator, dtype=torch.float64) / n**0.5
        return made

    if kind == "hamiltonian":
        f, g = field(SymmetricField, width // 2), field(SymmetricField, width // 2)
        y = torch.randn(1, width, generator=generator, dtype=torch.float64)

        def rate(x: Tensor) -> Tensor:
            y, z = x.chunk(2, dim=1)
            return torch.cat([f(z), -g(y)], dim=1)
    else:
        rate = field(AntisymmetricField, width)
        y = torch.randn(1, width, generator=generator, dtype=torch.float64)
    lam = stability.jacobian_eigenvalues(rate, y)
    return float(np.abs(lam.real).max() / np.abs(lam).max())


def _claims() -> tuple[Claim, ...]:
    rows = [
        Claim(
            1, "linear RevNet, αβ = 1: growth per layer forward", 2.618, lambda: abs(stability.coupling_roots(1, 1)[0])
        ),
        Claim(1, "… and backward", 1 / 0.382, lambda: 1 / abs(stability.coupling_roots(1, 1)[1])),
        Claim(1, "… lower end of the stable window of αβ", -4.0, lambda: _claim_window(-1)),
        Claim(1, "… upper end", 0.0, lambda: _claim_window(1)),
        Claim(2, "Euler, 100 layers, growth at hω = 0.1", 1.64, lambda: _claim_euler(0.1)),
        Claim(2, "… at hω = 0.5", 7.0e4, lambda: _claim_euler(0.5), 1.01),
        Claim(3, "midpoint root modulus at 0.5i", 1.0, lambda: stability.growth("midpoint", 0.5j)),
        Claim(3, "… at 1.1i", 1.558, lambda: stability.growth("midpoint", 1.1j)),
        Claim(3, "… at −0.1", 1.105, lambda: stability.growth("midpoint", -0.1)),
        Claim(4, "leapfrog root modulus at hω = 1.9", 1.0, lambda: stability.growth("leapfrog", 1.9j)),
        Claim(4, "… at hω = 2.1", 1.877, lambda: stability.growth("leapfrog", 2.1j)),
    ]
    for kind in ("hamiltonian", "midpoint"):
        for activation, bound in (("tanh", 1e-14), ("relu", 1e-7)):
            rows.append(
                Claim(
                    5,
                    f"{kind}, {activation}: largest |Re λ| / largest |λ|",
                    bound,
                    lambda kind=kind, activation=activation: _claim_spectrum(kind, activation),
                    relation="<",
                )
            )

    def drift(number, name, h, depths, expected, dtype=torch.float32, what="error"):
        for i, (d, value) in enumerate(zip(depths, expected)):
            bound = math.isinf(value) or value == 1.0
            rows.append(
                Claim(
                    number,
                    f"{name}, {'c' if name == 'momentum' else 'h'} = {h}, {d} layers, {str(dtype)[6:]}: {what}",
                    1.0 if bound else value,
                    lambda i=i: getattr(_trips(name, h, depths, dtype), what)[i],
                    10.0 if what == "error" else 2.0,
                    ">" if bound else "=",
                )
            )

    deep = (10, 100, 1000)
    for name, expected in (
        ("hamiltonian", (8e-8, 4e-7, 5e-5)),
        ("midpoint", (6e-8, 4e-7, 2e-5)),
        ("revnet", (6e-8, 4e-7, 4e-5)),
    ):
        drift(6, name, 0.1, deep, expected)
    drift(6, "hamiltonian", 0.1, deep, (1.04, 1.3, 12.0), what="growth")
    for name, expected in (("hamiltonian", (5e-2, math.inf)), ("revnet", (3e-2, math.inf)), ("midpoint", (8e-5, 1.0))):
        drift(7, name, 0.5, (100, 1000), expected)
    single = (15, 50, 100)
    drift(8, "momentum", 0.9, (100,), (2.6e-10,), torch.float64)
    rows.append(
        Claim(
            8,
            "momentum, c = 0.9, 100 layers: error in float32 / in float64",
            0.17 / 2.6e-10,
            lambda: (
                _trips("momentum", 0.9, single).error[-1] / _trips("momentum", 0.9, (100,), torch.float64).error[-1]
            ),
            10.0,
        )
    )
    drift(23, "momentum", 0.9, single, (8e-7, 2e-4, 0.17))
    return tuple(rows)


#: Claims 1 to 8 and 23, in rows of one number each; :func:`reproduce` measures them.
CLAIMS: tuple[Claim, ...] = _claims()
