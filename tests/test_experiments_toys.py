"""The small experiments with momentum networks: their mathematics, and what their result files say."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from revode import results
from revode.experiments import crossing, linear_maps, lista, rings, toys
from revode.schemes import Euler


def test_the_momentum_rule_of_the_toys_begins_with_the_residual_step():
    field = toys.block(2).double()
    x = torch.randn(5, 2, dtype=torch.float64)
    want = [x]
    for _ in range(3):
        want.append(want[-1] + field(want[-1]))
    torch.testing.assert_close(toys.states(toys.tied(field, 0, 3), x), torch.stack(want))
    assert isinstance(toys.scheme(0), Euler)
    v, want = torch.zeros_like(x), [x]
    for _ in range(3):
        v = 0.9 * v + (1 - 0.9) * field(want[-1])
        want.append(want[-1] + v)
    torch.testing.assert_close(toys.states(toys.tied(field, 0.9, 3), x), torch.stack(want))


def test_weights_come_back_and_what_was_not_kept_is_refused():
    field = toys.block(1)
    again = toys.unpacked(toys.block(1), toys.packed(field))
    assert all(torch.equal(a, b) for a, b in zip(field.parameters(), again.parameters()))
    record = results.load("crossing")
    with pytest.raises(ValueError, match=r"step = 7 must be one of \[0, 20"):
        crossing.kept(record, 0.9, 7)
    with pytest.raises(ValueError, match=r"c = 0\.3: 'crossing' keeps weights for"):
        crossing.kept(record, 0.3)


def test_kept_networks_are_those_that_were_measured():
    record = results.load("crossing")
    for row in record["final"]["momenta"]:
        assert crossing.error(crossing.kept(record, row["c"])) == pytest.approx(row["mse"], rel=1e-3)
    record = results.load("rings")
    fresh = rings.points(250, 2000)
    for row in record["final"]["momenta"]:
        assert rings.accuracy(rings.kept(record, row["c"]), *fresh) == pytest.approx(row["accuracy"], abs=2e-3)


def test_a_short_training_is_recorded_and_repeats():
    a, b = (crossing.measure_crossing(seed=3, momenta=(0.0, 0.9), steps=20, weights=True) for _ in range(2))
    assert a == b
    assert [point["step"] for point in a.curve if point["c"] == 0.9] == list(range(21))
    assert a.final["kept"] == [0, 20]
    assert a.final["momenta"][1]["least_slope"] is None
    short = rings.measure_rings(seed=0, momenta=(0.5,), steps=3, count=5).final["momenta"]
    assert 0 <= short[0]["accuracy"] <= 1


def test_the_constant_0_has_one_seventh_and_the_slope_is_that_of_a_step():
    zero = toys.unpacked(toys.block(1), toys.stability.pack(np.zeros(49), "<f4"))
    assert crossing.least_slope(zero, crossing.grid()) == 1
    assert crossing.error(lambda x: 0 * x) == pytest.approx(1 / 7, rel=0.02)
    field = torch.nn.Linear(1, 1)
    torch.nn.init.constant_(field.weight, -1.5)
    assert crossing.least_slope(field, crossing.grid()) == -0.5


def test_rings_are_nested_and_alternate():
    x, labels = rings.points(50, 0)
    radius = x.norm(dim=1).reshape(rings.RINGS, -1)
    assert (radius.amax(1)[:-1] < radius.amin(1)[1:]).all()
    assert labels.reshape(rings.RINGS, -1)[:, 0].tolist() == [0, 1, 0, 1]


# --- linear maps -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("c", [0.0, 0.5, 0.9])
def test_gain_is_the_power_of_the_steps_matrix(c):
    for slope in (-1.7, -0.3, 0.05):
        step = np.array([[1 + (1 - c) * slope, c], [(1 - c) * slope, c]])  # of (x, v)
        assert linear_maps.gain(slope, c, 9) == pytest.approx(np.linalg.matrix_power(step, 9)[0, 0], rel=1e-12)
        assert np.linalg.det(step) == pytest.approx(c if c else 0, abs=1e-12)
    edge = linear_maps.turning_slope(c)
    if c:
        for slope, complex_roots in ((edge - 1e-6, True), (edge + 1e-6, False)):
            roots = np.roots([1, -(1 + c + (1 - c) * slope), c])
            assert (np.abs(roots.imag) > 0).all() == complex_roots


def test_a_residual_network_with_bounded_steps_reverses_nothing_and_momentum_does():
    slope = np.linspace(-1, 1, 201)
    assert (linear_maps.gain(slope, 0.0) >= 0).all()
    assert linear_maps.gain(slope, 0.9).min() < -0.4


def test_least_error_is_reached_by_no_matrix_of_positive_determinant():
    wanted = torch.tensor([[1.0, 0.4, 0], [0, -2.0, 0.3], [0.1, 0, 0.7]])
    least = linear_maps.least_error(wanted)
    u, s, v = torch.linalg.svd(wanted)
    s[-1] = 0
    assert linear_maps.angle_error(u @ torch.diag(s) @ v, wanted).item() == pytest.approx(least, rel=1e-5)
    many = wanted + 0.5 * torch.randn(20_000, 3, 3, generator=torch.Generator().manual_seed(0))
    many = many[torch.det(many) > 0]
    assert linear_maps.angle_error(many, wanted).min() > least
    assert linear_maps.least_error(-wanted) == 0
    assert linear_maps.angle_error(3 * wanted, wanted) < 1e-3
    assert linear_maps.angle_error(-wanted, wanted) == 1


def test_bounded_maps_keep_their_bound():
    with toys.seeded(0):
        maps = linear_maps.Maps(4, bound=0.5)
        maps.weight.data *= 30
    assert torch.linalg.matrix_norm(maps.matrix(), 2).tolist() == pytest.approx([0.5] * 4, rel=1e-5)


def test_orders_of_momentum_and_leapfrog():
    errors = linear_maps.second_order()
    for name, order in (("momentum", 1), ("leapfrog", 2), ("fixed c", 1)):
        assert np.log2(errors[name][-2] / errors[name][-1]) == pytest.approx(order, abs=0.05)


def test_linear_maps_result_respects_the_determinant():
    final = results.load("linear-maps")["final"]
    for row in final["rows"]:
        least = final["least_errors"][row["target"]]
        if row["c"] == 0 and row["bounded"]:
            assert min(row["errors"]) >= least - 1e-4
            assert row["least_det"] > 0


# --- the Lasso -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def lasso():
    d = lista.dictionary(0).double()
    with toys.seeded(5):
        y = lista.signals(d.float(), 4).double()
    return d, y, lista.solution(d, y)


def test_solution_fulfils_the_conditions_of_the_lasso(lasso):
    d, y, z = lasso
    gradient = (z @ d.T - y) @ d
    assert torch.where(z != 0, (gradient + lista.PENALTY * z.sign()).abs(), 0).max() < 1e-8
    assert gradient.abs().max() <= lista.PENALTY + 1e-8


def test_a_step_of_every_kind_keeps_the_solution(lasso):
    d, y, z = lasso
    for kind in lista.KINDS:
        with torch.no_grad():
            way = lista.Solver(d, kind, 2).iterates(y, z, 2)
        torch.testing.assert_close(way[-1], z, rtol=0, atol=1e-8)


def test_the_residual_network_with_istas_weights_is_ista(lasso):
    d, y, _ = lasso
    with torch.no_grad():
        way = lista.Solver(d, "ResNet", 6, shared=True).iterates(y, torch.zeros(4, lista.ATOMS).double(), 6)
    step = 1 / torch.linalg.matrix_norm(d, 2) ** 2
    z = torch.zeros(4, lista.ATOMS).double()
    for k in range(6):
        z = lista.soft(z - step * (z @ d.T - y) @ d, step * lista.PENALTY)
        torch.testing.assert_close(way[k + 1], z)
    *_, last = lista.classical(d, y, 6)
    torch.testing.assert_close(last, z)
    assert lista.objective(d, z, y).shape == (4,)


def test_coupling_keeps_volume_whatever_the_weights_and_momentum_shrinks_it(lasso):
    d, y, z = lasso
    for kind, factor in (("RevNet", 1.0), ("momentum 0.5", 0.5), ("momentum 0.9", 0.9)):
        with toys.seeded(1):
            solver = lista.Solver(d, kind, 2)
            for p in solver.parameters():
                p.data += 0.1 * torch.randn_like(p)
        assert lista.volume_factor(solver, y[:1], z[:1]) == pytest.approx(factor, rel=1e-8)


def test_a_short_run_has_all_it_promises():
    final = lista.measure_lista(seed=0, depths=(2,), steps=2, far=8).final
    assert set(final["depths"][0]) == {"depth", "ISTA", "FISTA", *lista.KINDS}
    assert [k for k, _ in final["held"]["RevNet"]] == [0, 4, 8] == [k for k, _ in final["steps"]["FISTA"]]
    assert final["held"]["ResNet"][0][1] == pytest.approx(1e-3, rel=1e-6)


def test_result_files_of_the_toys_are_from_clean_trees():
    for topic in (crossing, rings, linear_maps, lista):
        for run in topic.EXPERIMENTS[0].runs:
            record = results.load(run.name)
            assert record["evidence"]["uncommitted_changes"] is False
            assert record["seed"] == run.seed
            assert record["settings"]["make"] == run.make
