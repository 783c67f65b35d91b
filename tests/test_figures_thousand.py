"""Chapter 14 says what the result files say, whichever of them are there."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from revode import figures, paths
from revode.networks import Network

from .made_up import training, write

GIB = 2**30


@pytest.fixture
def bundle(tmp_path, monkeypatch):
    """An empty folder in place of the package's results."""
    monkeypatch.setattr(paths, "bundled", lambda: tmp_path)
    (tmp_path / "results").mkdir()
    return tmp_path / "results"


def memory(bundle, way: str, batch: int, gib: float) -> None:
    final = {"peak_bytes": int(gib * GIB), "saved_bytes": 30 * 2**20, "loss": [2.3, 2.1]}
    final |= dict.fromkeys(("parameter_bytes", "gradient_bytes", "momentum_bytes"), 40 * 2**20)
    write(bundle, f"thousand-memory-{way}-{batch}", "experiment", final, {"batch": batch})


def drift(bundle, seed: int, error: float) -> None:
    stages = [{"blocks": n, "error": error, "growth": 2.0} for n in (101, 100, 99)]
    final = {"stages": stages, "gradient_difference": 0.02, "loss": 2.3}
    write(bundle, f"thousand-drift-seed{seed}", "experiment", final, {}, seed=seed)


def test_without_files_everything_is_not_yet_run_and_has_its_cost(bundle):
    assert figures.thousand_memory().alt.count("not yet run") == 4
    assert all("not yet run: about" in row[1] for row in figures.thousand_memory_table().rows)
    assert all("not yet run" in row[1] for row in figures.thousand_drift().rows)
    assert "0 of 3 seeds" in figures.thousand_drift().alt
    assert figures.thousand_loss().alt.count("not yet run") == 2
    told = figures.thousand_verdict()
    assert told.count("not yet run") == 5
    assert "on one H200" in told


def test_bars_and_verdict_are_the_files(bundle):
    memory(bundle, "reversible", 32, 0.27)
    memory(bundle, "stored", 32, 30.0)
    write(bundle, "thousand-memory-counted", "experiment", {"saved_bytes": 27.5 * GIB}, {})
    alt = figures.thousand_memory().alt
    assert "reversible, batch 32: 0.27 GiB" in alt
    assert "reversible, batch 320: not yet run" in alt
    assert "stored, batch 320, activations alone, counted: 27.50 GiB" in alt
    rows = {row[0]: row for row in figures.thousand_memory_table().rows}
    assert rows["reversible, batch 32"][1:] == ("276 MiB", "120 MiB", "30 MiB", "2.300 → 2.100")
    told = figures.thousand_verdict()
    assert "0.27 GiB, fits in 24 GiB, below the goal of 0.4 GiB" in told
    assert "30.00 GiB, does not fit" in told
    memory(bundle, "reversible", 32, 0.41)
    assert "not below the goal" in figures.thousand_verdict()


def test_drift_is_over_the_seeds_that_are_there(bundle):
    drift(bundle, 0, 2e-4)
    table = figures.thousand_drift()
    assert table.rows[0] == (1, 101, "2.0e-04", "2.00")
    assert "1 of 3 seeds" in table.alt
    drift(bundle, 2, 4e-4)
    table = figures.thousand_drift()
    assert table.rows[2][:3] == (3, 99, "3.0e-04 ± 1.4e-04")
    assert "2 of 3 seeds" in table.alt


def test_the_loss_is_that_of_the_run(bundle):
    training(bundle, "thousand-training", 0.3, settings={"model": "hamiltonian-1202", "data": "cifar10", "steps": 300})
    alt = figures.thousand_loss().alt
    assert "1.9 at step 75" in alt
    assert "30 at step 300" in alt
    assert "training, 300 steps: loss 1.90 → 0.40, falls" in figures.thousand_verdict()
    settings = {"model": "hamiltonian-1202", "data": "cifar10", "steps": 240_000}
    training(bundle, "hamiltonian-1202-cifar10-seed0", 0.93, settings=settings)
    assert "full protocol, one seed: 93.00 %" in figures.thousand_verdict()


def test_counted_layers_are_those_of_the_name():
    rows = {row[0]: row for row in figures.thousand_networks().rows}
    assert rows["hamiltonian-1202"][1:4] == (1202, 300, 9_699_338)
    assert rows["resnet-1202"][4:] == ("19.4M (V)", "92.07 % (V)")


def test_gradients_over_depth_are_the_kernels_own():
    network = Network("hamiltonian", (2, 3), (4, 8), h=1.0, seed=0)
    with pytest.raises(ValueError, match="network has no gradients"):
        figures.gradient_over_depth(network)
    F.cross_entropy(network(torch.randn(2, 3, 8, 8)), torch.tensor([0, 1])).backward()
    norms = [stage.blocks[0][0].weight.grad.norm().item() for stage in network.stages]
    drawing = figures.gradient_over_depth(network)
    assert "over 5 blocks" in drawing.alt
    last = [b[0].weight.grad.norm().item() for b in network.stages[1].blocks]
    assert f"stage 2: {min(last):.2g} to {max(last):.2g}" in drawing.alt
    assert norms[0] > 0
