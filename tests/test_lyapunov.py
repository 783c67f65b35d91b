"""Lyapunov exponents against published values, determinants and singular values of dense matrices."""

from __future__ import annotations

import dataclasses
import math
import re
import subprocess
import sys

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import revode
from revode import cli, data, results
from revode.analysis import growth, lyapunov, systems
from revode.analysis.drift import Momentum
from revode.analysis.lyapunov import exponents, flow, inverse_growth, inverse_layers, joined, layers, maximal
from revode.errors import BatchStatisticsError, ExponentCountError, NonFiniteStateError, NotInvertibleError
from revode.fields import BranchField

from .helpers import ALL, REVERSIBLE, stage


def uniform(low, high, *shape: int) -> Tensor:
    """Uniform float64 numbers."""
    generator = torch.Generator().manual_seed(1)
    return low + (high - low) * torch.rand(*shape, generator=generator, dtype=torch.float64)


def matrices(functions, x: Tensor) -> Tensor:
    """The Jacobian of each function along the orbit of the single state x, by reverse mode."""
    out = []
    for f in functions:
        out.append(torch.func.jacrev(lambda y, f=f, x=x: f(y.reshape(x.shape)).reshape(-1))(x.reshape(-1)))
        x = f(x)
    return torch.stack(out).detach()


def product(functions, x: Tensor) -> Tensor:
    """The Jacobian of all functions together."""
    whole = torch.eye(x.numel(), dtype=x.dtype)
    for jacobian in matrices(functions, x):
        whole = jacobian @ whole
    return whole


# --- published values ---------------------------------------------------------------------------------------


def test_logistic_map_at_four():
    """ln 2, Ott 2002. The error of one orbit is of order 1/t, for it telescopes: 200 orbits of 500 steps give 1e-4."""
    found = exponents(lambda x: 4 * x * (1 - x), uniform(0.01, 0.99, 200), count=500, skip=20)
    assert found.standard_error[0] < 4e-4
    assert found.mean[0] == pytest.approx(math.log(2), abs=1e-3)
    assert np.abs(found.curve[9, :, 0] - math.log(2)).mean() > 5 * np.abs(found.values - math.log(2)).mean()


def test_henon_map():
    """0.4192 and -1.6232 at a = 1.4, b = 0.3 (Sprott 2003); the sum is ln b, step by step."""

    def henon(s: Tensor) -> Tensor:
        x, y = s.unbind(1)
        return torch.stack([(1 + y).sub(x**2, alpha=1.4), 0.3 * x], dim=1)

    found = exponents(henon, uniform(-0.1, 0.1, 2000, 2), count=400, skip=50)
    assert (found.standard_error < 7e-4).all()
    assert found.mean == pytest.approx([0.4192, -1.6232], abs=2.5e-3)
    assert found.values.sum(axis=1) == pytest.approx(np.full(2000, math.log(0.3)), abs=1e-12)


def test_harmonic_oscillator_has_none():
    found = exponents(
        flow(lambda s: torch.stack([s[:, 1], -s[:, 0]], 1), 0.05), uniform(-1, 1, 3, 2), count=200, dt=0.05
    )
    damping = -(0.05**5) / 144  # of RK4, in the modulus of 1 + z + z^2/2 + z^3/6 + z^4/24 at z = 0.05 i
    assert found.values == pytest.approx(np.full((3, 2), damping), abs=1e-11)


# --- what must hold for every step ----------------------------------------------------------------------------


def random_steps(count: int = 12, size: int = 5) -> list:
    """Nonlinear functions with no structure."""
    generator = torch.Generator().manual_seed(3)
    weights = torch.randn(count, 2, size, size, generator=generator, dtype=torch.float64) / size**0.5
    return [lambda x, a=a, b=b: x @ a + torch.tanh(x @ b) * x.roll(1, dims=1) for a, b in weights]


@pytest.mark.parametrize("every", [1, 5])
def test_the_sum_is_the_mean_logarithm_of_the_determinant(every):
    steps, x = random_steps(), uniform(-1, 1, 3, 5)
    found = exponents(steps, x, every=every, dt=0.5)
    for n in range(3):
        logs = torch.linalg.slogdet(matrices(steps, x[n : n + 1])).logabsdet
        assert found.values[n].sum() == pytest.approx(logs.mean().item() / 0.5, rel=1e-10)
        if every == 1:
            running = logs.cumsum(0).numpy() / found.times
            assert found.curve[:, n].sum(axis=1) == pytest.approx(running, rel=1e-10)
    for f in steps:
        x = f(x)
    torch.testing.assert_close(found.state, x)


def test_renormalising_less_often_gives_the_same():
    steps, x = random_steps(), uniform(-1, 1, 2, 5)
    often, seldom = (exponents(steps, x, 3, every=every) for every in (1, 5))
    assert seldom.values == pytest.approx(often.values, rel=1e-9)
    assert seldom.times.tolist() == [5, 10, 12]
    assert seldom.curve[0] == pytest.approx(often.curve[4], rel=1e-9)


def test_the_leading_ones_are_the_first_of_the_full_set():
    steps, x = random_steps(), uniform(-1, 1, 2, 5)
    full = exponents(steps, x, align=1)
    assert full.values.shape == (2, 5)
    one = maximal(steps, x, align=30)
    largest = [torch.linalg.matrix_norm(product(steps, x[n : n + 1]), 2).log().item() / 12 for n in range(2)]
    assert one.values[:, 0] == pytest.approx(largest, rel=1e-9)


def test_aligned_tangents_give_the_singular_values_of_the_whole_map():
    steps, x = random_steps(), uniform(-1, 1, 1, 5)
    wanted = torch.linalg.svdvals(product(steps, x)).log().numpy() / 12
    assert exponents(steps, x, align=30).values[0] == pytest.approx(wanted, abs=1e-8)
    assert exponents(steps, x, 2, align=30).values[0] == pytest.approx(wanted[:2], abs=1e-8)
    assert np.abs(exponents(steps, x).values[0] - wanted).max() > 0.01  # from random directions they differ


def test_a_singular_step_has_minus_infinity():
    assert maximal([lambda x: 0 * x], torch.ones(2, 3)).values == pytest.approx(np.full((2, 1), -np.inf))
    found = exponents([lambda x: 0 * x, lambda x: x], torch.ones(2, 3), 1)
    assert found.values == pytest.approx(np.full((2, 1), -np.inf))
    assert np.isnan(found.standard_error).all()


# --- pairing --------------------------------------------------------------------------------------------------


class Kick(nn.Module):
    """The gradient of -sum cos(2 y_i) - cos(sum y_i): coupled standard maps, which are chaotic."""

    def forward(self, y: Tensor) -> Tensor:
        return 2 * torch.sin(2 * y) + torch.sin(y.sum(1, keepdim=True))


def symplectic(depth: int) -> revode.Stage:
    """q += p, p -= the gradient of a function of q."""
    return revode.Stage(revode.Hamiltonian(1.0), [[nn.Identity(), Kick()]] * depth)


def unpaired(values) -> float:
    """The largest sum of a value and its partner."""
    values = np.sort(np.asarray(values), axis=-1)
    return np.abs(values + values[..., ::-1]).max()


def test_singular_values_pair_to_rounding_and_qr_exponents_only_in_the_limit():
    steps = layers(short := symplectic(4))
    state = joined(short, uniform(-3, 3, 3, 4))
    for n in range(3):
        values = torch.linalg.svdvals(product(steps, state[n : n + 1])).log()
        assert values[0] > 3
        assert unpaired(values) < 1e-9  # rounding times the condition number, which is below 1e6
    curve = exponents(layers(symplectic(400)), state).curve
    errors = [unpaired(curve[depth - 1]) for depth in (4, 40, 400)]
    assert errors[0] > 0.05
    assert errors[0] > 3 * errors[1] > 9 * errors[2]


# --- networks -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ALL)
def test_layers_are_the_stage(name):
    made = stage(name, channels=4).double().eval()
    x = uniform(-1, 1, 2, 4, 3, 3)
    state = joined(made, x)
    for layer in layers(made):
        state = layer(state)
    wanted = made.forward_state(made.scheme.start(x))
    torch.testing.assert_close(state, torch.stack(wanted, dim=1), rtol=1e-13, atol=1e-13)
    assert exponents(layers(made), joined(made, x), 2).values.shape == (2, 2)


@pytest.mark.parametrize("name", REVERSIBLE)
def test_inverse_layers_undo_the_layers(name):
    made = stage(name, channels=4).double().eval()
    start = state = joined(made, uniform(-1, 1, 2, 4, 3, 3))
    for layer in layers(made) + inverse_layers(made):
        state = layer(state)
    torch.testing.assert_close(state, start, rtol=1e-12, atol=1e-12)


def test_a_network_without_inverse_has_no_inverse_growth():
    made = stage("euler", channels=4).double().eval()
    with pytest.raises(NotInvertibleError, match="not reversible"):
        inverse_growth(made, joined(made, uniform(-1, 1, 1, 4, 3, 3)))


@pytest.mark.parametrize("name", [n for n in REVERSIBLE if n != "momentum"])
def test_volume_is_kept_by_every_scheme_of_shears_with_c_1(name):
    made = stage(name, channels=2, act=nn.Tanh).double().eval()
    found = exponents(layers(made), joined(made, uniform(-1, 1, 2, 2, 3, 3)))
    assert found.values.sum(axis=1) == pytest.approx(np.zeros(2), abs=1e-12)


def test_the_inverse_follows_the_smallest_exponent():
    """Momentum shrinks volume by c^d in each step: its inverse grows by about 1/c where nothing grows forward."""
    torch.manual_seed(0)
    blocks = [[BranchField(2, activation="tanh", normalization="none", activate=False, dense=True)] for _ in range(40)]
    made = revode.Stage(Momentum(), blocks).double()
    for p in made.parameters():
        p.data *= 0.4
    state = joined(made, uniform(-1, 1, 2, 2))
    full = exponents(layers(made), state, align=6)
    assert full.values.sum(axis=1) == pytest.approx(np.full(2, 2 * math.log(0.9)), rel=1e-10)
    inverse = inverse_growth(made, state, align=6)
    assert inverse.values[:, 0] == pytest.approx(-full.values[:, -1], abs=1e-6)
    assert inverse.values[:, 0] == pytest.approx(np.full(2, -math.log(0.9)), rel=0.6)
    assert (inverse.values[:, 0] > 1.5 * full.values[:, 0]).all(), (full.values, inverse.values)


def test_the_first_stage_gets_what_the_stem_makes():
    network = revode.load_trained("leapfrog-26")
    x = data.normalize(data.load("sample", "test").images[:2], *data.load("sample", "train").mean_std())
    wanted = torch.relu(network.stem_norm(network.stem(x)))
    torch.testing.assert_close(lyapunov.first_input(network, x), wanted.detach())
    assert not network.stages[0]._forward_pre_hooks


def test_statistics_are_settled_on_one_batch():
    network = revode.build("leapfrog-26", seed=0)
    x = data.normalize(data.load("sample", "test").images[:4], *data.load("sample", "train").mean_std())
    lyapunov.settle_statistics(network, x)
    torch.testing.assert_close(network.stem_norm.running_mean, network.stem(x).mean((0, 2, 3)).detach())


def test_standard_error_is_that_of_the_mean():
    assert lyapunov.standard_error(np.array([[1.0], [2.0], [3.0]])) == pytest.approx([3**-0.5])


# --- refusals -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("k", [0, 6, -1, 1.5])
def test_a_number_of_exponents_that_there_is_not_is_refused(k):
    with pytest.raises(ExponentCountError, match="whole number from 1 to 5"):
        exponents(random_steps(), uniform(-1, 1, 2, 5), k)


def test_a_state_that_is_not_finite_is_refused_with_its_step():
    x = torch.tensor([[0.5], [5.0]])
    with pytest.raises(NonFiniteStateError, match=r"after step 2 .*input\(s\) \[1\]"):
        exponents(lambda x: x**4, x, count=10)
    with pytest.raises(NonFiniteStateError, match=r"initial state .*\[0\]"):
        exponents(lambda x: x, torch.tensor([[math.inf]]), count=1)
    with pytest.raises(NonFiniteStateError, match="tangent after step 9"):
        exponents(lambda x: 1e9 * torch.sin(x), torch.zeros(1, 2), count=10, every=10)


def test_batch_normalization_in_training_mode_is_refused():
    made = stage("revnet")
    for call in (layers, inverse_layers):
        with pytest.raises(BatchStatisticsError, match=r"0\.0\.norm .*call \.eval\(\)"):
            call(made)
    with pytest.raises(BatchStatisticsError):
        exponents([nn.BatchNorm1d(3)], torch.ones(2, 3))
    assert len(layers(made.eval())) == 4


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"count": 3, "every": 0}, "every = 0 must be a whole number of steps, 1 or more"),
        ({"count": 3, "skip": 3}, "skip = 3 must be a whole number of steps, 0 to 2"),
        ({"count": 3, "align": -1}, "align = -1"),
        ({"count": 3, "align": 1, "skip": 1}, "one of them must be 0"),
        ({"count": 3, "dt": 0.0}, "dt = 0.0 must be a finite number > 0"),
        ({}, "count = None must be a whole number of steps"),
    ],
)
def test_arguments_out_of_range_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        exponents(torch.tanh, torch.ones(2, 3), **options)


def test_steps_and_states_of_a_wrong_kind_are_refused():
    with pytest.raises(ValueError, match="list of 1 steps"):
        exponents([torch.tanh], torch.ones(2, 3), count=2)
    with pytest.raises(ValueError, match="list of 0 steps"):
        exponents([], torch.ones(2, 3))
    with pytest.raises(ValueError, match=r"step 0 returned shape \(2, 2\)"):
        exponents([lambda x: x[:, :2]], torch.ones(2, 3))
    for x in (torch.ones(2, 3, dtype=torch.long), torch.tensor(1.0), torch.ones(0, 3), [1.0]):
        with pytest.raises(ValueError, match="must be a floating tensor of shape"):
            exponents([torch.tanh], x)


# --- small states as matrices; images; the command ----------------------------------------------------------------


def test_jacobians_are_those_of_reverse_mode():
    steps, x = random_steps(), uniform(-1, 1, 3, 5)
    found = lyapunov.jacobians(steps, x)
    assert found.shape == (12, 3, 5, 5)
    for n in range(3):
        torch.testing.assert_close(found[:, n], matrices(steps, x[n : n + 1]), rtol=1e-12, atol=1e-12)


@pytest.fixture(scope="module")
def trained():
    network = revode.load_trained("hamiltonian-74").double().eval()
    images = data.load("sample", "test").images[:1]
    x = data.normalize(images, network.meta["mean"], network.meta["std"]).double()
    return network, F.avg_pool2d(x, 2)


def test_distances_begin_behind_the_stem_and_end_before_the_head(trained):
    network, x = trained
    found = lyapunov.distances(network, x, 1.1 * x)
    assert [len(d) for d in found] == [len(s.blocks) + 1 for s in network.stages]
    seen = []
    hook = network.norm.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    with torch.no_grad():
        network(torch.cat([x, 1.1 * x]))
        first = lyapunov.first_input(network, torch.cat([x, 1.1 * x]))
    hook.remove()
    assert found[0][0] == pytest.approx((first[0] - first[1]).norm().item(), rel=1e-12)
    assert found[-1][-1] == pytest.approx((seen[0][0] - seen[0][1]).norm().item(), rel=1e-10)


def test_the_worst_change_grows_more_than_any_other_that_was_tried(trained):
    network, x = trained
    worst = lyapunov.worst_change(network, x)
    assert worst.norm().item() == pytest.approx(1.0)

    def grown(d: Tensor) -> float:
        return lyapunov.distances(network, x, x + 1e-6 * d)[0][-1] / 1e-6

    others = torch.randn(5, *x.shape, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    assert grown(worst) > 2 * max(grown(d / d.norm()) for d in others)
    fewer = lyapunov.worst_change(network, x, passes=2)
    assert grown(fewer) < grown(worst)


def test_the_worst_change_through_the_network_grows_more_than_that_through_a_unit(trained):
    network, x = trained
    unit, whole = (lyapunov.worst_change(network, x, passes=2, through=n) for n in (1, len(network.stages)))
    one, other = (lyapunov.linear_distances(network, x, d) for d in (unit, whole))
    assert one[0][-1] > other[0][-1], "at the end of the first unit"
    assert other[-1][-1] > one[-1][-1], "at the end of the last one"
    with pytest.raises(ValueError, match="through = 4 must be a whole number of units, 1 to 3"):
        lyapunov.worst_change(network, x, through=4)


def test_linear_distances_are_the_limit_of_distances_in_every_unit(trained):
    network, x = trained
    d = torch.randn(x.shape, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    linear = lyapunov.linear_distances(network, x, d)
    for e in (1e-7, -1e-7):  # small enough that hardly an entry passes the kink of a ReLU
        found = lyapunov.distances(network, x, x + e * d)
        for limit, norms in zip(linear, found, strict=True):
            np.testing.assert_allclose(norms / abs(e), limit, rtol=1e-4)
    np.testing.assert_allclose(lyapunov.linear_distances(network, x, 3 * d)[2], 3 * linear[2], rtol=1e-12)


def test_states_of_the_units_lead_to_the_logits(trained):
    network, x = trained
    states = lyapunov.unit_states(network, x)
    assert [len(unit) for unit in states] == [len(s.blocks) + 1 for s in network.stages]
    with torch.no_grad():
        y = network.stages[-1].scheme.finish(states[-1][-1].unbind(dim=1), len(network.stages[-1].blocks))
        logits = network.fc(torch.relu(network.norm(y)).mean(dim=(2, 3)))
        torch.testing.assert_close(logits, network(x), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("name", systems.SYSTEMS)
def test_known_systems_meet_their_values(name, monkeypatch):
    system = systems.SYSTEMS[name]
    found = system.measure()
    monkeypatch.setattr(systems.System, "measure", lambda self, seed: found)
    rows = systems.compare([name])
    assert all(row["holds"] for row in rows), rows
    assert len(rows) == {"logistic": 1, "lorenz": 4}.get(name, 3)
    assert found.times[-1] == pytest.approx((system.count - system.skip) * system.dt)
    if name == "lorenz":  # the volume of every single orbit, but for the error of RK4
        assert found.values.sum(axis=1) == pytest.approx(np.full(system.inputs, -(10 + 1 + 8 / 3)), abs=8e-3)


def test_a_known_system_can_be_missed(monkeypatch):
    other = dataclasses.replace(systems.SYSTEMS["logistic"], step=lambda x: 3.9 * x * (1 - x))
    monkeypatch.setitem(systems.SYSTEMS, "logistic", other)
    (row,) = systems.compare(["logistic"])
    assert not row["holds"]


def test_drift_grows_with_the_inverse_and_the_state():
    hamiltonian, momentum = (growth.rates(n, h, [20, 40, 60]) for n, h in (("hamiltonian", 0.5), ("momentum", 0.8)))
    assert hamiltonian["measured"] == pytest.approx(hamiltonian["predicted"], rel=0.25)
    assert hamiltonian["measured"] > 1.5 * hamiltonian["inverse"]  # the state grows as well
    assert momentum["measured"] == pytest.approx(momentum["inverse"], rel=0.15)
    assert momentum["measured"] > 3 * momentum["forward"]
    with pytest.raises(ValueError, match=r"depths = \[3\] must be two or more"):
        growth.rates("momentum", 0.8, [3])


def test_the_first_jvp_of_a_process_shows_no_warning():
    code = "import torch; from revode.analysis.lyapunov import maximal; maximal(torch.tanh, torch.ones(1, 2), count=1)"
    done = subprocess.run([sys.executable, "-W", "error::FutureWarning", "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_the_command_writes_a_result(tmp_path, monkeypatch, capsys):
    """Of the trained network and fresh ones, on images of 8 x 8 pixels."""
    images = {split: data.load("sample", split) for split in ("train", "test")}
    small = {
        split: dataclasses.replace(s, images=F.adaptive_avg_pool2d(s.images.float(), 8).to(torch.uint8))
        for split, s in images.items()
    }
    monkeypatch.setattr(lyapunov.data, "load", lambda name, split: small[split])
    out = tmp_path / "new" / "found.json"
    argv = ["lyapunov", "leapfrog-26", "--data", "sample", "--images", "1", "-k", "2", "--h", "0.5", "--align", "1"]
    assert cli.main([*argv, "--out", str(out)]) == 0
    lines = capsys.readouterr().out.splitlines()
    record = results.read(out)
    assert (record["name"], record["kind"], record["status"]) == ("found", "lyapunov", "finished")
    settings, runs = record["settings"], record["final"]["runs"]
    assert (settings["images"], settings["h"]) == (1, [0.5])
    assert (settings["dimension"], settings["depth"]) == (2 * 32 * 8 * 8, 5)
    assert [row["passes"] for row in record["final"]["alignment"]] == [0, 1, 2, 4]
    assert [r["weights"] for r in runs] == ["trained", "initial", "initial, settled"]
    for run in runs:
        assert np.shape(run["leading"]["curve"]) == np.shape(run["leading"]["curve_error"]) == (5, 2)
        assert run["leading"]["mean"][0] > run["random"]["mean"][0] > 0
        assert run["inverse"]["mean"][0] > run["inverse_random"]["mean"][0] > 0
    assert len({run["leading"]["mean"][0] for run in runs}) == 3
    assert len(lines) == 5
    growth_of = [math.exp(r["leading"]["mean"][0]) for r in runs]
    assert [float(re.search(r" 0.5 +([\d.]+)", line)[1]) for line in lines[1:4]] == pytest.approx(growth_of, abs=6e-4)


def test_the_command_knows_its_networks(capsys):
    assert cli.main(["lyapunov", "resnet-33"]) == 2
    assert "there are no trained weights 'resnet-33'" in capsys.readouterr().err
