"""Clouds of eigenvalues: what is kept of them, at which size they are taken, and the command that writes them."""

from __future__ import annotations

import dataclasses
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

import revode
from revode import cli, data, models, results, stability
from revode.analysis import clouds, maps, spectra
from revode.analysis.spectra import Jacobian
from revode.errors import SpectrumError
from revode.networks import FIELDS

from .training import TINY

D = torch.float64


def image(size: int = 16) -> torch.Tensor:
    torch.manual_seed(0)
    return torch.randn(1, 3, size, size, dtype=D)


def test_thinned_keeps_the_outline_and_at_most_so_many():
    rng = np.random.default_rng(0)
    lam = np.concatenate([1e-8 * rng.standard_normal(3000), 1j * rng.standard_normal(500), [0.5 + 3j, -2 + 0.25j]])
    lam = np.concatenate([lam, lam.conj()])
    kept = clouds.thinned(lam, 100)
    points = np.array(kept["re"]) + 1j * np.array(kept["im"])
    assert 50 < len(points) <= 100
    assert points.imag.min() >= 0
    assert max(np.abs(lam - v).min() for v in points) < 1e-3  # each is an eigenvalue, rounded
    assert spectra.off_axis(points) == pytest.approx(spectra.off_axis(lam), rel=1e-3)
    dense = clouds.thinned(1j + np.linspace(-1e-9, 1, 4001), 4)  # of each cell the one farthest from the axis
    assert 1.0 in dense["re"]
    gap = 3 / 10  # no eigenvalue is far from all that are kept
    assert max(np.abs(points - v).min() for v in lam[lam.imag >= 0]) < gap


def test_thinned_of_few_values_is_all_of_them_to_four_digits():
    kept = clouds.thinned([0.123456 + 1j, 0.123456 - 1j, -2.0])
    assert kept == {"re": [-2.0, 0.1235], "im": [0.0, 1.0]}
    assert clouds.thinned(np.zeros(5)) == {"re": [0.0], "im": [0.0]}
    with pytest.raises(SpectrumError, match="most = 3 must be 4 or more"):
        clouds.thinned([1.0], 3)


@pytest.mark.parametrize("normalization", ["none", "batch"])
def test_cloud_is_what_the_dense_matrix_says(normalization, capsys):
    name = "leapfrog-26"
    network = revode.build(name, normalization=normalization, seed=0).eval().double()
    place = next(p for p in maps.states(network, image(4)) if (p.unit, p.block) == (2, 1))
    f, x = place.field()
    lam = np.linalg.eigvals(Jacobian(f, x).dense().numpy())
    place.stage.scheme.h = 2.5 / np.abs(lam).max()  # beyond the limit of 2, so that the growth depends on h
    found = clouds.cloud(place)
    assert found["dimension"] == len(lam) == 224
    assert found["shape"] == [1, 224, 1, 1]
    assert found["radius"] == pytest.approx(np.abs(lam).max())
    assert found["off_axis"] == pytest.approx(spectra.off_axis(lam), abs=1e-7)
    assert found["growth"] == pytest.approx(stability.growth("leapfrog", 2.5j), rel=1e-6)
    assert found["critical_h"] == pytest.approx(2 / np.abs(lam).max())


def test_growth_is_that_of_the_step():
    """The roots of the scheme on the field's eigenvalues are the eigenvalues of the step, for a frozen layer."""
    network = revode.load_trained("hamiltonian-74").double()
    place = next(p for p in maps.states(network, image(4)) if (p.unit, p.block) == (2, 2))
    f, x = place.field()
    a = Jacobian(f, x).dense().numpy()
    half, h = len(a) // 2, network.h
    one = np.eye(half)
    first = np.block([[one, h * a[:half, half:]], [np.zeros_like(one), one]])
    second = np.block([[one, np.zeros_like(one)], [h * a[half:, :half], one]])
    step = second @ first
    found = clouds.cloud(place)
    assert np.abs(np.linalg.eigvals(step)).max() == pytest.approx(found["growth"], rel=1e-7)
    assert found["growth"] > 1 + 1e-4
    assert 0 < found["share"] < 1


@pytest.mark.parametrize(
    ("name", "first_norm", "on_axis"),
    [("midpoint", True, True), ("leapfrog", True, True), ("hamiltonian", False, True), ("hamiltonian", True, False)],
)
def test_positive_gains_keep_the_axis_unless_two_different_ones_lie_between_the_halves(name, first_norm, on_axis):
    torch.manual_seed(0)
    scheme = revode.SCHEMES[name](1.0)
    block = [FIELDS[name](4, activation="tanh", first_norm=first_norm).double().eval() for _ in range(scheme.fields)]
    for m in (m for f in block for m in f.modules() if isinstance(m, nn.BatchNorm2d)):
        nn.init.uniform_(m.weight, 0.1, 3)
        nn.init.normal_(m.bias)
    x = torch.randn(1, 4 if name == "midpoint" else 8, 5, 5, dtype=D)
    off = spectra.off_axis(spectra.eigenvalues(Jacobian(maps.field(scheme, block), x)))
    assert (off < 1e-9) if on_axis else (off > 1e-3)


def test_clouds_take_each_unit_at_the_largest_image_within_the_limit():
    network = revode.build("resnet-32", seed=0).eval().double()
    rows = clouds.clouds(network, image(16), limit=300)
    assert [(r["unit"], r["block"], r["image"], r["dimension"]) for r in rows] == [
        (0, 2, 4, 256),
        (1, 2, 4, 128),
        (2, 2, 8, 256),
    ]
    assert all(r["critical_h"] is None for r in rows)
    with pytest.raises(SpectrumError, match=r"limit = 100 is below the dimension of units \[0, 1\]"):
        clouds.clouds(network, image(8), limit=100)


def test_norms_are_those_of_the_units():
    network = revode.Network("hamiltonian", (2, 3, 2), (4, 8, 12), seed=0).eval().double()
    x, want = image(8), []
    y = torch.relu(network.stem_norm(network.stem(x)))
    for unit, stage in enumerate(network.stages):
        y = network.transitions[unit - 1](y) if unit else y
        want.append(np.linalg.norm(Jacobian(maps.whole(stage), y).dense().numpy(), 2))
        y = maps.whole(stage)(y)
    np.testing.assert_allclose(clouds.norms(network, x), want, rtol=1e-3)


def test_the_command_writes_a_result_file_of_three_networks(tmp_path, monkeypatch, capsys):
    """Of a small network whose "trained" weights are those of another seed, with gains of either sign."""
    images = F.adaptive_avg_pool2d(data.load("sample", "test").images[:2].float(), 8).to(torch.uint8)
    monkeypatch.setattr(clouds.data, "load", lambda *a: SimpleNamespace(images=images))
    monkeypatch.setitem(models.MODELS, "tiny", dataclasses.replace(TINY, units=(2, 2)))
    trained = revode.build("tiny", seed=1).eval()
    trained.meta = {"mean": [0.5] * 3, "std": [0.25] * 3}
    for norm in (m for m in trained.modules() if isinstance(m, nn.BatchNorm2d)):
        nn.init.normal_(norm.weight)
    monkeypatch.setattr(clouds.weights, "load_trained", {"tiny": trained}.__getitem__)
    argv = ["spectra", "tiny", "--out", str(tmp_path), "--limit", "64", "-k", "2", "--image", "1"]
    assert cli.main(argv) == 0
    assert "trained" in capsys.readouterr().out
    found = results.read(tmp_path / "spectra-tiny.json")
    assert found["kind"] == "spectra"
    final = found["final"]
    assert list(final["clouds"]) == ["none", "fresh", "trained"]
    assert [(r["unit"], r["block"]) for r in final["extremes"]] == [(0, 0), (0, 1), (0, 2), (1, 0)]
    # positive gains keep the imaginary axis, trained gains of either sign need not
    assert max(r["off_axis"] for key in ("none", "fresh") for r in final["clouds"][key]) < 1e-6
    assert max(r["off_axis"] for r in final["clouds"]["trained"]) > 1e-3
    assert all(r["off_axis"] <= r["off_axis_bound"] for r in final["extremes"])
    assert final["h"]["trained"] == final["h"]["fresh"] == 1.0
    assert final["h"]["none"] == revode.build("tiny", normalization="none", seed=0).h < 1  # of the stable one
    assert cli.main([*argv[:-1], "2"]) == 2
    assert "image = 2 must be 0 to 1" in capsys.readouterr().err
