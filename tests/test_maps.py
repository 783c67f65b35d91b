"""Fields, steps and stages as maps whose Jacobians are what theory says, and the spectra of a trained network."""

from __future__ import annotations

import json
from itertools import pairwise

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

import revode
from revode import data, stability
from revode.analysis import maps, spectra, trained
from revode.analysis.spectra import Jacobian
from revode.fields import AntisymmetricField, BranchField, SymmetricField

from .helpers import ALL, Branch, paired, stage

D = torch.float64
KINDS = {
    "hamiltonian": SymmetricField,
    "leapfrog": SymmetricField,
    "midpoint": AntisymmetricField,
    "revnet": BranchField,
    "momentum": BranchField,
    "euler": AntisymmetricField,
}


def made(name: str, activation: str = "tanh", blocks: int = 1, h: float = 0.3, channels: int = 2):
    """A scheme and blocks of the papers' residual functions."""
    scheme = revode.SCHEMES[name](h)
    kind = KINDS[name]
    fields = [
        [kind(channels, activation=activation, normalization="none") for _ in range(scheme.fields)]
        for _ in range(blocks)
    ]
    return scheme, nn.ModuleList(nn.ModuleList(b) for b in fields).double().requires_grad_(False)


def state(scheme, channels: int = 2, size: int = 3) -> torch.Tensor:
    parts = 1 if scheme.name == "euler" else 2
    return torch.randn(1, parts * channels, size, size, dtype=D)


def dense(f, x) -> np.ndarray:
    return Jacobian(f, x).dense().numpy()


# --- fields ---------------------------------------------------------------------------------------------------------

FIELDS = {
    "hamiltonian": lambda b, y, z: (b[0](z), -b[1](y)),
    "revnet": lambda b, y, z: (b[0](z), b[1](y)),
    "leapfrog": lambda b, y, v: (v, -b[0](y)),
}


@pytest.mark.parametrize("name", FIELDS)
def test_field_of_the_joined_state_is_the_differential_equation(name):
    scheme, (block,) = made(name)
    x = state(scheme)
    want = torch.cat(FIELDS[name](block, *x.chunk(2, 1)), 1)
    torch.testing.assert_close(maps.field(scheme, block)(x), want)
    assert scheme.h == 0.3


def test_field_does_not_depend_on_a_starting_rule():
    scheme, (block,) = made("leapfrog")
    x = state(scheme)
    half = revode.Leapfrog(0.3, start="half-kick")
    assert torch.equal(maps.field(half, block)(x), maps.field(scheme, block)(x))


@pytest.mark.parametrize("name", ["midpoint", "momentum", "euler"])
def test_field_of_one_part_is_the_residual_function(name):
    scheme, (block,) = made(name)
    assert maps.field(scheme, block) is block[0]


@pytest.mark.parametrize("name", ALL)
def test_step_is_a_step_along_the_field_to_first_order(name):
    """(step - identity) / h is the field where h is small.

    For midpoint at Y_{j-1} = Y_j it is 2 F for Y alone, for momentum at v = f(x) it is f for x alone.
    """
    scheme, (block,) = made(name, h=1e-6)
    x = state(scheme)
    if name == "midpoint":
        y = x.chunk(2, 1)[0]
        x, rate = torch.cat([y, y], 1), torch.cat([2 * block[0](y), torch.zeros_like(y)], 1)
    elif name == "momentum":
        y = x.chunk(2, 1)[0]
        x, rate = torch.cat([y, block[0](y)], 1), torch.cat([block[0](y), torch.zeros_like(y)], 1)
    else:
        rate = maps.field(scheme, block)(x)
    moved = (maps.step(scheme, block)(x) - x) / scheme.h
    torch.testing.assert_close(moved, rate, rtol=1e-4, atol=1e-4)


# --- steps ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("j", [0, 1, 2, 3])
@pytest.mark.parametrize("name", ALL)
def test_joined_state_is_split_again(name, j):
    scheme, (block,) = made(name)
    x = state(scheme)
    assert torch.equal(maps.join(scheme, maps.split(scheme, x, j), j), x)
    got = maps.split(scheme, maps.step(scheme, block, j)(x), j + 1)
    want = scheme.step(maps.split(scheme, x, j), block, j)
    assert all(torch.equal(a, b) for a, b in zip(got, want))


@pytest.mark.parametrize("j", [1, 2])
@pytest.mark.parametrize("h", [0.2, 2.5])
@pytest.mark.parametrize("name", ["euler", "midpoint", "hamiltonian", "leapfrog"])
def test_eigenvalues_of_a_linear_step_are_the_roots_of_the_scheme(name, h, j):
    scheme, (block,) = made(name, "identity", h=h)
    x = state(scheme)
    f = maps.field(scheme, block)
    lam = np.linalg.eigvals(dense(f, x.chunk(2, 1)[0] if name == "midpoint" else x))
    roots = stability.roots(name, h * lam)
    if name in ("hamiltonian", "leapfrog"):
        roots = roots[np.argsort(-lam.imag)[: len(lam) // 2]]  # one pair of roots for both of +-i omega
    found = np.linalg.eigvals(dense(maps.step(scheme, block, j), x))
    assert paired(roots.ravel(), found) < 1e-6 * np.abs(roots).max()  # coinciding roots scatter by 1e-8


def test_several_steps_have_the_product_of_their_jacobians():
    for name in ALL:
        scheme, blocks = made(name, blocks=3)
        x = state(scheme)
        want, y = np.eye(x.numel()), x
        for j, block in enumerate(blocks, 1):
            f = maps.step(scheme, block, j)
            want, y = dense(f, y) @ want, f(y)
        np.testing.assert_allclose(dense(maps.steps(scheme, blocks, 1), x), want, atol=1e-12)


# --- singular values ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("depth", [1, 64])
@pytest.mark.parametrize("activation", ["tanh", "relu"])
@pytest.mark.parametrize("name", ["hamiltonian", "leapfrog"])
def test_symplectic_networks_have_singular_values_in_pairs(name, activation, depth):
    """s and 1/s, so the largest is at least 1, whatever the depth: gradients cannot vanish (arXiv 2105.13205)."""
    scheme, blocks = made(name, activation, depth, h=0.1)
    x = state(scheme)
    m = dense(maps.steps(scheme, blocks, 1), x)
    n = len(m) // 2
    form = np.block([[np.zeros((n, n)), np.eye(n)], [-np.eye(n), np.zeros((n, n))]])
    np.testing.assert_allclose(m.T @ form @ m, form, atol=1e-10 * np.linalg.norm(m, 2) ** 2)
    s = np.linalg.svd(m, compute_uv=False)
    np.testing.assert_allclose(s * s[::-1], 1, rtol=1e-8)
    assert s[0] > 1


def test_branches_that_are_no_gradients_break_the_pairs():
    scheme, blocks = made("revnet", blocks=4, h=0.5)
    s = np.linalg.svd(dense(maps.steps(scheme, blocks, 1), state(scheme)), compute_uv=False)
    assert np.abs(s * s[::-1] - 1).max() > 1e-3


def test_midpoint_with_a_skew_field_has_pairs_too():
    scheme, blocks = made("midpoint", "identity", 8, h=0.1)
    s = np.linalg.svd(dense(maps.steps(scheme, blocks, 1), state(scheme)), compute_uv=False)
    np.testing.assert_allclose(s * s[::-1], 1, rtol=1e-10)


def test_euler_on_a_skew_field_grows_in_every_direction():
    """Singular values sqrt(1 + h^2 omega^2) >= 1 each step: they grow with depth, where the skew scheme's pair off."""
    scheme, (block,) = made("euler", "identity", h=0.3)
    x = state(scheme)
    omega = np.abs(np.linalg.eigvals(dense(block[0], x)))
    grown = []
    for depth in (1, 8, 64):
        s = np.linalg.svd(dense(maps.steps(scheme, [block] * depth), x), compute_uv=False)
        np.testing.assert_allclose(s, np.sort((1 + (0.3 * omega) ** 2) ** (depth / 2))[::-1], rtol=1e-9)
        grown.append(s[0])
        assert s[-1] >= 1 - 1e-12
    assert grown[0] > 1
    assert grown[2] > grown[1] > grown[0]


def test_products_find_both_ends_of_the_singular_values_of_a_deep_network():
    """The smallest is 1 over the largest of the inverse network, which a reversible one has: they are one pair."""
    scheme, blocks = made("hamiltonian", "tanh", 4, h=0.3, channels=4)
    x = state(scheme, 4, 5)  # n = 200
    run = maps.steps(scheme, blocks)

    def back(y):
        parts = maps.split(scheme, y, 0)
        for block in reversed(blocks):
            parts = scheme.inverse(parts, block)
        return maps.join(scheme, parts, 0)

    forth = spectra.singular_values(Jacobian(run, x), 3, tol=1e-10)
    inverse = spectra.singular_values(Jacobian(back, run(x)), 3, tol=1e-10)
    np.testing.assert_allclose(forth.values, np.linalg.svd(dense(run, x), compute_uv=False)[:3], rtol=1e-9)
    np.testing.assert_allclose(inverse.values, forth.values, rtol=1e-8)
    assert forth.radius > 1.01


# --- stages and networks --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ALL)
def test_whole_stage_is_the_stage_in_either_memory_mode(name):
    made = stage(name, blocks=3, channels=4, norm=False).double().requires_grad_(False)
    x = torch.randn(1, 4, 3, 3, dtype=D)
    assert torch.equal(maps.whole(made)(x), made(x))
    want = torch.autograd.functional.jacobian(lambda x: _stored(made)(x), x).reshape(36, 36)
    np.testing.assert_allclose(dense(maps.whole(made), x), want, atol=1e-12)
    v = torch.randn_like(x)
    np.testing.assert_allclose(Jacobian(maps.whole(made), x).apply(v).flatten(), want @ v.flatten(), atol=1e-12)


def _stored(made):
    made.memory = "stored"
    return made


def network(scheme: str = "hamiltonian", normalization: str = "batch") -> revode.Network:
    """A small network in evaluation mode whose normalizations have gains of either sign, as trained ones can."""
    made = revode.Network(scheme, (2, 2), (4, 8), normalization=normalization, h=0.5, seed=0).double().eval()
    for m in made.modules():
        if isinstance(m, nn.BatchNorm2d):
            nn.init.normal_(m.weight)
            nn.init.normal_(m.running_mean, std=0.3)
            nn.init.uniform_(m.running_var, 0.5, 2)
    return made


def test_whole_network_from_one_resolution_to_the_next():
    net, x = network(), torch.randn(1, 4, 6, 6, dtype=D)
    trunk = [net.stages[0], net.transitions[0], net.stages[1]]
    f = maps.whole(trunk)
    torch.testing.assert_close(f(x), nn.Sequential(*trunk)(x))
    J = Jacobian(f, x)
    assert J.shape == (72, 144)
    want = np.linalg.svd(dense(f, x), compute_uv=False)
    np.testing.assert_allclose(spectra.singular_values(J, 4, tol=1e-12).values, want[:4], rtol=1e-10)


@pytest.mark.parametrize("name", ALL)
def test_states_are_what_the_blocks_get(name):
    net, image, seen = network(name), torch.randn(1, 3, 8, 8, dtype=D), []
    for s in net.stages:
        for block in s.blocks:
            block[0].register_forward_pre_hook(lambda _, args: seen.append(args[0].clone()))
    with torch.no_grad():
        net(image)
    places = list(maps.states(net, image))
    assert [(p.unit, p.block) for p in places] == [
        (u, b) for u, s in enumerate(net.stages) for b in range(len(s.blocks))
    ]
    for place, got in zip(places, seen):
        f, x = place.field()
        assert f(x).shape == x.shape
        own = {"hamiltonian": lambda p: p[1], "revnet": lambda p: p[1], "leapfrog": lambda p: p[0]}
        assert torch.equal(own[name](x.chunk(2, 1)) if name in own else x, got)
    for place, after in pairwise(places):
        if place.unit == after.unit:
            f, x = place.step()
            torch.testing.assert_close(f(x), after.step()[1])


def test_network_in_training_mode_is_refused():
    with pytest.raises(ValueError, match=r"call network\.eval\(\)"):
        next(maps.states(network().train(), torch.randn(1, 3, 8, 8, dtype=D)))


# --- trained networks -----------------------------------------------------------------------------------------------


def test_measure_brackets_what_the_dense_matrices_say():
    net, image = network(), torch.randn(1, 3, 16, 16, dtype=D)
    found = json.loads(json.dumps(trained.measure(net, image, blocks=[(0, 1), (1, 0)], k=6), allow_nan=False))
    assert (found["network"], found["scheme"], found["normalization"]) == (None, "hamiltonian", "batch")
    places = {(p.unit, p.block): p for p in maps.states(net, image)}
    for unit, row in zip((0, 1), found["units"]):
        assert (row["unit"], row["block"]) == (unit, 1 - unit)
        f, x = places[unit, 1 - unit].field()
        lam = np.linalg.eigvals(dense(f, x))
        values = np.array(row["eigenvalues"]) @ [1, 1j]
        assert row["dimension"] == len(lam) == x.numel()
        assert row["converged"]
        assert row["numerical_range"]["converged"]
        assert max(row["residuals"]) < 1e-7
        assert max(np.abs(lam - v).min() for v in values) < 1e-6 * row["radius"]
        assert row["radius"] == pytest.approx(np.abs(lam).max(), rel=1e-7)
        assert row["off_axis_all"] == pytest.approx(spectra.off_axis(lam), rel=1e-6)
        assert row["off_axis"] <= row["off_axis_all"] * (1 + 1e-6)
        assert row["off_axis_all"] <= row["off_axis_bound"]
    assert max(row["off_axis_all"] for row in found["units"]) > 1e-2  # gains of either sign: not imaginary any more


def test_measure_says_what_did_not_converge_and_stays_json():
    net, image = network(), torch.randn(1, 3, 16, 16, dtype=D)
    found = trained.measure(net, image, blocks=[(0, 0)], tol=1e-15, restarts=1, dense=0)
    (row,) = json.loads(json.dumps(found, allow_nan=False))["units"]
    assert not row["converged"]
    assert len(row["eigenvalues"]) < found["k"]
    assert row["off_axis_all"] is None


def test_measure_without_normalization_finds_the_imaginary_axis():
    net = network("hamiltonian", "none")
    found = trained.measure(net, torch.randn(1, 3, 16, 16, dtype=D), k=6)
    assert max(row["off_axis"] for row in found["units"]) < 1e-9
    assert max(row["off_axis_all"] for row in found["units"]) < 1e-6  # ReLU: the defective zero


def test_measure_refuses_blocks_that_are_not_there():
    with pytest.raises(ValueError, match=r"units that have \[3, 1\] blocks"):
        trained.measure(network(), torch.randn(1, 3, 8, 8, dtype=D), blocks=[(1, 1)])


def test_trained_hamiltonian_layers_leave_the_axis_but_not_far():
    """Batch normalization takes the symmetry away; training leaves the last unit about one percent off the axis."""
    net = revode.load_trained("hamiltonian-74").double()
    image = data.normalize(data.load("sample", "test").images[:1], net.meta["mean"], net.meta["std"]).double()
    (row,) = trained.measure(net, F.adaptive_avg_pool2d(image, 8), blocks=[(2, 2)])["units"]
    assert row["dimension"] == 448
    assert 1e-5 < row["off_axis_all"] < 0.1
    # the first two are of different eigenvalue solvers, and of the same eigenvalue here: equal up to rounding
    assert row["off_axis"] <= row["off_axis_all"] * (1 + 1e-12) <= row["off_axis_bound"]


def test_branch_of_a_user_is_measured_as_well():
    made = stage("revnet", blocks=1, channels=4, make=Branch).double().eval()
    x = torch.randn(1, 4, 4, 4, dtype=D)
    f = maps.field(made.scheme, made.blocks[0])
    assert spectra.off_axis(spectra.eigenvalues(Jacobian(f, x))) > 0.01
