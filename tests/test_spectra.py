"""Jacobian spectra by products against dense linear algebra, and what theory says of each field."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from revode import memory, stability
from revode.analysis import spectra
from revode.analysis.spectra import Jacobian
from revode.errors import DenseSizeError, JacobianError, SpectrumError
from revode.fields import AntisymmetricField, BranchField, SymmetricField

D = torch.float64


class Pair(nn.Module):
    """(Y, Z) -> (f(Z), -g(Y)), written here once more."""

    def __init__(self, channels: int, activation: str):
        super().__init__()
        self.f, self.g = (SymmetricField(channels, activation, "none") for _ in range(2))

    def forward(self, x):
        y, z = x.chunk(2, 1)
        return torch.cat([self.f(z), -self.g(y)], 1)


def field(name: str, activation: str = "tanh", channels: int = 4) -> nn.Module:
    made = {
        "antisymmetric": lambda: AntisymmetricField(channels, activation, "none"),
        "hamiltonian": lambda: Pair(channels // 2, activation),
        "symmetric": lambda: SymmetricField(channels, activation, "none"),
        "branch": lambda: BranchField(channels, activation=activation, normalization="none"),
    }
    return made[name]().double()


def state(channels: int = 4, size: int = 5) -> torch.Tensor:
    return torch.randn(1, channels, size, size, dtype=D)


def jacobian(name: str, activation: str = "tanh", channels: int = 4, size: int = 5) -> Jacobian:
    f = field(name, activation, channels)
    return Jacobian(f, state(channels, size))


def matrix(J: Jacobian) -> np.ndarray:
    """The Jacobian by torch.autograd, an independent way."""
    m, n = J.shape
    return torch.autograd.functional.jacobian(J.f, J.x).reshape(m, n).numpy()


def matched(found, among) -> float:
    """Largest distance of a number from the nearest one of a list."""
    return np.abs(np.asarray(found)[:, None] - np.asarray(among)[None]).min(axis=1).max()


NAMES = ["antisymmetric", "hamiltonian", "symmetric", "branch"]

# --- products -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("activation", ["tanh", "relu"])
@pytest.mark.parametrize("name", NAMES)
def test_products_are_those_of_the_matrix(name, activation):
    J = jacobian(name, activation)
    a, v = matrix(J), torch.randn_like(J.x)
    np.testing.assert_allclose(J.dense().numpy(), a, atol=1e-13)
    np.testing.assert_allclose(J.apply(v).flatten(), a @ v.flatten().numpy(), atol=1e-12)
    np.testing.assert_allclose(J.apply(v), torch.func.jvp(J.f, (J.x,), (v,))[1].detach(), atol=1e-13)
    np.testing.assert_allclose(J.adjoint(v).flatten(), a.T @ v.flatten().numpy(), atol=1e-12)
    assert J.products == 3
    assert not J.apply(v).requires_grad
    assert not J.adjoint(v).requires_grad


def test_operators_are_the_parts_of_the_matrix_on_real_and_complex_vectors():
    J = jacobian("branch")
    a, rng = matrix(J), np.random.default_rng(0)
    parts = {"full": a, "hermitian": (a + a.T) / 2, "skew": (a - a.T) / 2j}
    for part, want in parts.items():
        operator = J.operator(part)
        for v in (rng.standard_normal(100), rng.standard_normal(100) + 1j * rng.standard_normal(100)):
            for w in (v, v.real, 1j * v.real):
                np.testing.assert_allclose(operator.matvec(w), want @ w, atol=1e-12)
                np.testing.assert_allclose(operator.rmatvec(w), want.conj().T @ w, atol=1e-12)
    np.testing.assert_allclose(parts["hermitian"] + 1j * parts["skew"], a, atol=1e-14)


def test_jacobian_of_a_map_to_another_dimension():
    weight = torch.randn(3, 7, dtype=D)
    J = Jacobian(lambda x: torch.tanh(weight @ x), torch.zeros(7, dtype=D))
    assert J.shape == (3, 7)
    np.testing.assert_allclose(J.dense(), weight)
    np.testing.assert_allclose(J.operator() @ np.eye(7), weight)
    np.testing.assert_allclose(J.operator().rmatvec(np.ones(3)), weight.T @ torch.ones(3, dtype=D))
    values = spectra.singular_values(J, 3).values
    np.testing.assert_allclose(values, torch.linalg.svdvals(weight), rtol=1e-12)
    for call in (spectra.eigenvalues, spectra.extreme, spectra.numerical_range, spectra.density):
        with pytest.raises(JacobianError, match="7 numbers to 3"):
            call(J)


# --- all eigenvalues ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_dense_eigenvalues_are_those_of_the_matrix(name):
    J = jacobian(name)
    found, want = spectra.eigenvalues(J), np.linalg.eigvals(matrix(J))
    assert max(matched(found, want), matched(want, found)) < 1e-10
    assert np.array_equal(stability.jacobian_eigenvalues(J.f, J.x), found)


@pytest.mark.parametrize("name", ["antisymmetric", "hamiltonian"])
def test_smooth_activation_gives_imaginary_eigenvalues(name):
    lam = spectra.eigenvalues(jacobian(name, "tanh", 4, 8))
    assert np.abs(lam.real).max() < 1e-13 * np.abs(lam).max()


@pytest.mark.parametrize("name", ["antisymmetric", "hamiltonian"])
def test_relu_scatters_the_defective_zero_and_nothing_else(name):
    """Where s' = 0 the eigenvalue 0 has Jordan blocks: perturbed by eps they scatter by its square root."""
    J = jacobian(name, "relu", 4, 8)
    lam, a = spectra.eigenvalues(J), matrix(J)
    size, rho = np.abs(lam), np.abs(lam).max()
    assert np.abs(lam.real).max() < 1e-6 * rho
    assert np.abs(lam[size > 1e-3 * rho].real).max() < 1e-12 * rho  # the part that is not defective
    rank, squared = (np.linalg.matrix_rank(b, tol=1e-10) for b in (a, a @ a))
    assert squared < rank < len(a)  # J^2 kills more than J: a Jordan block at 0


def test_free_branch_has_eigenvalues_off_the_axis():
    lam = spectra.eigenvalues(jacobian("branch"))
    assert np.abs(lam.real).max() > 0.1 * np.abs(lam).max()


def test_dense_matrix_is_refused_before_it_is_allocated(monkeypatch):
    monkeypatch.setattr(torch.func, "jacrev", lambda *args, **kwargs: pytest.fail("the matrix was formed"))
    f = lambda x: 2 * x  # noqa: E731
    J = Jacobian(f, torch.ones(10**6, dtype=D))  # 8 TB
    for call in (J.dense, lambda: spectra.eigenvalues(J), lambda: stability.jacobian_eigenvalues(f, J.x)):
        with pytest.raises(DenseSizeError, match=r"GiB are available; take revode.analysis.extreme"):
            call()


def test_available_memory_decides(monkeypatch):
    J = jacobian("branch")
    needed = 100 * 100 * 24
    monkeypatch.setattr(spectra, "available_bytes", lambda device: needed - 1)
    with pytest.raises(DenseSizeError, match=r"\(100, 100\)"):
        spectra.eigenvalues(J)
    monkeypatch.setattr(spectra, "available_bytes", lambda device: needed)
    assert len(spectra.eigenvalues(J)) == 100
    monkeypatch.setattr(spectra, "available_bytes", lambda device: None)  # a system that does not tell
    assert len(spectra.eigenvalues(J)) == 100
    assert memory.available_bytes() > 2**20


# --- extremes -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "which"),
    [(name, which) for name in NAMES for which in ("LM", "LI") if (name, which) != ("symmetric", "LI")],  # all real
)
def test_extreme_eigenvalues_are_the_outermost_of_all(name, which):
    J = jacobian(name, "tanh", 4, 8)
    found, everything = spectra.extreme(J, 6, which=which, tol=1e-12), np.linalg.eigvals(matrix(J))
    key = np.abs if which == "LM" else lambda lam: np.abs(lam.imag)
    largest = np.sort(key(everything))[::-1][:6]
    assert matched(found.values, everything) < 1e-10
    np.testing.assert_allclose(np.sort(key(found.values))[::-1], largest, rtol=1e-10)
    assert found.converged
    assert found.products > 20
    again = [np.linalg.norm(matrix(J) @ v - lam * v) / abs(lam) for lam, v in zip(found.values, found.vectors.T)]
    np.testing.assert_allclose(found.residuals, again, atol=1e-13)
    assert found.residuals.max() < 1e-10
    assert found.radius == pytest.approx(np.abs(found.values[0]))


@pytest.mark.parametrize("name", ["antisymmetric", "hamiltonian"])
@pytest.mark.parametrize("activation", ["tanh", "relu"])
def test_extremes_of_a_larger_layer_are_imaginary(name, activation):
    """Measured by Arnoldi on the plain J at n = 2048, which knows of no symmetry."""
    found = spectra.extreme(jacobian(name, activation, 8, 16), 8)
    assert found.residuals.max() < 2e-8
    assert found.off_axis < 1e-9


def test_extremes_in_float32():
    J = jacobian("antisymmetric", "tanh", 4, 8)
    single = Jacobian(J.f.float(), J.x.float())
    found = spectra.extreme(single, 6)
    assert found.values.dtype == np.complex64
    assert found.residuals.max() < 2e-4
    want = np.sort(np.abs(np.linalg.eigvals(matrix(single).astype(float))))[::-1][:6]
    np.testing.assert_allclose(np.abs(found.values), want, rtol=1e-3)


@pytest.mark.parametrize("k", [1, 9, 20])
def test_extremes_of_a_small_matrix_come_from_the_dense_one(k):
    rng = np.random.default_rng(0)
    a = rng.standard_normal((20, 20))
    J = Jacobian(lambda x: torch.from_numpy(a) @ x, torch.zeros(20, dtype=D))
    found = spectra.extreme(J, k)
    want = np.linalg.eigvals(a)
    assert found.values.shape == (k,)
    np.testing.assert_allclose(np.abs(found.values), np.sort(np.abs(want))[::-1][:k], rtol=1e-12)
    assert found.residuals.max() < 1e-12


def test_what_did_not_converge_is_said_and_the_rest_returned():
    J = jacobian("antisymmetric", "tanh", 8, 16)
    with pytest.warns(RuntimeWarning, match="of 20 eigenvalues converged to tol = 1e-12 in 3 restarts"):
        found = spectra.extreme(J, 20, tol=1e-12, restarts=3)
    assert not found.converged
    assert 0 < len(found.values) < 20
    assert len(found.values) == found.vectors.shape[1] == len(found.residuals)
    assert found.residuals.max() < 1e-10
    with pytest.warns(RuntimeWarning, match="0 of 20"):
        empty = spectra.extreme(J, 20, tol=1e-30, restarts=1)
    assert (empty.radius, empty.off_axis, empty.converged) == (0.0, 0.0, False)


@pytest.mark.parametrize("call", [spectra.extreme, spectra.singular_values])
@pytest.mark.parametrize("k", [0, -1, 101, 2.5])
def test_number_that_cannot_be_is_refused(call, k):
    with pytest.raises(SpectrumError, match=r"k = .* from 1 to 100"):
        call(jacobian("branch"), k)


def test_bad_questions_are_refused():
    J = jacobian("branch")
    with pytest.raises(SpectrumError, match="numerical_range"):
        spectra.extreme(J, which="LR")
    with pytest.raises(SpectrumError, match="tol = 0"):
        spectra.extreme(J, tol=0)
    with pytest.raises(SpectrumError, match="part = 'real'"):
        J.operator("real")
    with pytest.raises(SpectrumError, match="steps = 0"):
        spectra.density(J, steps=0)
    with pytest.raises(SpectrumError, match="probes = 0"):
        spectra.density(J, probes=0)
    with pytest.raises(SpectrumError, match="Jacobian that is 0"):
        spectra.extreme(Jacobian(lambda x: 0 * x, torch.ones(100)))
    with pytest.raises(SpectrumError, match="Jacobian that is 0"):
        spectra.singular_values(Jacobian(lambda x: 0 * x, torch.ones(100)))


def test_states_without_a_jacobian_are_refused():
    x = state()
    with pytest.raises(JacobianError, match="x has 1 entries that are not finite"):
        Jacobian(torch.tanh, torch.tensor([1.0, torch.nan]))
    with pytest.raises(JacobianError, match=r"f\(x\) has 100 entries that are not finite"):
        Jacobian(lambda y: y / 0, x)
    with pytest.raises(JacobianError, match=r"x is torch.int64.*\.double\(\)"):
        Jacobian(torch.tanh, torch.ones(2, dtype=torch.int64))
    with pytest.raises(JacobianError, match=r"x is torch\.float16"):
        Jacobian(torch.tanh, x.half())
    with pytest.raises(JacobianError, match=r"f\(x\) is tuple"):
        Jacobian(lambda y: (y, y), x)
    with pytest.raises(JacobianError, match="x has"):
        stability.jacobian_eigenvalues(torch.tanh, torch.tensor([torch.inf]))


# --- singular values, numerical range, density ----------------------------------------------------------------------


@pytest.mark.parametrize("size", [2, 8])
@pytest.mark.parametrize("name", NAMES)
def test_singular_values_are_those_of_the_matrix(name, size):
    J = jacobian(name, "tanh", 4, size)
    found = spectra.singular_values(J, 5, tol=1e-13)
    _, s, vt = np.linalg.svd(matrix(J))
    np.testing.assert_allclose(found.values, s[:5], rtol=1e-11)
    assert found.residuals.max() < 1e-10
    assert abs(found.vectors[:, 0] @ vt[0]) == pytest.approx(1, abs=1e-6) or s[0] - s[1] < 1e-6 * s[0]
    assert found.radius == found.values[0]


@pytest.mark.parametrize("size", [2, 8])
@pytest.mark.parametrize("name", NAMES)
def test_numerical_range_is_that_of_the_matrix_and_holds_all_eigenvalues(name, size):
    J = jacobian(name, "tanh", 4, size)
    a, found = matrix(J), spectra.numerical_range(J, tol=1e-6)
    h, k = np.linalg.eigvalsh((a + a.T) / 2), np.linalg.eigvalsh((a - a.T) / 2j)
    assert found.converged
    np.testing.assert_allclose(found.real, [h[0], h[-1]], atol=1e-6 * found.norm)
    assert found.imag == pytest.approx(k[-1], abs=1e-6 * found.norm)
    assert found.norm == pytest.approx(np.linalg.norm(a, 2), rel=1e-3)
    assert found.residuals.max() < 2e-6
    assert found.holds(np.linalg.eigvals(a)).all()
    assert not found.holds([1.01 * h[-1] + 0.1, 1j * (1.01 * k[-1] + 0.1)]).any()


def test_numerical_range_of_a_linear_antisymmetric_layer_is_the_axis():
    """Here H is 0 up to rounding, which a tolerance relative to H itself could never reach."""
    J = jacobian("antisymmetric", "identity", 4, 8)
    found = spectra.numerical_range(J)
    assert np.abs(found.real).max() < 1e-8 * found.norm
    assert found.imag == pytest.approx(found.norm, rel=1e-4)
    symmetric = spectra.numerical_range(jacobian("symmetric", "identity", 4, 8))
    assert symmetric.imag < 1e-8 * symmetric.norm
    assert symmetric.real[0] > -1e-8 * symmetric.norm


def test_what_did_not_converge_of_the_numerical_range_is_not_a_number():
    J = jacobian("branch", "tanh", 4, 12)
    with pytest.warns(RuntimeWarning, match="0 of 1 eigenvalues converged"):
        found = spectra.numerical_range(J, tol=1e-15, restarts=1)
    assert not found.converged
    assert np.isnan(found.imag)


@pytest.mark.parametrize("part", ["hermitian", "skew", "full"])
def test_density_has_the_moments_of_its_vectors(part):
    """One vector and m steps: exact for powers to 2 m - 1 of H and K, and to m of J."""
    J, steps = jacobian("branch"), 5  # a space of 5 dimensions, of 100
    found = spectra.density(J, part, probes=1, steps=steps, seed=3)
    a = matrix(J)
    a = {"full": a, "hermitian": (a + a.T) / 2, "skew": (a - a.T) / 2j}[part]
    v = np.random.default_rng(3).choice([-1.0, 1.0], 100) / 10
    beyond = steps + 1 if part == "full" else 2 * steps
    for power in range(beyond):
        want = v @ np.linalg.matrix_power(a, power) @ v
        scale = np.linalg.norm(a, 2) ** power
        assert found.moment(power) == pytest.approx(want, abs=1e-12 * scale)
    assert abs(found.moment(beyond) - v @ np.linalg.matrix_power(a, beyond) @ v) > 1e-9


@pytest.mark.parametrize("part", ["hermitian", "skew"])
def test_density_is_that_of_all_eigenvalues(part):
    J = jacobian("antisymmetric", "tanh", 8, 10)  # n = 800
    a = matrix(J)
    lam = np.linalg.eigvalsh((a + a.T) / 2 if part == "hermitian" else (a - a.T) / 2j)
    found = spectra.density(J, part, probes=6, steps=50)
    assert found.weights.sum() == pytest.approx(1)
    assert found.weights.min() >= 0
    points = np.linspace(1.1 * lam[0], 1.1 * lam[-1], 101)
    share = np.searchsorted(lam, points, side="right") / len(lam)
    assert np.abs(found.below(points) - share).max() < 0.05
    assert (found.below(points[0]), found.below(points[-1])) == (0, pytest.approx(1))


def test_density_ends_early_where_the_space_of_the_vector_is_small():
    J = Jacobian(lambda x: torch.cat([2 * x[:50], 3 * x[50:]]), torch.ones(100, dtype=D))
    found = spectra.density(J, "hermitian", probes=2, steps=10)
    np.testing.assert_allclose(np.sort(found.nodes), [2, 2, 3, 3])
    np.testing.assert_allclose(found.moment(1), 2.5)
