r"""Spectra of the Jacobian J of a field, a step or a network at a state, without forming J.

A layer of a real network has a state of tens of thousands of numbers, so J, of n^2 numbers, is used through its
products J v and J^T u alone. From them ARPACK computes the eigenvalues of largest modulus (Arnoldi on J itself), the
largest singular values (Lanczos on J^T J), and the box that holds all eigenvalues: with the Cartesian decomposition

    J = H + i K,   H = (J + J^T) / 2,   K = (J - J^T) / (2 i),

H and K are Hermitian, every eigenvalue of J has its real part between the extreme eigenvalues of H and its imaginary
part between those of K. Lanczos with random starting vectors gives the density of the eigenvalues of H or K.

Whether eigenvalues are imaginary is measured by :func:`eigenvalues` and :func:`extreme`, which see the plain J. The
eigenvalues of K are real by construction, so they show nothing about it.

**The cluster at 0.** With s = ReLU the Jacobian diag(s') (K - K^T) of an antisymmetric layer has a zero row wherever
s' = 0. Its left null vectors are then unit vectors, its right ones are not, and where the two are orthogonal the
eigenvalue 0 has Jordan blocks. The same holds for [[0, A], [-B, 0]] with singular A and B. A backward stable solver
returns the eigenvalues of a matrix that is off by eps \|\|J\|\|; a Jordan block of size m answers with eigenvalues that
scatter around 0 by eps^(1/m), for m = 2 by 1e-8 \|\|J\|\|. They have real parts of this size, in any direction, which
is no property of the layer. With a smooth s of positive slope J is similar to a skew matrix, hence diagonalisable,
and the real parts are of the size of eps.

**Why never the rightmost eigenvalues.** Where all eigenvalues lie on the imaginary axis none is rightmost: ARPACK with
which="LR" does not converge (a full layer: nothing after 13,000 products; a trained layer near the axis, n = 1,792:
2 of 6 after 4,900). The largest real part is bounded by :func:`numerical_range` instead. The bound holds for every J,
but it is not sharp where J is far from normal.

Sources: Lehoucq, Sorensen and Yang 1998 (ARPACK); Horn and Johnson 1991, chapter 1, for the numerical range; Golub
and Meurant 2010 for Lanczos and quadrature; Trefethen and Embree 2005, for the computed eigenvalues of Jordan blocks.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from ..errors import DenseSizeError, JacobianError, SpectrumError
from ..memory import available_bytes

#: The operators of a Jacobian: J, and the Hermitian H and K of J = H + i K.
PARTS = ("full", "hermitian", "skew")
#: Ends of a spectrum that can be asked for: largest modulus, largest modulus of the imaginary part.
ENDS = ("LM", "LI")
#: Relative tolerance of ARPACK for each type of numbers.
TOLERANCE = {torch.float32: 1e-4, torch.float64: 1e-8}
#: Restarts of ARPACK, each of about 2 k products.
RESTARTS = 300


class Jacobian:
    """The Jacobian J of a function at a state, by its products.

    The function is differentiated once, at the first product; each further one costs about one evaluation of the
    linear layers, since what does not depend on the vector is kept.

    Args:
        f: A function or module from a real tensor to a real tensor, in evaluation mode; every operation must be known
            to forward-mode differentiation. A stage in reversible mode is not: take :mod:`revode.analysis.maps`.
        x: The state, float32 or float64, finite, of any shape, with n numbers. A batch of one.

    Attributes:
        shape: (m, n), the numbers in f(x) and in x.
        products: How many products with J and J^T were computed so far.

    Raises:
        JacobianError: if x or f(x) is no finite tensor of one of the two types.
    """

    def __init__(self, f: Callable[[Tensor], Tensor], x: Tensor):
        self.f, self.x = f, _accepted("x", x).detach()
        with torch.no_grad():
            self.y = _accepted("f(x)", f(self.x))
        self.shape = (self.y.numel(), self.x.numel())
        self.products = 0

    @cached_property
    def _linearized(self) -> Callable[[Tensor], Tensor]:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of torch, about its own graph modules
            return torch.func.linearize(self.f, self.x)[1]

    @cached_property
    def _pullback(self) -> Callable[[Tensor], tuple[Tensor]]:
        return torch.func.vjp(self.f, self.x)[1]

    def apply(self, v: Tensor) -> Tensor:
        """J v, of the shape of f(x), for v of the shape of x."""
        self.products += 1
        with torch.no_grad():
            return self._linearized(v)

    def adjoint(self, u: Tensor) -> Tensor:
        """J^T u, of the shape of x, for u of the shape of f(x)."""
        self.products += 1
        with torch.no_grad():
            return self._pullback(u)[0]

    def dense(self) -> Tensor:
        """J as a matrix (m, n).

        Raises:
            DenseSizeError: before anything is allocated, if it would not fit the available memory.
        """
        m, n = self.shape
        self._fits(2 * m * n * self.x.element_size())  # its rows come in pieces, which are then put together
        flat = lambda x: self.f(x.reshape(self.x.shape)).reshape(m)  # noqa: E731
        return torch.func.jacrev(flat, chunk_size=256)(self.x.reshape(n)).detach()

    def _fits(self, needed: int) -> None:
        available = available_bytes(self.x.device)
        if available is not None and needed > available:
            raise DenseSizeError(
                f"the dense Jacobian of shape {self.shape} needs {needed / 2**30:.3g} GiB of memory, but "
                f"{available / 2**30:.3g} GiB are available; take revode.analysis.extreme, singular_values, "
                "numerical_range or density, which use products only, or a smaller state"
            )

    def operator(self, part: str = "full"):
        """J, H or K (:data:`PARTS`) as a ``scipy.sparse.linalg.LinearOperator`` on numpy vectors.

        J and H are real; K = (J - J^T) / (2 i) is complex. All take complex vectors as well.

        Raises:
            SpectrumError: for an unknown part.
            JacobianError: for H or K of a map that is not square.
        """
        if part not in PARTS:
            raise SpectrumError(f"part = {part!r} must be one of {PARTS}")
        j, jt = _on_vectors(self.apply, self.x), _on_vectors(self.adjoint, self.y)
        if part == "full":
            return _operator(j, self.shape, self._dtype, jt)
        self._square()
        if part == "hermitian":
            return _hermitian(lambda v: (j(v) + jt(v)) / 2, self.shape[0], self._dtype)
        return _hermitian(lambda v: (j(v) - jt(v)) / 2j, self.shape[0], np.result_type(self._dtype, np.complex64))

    @property
    def _dtype(self) -> np.dtype:
        return np.dtype(str(self.x.dtype).removeprefix("torch."))

    def _square(self) -> None:
        if self.shape[0] != self.shape[1]:
            raise JacobianError(
                f"the map takes {self.shape[1]} numbers to {self.shape[0]}, so its Jacobian is not square and has no "
                "eigenvalues; take revode.analysis.singular_values"
            )

    def _tolerance(self, tol: float | None) -> float:
        tol = TOLERANCE[self.x.dtype] if tol is None else tol
        if not 0 < tol < 1:
            raise SpectrumError(f"tol = {tol} must lie between 0 and 1, for example 1e-8 in float64")
        return tol


def _accepted(name: str, x: Tensor) -> Tensor:
    if not isinstance(x, Tensor) or x.dtype not in TOLERANCE:
        kind = x.dtype if isinstance(x, Tensor) else type(x).__name__
        raise JacobianError(f"{name} is {kind}; it must be one tensor of float32 or float64: convert it by .double()")
    if not x.isfinite().all():
        bad = int((~x.isfinite()).sum())
        raise JacobianError(f"{name} has {bad} entries that are not finite; no Jacobian exists there")
    return x


def _on_vectors(product: Callable[[Tensor], Tensor], like: Tensor) -> Callable[[NDArray], NDArray]:
    """A real linear map of tensors as one of numpy vectors, real or complex."""

    def real(v: NDArray) -> NDArray:
        t = torch.from_numpy(np.array(v)).to(like).reshape(like.shape)
        return product(t).reshape(-1).cpu().numpy()

    def apply(v: NDArray) -> NDArray:
        v = v.reshape(-1)
        if not np.iscomplexobj(v):
            return real(v)
        if not v.imag.any():  # Lanczos on K from a real start alternates between real and imaginary vectors
            return real(v.real).astype(v.dtype)
        return (real(v.real) if v.real.any() else 0) + 1j * real(v.imag)

    return apply


def _operator(matvec: Callable, shape: tuple[int, int], dtype, rmatvec: Callable):
    from scipy.sparse.linalg import LinearOperator

    return LinearOperator(shape, matvec=matvec, rmatvec=rmatvec, dtype=dtype)


def _hermitian(matvec: Callable, n: int, dtype):
    return _operator(matvec, (n, n), dtype, matvec)


# --- all eigenvalues ------------------------------------------------------------------------------------------------


def eigenvalues(J: Jacobian) -> NDArray[np.complex128]:
    """All eigenvalues, from the dense matrix by the nonsymmetric QR algorithm in float64.

    Args:
        J: The Jacobian, square, for n up to some thousands.

    Returns:
        n complex numbers, in no order. Those of a defective eigenvalue scatter, see the text of this module.

    Raises:
        DenseSizeError: before anything is allocated, if the matrix would not fit the available memory.
        JacobianError: if the map is not square.
    """
    J._square()
    n = J.shape[0]
    J._fits(n * n * (2 * J.x.element_size() + 8))  # the solver works on a copy
    return torch.linalg.eigvals(J.dense().double()).cpu().numpy()


def off_axis(eigenvalues: ArrayLike) -> float:
    r"""max \|Re lambda\| / max \|lambda\|: how far eigenvalues are from the imaginary axis, 0 if on it, at most 1."""
    lam = np.asarray(eigenvalues)
    radius = np.abs(lam).max(initial=0.0)
    return float(np.abs(lam.real).max() / radius) if radius else 0.0


# --- some of them ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Spectrum:
    r"""Some eigenvalues, or singular values.

    Attributes:
        values: The k numbers, the largest first; fewer where the solver did not converge.
        vectors: Their vectors, the columns of an array (n, k), of norm 1; for singular values the right ones.
        residuals: What each was found to miss, of shape (k,): \|\|J v - lambda v\|\| / \|lambda\| by a fresh product;
            for singular values \|\|J^T J v - s^2 v\|\| / s^2.
        products: Products with J and J^T that the solver took; those of the residuals do not count.
        converged: Whether all k were found to the tolerance.
    """

    values: NDArray
    vectors: NDArray
    residuals: NDArray[np.float64]
    products: int
    converged: bool

    @property
    def radius(self) -> float:
        """Largest modulus: of the eigenvalues of largest modulus the spectral radius, of singular values the norm."""
        return float(np.abs(self.values).max(initial=0.0))

    @property
    def off_axis(self) -> float:
        """:func:`off_axis` of these eigenvalues."""
        return off_axis(self.values)


def extreme(
    J: Jacobian, k: int = 20, *, which: str = "LM", tol: float | None = None, restarts: int = RESTARTS, seed: int = 0
) -> Spectrum:
    """The k outermost eigenvalues of J by implicitly restarted Arnoldi on the plain product J v.

    Complex eigenvalues come in pairs; an odd k can cut one in two. Where the matrix is not much larger than the
    subspace of Arnoldi, it is formed instead.

    Args:
        J: The Jacobian, square.
        k: How many, 1 to n.
        which: "LM", the largest in modulus, or "LI", the largest in modulus of the imaginary part. The rightmost ones
            are not offered: on an imaginary spectrum there are none, and the solver does not converge.
        tol: Residual relative to the modulus; None is 1e-4 in float32 and 1e-8 in float64.
        restarts: After so many the solver gives up.
        seed: Of the starting vector.

    Returns:
        The eigenvalues, the largest modulus first.

    Raises:
        SpectrumError: for a k, end or tolerance that cannot be, or if J is 0.
        JacobianError: if the map is not square.

    Warns:
        RuntimeWarning: if not all of them converged; those that did are returned, with ``converged`` False.

    Source: Lehoucq, Sorensen and Yang 1998, ARPACK, through ``scipy.sparse.linalg.eigs``.
    """
    J._square()
    if which not in ENDS:
        raise SpectrumError(
            f"which = {which!r} must be one of {ENDS}: the rightmost eigenvalues of an imaginary spectrum do not "
            "converge; bound the real part by revode.analysis.numerical_range"
        )
    n, tol, operator = J.shape[0], J._tolerance(tol), J.operator()
    _count("k", k, n)
    before = J.products
    if _subspace(k) >= n:
        values, vectors = np.linalg.eig(J.dense().cpu().numpy())
        order = np.argsort(-np.abs(values.imag if which == "LI" else values), kind="stable")[:k]
        values, vectors, converged, products = values[order], vectors[:, order], True, n
    else:
        values, vectors, converged = _arpack("eigs", operator, k, which, tol, restarts, seed)
        products = J.products - before
    order = np.argsort(-np.abs(values), kind="stable")
    values, vectors = values[order], vectors[:, order]
    return Spectrum(values, vectors, _residuals(operator, values, vectors), products, converged)


def _subspace(k: int) -> int:
    """Dimension of ARPACK's subspace: 3 k, found by trial, takes few restarts and little orthogonalisation."""
    return max(3 * k, 40)


def _count(name: str, k: int, largest: int) -> None:
    if not isinstance(k, int) or not 1 <= k <= largest:
        raise SpectrumError(f"{name} = {k!r} must be a whole number from 1 to {largest}, the dimension of the problem")


def _arpack(solver: str, operator, k: int, which: str, tol: float, restarts: int, seed: int):
    """(values, vectors, converged) by ``eigs`` or ``eigsh``; what converged if not all did."""
    import scipy.sparse.linalg as sparse

    n = operator.shape[0]
    start = np.random.default_rng(seed).standard_normal(n).astype(operator.dtype)
    if not operator.matvec(start).any():  # the older SciPy returns zeros as eigenvalues that converged
        raise SpectrumError("a Jacobian that is 0 at this state has no outermost eigenvalues; take another state")
    options = {"which": which, "tol": tol, "ncv": min(_subspace(k), n), "v0": start, "maxiter": restarts}
    try:
        return *getattr(sparse, solver)(operator, k=k, **options), True
    except sparse.ArpackNoConvergence as error:
        warnings.warn(
            f"{len(error.eigenvalues)} of {k} eigenvalues converged to tol = {tol:g} in {restarts} restarts; allow "
            "more restarts, a larger tol, or ask for fewer",
            RuntimeWarning,
            stacklevel=3,
        )
        return error.eigenvalues, error.eigenvectors.reshape(n, -1), False
    except sparse.ArpackError as error:
        raise SpectrumError(f"ARPACK failed: {error}") from error


def _residuals(operator, values: NDArray, vectors: NDArray) -> NDArray[np.float64]:
    """||A v - lambda v|| / |lambda| of each pair."""
    off = [np.linalg.norm(operator.matvec(v) - value * v) for value, v in zip(values, vectors.T)]
    size = np.abs(values)
    return np.divide(off, size, out=np.full(len(off), np.inf), where=size > 0)


def singular_values(
    J: Jacobian, k: int = 6, *, tol: float | None = None, restarts: int = RESTARTS, seed: int = 0
) -> Spectrum:
    """The k largest singular values of J: by what factors a small change of the state can grow.

    By Lanczos on J^T J. The map need not be square.

    Args, raises and warns: as :func:`extreme`, with k up to the smaller one of m and n.
    """
    tol, before = J._tolerance(tol), J.products
    j = J.operator()
    m, n = J.shape
    _count("k", k, min(m, n))
    gram = _hermitian(lambda v: j.rmatvec(j.matvec(v)), n, j.dtype)
    if _subspace(k) >= n:
        _, values, rows = np.linalg.svd(J.dense().cpu().numpy(), full_matrices=False)
        values, vectors, converged, products = values[:k] ** 2, rows[:k].T, True, min(m, n)
    else:
        values, vectors, converged = _arpack("eigsh", gram, k, "LA", tol, restarts, seed)
        products = J.products - before
    order = np.argsort(-values)
    values, vectors = values[order].clip(0), vectors[:, order]
    return Spectrum(np.sqrt(values), vectors, _residuals(gram, values, vectors), products, converged)


# --- the numerical range --------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class NumericalRange:
    r"""The smallest box with sides along the axes that holds the numerical range, so all eigenvalues.

    Attributes:
        real: Smallest and largest eigenvalue of H, which bound Re lambda.
        imag: Largest eigenvalue of K: \|Im lambda\| is at most this.
        norm: Spectral norm of J, in which the residuals are measured.
        residuals: Of the three eigenvalues, divided by the norm: each end of the box is off by at most so much.
        products: Products with J and J^T.
        converged: Whether all three were found to the tolerance; the box may be too small where not.
    """

    real: tuple[float, float]
    imag: float
    norm: float
    residuals: NDArray[np.float64]
    products: int
    converged: bool

    def holds(self, values: ArrayLike, slack: float = 1e-6) -> NDArray[np.bool_]:
        """Whether numbers lie in the box, up to ``slack`` times the norm."""
        values, slack = np.asarray(values), slack * self.norm
        low, high = self.real
        return (low - slack <= values.real) & (values.real <= high + slack) & (np.abs(values.imag) <= self.imag + slack)


def numerical_range(J: Jacobian, *, tol: float = 1e-4, restarts: int = RESTARTS, seed: int = 0) -> NumericalRange:
    r"""The extreme eigenvalues of H and K of J = H + i K, which bound the real and imaginary parts of the eigenvalues.

    By Lanczos on H and K, both shifted by \|\|J\|\|, so that the tolerance is relative to this norm: H can be as
    small as rounding, or 0.

    Args, raises and warns: as :func:`extreme`; ``tol`` is relative to \|\|J\|\|. The ends themselves are found better
        than that, their error falls with the square of the residual.

    Source: Horn and Johnson 1991, Topics in Matrix Analysis, section 1.5.
    """
    J._square()
    before, tol, n = J.products, J._tolerance(tol), J.shape[0]
    norm = singular_values(J, 1, tol=max(tol, 1e-3), restarts=restarts, seed=seed).radius
    ends, residuals, complete = [], [], True
    for part, sign in (("hermitian", -1), ("hermitian", 1), ("skew", 1)):
        a = J.operator(part)
        shifted = _hermitian(lambda v, a=a, sign=sign: sign * a.matvec(v) + norm * v, n, a.dtype)
        if _subspace(1) >= n:
            values, vectors = (t[..., -1:] for t in np.linalg.eigh(shifted @ np.eye(n, dtype=a.dtype)))
            converged = True
        else:
            values, vectors, converged = _arpack("eigsh", shifted, 1, "LA", tol, restarts, seed)
        complete &= converged
        ends.append(sign * (values[0].real - norm) if converged else sign * np.nan)
        residuals.append(_residuals(shifted, values, vectors)[0] * values[0].real / norm if converged else np.inf)
    low, high, imag = map(float, ends)
    return NumericalRange((low, high), imag, norm, np.array(residuals), J.products - before, complete)


# --- densities ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Density:
    """A spectral density: weights that sum to 1, at nodes.

    Attributes:
        nodes: Real for H and K (there the imaginary parts of J's eigenvalues, if J is normal); complex for J.
        weights: For H and K not negative; for J complex.
        products: Products with J and J^T.
    """

    nodes: NDArray
    weights: NDArray
    products: int

    def below(self, t: ArrayLike) -> NDArray[np.float64]:
        """The share of the eigenvalues that are at most t, for H and K."""
        order = np.argsort(self.nodes)
        share = np.concatenate([[0.0], np.cumsum(self.weights[order])])
        return share[np.searchsorted(self.nodes[order], t, side="right")]

    def moment(self, power: int) -> complex:
        """The mean of the eigenvalues' powers, tr(A^power) / n."""
        return (self.weights * self.nodes**power).sum()


def density(J: Jacobian, part: str = "skew", *, probes: int = 4, steps: int = 40, seed: int = 0) -> Density:
    """How the eigenvalues of H or K, or roughly those of J, are spread, from Krylov spaces of random vectors.

    With a unit vector v of random signs, v^T g(A) v has the mean tr g(A) / n. For the Hermitian H and K, m steps of
    Lanczos give the Gauss quadrature of it, exact for polynomials g of degree 2 m - 1. For J, Arnoldi does so to
    degree m only, and its weights are complex: a sketch whose moments can be trusted, but no measure. Vectors are
    made orthogonal to all earlier ones twice.

    Args:
        J: The Jacobian, square.
        part: "hermitian", "skew" or "full".
        probes: Random vectors; the error falls with the root of probes * n.
        steps: m, at most n. Memory is steps * n numbers.
        seed: Of the vectors.

    Returns:
        About probes * steps nodes, with their weights.

    Raises:
        SpectrumError: for an unknown part, or a number of probes or steps that cannot be.
        JacobianError: if the map is not square.

    Source: Golub and Meurant 2010, Matrices, Moments and Quadrature; Ubaru, Chen and Saad 2017, stochastic Lanczos.
    """
    J._square()
    before, operator, n = J.products, J.operator(part), J.shape[0]
    _count("steps", steps, n)
    if not isinstance(probes, int) or probes < 1:
        raise SpectrumError(f"probes = {probes!r} must be a whole number, 1 or more")
    rng = np.random.default_rng(seed)
    nodes, weights = [], []
    for _ in range(probes):
        h = _krylov(operator, rng.choice([-1.0, 1.0], n), steps)
        if part == "full":
            values, vectors = np.linalg.eig(h)
            found = vectors[0] * np.linalg.solve(vectors, np.eye(len(h))[0])
        else:
            values, vectors = np.linalg.eigh((h + h.conj().T) / 2)
            found = np.abs(vectors[0]) ** 2
        nodes.append(values)
        weights.append(found / probes)
    return Density(np.concatenate(nodes), np.concatenate(weights), J.products - before)


def _krylov(operator, v: NDArray, steps: int) -> NDArray:
    """Q^* A Q for an orthonormal basis Q of the Krylov space of v, smaller than ``steps`` where the space is."""
    q = np.zeros((steps, len(v)), dtype=operator.dtype)
    h = np.zeros((steps, steps), dtype=np.result_type(operator.dtype, np.float64))
    q[0] = v / np.linalg.norm(v)
    for i in range(steps):
        w = operator.matvec(q[i])
        size = np.linalg.norm(w)
        for _ in range(2):
            c = q[: i + 1].conj() @ w
            w = w - c @ q[: i + 1]
            h[: i + 1, i] += c
        beta = np.linalg.norm(w)
        if i + 1 == steps or beta <= 10 * np.finfo(operator.dtype).eps * size:
            break
        h[i + 1, i], q[i + 1] = beta, w / beta
    return h[: i + 1, : i + 1]
