r"""Linear stability of the schemes: roots, critical step sizes, one-step maps, and trajectories of small problems.

A scheme with step size h applied to the test equation y' = lambda y has solutions y_j = r^j. The roots r depend on
z = h lambda alone; all solutions stay bounded only if no root is larger than 1 in modulus:

=============  ==============================  ======================  ==========================
scheme         roots r                         \|r\| <= 1              for lambda = i omega
=============  ==============================  ======================  ==========================
euler          r = 1 + z                       \|1 + z\| <= 1          never (h > 0)
midpoint       r^2 - 2 z r - 1 = 0             z in [-i, i]            h omega <= 1
hamiltonian    r^2 - (2 + z^2) r + 1 = 0       z in [-2i, 2i]          h omega <= 2
leapfrog       the same                        the same                h omega <= 2
=============  ==============================  ======================  ==========================

At the very end of the two intervals the roots coincide (a Jordan block), and solutions grow linearly with depth.
Hamiltonian (Verlet) and leapfrog have no test equation of first order: they act on q' = f(p), p' = g(q), or
q'' = f(q), whose linear modes come in pairs lambda = +-i omega; z^2 = -(h omega)^2 is all that enters.

Sources: Haber and Ruthotto 2017 (arXiv 1705.03341) for the conditions on the Jacobian; Chang et al. 2018
(arXiv 1709.03698) for the three reversible networks; Hairer, Lubich and Wanner 2006, chapter I, for Verlet.
"""

from __future__ import annotations

import base64
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from dataclasses import field as dataclass_field
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

#: Largest h * omega at which a scheme is stable on an oscillation of frequency omega.
STABILITY_LIMIT = {"euler": 0.0, "midpoint": 1.0, "hamiltonian": 2.0, "leapfrog": 2.0}


def _scheme(scheme: str) -> str:
    if scheme not in STABILITY_LIMIT:
        raise ValueError(f"scheme = {scheme!r} must be one of {sorted(STABILITY_LIMIT)}")
    return scheme


def _larger(a: NDArray, b: NDArray) -> NDArray:
    return np.where(np.abs(a) >= np.abs(b), a, b)


# --- the scalar test equation -------------------------------------------------------------------------------


def roots(scheme: str, z: ArrayLike) -> NDArray[np.complex128]:
    """Roots of the characteristic polynomial of a scheme on y' = lambda y.

    Args:
        scheme: "euler", "midpoint", "hamiltonian" or "leapfrog".
        z: h * lambda, real or complex, any shape.

    Returns:
        Complex array of shape ``z.shape + (k,)``: k = 1 for Euler and 2 for the others, the larger root first. The
        other is got from the product of the two, so that it is accurate where it is small.

    Raises:
        ValueError: if the scheme is not known.
    """
    z = np.asarray(z, dtype=complex)
    if _scheme(scheme) == "euler":
        return (1 + z)[..., None]
    if scheme == "midpoint":
        centre, root, product = z, np.sqrt(1 + z**2), -1.0
    else:
        centre, root, product = 1 + z**2 / 2, z * np.sqrt(1 + z**2 / 4), 1.0
    first = _larger(centre + root, centre - root)
    return np.stack([first, product / first], axis=-1)


def growth(scheme: str, z: ArrayLike) -> NDArray[np.float64]:
    """Largest modulus of the roots: what one block multiplies the worst part of the state by.

    Args:
        scheme: "euler", "midpoint", "hamiltonian" or "leapfrog".
        z: h * lambda, any shape.

    Returns:
        Array of z's shape.
    """
    return np.abs(roots(scheme, z)).max(axis=-1)


def coupling_roots(alpha: ArrayLike, beta: ArrayLike, h: float = 1.0) -> NDArray[np.complex128]:
    """Roots of the linear RevNet Y += h alpha Z, Z += h beta Y: r^2 - (2 + h^2 alpha beta) r + 1 = 0.

    Their product is 1, so what does not grow forward grows backward; stable for -4 <= h^2 alpha beta <= 0 only.

    Args:
        alpha: Slope of the first branch.
        beta: Slope of the second branch.
        h: Step size; 1 in RevNet.

    Returns:
        The two roots, the larger first, along a new last axis.
    """
    return roots("hamiltonian", h * np.sqrt(np.asarray(alpha, dtype=complex) * np.asarray(beta)))


def in_region(scheme: str, z: ArrayLike, tol: float = 1e-12) -> NDArray[np.bool_]:
    """Whether z = h lambda lies in the (closed) stability region of a scheme.

    Args:
        scheme: "euler", "midpoint", "hamiltonian" or "leapfrog".
        z: h * lambda, any shape.
        tol: How far outside still counts, for rounding.

    Returns:
        Boolean array of z's shape.
    """
    z = np.asarray(z, dtype=complex)
    if _scheme(scheme) == "euler":
        return np.abs(1 + z) <= 1 + tol
    return (np.abs(z.real) <= tol) & (np.abs(z.imag) <= STABILITY_LIMIT[scheme] + tol)


def critical_step(scheme: str, eigenvalues: ArrayLike, rtol: float = 1e-9) -> float:
    """The largest step size up to which a scheme is stable for all these eigenvalues.

    Args:
        scheme: "euler", "midpoint", "hamiltonian" or "leapfrog".
        eigenvalues: Eigenvalues lambda of the Jacobian, real or complex, any shape.
        rtol: A real part below ``rtol * max |lambda|`` counts as zero: a computed spectrum of an antisymmetric
            matrix has real parts of the size of rounding.

    Returns:
        The step size, 0.0 if no step size is stable, ``inf`` if all eigenvalues are 0.

    Raises:
        ValueError: if the scheme is not known, or an eigenvalue is not finite.
    """
    lam = np.asarray(eigenvalues, dtype=complex).ravel()
    if not np.isfinite(lam).all():
        raise ValueError(f"eigenvalues has {np.sum(~np.isfinite(lam))} entries that are not finite")
    size = np.abs(lam)
    lam, size = lam[size > 0], size[size > 0]
    if lam.size == 0:
        return float("inf")
    real = np.where(np.abs(lam.real) <= rtol * size.max(), 0.0, lam.real)
    if _scheme(scheme) == "euler":
        return float(max(0.0, (-2 * real / size**2).min()))
    return float(STABILITY_LIMIT[scheme] / size.max()) if not real.any() else 0.0


# --- matrices -----------------------------------------------------------------------------------------------


def one_step_matrix(scheme: str, matrix: ArrayLike, h: float) -> NDArray[np.float64]:
    """The matrix that maps a scheme's state to the next one, for the linear problem y' = A y.

    Args:
        scheme: "euler", "midpoint", "hamiltonian" or "leapfrog".
        matrix: A, of shape (n, n). Hamiltonian and leapfrog need n even and A = [[0, B], [C, 0]].
        h: Step size.

    Returns:
        For Euler I + h A (n, n); for midpoint the map of (Y_j, Y_{j-1}), of shape (2 n, 2 n); for Hamiltonian that
        of the halves (Y, Z), and for leapfrog on Y'' = B C Y that of (Y, V), both (n, n).

    Raises:
        ValueError: if A is not square, or is not split where the scheme needs it.
    """
    a = np.asarray(matrix, dtype=float)
    if a.ndim != 2 or a.shape[0] != a.shape[1]:
        raise ValueError(f"matrix has shape {a.shape}: it must be square")
    one = np.eye(len(a))
    if _scheme(scheme) == "euler":
        return one + h * a
    if scheme == "midpoint":
        return np.block([[2 * h * a, one], [one, np.zeros_like(a)]])
    n = len(a) // 2
    if len(a) % 2 or a[:n, :n].any() or a[n:, n:].any():
        raise ValueError(
            f"matrix is not of the form [[0, B], [C, 0]], which scheme {scheme!r} needs: it steps two halves in turn; "
            "use 'euler' or 'midpoint'"
        )
    one, b, c = np.eye(n), a[:n, n:], a[n:, :n]
    if scheme == "hamiltonian":  # Y += h B Z, then Z += h C Y
        return np.block([[one, h * b], [h * c, one + h**2 * c @ b]])
    return np.block([[one + h**2 * b @ c, h * one], [h * b @ c, one]])  # V += h B C Y, then Y += h V


def frequencies(kernel: ArrayLike) -> NDArray[np.float64]:
    """Frequencies of the antisymmetric layer y' = (K - K^T) y: the moduli omega of its eigenvalues +-i omega.

    Args:
        kernel: K, of shape (n, n).

    Returns:
        n numbers >= 0, largest first; all but perhaps one zero occur twice. The first is the spectral radius rho.
    """
    k = np.asarray(kernel, dtype=float)
    return np.linalg.svd(k - k.T, compute_uv=False)


# --- problems in the plane ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Problem:
    """A problem y' = f(y) for y = (q, p) in the plane.

    Attributes:
        name: Key in :data:`PROBLEMS`.
        title: Name in words.
        equation: The right-hand side in words.
        matrix: A of y' = A y; for the pendulum the Jacobian at rest.
        start: (q, p) at depth 0.
        nonlinear: True for the pendulum, p' = -sin q.
    """

    name: str
    title: str
    equation: str
    matrix: tuple[tuple[float, float], tuple[float, float]]
    start: tuple[float, float]
    nonlinear: bool = False

    @property
    def eigenvalues(self) -> NDArray[np.complex128]:
        """Eigenvalues of the matrix."""
        (a, b), (c, d) = self.matrix
        mean, root = (a + d) / 2, np.sqrt(complex((a - d) ** 2 / 4 + b * c))
        return np.array([mean + root, mean - root])

    @property
    def split(self) -> bool:
        """Whether the rate of each half depends on the other half alone, with q' = p."""
        return self.matrix[0] == (0.0, 1.0) and self.matrix[1][1] == 0.0

    def force(self, q):
        """p' as a function of q, for split problems."""
        return -_library(q).sin(q) if self.nonlinear else self.matrix[1][0] * q

    def field(self, y):
        """f(y) for an array or a tensor of shape (2, ...)."""
        q, p = y
        (a, b), (c, d) = self.matrix
        lower = self.force(q) if self.nonlinear else c * q + d * p
        return _library(y).stack([a * q + b * p, lower])

    def size(self, y):
        """What is drawn over depth: the norm of y; for the pendulum sqrt(2 H) with its energy H, near rest the same.

        Args:
            y: Array of shape (..., 2).
        """
        q, p = np.moveaxis(np.asarray(y), -1, 0)
        return np.hypot(2 * np.sin(q / 2), p) if self.nonlinear else np.hypot(q, p)

    def exact(self, t: ArrayLike) -> NDArray[np.float64]:
        """The exact solution exp(t A) y_0 of a linear problem at the times t, of shape ``t.shape + (2,)``.

        Raises:
            ValueError: for the pendulum, whose solution is no elementary function.
        """
        if self.nonlinear:
            raise ValueError(f"problem {self.name!r} is nonlinear and has no closed form; take small steps instead")
        (a, b), (c, d) = self.matrix
        mean, delta = (a + d) / 2, np.sqrt(complex((a - d) ** 2 / 4 + b * c))
        t = np.asarray(t, dtype=float)[..., None]
        y0, n = np.array(self.start), np.array(self.matrix) - mean * np.eye(2)
        value = np.exp(mean * t) * (np.cosh(delta * t) * y0 + np.sinh(delta * t) / delta * (n @ y0))
        return value.real


#: Damping of the spiral; lambda has modulus 1, so that the critical step of Euler is twice this.
DAMPING = 0.1

#: The problems by name. All eigenvalues have modulus 1.
PROBLEMS = {
    p.name: p
    for p in [
        Problem("centre", "centre", "q′ = p, p′ = −q", ((0.0, 1.0), (-1.0, 0.0)), (1.0, 0.0)),
        Problem(
            "spiral",
            "spiral",
            "q′ = −0.1 q + ω p, p′ = −ω q − 0.1 p",
            ((-DAMPING, (1 - DAMPING**2) ** 0.5), (-((1 - DAMPING**2) ** 0.5), -DAMPING)),
            (1.0, 0.0),
        ),
        Problem("saddle", "saddle", "q′ = p, p′ = q", ((0.0, 1.0), (1.0, 0.0)), (1.5, -1.4)),
        Problem("pendulum", "pendulum", "q′ = p, p′ = −sin q", ((0.0, 1.0), (-1.0, 0.0)), (2.0, 0.0), nonlinear=True),
    ]
}


def _problem(problem: str | Problem) -> Problem:
    if isinstance(problem, Problem):
        return problem
    if problem not in PROBLEMS:
        raise ValueError(f"problem = {problem!r} must be one of {sorted(PROBLEMS)}")
    return PROBLEMS[problem]


def why_not(scheme: str, problem: str | Problem) -> str:
    """Why a scheme has no meaning on a problem, in words; the empty string where it has one.

    Args:
        scheme: "euler", "midpoint", "hamiltonian" or "leapfrog".
        problem: Name in :data:`PROBLEMS`, or a problem.
    """
    problem = _problem(problem)
    if _scheme(scheme) in ("euler", "midpoint") or problem.split:
        return ""
    if scheme == "hamiltonian":
        return "damping makes q′ depend on q itself, and Verlet needs each half to be moved by the other alone"
    return "damping makes q″ depend on the velocity, and leapfrog needs q″ = f(q)"


def _library(y):
    """numpy, or torch if y is a tensor."""
    return sys.modules["torch"] if type(y).__module__.split(".")[0] == "torch" else np


def first_order(scheme: str, f: Callable, y, h) -> Iterator:
    """The values Y_0, Y_1, ... of Euler or midpoint on y' = f(y), without end, for arrays or tensors.

    Midpoint begins with a step of Euler, as in the paper.
    """
    yield y
    older, y = y, y + h * f(y)
    while True:
        yield y
        older, y = y, (y if scheme == "euler" else older) + (h if scheme == "euler" else 2 * h) * f(y)


def split_order(scheme: str, problem: Problem, y, h) -> Iterator:
    """The values (q, p) of Hamiltonian or leapfrog on q' = p, p' = force(q), without end.

    Leapfrog begins with half a kick; its p is that at the time of q, half a kick after the velocity of the state.
    """
    (q, p), stack = y, _library(y).stack
    if scheme == "hamiltonian":
        while True:
            yield stack([q, p])
            q = q + h * p
            p = p + h * problem.force(q)
    kick = h / 2 * problem.force(q)
    v = p - kick  # half a step before q
    while True:
        yield stack([q, v + kick])
        v = v + 2 * kick
        q = q + h * v
        kick = h / 2 * problem.force(q)


def trajectory(
    scheme: str, problem: str | Problem, h: float, steps: int = 100, device: str | None = None
) -> NDArray[np.float64]:
    """The states (q, p) of a problem in the plane after 0, 1, ..., ``steps`` blocks.

    Args:
        scheme: "euler", "midpoint", "hamiltonian" or "leapfrog".
        problem: Name in :data:`PROBLEMS`, or a problem.
        h: Step size, finite.
        steps: Number of blocks.
        device: None computes with numpy; a torch device such as "cuda" computes there.

    Returns:
        Array of shape (steps + 1, 2).

    Raises:
        ValueError: if the scheme has no meaning on the problem, or h is not finite.
    """
    problem = _problem(problem)
    if reason := why_not(scheme, problem):
        raise ValueError(f"scheme {scheme!r} has no meaning on problem {problem.name!r}: {reason}")
    if not np.isfinite(h):
        raise ValueError(f"h = {h!r} must be a finite number, for example 0.1")
    y = np.array(problem.start)
    if device is not None:
        import torch

        y = torch.tensor(y, device=device, dtype=torch.float32 if device.startswith("mps") else torch.float64)
    split = scheme in ("hamiltonian", "leapfrog")
    values = split_order(scheme, problem, y, h) if split else first_order(scheme, problem.field, y, h)
    out = [value for value, _ in zip(values, range(steps + 1))]
    return np.stack(out) if device is None else torch.stack(out).cpu().double().numpy()


# --- a layer of a trained network ---------------------------------------------------------------------------


@dataclass(frozen=True)
class Layer:
    """A layer Y' = F(Y) of a network with its weights held fixed, and what becomes of a small change of its input.

    The same block is repeated, once from a state and once from the state with a small change. Their difference over
    depth tells stability apart from the layer's own motion.

    Attributes:
        title: What it is, in words.
        eigenvalues: Some eigenvalues of the Jacobian of F at the start, those with Im >= 0, the largest first.
        critical: Midpoint's critical step size, 1 over the largest modulus of an eigenvalue.
        h: Step sizes, of shape (k,), equally spaced.
        plane: The change in the plane in which it moves most, divided by its norm at the start, of shape
            (2 schemes, k, steps + 1, 2); schemes in the order of ``schemes``.
        norm: Norm of the change divided by that at the start, of shape (2 schemes, k, steps + 1).
        real_part: Largest absolute real part over the spectral radius, of all eigenvalues and as they were computed,
            before what counts as rounding was set to 0.
        origin: Which network, block and image it was taken from.
        follow: Where the network is at hand, the function that computes (plane, norm) anew for a scheme and a step
            size; not saved.
    """

    title: str
    eigenvalues: NDArray[np.complex128]
    critical: float
    h: NDArray[np.float64]
    plane: NDArray[np.float64]
    norm: NDArray[np.float64]
    real_part: float
    origin: dict = dataclass_field(default_factory=dict)
    follow: Callable | None = dataclass_field(default=None, repr=False, compare=False)

    schemes = ("euler", "midpoint")  #: The schemes that have a meaning on a layer
    _QUANTUM = 1 / 800  # int16 holds the plane up to 40 norms of the start

    def to_dict(self) -> dict:
        """A small dictionary for JSON: numbers in base64, little-endian."""
        plane = np.clip(np.nan_to_num(self.plane, posinf=40, neginf=-40), -40, 40) / self._QUANTUM
        norm = np.clip(np.nan_to_num(self.norm, nan=3e38, posinf=3e38), 0, 3e38)
        pairs = np.stack([self.eigenvalues.real, self.eigenvalues.imag], axis=-1)
        return {
            "title": self.title,
            "origin": self.origin,
            "schemes": list(self.schemes),
            "steps": self.norm.shape[-1] - 1,
            "critical": float(self.critical),
            "real_part": float(self.real_part),
            "h": [float(h) for h in self.h],
            "quantum": self._QUANTUM,
            "eigenvalues": pack(pairs, "<f4"),
            "plane": pack(np.rint(plane), "<i2"),
            "norm": pack(norm, "<f4"),
        }

    @classmethod
    def from_dict(cls, d: dict) -> Layer:
        """The layer that :meth:`to_dict` wrote."""
        shape = (len(cls.schemes), len(d["h"]), d["steps"] + 1)
        pairs = unpack(d["eigenvalues"], "<f4").reshape(-1, 2)
        return cls(
            title=d["title"],
            eigenvalues=pairs[:, 0] + 1j * pairs[:, 1],
            critical=d["critical"],
            real_part=d["real_part"],
            h=np.array(d["h"]),
            plane=unpack(d["plane"], "<i2").reshape(*shape, 2) * d["quantum"],
            norm=unpack(d["norm"], "<f4").reshape(shape),
            origin=d["origin"],
        )

    def save(self, path: str | Path) -> None:
        """Write the layer as JSON."""
        Path(path).write_text(json.dumps(self.to_dict()) + "\n", "utf-8")

    @classmethod
    def load(cls, path: str | Path) -> Layer:
        """Read what :meth:`save` wrote."""
        return cls.from_dict(json.loads(Path(path).read_text("utf-8")))


def pack(a: ArrayLike, dtype: str) -> str:
    """Numbers as base64 text. Text, because Colab's widget manager drops binary buffers."""
    return base64.b64encode(np.ascontiguousarray(a, dtype=dtype).tobytes()).decode("ascii")


def unpack(text: str, dtype: str) -> NDArray[np.float64]:
    """The numbers that :func:`pack` wrote."""
    return np.frombuffer(base64.b64decode(text), dtype=dtype).astype(float)


def layer_data(
    field: Callable,
    state,
    title: str = "antisymmetric layer",
    *,
    steps: int = 100,
    count: int = 30,
    reach: float = 1.5,
    eigenvalues: Sequence[complex] | None = None,
    keep: int = 200,
) -> Layer:
    """Repeat one block of a network with its weights held fixed and follow a small change, for many step sizes.

    Args:
        field: F, a torch module or function that keeps the shape of its input, in evaluation mode.
        state: Y_0, a tensor of shape (1, C, H, W): what the layer gets for one image.
        title: What it is, in words.
        steps: How often the block is repeated.
        count: Number of step sizes, equally spaced.
        reach: The largest step size in units of midpoint's critical one.
        eigenvalues: Those of the Jacobian of F at the state; None computes them, which takes a dense matrix with
            one row for each entry of the state.
        keep: How many eigenvalues to keep, spread evenly over their order of size.

    Returns:
        The layer, ready for :class:`revode.widgets.StepSizeExplorer`.
    """
    from .analysis.spectra import off_axis

    lam = np.asarray(jacobian_eigenvalues(field, state) if eigenvalues is None else eigenvalues, dtype=complex)
    real_part = off_axis(lam)
    lam = lam[lam.imag >= 0]
    lam = lam[np.argsort(-np.abs(lam))]
    lam = np.where(np.abs(lam.real) <= 1e-4 * np.abs(lam[0]), 1j * lam.imag, lam)  # rounding
    critical = float(1 / np.abs(lam[0]))
    h = np.linspace(0, reach, count + 1)[1:] * critical
    follow = layer_follower(field, state, critical, steps)
    runs = [[follow(scheme, float(step)) for step in h] for scheme in Layer.schemes]
    plane, norm = (np.array([[run[i] for run in row] for row in runs]) for i in (0, 1))
    chosen = np.unique(np.linspace(0, len(lam) - 1, min(keep, len(lam))).round().astype(int))
    return Layer(title, lam[chosen], critical, h, plane, norm, real_part, follow=follow)


def layer_follower(field: Callable, state, critical: float, steps: int = 100) -> Callable:
    """The function (scheme, h) -> (plane, norm) that follows a layer with Euler or midpoint.

    It follows a state and the same state with a small change, and returns their difference. The plane is that of the
    two first principal directions of the change in a run of midpoint with a quarter of the critical step size, turned
    so that the start has no negative coordinate: the same on every machine.

    Args:
        field: F, a torch module or function, in evaluation mode.
        state: Y_0, a tensor of shape (1, ...), on the device to compute on.
        critical: Midpoint's critical step size.
        steps: Number of blocks.
    """
    import torch

    start = small_change(state)
    scale = start.norm()

    @torch.no_grad()
    def values(scheme: str, h: float):
        run = first_order(scheme, field, torch.cat([state, state + start]), h)
        return torch.stack([y[1] - y[0] for y, _ in zip(run, range(steps + 1))]).flatten(1) / scale

    reference = values("midpoint", critical / 4)
    axes = torch.linalg.svd(reference, full_matrices=False).Vh[:2]
    axes = axes * torch.where(axes @ reference[0] < 0, -1.0, 1.0)[:, None]

    def follow(scheme: str, h: float) -> tuple[NDArray, NDArray]:
        y = values(scheme, h)
        return (y @ axes.T).cpu().numpy(), y.norm(dim=1).cpu().numpy()

    return follow


def small_change(state):
    """A change in a direction drawn by a fixed seed, a thousandth of the state's norm; the same on every machine."""
    import torch

    rng = np.random.default_rng(0)
    change = torch.from_numpy(rng.standard_normal(tuple(state.shape))).to(state)
    return change * (1e-3 * state.norm() / change.norm())


def jacobian_eigenvalues(field: Callable, state) -> NDArray[np.complex128]:
    """All eigenvalues of the Jacobian of a field at a state, from the dense matrix.

    Args:
        field: F, a torch module or function that keeps the shape of its input.
        state: A tensor of n entries.

    Returns:
        n complex numbers.

    Raises:
        JacobianError, DenseSizeError: as :func:`revode.analysis.spectra.eigenvalues`, which computes them.
    """
    from .analysis.spectra import Jacobian, eigenvalues

    return eigenvalues(Jacobian(field, state))
