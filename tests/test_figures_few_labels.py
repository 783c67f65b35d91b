"""Chapter 13 says what the result files say, whichever of them are there."""

from __future__ import annotations

import math

import pytest

from revode import figures, paths
from revode.experiments import few_labels as few

from .made_up import training


@pytest.fixture
def bundle(tmp_path, monkeypatch):
    """An empty folder in place of the package's results."""
    monkeypatch.setattr(paths, "bundled", lambda: tmp_path)
    (tmp_path / "results").mkdir()
    return tmp_path / "results"


def put(bundle, network: str, images: int, seed: int, percent: float, data: str = "cifar10", amp="off", **more) -> None:
    settings = {"model": few.NETWORKS[network], "data": data, "subset": images, "steps": 500, "seed": seed, "amp": amp}
    training(bundle, few.name(network, data, images, seed), percent / 100, settings=settings, **more)


def pair(bundle, images: int, seed: int, first: float, second: float, **more) -> None:
    put(bundle, "hamiltonian", images, seed, first, **more)
    put(bundle, "resnet", images, seed, second, **more)


@pytest.mark.parametrize("data", ["cifar10", "stl10-subset"])
def test_without_files_nothing_is_claimed_and_the_cost_is_told(bundle, data):
    table = figures.few_labels_table(data)
    assert all(row[1:5] == ("not yet run",) * 3 + ("not yet decided",) for row in table.rows)
    assert all(row[6].startswith("6 of 6 (") and "min)" in row[6] for row in table.rows)
    told = figures.few_labels_verdict(data)
    assert "0 of 18 runs" in told
    assert "neither shown nor contradicted yet" in told
    drawing = figures.few_labels_curve(data)
    assert "not yet run" in drawing.drawings[0].svg
    assert drawing.alt.count("not yet run") == 5
    assert {row[1] for row in figures.few_labels_cost().rows} == {"not yet run"}


def test_one_seed_has_no_interval_and_decides_nothing(bundle):
    pair(bundle, 500, 0, 40.0, 30.0)
    row = figures.few_labels_table().rows[0]
    assert row[:5] == ("500", "40.00 % (n = 1)", "30.00 % (n = 1)", "+10.00 (n = 1: no interval)", "not yet decided")
    assert row[6].startswith("4 of 6")
    assert "neither shown" in figures.few_labels_verdict()


def test_pairs_share_their_seed_and_a_lone_run_has_no_partner(bundle):
    pair(bundle, 500, 0, 40.0, 39.0)
    put(bundle, "hamiltonian", 500, 1, 90.0)
    put(bundle, "resnet", 500, 2, 10.0)
    (first, *_) = figures.few_labels_results()
    assert first.gains == {0: pytest.approx(1.0)}
    assert [run.name for run in first.missing] == ["few-resnet-cifar10-500-seed1", "few-hamiltonian-cifar10-500-seed2"]


def test_the_interval_is_students_of_the_differences(bundle):
    for seed, (a, b) in enumerate([(41.0, 40.0), (45.5, 43.0), (50.1, 47.0)]):
        pair(bundle, 1000, seed, a, b)
    row = figures.few_labels_table().rows[1]
    gains = [1.0, 2.5, 3.1]
    s = math.sqrt(sum((g - 2.2) ** 2 for g in gains) / 2)
    assert row[3] == f"+2.20 ± {4.302653 * s / math.sqrt(3):.2f} (n = 3)"  # the quantile of Student's table
    assert row[4] == "undecided", "the interval holds 0"
    assert row[6] == "none"


def test_the_verdict_follows_its_rule(bundle):
    for images in few.CIFAR10_CPU_SIZES:
        for seed in few.SEEDS:
            pair(bundle, images, seed, 45 + 0.1 * seed, 40.0)
    told = figures.few_labels_verdict()
    assert "Hamiltonian above at 500, 1,000, 2,000" in told
    assert "holds under this protocol" in told
    assert "+5.10 ± 0.25 (n = 3)" in told
    for seed in few.SEEDS:
        pair(bundle, 1000, seed, 38 - 0.1 * seed, 40.0)
    told = figures.few_labels_verdict()
    assert "ResNet above at 1,000" in told
    assert "contradicted under this protocol" in told
    for seed, shift in zip(few.SEEDS, (-3, 0, 3)):
        pair(bundle, 1000, seed, 40.0 + shift, 40.0)
    assert "neither shown nor contradicted yet" in figures.few_labels_verdict()


def test_unfinished_runs_do_not_count(bundle):
    pair(bundle, 500, 0, 40.0, 30.0, status="unfinished")
    assert figures.few_labels_table().rows[0][1] == "not yet run"


def test_figures_show_every_seed_and_only_what_is_there(bundle):
    pair(bundle, 500, 0, 40.0, 30.0)
    pair(bundle, 500, 1, 42.0, 31.0)
    put(bundle, "hamiltonian", 2000, 0, 55.0)
    drawing = figures.few_labels_curve()
    assert "Hamiltonian: 41.00 ± 1.41 % (n = 2) at 500, 55.00 % (n = 1) at 2,000" in drawing.alt
    assert "not yet run at 1,000" in drawing.alt
    assert "not yet run at 2,000" in drawing.alt, "no pair"
    cost = {row[0]: row for row in figures.few_labels_cost().rows}
    assert cost["few-labels-cifar10"][1:3] == ("5 of 18 runs", "10 min")
    assert cost["few-labels-cifar10-gpu"][1] == "not yet run"
    assert "H200" in cost["few-labels-cifar10-gpu"][3]


def test_the_protocol_is_that_of_the_files(bundle):
    before = {row[0]: row for row in figures.few_labels_protocol().rows}
    put(bundle, "hamiltonian", 500, 0, 40.0, amp="bf16")
    after = {row[0]: row for row in figures.few_labels_protocol().rows}
    assert (before["precision"][3], after["precision"][3]) == ("float32", "increments in bfloat16, state in float32")
    assert "Hamiltonian 1,269,130, ResNet 5,825,754" in after["parameters"][3]
    assert after["running statistics"][3] == "of training"
    stl10 = {row[0]: row[3] for row in figures.few_labels_protocol("stl10-subset").rows}
    assert stl10["running statistics"] == "estimated anew from 10 batches"
    assert {row[2] for row in after.values()} <= {"V", "code", "unverified", "–"}


def test_precisions_are_compared_run_by_run(bundle):
    put(bundle, "hamiltonian", 500, 0, 40.0)
    settings = {"model": few.NETWORKS["hamiltonian"], "data": "cifar10", "subset": 500, "steps": 500, "amp": "bf16"}
    training(bundle, few.name("hamiltonian", "cifar10", 500, 0, kind="bf16"), 0.4075, settings=settings)
    rows = figures.few_labels_precision().rows
    assert rows[0] == ("Hamiltonian", "500", 0, "40.00 %", "40.75 %", "+0.75")
    assert rows[1] == ("ResNet", "500", 0, "not yet run", "not yet run", "–")


def test_unknown_data_are_refused():
    with pytest.raises(ValueError, match="data = 'mnist' must be one of cifar10, stl10-subset"):
        figures.few_labels_results("mnist")
