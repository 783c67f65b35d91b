"""Reversibility drift: its prediction against dense matrices and against measurements, gradients, and the claims."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

import revode
from revode import data
from revode.analysis import drift
from revode.analysis.drift import CLAIMS, Momentum, gradient_error, predicted, random_input, random_stage, round_trip
from revode.analysis.lyapunov import first_input
from revode.errors import BatchStatisticsError, NotInvertibleError
from revode.shear import forward

from .helpers import REVERSIBLE, images, stage

F32, F64 = torch.float32, torch.float64


# --- the random networks --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", REVERSIBLE)
def test_random_networks_are_those_of_the_formulas(name):
    h = 0.3
    made, x = random_stage(name, 2, h, width=6), random_input(3, 6)
    found = made.forward_state(made.scheme.start(x))
    (a, b), relu = x.chunk(2, dim=1), torch.relu
    v, older, y = torch.zeros_like(x), x, x
    for j, block in enumerate(made.blocks):
        k, first = block[0].weight, j == 0
        if name == "hamiltonian":
            a = a + h * relu(b @ k.T) @ k
            b = b - h * relu(a @ block[1].weight.T) @ block[1].weight
        elif name == "revnet":
            a = a + h * relu(b @ k.T) @ block[0].weight2.T
            b = b + h * relu(a @ block[1].weight.T) @ block[1].weight2.T
        elif name == "leapfrog":
            v = v - h * relu(y @ k.T) @ k
            y = y + h * v
        elif name == "midpoint":
            older, y = y, (y if first else older) + (h if first else 2 * h) * torch.tanh(y @ (k - k.T).T)
        else:
            f = torch.tanh(y @ k.T + block[0].bias) @ block[0].weight2.T + block[0].bias2
            v = h * v + (1 - h) * f
            y = y + v
    wanted = {"hamiltonian": (a, b), "revnet": (a, b), "midpoint": (y, older)}.get(name, (y, v))
    torch.testing.assert_close(found, tuple(w.detach() for w in wanted), check_stride=False, rtol=1e-13, atol=1e-13)


def test_random_weights_have_the_deviation_of_the_setting():
    momentum, hamiltonian = random_stage("momentum", 20, 0.9), random_stage("hamiltonian", 20)
    for wanted, made in ((1 / 8, [b[0].weight2 for b in momentum.blocks]), (0.1, [b[0].bias for b in momentum.blocks])):
        assert torch.stack(list(made)).std().item() == pytest.approx(wanted, rel=0.05)
    assert torch.stack([b[1].weight for b in hamiltonian.blocks]).std().item() == pytest.approx(32**-0.5, rel=0.05)
    assert not any(b[0].bias.any() for b in hamiltonian.blocks)
    assert torch.equal(random_stage("hamiltonian", 3).blocks[2][1].weight, hamiltonian.blocks[2][1].weight)


# --- the round trip ---------------------------------------------------------------------------------------------


def test_kappa_is_the_error_of_rounding():
    x = 2 ** (20 * torch.rand(200_000, dtype=F64, generator=torch.Generator().manual_seed(0)))
    relative = (x.float().double() - x) / x / drift.unit_roundoff(F32)
    assert relative.square().mean().sqrt().item() == pytest.approx(drift.KAPPA, rel=0.01)
    assert [math.log2(drift.unit_roundoff(d)) for d in drift.DTYPES] == [-11, -8, -24, -53]


def test_round_trip_is_forward_and_inverse_of_the_stage():
    made, x = random_stage("hamiltonian", 30, 0.3), random_input()
    found = round_trip(made, x, (20, 30))
    assert found.depths == (20, 30)
    low = random_stage("hamiltonian", 30, 0.3).float()
    start = low.scheme.start(x.float())
    end = low.forward_state(start)
    back = low.inverse_state(end)
    error = torch.cat(back).double() - torch.cat(start).double()
    assert found.error[1] == pytest.approx((error.norm() / torch.cat(start).double().norm()).item(), rel=1e-12)
    assert found.growth[1] == pytest.approx((torch.cat(end).double().norm() / torch.cat(start).double().norm()).item())
    assert next(made.parameters()).dtype == F64


def test_what_is_exact_in_binary_comes_back_exactly():
    made = revode.Stage(revode.RevNet(0.5), [[nn.Identity(), nn.Identity()]] * 4)
    assert round_trip(made, torch.tensor([[1.0, 2.0]])).error == (0.0,)


@pytest.mark.parametrize("name", REVERSIBLE)
def test_exact_arithmetic_has_no_drift_and_no_coarser_forward(name):
    h, x = (0.9 if name == "momentum" else 0.1), drift.random_input()
    for depth in (10, 100, 1000) if name == "hamiltonian" else (10, 100):
        stage = drift.random_stage(name, depth, h)
        assert drift.round_trip(stage, x, arithmetic="exact").error == (0.0,)
        assert drift.round_trip(stage, x).error[0] > 0
        assert drift.forward_error(stage, x, arithmetic="exact") < 4 * drift.forward_error(stage, x)


def test_forward_error_is_that_of_the_precision():
    stage, x = drift.random_stage("hamiltonian", 10), drift.random_input()
    errors = {d: drift.forward_error(stage, x, d) / drift.unit_roundoff(d) for d in drift.DTYPES[1:3]}
    assert all(0.3 < e < 30 for e in errors.values())
    assert drift.forward_error(stage, x, torch.float64) == 0


def test_an_overflow_is_reported_and_raises_nothing():
    made, x = random_stage("revnet", 60, 1.0), random_input()
    found = round_trip(made, x, (5, 60), torch.float16)
    assert 0 < found.error[0] < 1
    assert not math.isfinite(found.error[1])
    assert not math.isfinite(found.growth[1])


def test_numbers_whose_squares_overflow_are_no_overflow():
    huge = torch.tensor([[3e200, 0.0]], dtype=F64), torch.tensor([[0.0, -4e200]], dtype=F64)
    assert drift._norm(huge) == pytest.approx(5e200, rel=1e-14)
    assert drift._norm((torch.zeros(2),)) == 0
    assert drift._norm((torch.tensor([math.inf]), torch.ones(1))) == math.inf
    assert math.isnan(drift._norm((torch.ones(1), torch.tensor([math.nan, 1e200], dtype=F64))))


def linear(name: str, depth: int) -> revode.Stage:
    """A random network with the identity as activation."""
    made = random_stage(name, depth, 0.5 if name == "momentum" else 0.4, width=4, seed=5)
    for f in made.modules():
        if isinstance(f, revode.fields.Field):
            f.activation = "identity"
    if name == "momentum":  # large velocities, so that the roundings of c v count
        made.load_state_dict({k: p * (1.5 if p.dim() > 1 else 100.0) for k, p in made.state_dict().items()})
    return made


@pytest.mark.parametrize("name", REVERSIBLE)
def test_prediction_is_the_sum_of_carried_errors(name):
    """The same sum from the dense matrix of every shear, for a linear network."""
    made, x = linear(name, 4), random_input(1, 4)
    state = [p.detach() for p in made.scheme.start(x)]
    parts, n = len(state), state[0].shape[1]
    inverse, square, size = torch.eye(parts * n, dtype=F64), 0.0, torch.cat(state).norm().item()

    def carried(target: int, value: torch.Tensor) -> float:
        noise = torch.zeros(parts, n, dtype=F64)
        noise[target] = value[0]
        return (inverse * noise.flatten()).square().sum().item()

    for s in made.shears():
        matrix = torch.stack(
            [torch.cat(forward([s], tuple(e.reshape(parts, 1, n))), 1)[0] for e in torch.eye(parts * n, dtype=F64)], 1
        ).detach()
        if s.g is not None:  # without its constant part
            zero = forward([s], tuple(torch.zeros(parts, 1, n, dtype=F64)))
            matrix = matrix - torch.cat(zero, 1)[0].detach()[:, None]
        square += (1 if s.c == 1 else 3) * carried(s.target, state[s.target])
        inverse = inverse @ torch.linalg.inv(matrix)
        state = [p.detach() for p in forward([s], tuple(state))]
        square += carried(s.target, state[s.target])
    wanted = drift.KAPPA * 2.0**-24 * square**0.5 / size
    assert predicted(made, x.expand(20_000, 4))[0] == pytest.approx(wanted, rel=0.03)


# --- the step size up to which each layer is stable ------------------------------------------------------------


@pytest.mark.parametrize("name", ["hamiltonian", "leapfrog", "midpoint"])
def test_critical_step_is_where_the_first_layer_alone_loses_its_stability(name):
    """Against the one-step map of each layer as a dense matrix; linear, so that it is the same at every state."""
    made, x = linear(name, 4), random_input(1, 4)
    critical = drift.critical_step(made, x)

    def worst(h: float) -> float:
        made.h, sizes = h, []
        for block in made.blocks:
            y = [p.shape for p in made.scheme.start(x)]
            columns = [
                torch.cat(forward(made.scheme.shears(block, 1) + made.scheme.shears(block, 2) * (name == "midpoint"),
                                  tuple(e.reshape(len(y), *y[0]))), 1)[0]
                for e in torch.eye(sum(s.numel() for s in y), dtype=F64)
            ]  # fmt: skip
            sizes.append(torch.linalg.eigvals(torch.stack(columns, 1).detach()).abs().max().item())
        return max(sizes)

    assert worst(0.999 * critical) == pytest.approx(1, abs=1e-5)
    assert worst(1.01 * critical) > 1.05


def test_critical_step_where_there_is_none():
    assert drift.critical_step(random_stage("revnet", 3), random_input(1)) == 0
    with pytest.raises(ValueError, match="'momentum' must be one of"):
        drift.critical_step(random_stage("momentum", 2, 0.9), random_input(1))


@pytest.mark.parametrize(
    ("name", "depths"),
    [("hamiltonian", (10, 100, 500)), ("midpoint", (10, 100, 300)), ("leapfrog", (10, 100)), ("revnet", (10, 100))],
)
def test_prediction_meets_measurement(name, depths):
    made, x = random_stage(name, depths[-1]), random_input()
    ratio = np.array(predicted(made, x, depths)) / round_trip(made, x, depths).error
    assert ((ratio > 0.5) & (ratio < 4)).all(), ratio


@pytest.mark.parametrize("dtype", drift.DTYPES)
def test_prediction_meets_measurement_in_every_precision(dtype):
    for name, h, depth in (("hamiltonian", 0.1, 50), ("momentum", 0.9, 20), ("hamiltonian", 0.4, 30)):
        made, x = random_stage(name, depth, h), random_input()
        ratio = predicted(made, x, dtype=dtype)[0] / round_trip(made, x, dtype=dtype).error[0]
        assert 0.5 < ratio < 4, (name, ratio)


def test_a_trained_network_drifts_as_predicted():
    network = revode.load_trained("leapfrog-26")
    x = data.normalize(data.load("sample", "test").images[:1], *data.load("sample", "train").mean_std())
    x = nn.functional.avg_pool2d(x, 2)
    rows = drift.of_network(network, x)
    assert [(r["unit"], r["layers"]) for r in rows] == [(i, len(s.blocks)) for i, s in enumerate(network.stages)]
    for r in rows:
        assert 0.3 < r["predicted"] / r["drift"] < 10, r
    assert round_trip(network.stages[0], first_input(network, x)).error == (rows[0]["drift"],)


# --- gradients --------------------------------------------------------------------------------------------------


def test_angle_is_accurate_where_it_is_small():
    a = torch.tensor([1.0, 0.0], dtype=F64)
    for degrees in (1e-10, 1e-3, 60.0, 179.0):
        b = 3 * torch.tensor([math.cos(math.radians(degrees)), math.sin(math.radians(degrees))], dtype=F64)
        assert drift.angle(a, b) == pytest.approx(degrees, rel=1e-9)


def test_gradient_error_grows_with_the_drift_and_only_for_rebuilt_activations():
    made, x = random_stage("hamiltonian", 80, 0.5), random_input()
    shallow, deep = gradient_error(made, x, (5, 80))
    assert shallow["depth"] == 5
    assert shallow["relative"] < 2e-6
    assert deep["stored_relative"] < 2e-4
    assert deep["relative"] > 20 * deep["stored_relative"]
    assert deep["angle_degrees"] > 20 * deep["stored_angle_degrees"]
    assert math.sin(math.radians(deep["angle_degrees"])) <= deep["relative"] * 1.001
    (exact,) = gradient_error(made, x, (20,), F64)
    assert exact["stored_relative"] == exact["stored_angle_degrees"] == 0
    assert 0 < exact["relative"] < 1e-11
    assert made.memory == "reversible"


def test_gradient_error_compares_the_gradient_of_the_parameters():
    made, x = random_stage("midpoint", 6, 0.2), random_input(4)
    (found,) = gradient_error(made, x)
    low, high = (random_stage("midpoint", 6, 0.2).float().to(d) for d in (F32, F64))
    for s in (low, high):
        y = s(x.float().to(next(s.parameters()).dtype))
        w = torch.randn(y.shape, generator=torch.Generator().manual_seed(0), dtype=F64).to(y)
        (y * w).sum().backward()
    a, b = (torch.cat([p.grad.double().flatten() for p in s.parameters()]) for s in (low, high))
    assert found["relative"] == pytest.approx(((a - b).norm() / b.norm()).item(), rel=1e-3)


# --- claims -----------------------------------------------------------------------------------------------------


def test_every_claim_is_there_and_reproduces():
    assert {c.number for c in CLAIMS} == {1, 2, 3, 4, 5, 6, 7, 8, 23}
    rows = drift.reproduce()
    assert [r["quantity"] for r in rows if not r["holds"]] == []


def test_a_claim_can_fail():
    claim = CLAIMS[0]
    assert not claim.holds(2.7)
    assert not replace(claim, expected=-4.0).holds(4.0)
    assert replace(claim, expected=0.0).holds(0.0)
    assert not replace(claim, expected=0.0).holds(1e-3)
    assert not replace(claim, relation="<").holds(math.nan)
    assert replace(claim, relation=">").holds(math.nan)
    assert not replace(claim, relation=">").holds(1.0)
    assert not claim.holds(math.nan)


# --- refusals ---------------------------------------------------------------------------------------------------


def test_what_cannot_be_measured_is_refused():
    made, x = random_stage("hamiltonian", 3), random_input()
    for depths in ((0,), (4,), ()):
        with pytest.raises(ValueError, match="1 to 3, the number of blocks"):
            round_trip(made, x, depths)
    with pytest.raises(ValueError, match=r"dtype = torch.int64 must be one of: torch.float16"):
        round_trip(made, x, dtype=torch.int64)
    with pytest.raises(ValueError, match=r"needs float32 on a CUDA device, not torch\.float32 on cpu"):
        round_trip(made, x, tf32=True)
    with pytest.raises(ValueError, match=r"name = 'euler' must be one of"):
        random_stage("euler", 3)
    with pytest.raises(ValueError, match="no parameters"):
        gradient_error(revode.Stage(revode.RevNet(), [[nn.Identity(), nn.Identity()]]), x)
    with pytest.raises(BatchStatisticsError):
        round_trip(stage("revnet"), images())
    with pytest.raises(NotInvertibleError):
        round_trip(stage("euler", norm=False), images())
    for c in (1, -0.5, math.nan):
        with pytest.raises(ValueError, match="must lie between 0 and 1"):
            Momentum(c=c)
    with pytest.raises(NotInvertibleError, match="without the velocity"):
        Momentum().resume(x)


@pytest.mark.needs_cuda
def test_tf32_is_coarser_and_leaves_the_setting_alone():
    made, x = random_stage("hamiltonian", 20, 0.5).cuda(), random_input().cuda()
    before = torch.get_float32_matmul_precision()
    assert round_trip(made, x, tf32=True).error[0] > round_trip(made, x).error[0]
    assert torch.get_float32_matmul_precision() == before
