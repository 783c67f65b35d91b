"""Design choices: fields with the eigenvalues that are promised, halves of a checkerboard, and what is measured."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import nn

import revode
from revode import Hamiltonian, Midpoint, RevNet, Stage, stability
from revode.analysis import choices, drift, maps
from revode.analysis.spectra import Jacobian
from revode.errors import ImageError
from revode.fields import AntisymmetricField, Convolution, DoubleAntisymmetricField, OneLayerField, SymmetricField
from revode.shear import layout

from .helpers import gradients, images, paired, relative, stored_copy, worst

D = torch.float64
OPTIONS = {"activation": "tanh", "normalization": "none"}


def random(field: nn.Module) -> nn.Module:
    """The field in float64 with normal weights and biases, small enough that tanh is not flat."""
    field = field.to(D).requires_grad_(False)
    for p in field.parameters():
        nn.init.normal_(p, std=0.3)
    return field


def point(dense: bool, channels: int = 4) -> torch.Tensor:
    return torch.randn(1, channels, dtype=D) if dense else torch.randn(1, channels, 4, 4, dtype=D)


def values(f, x) -> np.ndarray:
    return np.linalg.eigvals(Jacobian(f, x).dense().numpy())


def off_axis(lam: np.ndarray) -> float:
    return np.abs(lam.real).max() / np.abs(lam).max()


def norm(f, x) -> float:
    """2-norm of a field's linear part, from its dense matrix."""
    return np.linalg.norm(Jacobian(f.linear, x).dense().numpy(), 2)


# --- fields -------------------------------------------------------------------------------------------------------

KINDS = {
    "one layer": OneLayerField,
    "one layer, transposed": lambda *a, **k: OneLayerField(*a, **k, transposed=True),
    "double": DoubleAntisymmetricField,
    "damped": lambda *a, **k: AntisymmetricField(*a, **k, damping=0.7),
}


@pytest.mark.parametrize("dense", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_linear_is_the_derivative_and_linear_adjoint_its_adjoint(kind, dense):
    f = KINDS[kind](3, "identity", "none", dense=dense).to(D)
    x, y = (torch.randn((2, 3) if dense else (2, 3, 5, 6), dtype=D) for _ in range(2))
    torch.testing.assert_close(f.linear(x), f(x))
    torch.testing.assert_close((f.linear(x) * y).sum(), (x * f.linear_adjoint(y)).sum())


def test_equations():
    y = torch.randn(2, 3, 5, 5, dtype=D)
    conv, adjoint, s = nn.functional.conv2d, nn.functional.conv_transpose2d, torch.tanh
    f, g = (random(f) for f in OneLayerField.pair(3, **OPTIONS))
    torch.testing.assert_close(f(y), s(conv(y, f.weight, f.bias, padding=1)))
    torch.testing.assert_close(g(y), s(adjoint(y, f.weight, g.bias, padding=1)))
    f = random(DoubleAntisymmetricField(3, **OPTIONS))
    inner = adjoint(s(conv(y, f.weight, f.bias, padding=1)), f.weight, padding=1)
    torch.testing.assert_close(f(y), conv(inner, f.weight2, padding=1) - adjoint(inner, f.weight2, padding=1))
    f = random(AntisymmetricField(3, **OPTIONS, damping=0.7))
    both = conv(y, f.weight, padding=1) - adjoint(y, f.weight, padding=1) - 0.7 * y
    torch.testing.assert_close(f(y), s(both + f.bias[:, None, None]))


def test_a_batch_norm_stands_where_it_does_in_the_symmetric_field():
    y = 3 * torch.randn(4, 3, 5, 5, dtype=D) + 1
    f = DoubleAntisymmetricField(3).to(D)
    same = SymmetricField(3).to(D)
    same.weight = f.weight
    torch.testing.assert_close(f(y), f.operator.apply(same(y), f.operator.antisymmetric(f.weight2)))
    f = OneLayerField(3).to(D)
    same.weight = f.weight
    torch.testing.assert_close(f.operator.adjoint(f(y), f.weight), same(y))


@pytest.mark.parametrize("dense", [False, True])
def test_two_layers_have_real_eigenvalues_and_imaginary_ones_behind_an_antisymmetric_operator(dense):
    x = point(dense)
    plain, double = random(SymmetricField(4, **OPTIONS, dense=dense)), random(
        DoubleAntisymmetricField(4, **OPTIONS, dense=dense)
    )  # fmt: skip
    lam = values(plain, x)
    assert np.abs(lam.imag).max() < 1e-12 * np.abs(lam).max()
    for sign in (1, -1):  # midpoint: no step size for either sign
        assert stability.critical_step("midpoint", sign * lam) == 0
    lam = values(double, x)
    assert np.abs(lam).max() > 1e-3
    assert off_axis(lam) < 1e-12
    s = np.linalg.norm(Jacobian(lambda x: double.operator.apply(x, double.operator.antisymmetric(double.weight2)), x)
                       .dense().numpy(), 2)  # fmt: skip
    k = np.linalg.norm(Jacobian(lambda x: double.operator.apply(x, double.weight), x).dense().numpy(), 2)
    assert np.abs(lam).max() <= s * k**2
    assert stability.critical_step("midpoint", lam) >= 1 / (s * k**2)


@pytest.mark.parametrize("dense", [False, True])
def test_a_pair_of_single_layers_is_stable_if_they_share_the_kernel(dense):
    x = point(dense, 8)
    pair = nn.ModuleList(OneLayerField.pair(4, **OPTIONS, dense=dense))
    random(pair)
    assert len(list(pair.parameters())) == 3  # one kernel and two biases
    a = Jacobian(maps.field(Hamiltonian(), pair), x).dense().numpy()
    lam = np.linalg.eigvals(a)
    assert off_axis(lam) < 1e-12
    assert np.abs(lam).max() <= norm(pair[0], x.chunk(2, dim=1)[0])
    h = stability.critical_step("hamiltonian", lam)
    for factor, stable in ((0.99, True), (1.05, False)):
        step = stability.one_step_matrix("hamiltonian", a, factor * h)
        assert (np.abs(np.linalg.eigvals(step)).max() < 1 + 1e-6) == stable
    # ... and free kernels give eigenvalues all over the plane
    free = nn.ModuleList(random(OneLayerField(4, **OPTIONS, dense=dense)) for _ in range(2))
    lam = values(maps.field(Hamiltonian(), free), x)
    assert off_axis(lam) > 0.1
    assert stability.critical_step("hamiltonian", lam) == 0


def test_a_shared_kernel_has_one_gradient_through_the_rebuilding_backward_pass():
    torch.manual_seed(0)
    stage = Stage(Hamiltonian(0.2), [OneLayerField.pair(4, **OPTIONS) for _ in range(3)]).to(D)
    assert len(list(stage.parameters())) == 9
    x = images(2, 8, 6, dtype=D)
    assert worst(gradients(stage, x), gradients(stored_copy(stage), x)) < 1e-11


def test_only_the_two_layer_step_is_symplectic():
    x, n = point(True, 8), 4
    form = np.block([[np.zeros((n, n)), np.eye(n)], [-np.eye(n), np.zeros((n, n))]])

    def defect(block):
        m = Jacobian(maps.step(Hamiltonian(0.3), nn.ModuleList(block)), x).dense().numpy()
        assert np.linalg.det(m) == pytest.approx(1)
        return np.abs(m.T @ form @ m - form).max()

    assert defect([random(SymmetricField(n, **OPTIONS, dense=True)) for _ in range(2)]) < 1e-12
    assert defect([random(f) for f in OneLayerField.pair(n, **OPTIONS, dense=True)]) > 1e-2


@pytest.mark.parametrize("dense", [False, True])
def test_damping_moves_all_real_parts_below_zero(dense):
    f, x = random(AntisymmetricField(4, **OPTIONS, dense=dense, damping=0.5)), point(dense)
    lam = values(f, x)
    assert -0.5 <= lam.real.min() < 0
    assert lam.real.max() < 1e-12
    step = stability.critical_step("euler", lam)
    assert 0 < step < math.inf
    assert np.abs(1 + step * lam).max() == pytest.approx(1)
    assert stability.critical_step("midpoint", lam) == 0
    # the kernel is that of K - K^T - gamma I, in the middle of the stencil
    g = AntisymmetricField(4, **OPTIONS, dense=dense).to(D)
    g.weight = f.weight
    torch.testing.assert_close(f.linear(x), g.linear(x) - 0.5 * x)


@pytest.mark.parametrize("damping", [-0.1, math.inf, math.nan])
def test_a_negative_damping_is_refused(damping):
    with pytest.raises(ValueError, match="damping = "):
        AntisymmetricField(4, damping=damping)


def test_the_identity_of_convolutions():
    x, k = torch.randn(2, 3, 5, 5, dtype=D), torch.empty(3, 3, 3, 3, dtype=D)
    assert torch.equal(Convolution.apply(x, Convolution.identity(k)), x)


# --- halves -------------------------------------------------------------------------------------------------------


def test_colours_of_a_checkerboard_by_hand():
    x = torch.arange(12.0).reshape(1, 1, 3, 4)
    first, second = Hamiltonian(split="checkerboard").start(x)
    assert first[0, 0].tolist() == [[0, 2], [5, 7], [8, 10]]
    assert second[0, 0].tolist() == [[1, 3], [4, 6], [9, 11]]


@pytest.mark.parametrize("scheme", [Hamiltonian, RevNet])
@pytest.mark.parametrize("split", ["channels", "checkerboard"])
@pytest.mark.parametrize("size", [(6, 6), (5, 8), (1, 4)])
@pytest.mark.parametrize("last", [False, True])
def test_what_is_split_is_joined_bit_for_bit(scheme, split, size, last):
    rule, x = scheme(0.1, split), torch.randn(2, 4, *size)
    x = x.to(memory_format=torch.channels_last) if last else x
    state = rule.start(x)
    i, j = np.indices(size)
    black = torch.from_numpy((i + j) % 2 == 0)
    for part, wanted in zip(state, (x[..., black], x[..., ~black]) if split == "checkerboard" else x.chunk(2, dim=1)):
        assert torch.equal(part.flatten(), wanted.flatten())
        assert layout(part) == layout(x)
    y = rule.finish(state, 3)
    assert torch.equal(y, x)
    assert layout(y) == layout(x)
    assert all(torch.equal(a, b) for a, b in zip(rule.resume(y), state))


@pytest.mark.parametrize("name", ["hamiltonian", "revnet"])
@pytest.mark.parametrize("arithmetic", ["float", "exact"])
def test_a_stage_on_a_checkerboard_is_undone_and_has_the_gradient_of_stored_activations(name, arithmetic):
    stage, x = choices.split_stage(name, "checkerboard", 4, channels=4, h=0.3), torch.randn(2, 4, 6, 8)
    stage.arithmetic = arithmetic
    y = stage(x)
    assert y.shape == x.shape
    assert relative(y, x) > 0.1
    assert relative(stage.inverse(y), x) < 1e-5
    if arithmetic == "exact":
        start = stage.encode(x)
        back = stage.inverse_state(stage.forward_state(start))
        assert all(torch.equal(a.ints, b.ints) for a, b in zip(start, back))
    else:
        stage, x = stage.to(D), x.to(D)
        assert worst(gradients(stage, x), gradients(stored_copy(stage), x)) < 1e-11


def test_each_colour_is_moved_by_the_other_alone():
    stage, x = choices.split_stage("revnet", "checkerboard", 1, channels=2), torch.randn(1, 2, 4, 4)
    stage.blocks[0][1].weight2.data.zero_()  # the second half is left as it is
    moved = (stage(x) != x)[0].any(dim=0)
    i, j = np.indices((4, 4))
    assert torch.equal(moved, torch.from_numpy((i + j) % 2 == 0))


def test_maps_know_the_checkerboard():
    stage, x = choices.split_stage("hamiltonian", "checkerboard", 2, channels=2), torch.randn(1, 2, 4, 4)
    scheme, state = stage.scheme, stage.scheme.start(x)
    joined = maps.join(scheme, state, 0)
    assert joined.shape == (1, 4, 4, 2)
    assert all(torch.equal(a, b) for a, b in zip(maps.split(scheme, joined, 0), state))
    after = maps.steps(scheme, stage.blocks)(joined)
    torch.testing.assert_close(scheme.finish(maps.split(scheme, after, 2), 2), stage(x))


@pytest.mark.parametrize("shape", [(2, 4, 4, 5), (2, 4), (4, 4, 4)])
def test_what_has_no_colours_is_refused(shape):
    with pytest.raises(ImageError, match="even width"):
        RevNet(split="checkerboard").start(torch.zeros(shape))


def test_an_unknown_split_is_refused():
    with pytest.raises(ValueError, match=r"split = 'rows' must be one of \('channels', 'checkerboard'\)"):
        Hamiltonian(0.1, "rows")


def test_a_network_refuses_a_checkerboard():
    with pytest.raises(ValueError, match="split = 'checkerboard' must be 'channels'"):
        revode.Network(lambda h: Hamiltonian(h, "checkerboard"), (1,), (4,))


# --- measurements -------------------------------------------------------------------------------------------------

STABLE = {"two-layer Hamiltonian", "one-layer Hamiltonian", "midpoint", "midpoint, two-layer antisymmetric"}


@pytest.mark.parametrize("choice", choices.CHOICES)
def test_linear_choices_grow_as_their_roots_say(choice):
    x, n, h = drift.random_input(4, 16), 400, 0.1
    found = choices.measure(choices.network(choice, n, h, activation="identity", width=16), x)
    assert (found["off_axis"] < 1e-12) == (choice in STABLE)
    if choice in STABLE:
        assert found["root"] == pytest.approx(1, abs=1e-12)
        assert found["growth"] < 10
        assert found["error"] < 1e-5
    else:
        assert found["root"] > 1.01
        # the fastest mode has taken over by now: one layer more multiplies by the root
        trips = drift.round_trip(
            choices.network(choice, n // 2, h, activation="identity", width=16), x, (n // 4, n // 2), D
        )
        rate = (trips.growth[1] / trips.growth[0]) ** (4 / n)
        assert rate == pytest.approx(found["root"], rel=0.02)
        assert not found["error"] < 1e-3


def test_the_midpoint_jacobian_is_taken_of_the_field_alone():
    stage, x = choices.network("midpoint", width=6), drift.random_input(1, 6)
    k = stage.blocks[0][0].weight.detach()
    slope = 1 - torch.tanh(x[0] @ (k - k.T).T) ** 2
    wanted = torch.linalg.eigvals(slope[:, None] * (k - k.T)).numpy()
    assert paired(choices.spectrum(stage, x), wanted) < 1e-12


@pytest.mark.parametrize(("alpha", "beta"), [(1, 1), (2, 0.5), (1, -5), (1, -1)])
def test_linear_revnet_grows_by_its_root_forward_and_backward(alpha, beta):
    stage, n = choices.linear_revnet(alpha, beta, 40), 40
    x = torch.randn(3, 2, dtype=D)
    rate = abs(stability.coupling_roots(alpha, beta)[0])
    there = [stage(x), choices.linear_revnet(alpha, beta, 2 * n)(x)]
    back = [stage.inverse(x), choices.linear_revnet(alpha, beta, 2 * n).inverse(x)]
    for once, twice in (there, back):
        if rate > 1 + 1e-9:
            assert ((twice.norm() / once.norm()) ** (1 / n)).item() == pytest.approx(rate, rel=1e-9)
        else:
            assert 0.2 < (twice.norm() / once.norm()).item() < 5


def test_damping_gives_euler_a_stable_interval_and_takes_that_of_midpoint():
    x = drift.random_input(4, 16)
    without, little, much = choices.damping((0.0, 0.05, 0.5), x, depth=200)
    assert without["euler_step"] == 0 < little["euler_step"] < much["euler_step"]
    assert without["midpoint_step"] > 0 == little["midpoint_step"] == much["midpoint_step"]
    assert without["midpoint_root"] == pytest.approx(1)
    assert much["midpoint_root"] == pytest.approx(
        0.05 + math.sqrt(1 + 0.05**2), rel=5e-3
    )  # near |r| of a real eigenvalue
    assert without["euler_growth"] > 10 > 1 > much["euler_growth"]
    assert much["midpoint_growth"] > 100 > 2 > without["midpoint_growth"]


def test_unknown_names_are_refused():
    for make in (choices.network, lambda name: choices.split_stage(name, "channels", 1)):
        with pytest.raises(ValueError, match="'resnet' must be one of"):
            make("resnet")


def test_splits_are_compared():
    torch.manual_seed(0)
    rows = choices.compare_splits(torch.randn(6, 3, 4, 4), torch.arange(6) % 3, depth=5, steps=4)
    assert [(r["scheme"], r["split"]) for r in rows] == [
        (name, split) for name in ("hamiltonian", "revnet") for split in ("channels", "checkerboard")
    ]
    assert [r["weights"] for r in rows] == [2 * (9 * n * n * k + n * k) for k in (1, 2) for n in (4, 8)]
    for row in rows:
        assert row["trained"] < row["loss"]
        assert (row["off_axis"] < 1e-10) == (row["scheme"] == "hamiltonian")
        assert row["error"] < 1e-6


def test_a_midpoint_stage_with_two_layers_is_reversible_too():
    stage = Stage(Midpoint(0.05), [[DoubleAntisymmetricField(4, **OPTIONS)] for _ in range(6)]).to(D)
    start = stage.scheme.start(images(2, 4, 5, dtype=D))
    with torch.no_grad():
        back = stage.inverse_state(stage.forward_state(start))
    assert max(relative(a, b) for a, b in zip(back, start)) < 1e-12
