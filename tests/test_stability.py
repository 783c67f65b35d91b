"""The mathematics of step size and stability: claims of the book, and agreement with the schemes themselves."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from torch import nn

from revode import schemes, stability
from revode.stability import PROBLEMS, STABILITY_LIMIT

ALL = sorted(STABILITY_LIMIT)
MEANINGFUL = [(s, p) for s in ALL for p in PROBLEMS if not stability.why_not(s, p)]


def complex_points(n: int = 400) -> np.ndarray:
    rng = np.random.default_rng(0)
    return rng.uniform(-3, 3, n) + 1j * rng.uniform(-3, 3, n)


# --- what the book claims -----------------------------------------------------------------------------------


def test_linear_revnet_grows_by_the_golden_ratio_squared_both_ways():
    forward, backward = np.abs(stability.coupling_roots(1.0, 1.0))
    assert forward == pytest.approx((3 + 5**0.5) / 2)  # 2.618
    assert 1 / backward == pytest.approx(forward)


@pytest.mark.parametrize(("product", "stable"), [(-4.01, False), (-4, True), (-1, True), (0, True), (0.01, False)])
def test_linear_revnet_is_stable_in_its_window_only(product, stable):
    largest = np.abs(stability.coupling_roots(product, 1.0)).max()
    assert (largest <= 1 + 1e-7) == stable


@pytest.mark.parametrize(("h_omega", "factor"), [(0.1, 1.64), (0.5, 7.0e4)])
def test_euler_grows_over_a_hundred_blocks(h_omega, factor):
    assert stability.growth("euler", 1j * h_omega) ** 100 == pytest.approx(factor, rel=0.01)
    y = stability.trajectory("euler", "centre", h_omega, steps=100)
    assert np.linalg.norm(y[-1]) == pytest.approx(factor, rel=0.01)


def test_midpoint_and_leapfrog_moduli():
    inside = stability.growth("midpoint", 1j * np.linspace(0, 1, 50))
    assert inside == pytest.approx(np.ones(50), abs=1e-7)
    assert stability.growth("midpoint", [1.1j, -0.1]) == pytest.approx([1.558, 1.105], abs=5e-4)
    assert stability.growth("leapfrog", 1j * np.linspace(0, 2, 50)) == pytest.approx(np.ones(50), abs=1e-7)
    assert stability.growth("leapfrog", 2.1j) == pytest.approx(1.877, abs=5e-4)


def test_any_damping_breaks_midpoint():
    damping = np.logspace(-8, 0, 9)
    assert (stability.growth("midpoint", -damping) > 1 + damping / 2).all()
    assert stability.critical_step("midpoint", [-1e-3 + 1j, -1e-3 - 1j]) == 0.0


# --- roots, regions, critical steps --------------------------------------------------------------------------

POLYNOMIAL = {
    "euler": lambda r, z: r - 1 - z,
    "midpoint": lambda r, z: r**2 - 2 * z * r - 1,
    "hamiltonian": lambda r, z: r**2 - (2 + z**2) * r + 1,
    "leapfrog": lambda r, z: r**2 - (2 + z**2) * r + 1,
}


@pytest.mark.parametrize("scheme", ALL)
def test_roots_solve_the_polynomial_and_the_larger_comes_first(scheme):
    z = complex_points()
    r = stability.roots(scheme, z)
    assert np.abs(POLYNOMIAL[scheme](r, z[:, None])).max() < 1e-12
    assert r.shape == (z.size, 1 if scheme == "euler" else 2)
    assert (np.abs(r[:, 0]) >= np.abs(r[:, -1]) - 1e-12).all()


def test_the_small_root_is_accurate_far_out():
    r = stability.roots("midpoint", 1e9)
    assert r[1] == pytest.approx(-0.5e-9, rel=1e-12)  # the plain formula gives 0


@pytest.mark.parametrize("scheme", ALL)
def test_region_is_where_no_root_is_larger_than_one(scheme):
    z = np.concatenate([complex_points(), 1j * np.linspace(-3, 3, 241), np.linspace(-3, 1, 81)])
    z = z[np.abs(np.abs(z.imag) - STABILITY_LIMIT[scheme]) > 1e-9]  # roots coincide there: rounding decides
    assert (stability.in_region(scheme, z) == (stability.growth(scheme, z) <= 1 + 1e-9)).all()


@pytest.mark.parametrize("scheme", ALL)
@pytest.mark.parametrize(
    "eigenvalues", [[1j, -1j], [3j, -3j, 0.5j, -0.5j], [-0.1 + 0.9j, -0.1 - 0.9j], [-2.0, -0.5], [0.1, -1.0]]
)
def test_critical_step_is_where_growth_begins(scheme, eigenvalues):
    critical = stability.critical_step(scheme, eigenvalues)
    lam = np.array(eigenvalues)
    for h in np.linspace(0, critical, 7)[1:-1]:
        assert stability.in_region(scheme, h * lam).all()
    for h in critical + np.array([1e-4, 0.1, 1.0]):
        assert not stability.in_region(scheme, h * lam).all()


def test_critical_step_takes_rounding_for_rounding_and_refuses_what_is_no_number():
    kernel = np.random.default_rng(0).standard_normal((30, 30))
    lam = np.linalg.eigvals(kernel - kernel.T)  # real parts of the size of rounding
    assert stability.critical_step("midpoint", lam) == pytest.approx(1 / np.abs(lam).max())
    assert stability.critical_step("leapfrog", lam) == pytest.approx(2 / np.abs(lam).max())
    assert stability.critical_step("midpoint", [0, 0]) == np.inf
    with pytest.raises(ValueError, match="not finite"):
        stability.critical_step("euler", [1j, np.nan])


@pytest.mark.parametrize("name", ["euler", "midpoint", "hamiltonian", "leapfrog"])
def test_limits_are_those_that_the_schemes_declare(name):
    assert schemes.SCHEMES[name].stability_limit == STABILITY_LIMIT[name]


# --- one step as a matrix ------------------------------------------------------------------------------------


@pytest.mark.parametrize("scheme", ALL)
@pytest.mark.parametrize("h", [0.3, 1.0, 1.7, 2.3])
def test_one_step_matrix_has_the_roots_as_eigenvalues(scheme, h):
    problem = PROBLEMS["centre"]
    got = np.linalg.eigvals(stability.one_step_matrix(scheme, problem.matrix, h))
    want = stability.roots(scheme, h * problem.eigenvalues).ravel()
    if scheme in ("hamiltonian", "leapfrog"):
        want = want[:2]  # one pair stands for both eigenvalues
    assert np.sort(np.abs(got)) == pytest.approx(np.sort(np.abs(want)), abs=1e-9)


@pytest.mark.parametrize("scheme", ["hamiltonian", "leapfrog"])
def test_one_step_matrix_of_coupled_oscillators_keeps_volume(scheme):
    rng = np.random.default_rng(1)
    b, c = rng.standard_normal((2, 3, 3))
    matrix = np.block([[np.zeros((3, 3)), b @ b.T], [-c @ c.T, np.zeros((3, 3))]])
    step = stability.one_step_matrix(scheme, matrix, 0.1)
    assert np.linalg.det(step) == pytest.approx(1)
    omega = np.abs(np.linalg.eigvals(matrix)).max()
    for h, stable in ((1.99 / omega, True), (2.01 / omega, False)):
        radius = np.abs(np.linalg.eigvals(stability.one_step_matrix(scheme, matrix, h))).max()
        assert (radius < 1 + 1e-6) == stable


def test_one_step_matrix_refuses_what_a_scheme_cannot_step():
    with pytest.raises(ValueError, match="use 'euler' or 'midpoint'"):
        stability.one_step_matrix("hamiltonian", PROBLEMS["spiral"].matrix, 0.1)
    with pytest.raises(ValueError, match="square"):
        stability.one_step_matrix("euler", np.ones((2, 3)), 0.1)
    with pytest.raises(ValueError, match="must be one of"):
        stability.one_step_matrix("heun", np.eye(2), 0.1)


# --- trajectories --------------------------------------------------------------------------------------------


class Field(nn.Module):
    """A residual function of (N, C) made from a function."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


def by_the_scheme(name: str, problem, h: float, steps: int) -> np.ndarray:
    """The trajectory by revode.schemes itself: the very code that the networks run."""
    y = torch.tensor([problem.start], dtype=torch.float64)
    q, p = y.T[:, :, None]
    if name in ("euler", "midpoint"):
        block = nn.ModuleList([Field(lambda x: problem.field(x.T).T)])
        scheme, state = schemes.SCHEMES[name](h), None
        state = scheme.start(y)
    elif name == "hamiltonian":
        block = nn.ModuleList([Field(lambda z: z), Field(lambda x: -problem.force(x))])
        scheme = schemes.Hamiltonian(h)
        state = scheme.start(y)
    else:
        block = nn.ModuleList([Field(lambda x: -problem.force(x))])
        scheme = schemes.Leapfrog(h, start="half-kick")
        state = (q, p)
    out = [y]
    for j in range(steps):
        state = scheme.step(state, block, j)
        if name == "leapfrog":  # its velocity is half a step behind: bring it to the time of the position
            q, v = state
            out.append(torch.cat([q, v + h / 2 * problem.force(q)], dim=1))
        else:
            out.append(scheme.finish(state, j + 1))
    return torch.cat(out).numpy()


@pytest.mark.parametrize(("scheme", "problem"), MEANINGFUL)
@pytest.mark.parametrize("h", [0.1, 0.9])
def test_trajectory_is_what_the_scheme_itself_computes(scheme, problem, h):
    got = stability.trajectory(scheme, problem, h, steps=20)
    want = by_the_scheme(scheme, PROBLEMS[problem], h, steps=20)
    np.testing.assert_allclose(got, want, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(("scheme", "problem"), MEANINGFUL)
def test_trajectory_with_torch_is_that_with_numpy(scheme, problem):
    a = stability.trajectory(scheme, problem, 0.3, steps=20)
    b = stability.trajectory(scheme, problem, 0.3, steps=20, device="cpu")
    np.testing.assert_allclose(a, b, rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize(("scheme", "order"), [("euler", 1), ("midpoint", 2), ("hamiltonian", 1), ("leapfrog", 2)])
def test_trajectory_has_the_order_of_its_scheme(scheme, order):
    problem, errors = PROBLEMS["centre"], []
    for steps in (100, 200):
        y = stability.trajectory(scheme, problem, 1.0 / steps, steps)
        errors.append(np.abs(y[-1] - problem.exact(1.0)).max())
    assert np.log2(errors[0] / errors[1]) == pytest.approx(order, abs=0.1)


@pytest.mark.parametrize("problem", ["centre", "spiral", "saddle"])
def test_exact_solution_solves_the_equation(problem):
    chosen, t, d = PROBLEMS[problem], 0.7, 1e-5
    rate = (chosen.exact(t + d) - chosen.exact(t - d)) / (2 * d)
    assert rate == pytest.approx(np.array(chosen.matrix) @ chosen.exact(t), abs=1e-8)
    assert chosen.exact(0.0) == pytest.approx(chosen.start)
    assert np.sort_complex(chosen.eigenvalues) == pytest.approx(np.sort_complex(np.linalg.eigvals(chosen.matrix)))
    assert np.abs(chosen.eigenvalues) == pytest.approx([1, 1])


def test_pendulum_keeps_its_size_to_second_order():
    problem = PROBLEMS["pendulum"]
    sizes = [problem.size(stability.trajectory("leapfrog", problem, h, 400)) for h in (0.1, 0.05)]
    drift = [np.ptp(s) for s in sizes]
    assert drift[0] / drift[1] == pytest.approx(4, rel=0.1)
    with pytest.raises(ValueError, match="no closed form"):
        problem.exact(1.0)


def test_what_has_no_meaning_is_refused_in_words():
    assert "damping" in stability.why_not("leapfrog", "spiral")
    assert stability.why_not("midpoint", "spiral") == ""
    with pytest.raises(ValueError, match="has no meaning on problem 'spiral'"):
        stability.trajectory("hamiltonian", "spiral", 0.1)
    with pytest.raises(ValueError, match="must be a finite number"):
        stability.trajectory("euler", "centre", float("nan"))
    with pytest.raises(ValueError, match="must be one of"):
        stability.trajectory("euler", "sink", 0.1)
    with pytest.raises(ValueError, match="must be one of"):
        stability.roots("heun", 0.1)


# --- layers --------------------------------------------------------------------------------------------------


def test_frequencies_are_the_moduli_of_the_eigenvalues():
    kernel = np.random.default_rng(0).standard_normal((9, 9))
    want = np.sort(np.abs(np.linalg.eigvals(kernel - kernel.T)))[::-1]
    assert stability.frequencies(kernel) == pytest.approx(want, abs=1e-9)


@pytest.fixture(scope="module")
def kernel() -> torch.Tensor:
    return torch.randn(6, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


@pytest.fixture(scope="module")
def layer(kernel) -> stability.Layer:
    state = torch.randn(1, 6, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    return stability.layer_data(lambda y: torch.tanh(y @ (kernel - kernel.T).T), state, "a test", steps=40, count=6)


def test_layer_has_the_spectrum_of_the_linear_layer_at_rest(kernel):
    at_rest = stability.layer_data(lambda y: torch.tanh(y @ (kernel - kernel.T).T), torch.full((1, 6), 1e-9).double())
    rho = stability.frequencies(kernel)[0]
    assert at_rest.critical == pytest.approx(1 / rho)
    assert (at_rest.eigenvalues.real == 0).all()
    assert at_rest.h == pytest.approx(np.linspace(0, 1.5, 31)[1:] / rho)


def test_layer_of_a_linear_map_grows_mode_by_mode(kernel):
    """A linear antisymmetric layer is normal: the norm of a change follows from the roots alone."""
    state = torch.randn(1, 6, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    linear = stability.layer_data(lambda y: y @ (kernel - kernel.T).T, state, steps=30, count=3)
    lam, vectors = np.linalg.eig((kernel - kernel.T).numpy())
    parts = np.abs(vectors.conj().T @ stability.small_change(state)[0].numpy())
    for k, h in enumerate(linear.h):
        want = np.linalg.norm(parts * stability.growth("euler", h * lam) ** 30) / np.linalg.norm(parts)
        assert linear.norm[0, k, -1] == pytest.approx(want, rel=1e-6)
    assert linear.norm[1, 0].max() < 2  # h = half of the critical one
    assert linear.norm[1, 2].max() > 1e6  # h = 1.5 times


def test_layer_survives_saving(layer, tmp_path):
    layer.save(tmp_path / "layer.json")
    back = stability.Layer.load(tmp_path / "layer.json")
    assert (back.title, back.critical) == (layer.title, layer.critical)
    np.testing.assert_allclose(back.h, layer.h)
    np.testing.assert_allclose(back.norm, layer.norm, rtol=1e-6)
    np.testing.assert_allclose(back.plane, layer.plane.clip(-40, 40), atol=1e-3)  # out of sight beyond that
    np.testing.assert_allclose(back.eigenvalues, layer.eigenvalues, rtol=1e-6)


def test_layer_data_stays_small_and_finite_where_it_blows_up(kernel):
    state = torch.randn(1, 6, generator=torch.Generator().manual_seed(1))
    wild = stability.layer_data(lambda y: 1e3 * (y @ (kernel - kernel.T).float().T), state, reach=1e6)
    text = json.dumps(wild.to_dict(), allow_nan=False)
    assert len(text) < 80_000
    assert np.isfinite(stability.Layer.from_dict(json.loads(text)).norm).all()


def test_layer_is_recomputed_as_it_was_computed(layer):
    plane, norm = layer.follow("midpoint", float(layer.h[2]))
    np.testing.assert_allclose(plane, layer.plane[1, 2])
    np.testing.assert_allclose(norm, layer.norm[1, 2])
    assert (plane[0] >= 0).all()  # the sign of the axes is settled
