"""Figures of kernels at two resolutions and over the depth say what the result files say, or that there are none."""

from __future__ import annotations

import pytest

from revode import data, figures, paths, results
from revode.experiments import multiscale as experiment


@pytest.fixture
def bundle(tmp_path, monkeypatch):
    """An empty folder in place of the package's data."""
    monkeypatch.setattr(paths, "bundled", lambda: tmp_path)
    (tmp_path / "results").mkdir()
    return tmp_path / "results"


def write(bundle, name, final, settings, seed=0, curve=()):
    began = results.begin()
    record = results.record(name, "experiment", final, began=began, settings=settings, seed=seed, curve=curve)
    results.write(bundle / f"{name}.json", record)


def text(table) -> str:
    return "\n".join(" | ".join(map(str, row)) for row in table.rows)


WAYS = ("kernels as they are", "kernels, constant", "kernels, bilinear", "images, averaged")


def transfer(base: float) -> dict:
    ways = {w: {"kept": base + 0.01 * i, "estimated": base + 0.02 * i} for i, w in enumerate(WAYS)}
    return ways | {"trained on": {"kept": 0.7}, "agreement": {"constant": 0.3, "bilinear": 0.2}}


def warm(bundle, seed, gain):
    starts = [*experiment.STARTS, experiment.LONGER]
    end = {"step": 2, "train_loss": 1.5, "test_accuracy": 0.4}
    ends = {s: end | {"estimated_accuracy": 0.5 + gain * ("constant" in s)} for s in starts}
    curve = [
        {"start": s, "step": k, "train_loss": 2.0 - 0.1 * k, "test_accuracy": 0.1 * k} for s in starts for k in (1, 2)
    ]
    settings = {"model": "hamiltonian-74", "coarse_size": 16, "size": 32, "coarse_steps": 8}
    final = {"transfer": transfer(0.2 + 0.1 * seed), "starts": ends}
    write(bundle, f"multiscale-warm-start-seed{seed}", final, settings, seed, curve)


def test_without_results_the_figures_say_so(bundle):
    for figure in (figures.transfer_accuracy, figures.transfer_ways, figures.warm_start, figures.warm_start_table):
        assert "not yet run" in text(figure())
    assert text(figures.smoothness_effect()).count("not yet run") == 3


def test_warm_start_against_cold(bundle):
    for seed, gain in enumerate((0.02, 0.04)):
        warm(bundle, seed, gain)
    rows = {row[0]: row for row in figures.warm_start_table().rows}
    assert rows["kernels, constant"][3] == "53.0 ± 1.4"
    assert rows["kernels, constant"][5] == "+3.0 ± 1.0"  # mean and standard error of 2 and 4 points
    assert rows["kernels, bilinear"][5] == "+0.0 ± 0.0"
    assert rows["scratch, equal cost"][5] == "–"
    said = figures.warm_start_table().alt
    assert "kernels, constant above scratch at equal cost, kernels, bilinear as good as scratch" in said
    drawing = figures.warm_start()
    assert "kernels, constant 53.0 ± 1.4 %" in drawing.alt
    assert "2 steps at 32 pixels, each counted as 0.25" in drawing.caption


def test_transfer_by_way(bundle):
    warm(bundle, 0, 0)
    warm(bundle, 1, 0)
    ((title, own, *found),) = figures.transfer_accuracy().rows
    assert title == "hamiltonian-74, CIFAR-10, 16 → 32"
    assert own == "70.0 ± 0.0"
    assert found == ["25.0 ± 7.1", "27.0 ± 7.1", "29.0 ± 7.1", "–", "–", "31.0 ± 7.1"]
    assert figures.transfer_accuracy("kept").rows[0][2] == "25.0 ± 7.1"
    assert "images averaged 31.0 ± 7.1 %" in figures.transfer_ways(title).alt
    assert "not yet run" in text(figures.transfer_ways("another"))


def test_stencils_of_the_result_file():
    rows = {row[0]: row[1:] for row in figures.stencil_coefficients().rows}
    assert rows["dxx"] == ("2", "1")
    assert rows["dxy"] == ("1", "1")
    assert {row[0]: row[1:] for row in figures.stencil_coefficients(3).rows}["dxx"] == ("3", "1")
    assert "own coefficient is 2 with the constant P, 1 with the bilinear P" in figures.kernels_at_two_scales().alt


def test_change_of_kernels(bundle, monkeypatch):
    monkeypatch.undo()
    assert "1.164 trained" in figures.kernel_change().alt
    assert len(results.load("hamiltonian-74")["final"]["kernel_change"]) == 6


def test_the_verdict_on_the_decay(bundle):
    for label, accuracy in (("off", 0.70), ("strong", 0.72)):
        for seed in range(2):
            final = {"train_accuracy": 0.8, "test_accuracy": accuracy + 0.001 * seed, "kernel_change": [[1.0, 1.2]]}
            write(bundle, f"smoothness-{label}-seed{seed}", final, {"smoothness": 0.0}, seed)
    table = figures.smoothness_effect()
    assert "80 times − off, test accuracy: +2.00 ± 0.07, more than two standard errors." in table.alt
    assert "paper against off: not yet run." in table.alt
    assert table.rows[0][2] == "1.100 ± 0.000"
    assert table.rows[2][0].startswith("80 times, r = ")
    assert table.rows[2][5] == "7.95 ± 0.07"  # training 80, test 72.0 and 72.1


def test_image_at_two_scales():
    images = data.load("sample", "test").subset(2, 0)
    found = figures.image_at_two_scales(images)
    assert len(found.rows) == 2
    assert found.columns == ("32 px", "16 px", "pixels repeated", "interpolated")
