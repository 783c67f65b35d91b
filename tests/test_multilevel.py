"""Multilevel training: the finer network is of the same equation, and everything it carries comes along."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from torch import nn

from revode import Network, TrainConfig, build
from revode.experiments import multilevel
from revode.fields import AntisymmetricField, BranchField, SymmetricField
from revode.multilevel import carry, origins, refine
from revode.schemes import Euler, Hamiltonian, Leapfrog, Midpoint, Momentum, RevNet
from revode.stage import Stage

SCHEMES = ("hamiltonian", "midpoint", "leapfrog", "revnet", "momentum", "euler")
BOTH = pytest.mark.parametrize("interpolation", ["copy", "linear"])


# --- the same flow --------------------------------------------------------------------------------------------------

RULES = {
    "euler": (Euler, BranchField, 1),
    "momentum": (lambda h: Momentum(h, 1 - h / 0.7), BranchField, 1),
    "momentum-field": (lambda h: Momentum(h, 1 - h / 0.7, start="field"), BranchField, 1),
    "hamiltonian": (Hamiltonian, SymmetricField, 1),
    "revnet": (RevNet, BranchField, 1),
    "leapfrog": (Leapfrog, SymmetricField, 1),
    "leapfrog-half-kick": (lambda h: Leapfrog(h, start="half-kick"), SymmetricField, 2),
    "midpoint": (Midpoint, AntisymmetricField, 2),
}  # fmt: skip


def smooth_stage(make, field, steps, time=1.0):
    """Weights A + sin(t) B + cos(2 t) C at t = j h, of one equation for every number of steps."""
    h = time / steps
    scheme = make(h)
    generator = torch.Generator().manual_seed(0)
    block = lambda: nn.ModuleList(  # noqa: E731
        field(4, activation="tanh", normalization="none", dense=True) for _ in range(scheme.fields)
    )
    parts = [[0.5 * torch.randn(p.shape, generator=generator) for p in block().parameters()] for _ in range(3)]
    blocks = []
    for j in range(steps):
        blocks.append(block())
        for p, a, b, c in zip(blocks[-1].parameters(), *parts, strict=True):
            p.data = a + math.sin(j * h) * b + math.cos(2 * j * h) * c
    return Stage(scheme, blocks).double()


@BOTH
@pytest.mark.parametrize("rule", RULES)
def test_outputs_differ_by_a_power_of_h(rule, interpolation):
    """First order for copies, which read weights half a step late; for means that of the scheme."""
    make, field, order = RULES[rule]
    x = torch.randn(5, 8, generator=torch.Generator().manual_seed(1), dtype=torch.float64)[:, : 4 * make(0.1).fields]
    gaps = []
    for steps in (32, 64):
        stage = smooth_stage(make, field, steps)
        with torch.no_grad():
            gaps.append((refine(stage, interpolation)(x) - stage(x)).norm().item())
    slope = math.log2(gaps[0] / gaps[1])
    assert slope == pytest.approx(order if interpolation == "linear" else 1, abs=0.12)


def test_a_copy_of_a_constant_field_is_the_scheme_at_half_the_step():
    """Linear fields without change in time: the finer stage is exp(T A) by Euler with twice the steps."""
    field = AntisymmetricField(2, activation="identity", normalization="none", dense=True).double()
    stage = Stage(Euler(0.25), [[copy.deepcopy(field)] for _ in range(4)])
    matrix = field.operator.antisymmetric(field.weight).detach()
    step = torch.eye(2, dtype=torch.float64) + 0.125 * matrix
    x = torch.randn(3, 2, dtype=torch.float64)
    torch.testing.assert_close(refine(stage)(x), x @ torch.linalg.matrix_power(step, 8).T)


def test_momentum_keeps_its_equation():
    stage = smooth_stage(lambda h: Momentum(h, 0.8), BranchField, 4)
    eps = stage.h / (1 - stage.scheme.c)
    finer = refine(refine(stage))
    assert finer.h == stage.h / 4
    assert finer.scheme.c == pytest.approx(0.95)
    assert finer.h / (1 - finer.scheme.c) == pytest.approx(eps)


@pytest.mark.parametrize("learn", [False, True])
def test_momenta_of_layers_follow_their_layers(learn):
    stage = smooth_stage(lambda h: Momentum(h, [0.5, 0.9, 0.8], learn=learn), BranchField, 3)
    finer = refine(stage)
    assert list(finer.scheme.c) == pytest.approx([0.75, 0.75, 0.95, 0.95, 0.9, 0.9])
    assert len(finer(torch.ones(1, 4, dtype=torch.float64))) == 1
    assert refine(smooth_stage(lambda h: Momentum(h, 0.0), BranchField, 2)).scheme.c == 0  # x' = f(x) stays that


@pytest.mark.parametrize("learn_c", ["no", "shared", "layer"])
def test_the_momentum_of_a_network_is_halved_once(learn_c, x):
    net = network("momentum", (2, 2), c=0.8, learn_c=learn_c)
    finer = refine(net)
    schemes = [stage.scheme for stage in finer.stages]
    assert {scheme.h for scheme in schemes} == {0.1}
    values = [c for s in schemes for c in (s.c if isinstance(s.c, tuple) else [s.c])]
    assert values == pytest.approx([0.9] * len(values))
    assert len({id(s) for s in schemes}) == len({id(stage.scheme) for stage in net.stages})
    again = Network(**finer.settings)
    again.load_state_dict(finer.state_dict())
    torch.testing.assert_close(again.eval()(x), finer.eval()(x))


@BOTH
def test_tied_weights_stay_tied(interpolation):
    block = nn.ModuleList([BranchField(3, dense=True)])
    finer = refine(Stage(Euler(0.1), [block] * 3), interpolation)
    assert len(finer.blocks) == 6
    assert len({id(b) for b in finer.blocks}) == 1
    assert finer.blocks[0] is not block


def test_one_kernel_of_two_functions_stays_one():
    from revode.fields import OneLayerField

    stage = Stage(Hamiltonian(0.1), [OneLayerField.pair(3, normalization="none", dense=True) for _ in range(2)])
    finer = refine(stage, "linear")
    assert all(f.weight is g.weight for f, g in finer.blocks)
    mean = (stage.blocks[0][0].weight + stage.blocks[1][0].weight) / 2
    torch.testing.assert_close(finer.blocks[1][0].weight, mean)


# --- networks -------------------------------------------------------------------------------------------------------


def network(scheme, units=(2, 2, 2), **options):
    usual = {"h": 0.2, "seed": 0}
    return Network(scheme, units, (4, 8, 12)[: len(units)], num_classes=3, **usual | options)


def walked(net, x):
    """The network after a few steps of training: weights, running statistics and momenta that are no zeros."""
    optimizer = torch.optim.SGD(net.parameters(), lr=0.01, momentum=0.9)
    for _ in range(2):
        optimizer.zero_grad()
        net(x).square().mean().backward()
        optimizer.step()
    return optimizer


@pytest.fixture
def x():
    return torch.randn(6, 3, 8, 8, generator=torch.Generator().manual_seed(2))


@BOTH
@pytest.mark.parametrize("normalization", ["batch", "none"])
@pytest.mark.parametrize("scheme", SCHEMES)
def test_the_finer_network_is_a_network_of_twice_the_blocks(scheme, normalization, interpolation, x):
    net = network(scheme, units=(2, 3, 2), normalization=normalization, store_last=3)
    walked(net, x)
    before = copy.deepcopy(net.state_dict())
    finer = refine(net, interpolation)
    assert finer.units == (4, 6, 4)
    assert {stage.h for stage in finer.stages} == {0.1} == {finer.h}
    assert all(m.h == 0.1 for m in finer.transitions if hasattr(m, "h"))
    again = Network(**finer.settings)  # of the same form: any network of these units takes its weights
    again.load_state_dict(finer.state_dict())
    again.memory = "stored"
    for mode in (True, False):
        torch.testing.assert_close(again.train(mode)(x), finer.train(mode)(x))
    assert [s.store_last for s in again.stages] == [s.store_last for s in finer.stages]
    assert all(torch.equal(before[k], v) for k, v in net.state_dict().items())
    assert not {id(p) for p in net.parameters()} & {id(p) for p in finer.parameters()}


def test_copies_follow_their_blocks_with_normalization_and_statistics(x):
    net = network("hamiltonian", (2, 2))
    walked(net, x)
    finer = refine(net)
    old, new = ([list(stage.blocks) for stage in n.stages] for n in (net, finer))
    pairs = [(0, 0, 0), (0, 2, 1), (0, 3, 1), (0, 4, 2), (1, 0, 0), (1, 1, 0), (1, 2, 0)]
    assert [len(blocks) for blocks in new] == [5, 3]
    for unit, j, i in pairs:
        ours, theirs = new[unit][j].state_dict(), old[unit][i].state_dict()
        assert ours.keys() == theirs.keys()
        assert all(torch.equal(ours[k], theirs[k]) for k in ours)
    # The very first function has no normalization before its kernel, and its copy needs one: that of the next block.
    for name, value in new[0][1].state_dict().items():
        source = old[0][0].state_dict().get(name, old[0][1].state_dict()[name])
        assert torch.equal(value, source), name
    assert any(name.startswith("0.norm1") for name in new[0][1].state_dict())
    assert new[0][1][0].norm2.running_var.ne(1).all()


def test_linear_weights_are_means_within_a_unit(x):
    net = network("leapfrog", (3, 3))
    walked(net, x)
    finer = refine(net, "linear")
    old, new = net.stages[0].blocks, finer.stages[0].blocks
    for name in ("weight", "norm2.running_mean", "norm2.running_var", "norm2.weight"):
        get = lambda block: block[0].state_dict()[name]  # noqa: B023, E731
        torch.testing.assert_close(get(new[1]), (get(old[0]) + get(old[1])) / 2)
        torch.testing.assert_close(get(new[3]), (get(old[1]) + get(old[2])) / 2)
        assert torch.equal(get(new[5]), get(old[2]))  # not the mean with the first block of the next unit
        assert torch.equal(get(new[6]), get(old[3]))


@pytest.mark.parametrize("scheme", ["euler", "revnet"])
def test_strided_blocks_keep_their_increment(scheme, x):
    for normalization in ("batch", "none"):
        net = network(scheme, (2, 2), normalization=normalization)
        walked(net, x)
        finer = refine(net)
        y = torch.randn(2, 4, 8, 8)
        torch.testing.assert_close(finer.eval().transitions[0](y), net.eval().transitions[0](y))


@pytest.mark.parametrize("scheme", SCHEMES)
def test_networks_of_one_weight_differ_by_h(scheme):
    """The blocks of a unit are equal, so all that changes is the step and where a unit begins."""
    x = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    weights = network(scheme, (2, 2), normalization="none", h=1.0)
    gaps = []
    for n in (16, 32):
        more = {"c": 1 - 1 / n} if scheme == "momentum" else {}  # eps = 0.2
        net = network(scheme, (n, n), normalization="none", h=0.2 / n, activation="tanh", **more)
        for name in ("stem", "transitions", "fc"):
            getattr(net, name).load_state_dict(getattr(weights, name).state_dict())
        for stage, first in zip(net.stages, weights.stages, strict=True):
            for block in stage.blocks:
                block.load_state_dict(first.blocks[0].state_dict())
        for branch in net.transitions.modules():
            if isinstance(branch, BranchField):  # of a strided block, which is no step in time
                branch.weight2.data /= net.h
        net.double()
        with torch.no_grad():
            gaps.append((refine(net)(x) - net(x)).norm().item())
    assert math.log2(gaps[0] / gaps[1]) == pytest.approx(1, abs=0.15)


def test_a_named_network_comes_back_from_its_settings():
    net = refine(build("leapfrog-26", 5, h=1.0, seed=1))
    assert (net.name, net.units, net.h) == ("leapfrog-26", (8, 8, 8), 0.5)
    again = build(**net.settings)
    assert (again.units, again.h) == (net.units, net.h)
    again.load_state_dict(net.state_dict())


def test_refused():
    with pytest.raises(ValueError, match=r"interpolation = 'cubic' must be one of: copy, linear"):
        refine(network("euler"), "cubic")
    with pytest.raises(ValueError, match=r"units = \(2, 1, 2\) must hold 2 or more"):
        refine(network("hamiltonian", (2, 1, 2)))


# --- the optimiser --------------------------------------------------------------------------------------------------


@BOTH
def test_momenta_are_carried(interpolation, x):
    net = network("euler", (2, 2))
    before = walked(net, x)
    finer = refine(net, interpolation)
    after = torch.optim.SGD(finer.parameters(), lr=0.05, momentum=0.9)
    carry(before, net, finer, after, interpolation)
    buffer = lambda optimizer, p: optimizer.state[p]["momentum_buffer"]  # noqa: E731
    assert torch.equal(buffer(after, finer.fc.weight), buffer(before, net.fc.weight))
    old, new = net.stages[0].blocks, finer.stages[0].blocks
    halves = [buffer(before, block[0].weight) / 2 for block in old]
    torch.testing.assert_close(buffer(after, new[0][0].weight), halves[0])
    expected = halves[0] if interpolation == "copy" else (halves[0] + halves[1]) / 2
    torch.testing.assert_close(buffer(after, new[1][0].weight), expected)
    torch.testing.assert_close(buffer(after, new[3][0].weight), halves[1])


def test_the_gradient_of_a_copy_is_half_of_the_blocks(x):
    """Why momenta are halved: in the limit of small steps both halves of a step share its gradient."""
    torch.manual_seed(0)
    stage = smooth_stage(Euler, BranchField, 64)
    y = torch.randn(4, 4, dtype=torch.float64)
    finer = refine(stage)
    for s in (stage, finer):
        s(y).square().sum().backward()
    for j in (0, 31, 63):
        whole = stage.blocks[j][0].weight.grad
        for half in (2 * j, 2 * j + 1):
            torch.testing.assert_close(finer.blocks[half][0].weight.grad, whole / 2, rtol=0.1, atol=0.01 * whole.max())


def test_origins_name_every_number_once():
    net = network("revnet", (2, 3))
    of = origins(net, "linear")
    assert of.keys() == refine(net).state_dict().keys()
    assert {name for names in of.values() for name in names} == net.state_dict().keys()
    assert of["fc.weight"] == ("fc.weight",)
    assert of["stages.0.blocks.1.0.weight"] == ("stages.0.blocks.0.0.weight", "stages.0.blocks.1.0.weight")


@pytest.mark.parametrize("learn", [False, True])
def test_a_momentum_of_each_layer_is_refined_with_its_layer(learn):
    scheme = Momentum(0.5, (0.2, 0.6, 0.8), learn=learn)
    scheme.halve([0, 0, 1, 1, 2, 2])
    c = scheme.c
    assert c == pytest.approx([0.6, 0.6, 0.8, 0.8, 0.9, 0.9])
    assert scheme.h == 0.25


@pytest.mark.parametrize("learn", ["no", "shared", "layer"])
def test_a_momentum_network_is_refined_once_whatever_it_shares(learn):
    net = Network("momentum", (2, 2), (4, 4), h=0.5, c=0.8, learn_c=learn, seed=0)
    finer = refine(net)
    assert (finer.h, finer.stages[1].h) == (0.25, 0.25)
    assert finer.c == pytest.approx([0.9] * 7 if learn == "layer" else 0.9)
    before, after = (torch.optim.SGD(n.parameters(), lr=0.1, momentum=0.9) for n in (net, finer))
    net(torch.randn(2, 3, 4, 4)).sum().backward()
    before.step()
    carry(before, net, finer, after)
    finer(torch.randn(2, 3, 4, 4)).sum().backward()
    after.step()


# --- the experiments ------------------------------------------------------------------------------------------------


def test_counted_savings():
    """Those of arXiv 1710.10348: its formula for equal cycles, and 43.75 % for 60, 50 and 50 epochs."""
    for k, percent in enumerate((0, 25, 41.7, 53.1, 61.25, 67.2)):
        equal = multilevel.counted_saving([1] * (k + 1))
        assert equal == pytest.approx(1 - (2 ** (k + 1) - 1) / (2**k * (k + 1)))
        assert 100 * equal == pytest.approx(percent, abs=0.05)
    assert multilevel.counted_saving((60, 50, 50)) == 0.4375


def test_measured_times_are_combined_by_the_schedule(monkeypatch):
    clock = iter(range(1000))
    monkeypatch.setattr(multilevel.time, "process_time", lambda: next(clock) ** 2 / 100)
    found = multilevel.measure_times(seed=0, units=(2, 2, 2), parts=(3, 1), batch=2, rounds=1)
    seconds = [level["seconds"] for level in found.curve]
    assert [level["units"] for level in found.curve] == [[2, 2, 2], [4, 4, 4]]
    assert seconds == pytest.approx([0.09, 0.13])  # 5^2 - 4^2 and 7^2 - 6^2
    assert found.final["saved"] == pytest.approx(1 - (3 * 0.09 + 0.13) / (4 * 0.13))
    assert found.final["saved_counted"] == 1 - (3 / 2 + 1) / 4


def test_residual_norms_of_a_known_field():
    """F(Y) = Y in every block: the norm of what is added is h times that of the state."""
    net = network("euler", (3, 2), normalization="none")

    class Same(nn.Module):
        def forward(self, y):
            return y

    for stage in net.stages:
        stage.blocks = nn.ModuleList(nn.ModuleList([Same()]) for _ in stage.blocks)
    rows = multilevel.residual_norms(net, torch.randn(2, 3, 8, 8))
    assert [(row["unit"], row["block"]) for row in rows] == [(0, 0), (0, 1), (0, 2), (1, 0)]
    assert [row["relative"] for row in rows] == pytest.approx([0.2] * 4)
    assert rows[1]["norm"] == pytest.approx(1.2 * rows[0]["norm"])
    finer = multilevel.residual_norms(refine(net), torch.randn(2, 3, 8, 8))
    assert [row["relative"] for row in finer] == pytest.approx([0.1] * 9)


def test_the_swiss_roll_is_the_groups():
    train, validation = multilevel.swiss_roll()
    assert train.x.shape == validation.x.shape == (513, 2)
    assert train.y.sum() + validation.y.sum() == 513
    both = torch.cat((train.x, validation.x))
    radius = both.norm(dim=1)
    assert radius.min() == 0
    assert radius.max() == pytest.approx(1.2)
    outer = train.x[train.y == 1].norm(dim=1)
    assert outer.min() == pytest.approx(0.2, abs=0.003)


@pytest.mark.parametrize("name", multilevel.SWISS)
def test_a_swiss_roll_network_is_of_its_equation(name):
    model = multilevel.Classifier(name, 4, seed=0)
    x = torch.randn(3, 2, dtype=torch.float64)
    y = torch.nn.functional.pad(x, (0, 2))
    for block in model.stage.blocks:
        k = block[0].weight
        if name == "resnet":
            y = y + 5 * torch.tanh(y @ k.T)
        elif name == "antisymmetric":
            y = y + 5 * torch.tanh(y @ (k - k.T - 1e-4 * torch.eye(4)).T)
        else:
            a, b = y.chunk(2, dim=1)
            a = a + 5 * torch.tanh(b @ k.T)
            y = torch.cat((a, b - 5 * torch.tanh(a @ k)), dim=1)
    torch.testing.assert_close(model.features(x), y)


def test_a_swiss_roll_run_is_one_of_its_parts():
    found = multilevel.measure_swiss_roll(seed=0, first=2, last=3, evaluations=6, layer_evaluations=48)
    warm = [p for p in found.curve if p["start"] == "multilevel"]
    assert [p["layers"] for p in warm] == [4, 8, 8]
    assert warm[0]["objective"] > warm[2]["objective"]
    assert warm[1]["cost"] == warm[0]["cost"] == 4 * warm[0]["evaluations"]
    cold = [p for p in found.curve if p["start"] == "cold"]
    assert cold[0]["validation_accuracy"] < 0.7
    assert cold[-1]["cost"] <= found.final["cost"] == warm[-1]["cost"]


def test_runs_are_settings_of_training():
    for experiment in multilevel.EXPERIMENTS:
        names = [run.name for run in experiment.runs]
        assert len(set(names)) == len(names)
        for run in experiment.runs:
            if run.make == "train":
                config = TrainConfig(**run.settings, seed=run.seed).resolved(10_000)
                assert config.refine == "off" or (config.units, len(config.milestones)) == ((2, 2, 2), 2)
            else:
                assert hasattr(multilevel, run.make.partition(":")[2])
