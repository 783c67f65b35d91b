"""The papers' networks by name: counts, depth, recipes, sources, the table."""

from __future__ import annotations

import argparse
import copy
import dataclasses
import json

import pytest
import torch

import revode
from revode import models
from revode.models import MODELS, STATUS, build, count_parameters, table

from .helpers import gradients, worst

NAMES = [
    *("resnet-32", "resnet-110", "resnet-1202", "revnet-38", "revnet-110"),
    *("hamiltonian-74", "hamiltonian-218", "hamiltonian-1202"),
    *("midpoint-26", "midpoint-62", "leapfrog-26", "leapfrog-62"),
]

# Number of parameters for 10 and 100 classes, counted by hand from units, widths, kernels and norms.
COUNTS = {
    "resnet-32": (464_154, 470_004),
    "resnet-110": (1_727_962, 1_733_812),
    "resnet-1202": (19_421_274, 19_427_124),
    "revnet-38": (464_890, 475_060),
    "revnet-110": (1_729_194, 1_740_804),
    "hamiltonian-74": (432_010, 442_180),
    "hamiltonian-218": (1_690_890, 1_702_500),
    "hamiltonian-1202": (9_699_338, 9_710_948),
    "midpoint-26": (537_450, 547_620),
    "midpoint-62": (1_808_106, 1_819_716),
    "leapfrog-26": (537_450, 547_620),
    "leapfrog-62": (1_808_106, 1_819_716),
}

# As printed, in millions, where our count agrees with the paper's (or with the released configuration's, for 218).
PRINTED = {
    "resnet-32": ("0.46", "0.47"),
    "resnet-110": ("1.73", "1.73"),
    "resnet-1202": ("19.4", None),
    "revnet-38": ("0.46", "0.48"),
    "revnet-110": ("1.73", "1.74"),
    "hamiltonian-74": ("0.43", "0.44"),
    "hamiltonian-218": ("1.69", "1.70"),
    "hamiltonian-1202": ("9.70", None),
}


def meta(name, classes=10, **kwargs):
    with torch.device("meta"):
        return build(name, classes, **kwargs)


def by_formula(spec, classes):
    """Number of parameters from the block definitions, without the package's modules."""
    n, w = spec.units, spec.widths
    if spec.block:
        return by_formula_of_torchvision(spec, classes)
    total = 27 * w[0] + 2 * w[0] + 2 * w[-1] + w[-1] * classes + classes  # stem, two norms, fully connected
    for u in range(len(n)):
        for j in range(n[u]):
            old = w[u - 1] if u and j == 0 else w[u]  # width of the block's input
            if spec.scheme == "hamiltonian":
                total += 2 * (9 * (old // 2) ** 2 + 4 * (old // 2))
            elif spec.scheme in ("midpoint", "leapfrog"):
                total += 9 * old**2 + 4 * old
            elif spec.scheme in ("euler", "momentum"):
                total += 9 * old * w[u] + 9 * w[u] ** 2 + 2 * old + 2 * w[u]
            else:
                a, b = old // 2, w[u] // 2
                total += 9 * a * b + 9 * b**2 + 2 * a + 2 * b + 2 * (9 * b**2 + 2 * b)
    first = w[0] // 2 if spec.scheme in ("hamiltonian", "revnet") else w[0]
    return total - 2 * first  # no norm before the very first kernel


def by_formula_of_torchvision(spec, classes):
    """A norm of two numbers a channel behind each kernel; bottlenecks are a quarter as wide inside."""
    total, old = (27 if spec.image_size == 32 else 147) * 64 + 2 * 64 + spec.widths[-1] * classes + classes, 64
    for blocks, width in zip(spec.units, spec.widths, strict=True):
        for _ in range(blocks):
            if spec.block == "basic":
                total += 9 * old * width + 9 * width**2 + 4 * width
            else:
                inner = width // 4
                total += old * inner + 9 * inner**2 + inner * width + 4 * inner + 2 * width
            if old != width:
                total += old * width + 2 * width  # the shortcut where the shape changes
            old = width
    return total


@pytest.mark.parametrize("name", NAMES)
def test_parameter_counts(name):
    for classes, count in zip((10, 100), COUNTS[name], strict=True):
        assert count_parameters(meta(name, classes)) == count


@pytest.mark.parametrize("name", MODELS)
def test_parameter_counts_by_the_formula(name):
    assert count_parameters(meta(name, 7)) == by_formula(MODELS[name], 7)


@pytest.mark.parametrize("name", PRINTED)
def test_counts_agree_with_the_papers_to_the_printed_digit(name):
    for count, printed in zip(COUNTS[name], PRINTED[name], strict=True):
        if printed is not None:
            digits = len(printed.split(".")[1])
            assert f"{count / 1e6:.{digits}f}" == printed


@pytest.mark.parametrize("name", ["midpoint-26", "midpoint-62", "leapfrog-26", "leapfrog-62"])
def test_two_step_counts_are_near_the_recalled_ones(name):
    recalled = float(MODELS[name].parameters[10]) * 1e6
    assert abs(COUNTS[name][0] - recalled) < 0.08 * recalled


@pytest.mark.parametrize("name", NAMES)
def test_the_name_says_the_number_of_layers(name):
    assert MODELS[name].depth == int(name.split("-")[1])


def test_all_names_of_the_papers_are_there():
    assert set(NAMES) <= MODELS.keys()
    assert {"hamiltonian-few", "resnet-few", "hamiltonian-stl10", "midpoint-stl10", "leapfrog-stl10"} <= MODELS.keys()
    assert all(name == spec.name for name, spec in MODELS.items())


def test_every_number_has_a_source():
    kept = {"name", "scheme", "block", "sources"}
    for spec in MODELS.values():
        of_others = set() if spec.scheme == "momentum" else {"c"}
        assert (spec.c is None) == bool(of_others)
        assert spec.sources.keys() == {f.name for f in dataclasses.fields(spec)} - kept - of_others
        assert spec.recipe.sources.keys() == {f.name for f in dataclasses.fields(spec.recipe)} - {"sources"}
        for source in [*spec.sources.values(), *spec.recipe.sources.values()]:
            assert source.status in STATUS
            assert source.text


def test_momentum_networks_are_the_residual_ones_with_a_velocity():
    for depth in (32, 110):
        momentum, plain = meta(f"momentum-{depth}", 10), meta(f"resnet-{depth}", 10)
        assert MODELS[f"momentum-{depth}"].depth == depth
        assert {k: t.shape for k, t in momentum.state_dict().items()} == {
            k: t.shape for k, t in plain.state_dict().items()
        }
        assert (momentum.c, momentum.scheme.start_rule, momentum.h) == (0.9, "rest", 1.0)
    a, b = (revode.build(n, seed=0, memory="stored").double().eval() for n in ("momentum-32", "resnet-32"))
    a.c = 0.0
    x = torch.randn(2, 3, 16, 16, dtype=torch.float64)
    torch.testing.assert_close(a(x), b(x), rtol=1e-12, atol=1e-12)


def test_specs_are_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        MODELS["resnet-32"].h = 2.0


def test_recipes():
    r = MODELS["hamiltonian-74"].recipe
    assert (r.batch_size, r.lr, r.momentum, r.weight_decay, r.smoothness) == (100, 0.1, 0.9, 2e-4, 2e-4)
    assert r.epochs == 160
    assert r.milestone_epochs == (80, 120)
    r = MODELS["hamiltonian-1202"].recipe
    assert (r.batch_size, r.steps, r.milestones, r.weight_decay) == (32, 240_000, (120_000, 180_000), 5e-4)
    assert MODELS["resnet-32"].recipe.smoothness == 0
    r = MODELS["hamiltonian-stl10"].recipe
    assert [round(e) for e in r.milestone_epochs] == [60, 80, 100]


@pytest.mark.parametrize("name", ["revnet-38", "hamiltonian-74", "midpoint-26", "leapfrog-26", "hamiltonian-few"])
def test_gradients_do_not_depend_on_the_memory_mode(name):
    net = build(name, 3, h=0.3, seed=0).double()
    stored = copy.deepcopy(net)
    stored.memory = "stored"
    x = torch.randn(2, 3, 8, 8, dtype=torch.float64)
    assert worst(gradients(net, x), gradients(stored, x)) < 1e-9


@pytest.mark.parametrize("name", ["midpoint-stl10", "leapfrog-stl10"])
def test_stl10_networks_take_96_pixels(name):
    net = meta(name, memory="stored")
    assert net(torch.empty(1, 3, 96, 96, device="meta")).shape == (1, 10)


def test_build_passes_its_arguments_on():
    net = build("leapfrog-26", 5, memory="stored", store_last=3, h=0.25, seed=1, activation="tanh")
    assert (net.memory, net.store_last, net.h, net.activation, net.num_classes) == ("stored", 3, 0.25, "tanh", 5)
    assert net.settings["name"] == net.name == "leapfrog-26"
    again = build(**net.settings)
    assert all(torch.equal(p, q) for p, q in zip(net.parameters(), again.parameters(), strict=True))
    assert again.settings == net.settings


def test_h_is_one_with_normalization_and_found_and_printed_without(capsys):
    assert build("leapfrog-26", seed=0).h == 1
    assert capsys.readouterr().out == ""
    net = build("leapfrog-26", normalization="none", seed=0)
    assert f"leapfrog-26: h = {net.h:.4g}, half of what is stable" in capsys.readouterr().out
    assert net.h * net.stability.omega == pytest.approx(1.0)
    assert build(**net.settings).h == net.h
    assert capsys.readouterr().out == ""


def test_a_freshly_initialised_layer_is_past_the_limit_at_h_1():
    for name in ("hamiltonian-74", "midpoint-26", "leapfrog-26"):
        network = revode.Network(
            MODELS[name].scheme, (1,), MODELS[name].widths[-1:], normalization="none", seed=0
        )  # one block of the widest unit
        assert network.stability.omega > network.stability.limit


def test_an_unknown_name_lists_the_choices():
    with pytest.raises(ValueError, match=r"name = 'resnet-51' must be one of: resnet-32, .*leapfrog-stl10"):
        build("resnet-51")


def test_table():
    rows = {r["name"]: r for r in table()}
    assert rows.keys() == MODELS.keys()
    assert rows["hamiltonian-74"]["parameters"] == 432_010
    assert rows["hamiltonian-74"]["paper_parameters"] == "0.43"
    assert rows["resnet-1202"]["parameters_status"] == "V"
    assert rows["midpoint-stl10"]["paper_accuracy"] == 84.6
    assert table(100, names=["resnet-1202"])[0]["paper_parameters"] is None
    assert table(100, names=["midpoint-stl10"])[0]["paper_accuracy"] is None
    with pytest.raises(ValueError, match="num_classes = 0"):
        table(0)


def run(*argv):
    parser = argparse.ArgumentParser()
    models.add_arguments(parser)
    return models.main(parser.parse_args(argv))


def test_the_command_prints_every_network_and_marks_what_is_recalled(capsys):
    assert run() == 0
    lines = capsys.readouterr().out.splitlines()
    for name in MODELS:
        (line,) = [x for x in lines if x.startswith(f"{name} ")]
        assert f"{count_parameters(meta(name)):,}" in line
    (line,) = [x for x in lines if x.startswith("hamiltonian-74")]
    assert "0.43M (unverified)" in line
    assert max(map(len, lines)) <= 140


def test_the_command_prints_the_step_size_without_normalization(capsys):
    assert run("--normalization", "none", "midpoint-26") == 0
    assert "(h * omega = 0.5 of 1)" in capsys.readouterr().out


def test_the_command_prints_json_with_sources(capsys):
    assert run("--json", "--classes", "100", "--normalization", "none", "leapfrog-26") == 0
    (row,) = json.loads(capsys.readouterr().out)
    assert row["sources"]["widths"]["status"] == "unverified"
    assert row["recipe"]["batch_size"] == 100
    assert row["omega"] * row["h"] == pytest.approx(1.0)


def test_the_command_refuses_an_unknown_name(capsys):
    assert run("resnet-33") == 2
    assert "resnet-33" in capsys.readouterr().err


def test_public_names():
    assert revode.build is build
    assert revode.MODELS is MODELS
