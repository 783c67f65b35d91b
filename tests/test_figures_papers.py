"""The papers' tables have a status for every number, and nothing that was not run has a result."""

from __future__ import annotations

import pytest

from revode import figures, paths
from revode.models import MODELS

from .made_up import training


@pytest.fixture
def bundle(tmp_path, monkeypatch):
    """An empty folder in place of the package's results."""
    monkeypatch.setattr(paths, "bundled", lambda: tmp_path)
    (tmp_path / "results").mkdir()
    return tmp_path / "results"


def rows(table: figures.Table) -> dict[str, tuple]:
    return {row[0]: row for row in table.rows}


def test_parameters_are_counted_for_both_numbers_of_classes():
    found = rows(figures.parameters_by_classes())
    assert found["hamiltonian-74"] == ("hamiltonian-74", 432_010, 442_180, 90 * 113, "0.43M / 0.44M (unverified)")
    assert found["resnet-32"][3] == 90 * 65
    assert "resnet-14" not in found, "a network of another paper"


@pytest.mark.parametrize("data", ["cifar10", "cifar100", "stl10"])
def test_every_network_has_its_cost_and_what_was_run(bundle, data):
    table = figures.protocol_cost(data)
    assert {row[2] for row in table.rows} == {"not yet run"}
    assert "What is missing would take" in table.alt
    model = table.rows[-1][0]
    training(bundle, f"{model}-{data}-seed1", 0.9, settings={"model": model, "data": data, "steps": 80_000})
    assert rows(figures.protocol_cost(data))[model][2:4] == ("1 of 3 seeds", "10 min")


def test_reduced_runs_are_told_from_those_that_are_missing(bundle):
    settings = {"model": "resnet-32", "data": "cifar100", "subset": 10_000, "steps": 2000}
    training(bundle, "cifar100-resnet-32", 0.31, settings=settings)
    found = rows(figures.reduced_runs("cifar100"))
    assert found["hamiltonian-74"][2].startswith("not yet run: about")
    assert found["resnet-32"][1:5] == (0, "31.00 % of 10,000", "80.00 %", "10 min")
    assert "10,000 images, 2,000 steps" in figures.reduced_runs("cifar100").alt


def test_numbers_of_others_were_read_or_are_code():
    found = figures.stl10_others().rows
    assert {row[2] for row in found} <= {"V", "code"}
    assert rows(figures.stl10_others())["wresnet-122"][1] == "78.00"
    assert not {row[0] for row in found} & {"hamiltonian-stl10", "midpoint-stl10", "leapfrog-stl10"}


def test_sources_are_those_of_the_network():
    found = rows(figures.network_sources("hamiltonian-stl10"))
    assert found["accuracy"][1:3] == ("85.5 %", "V")
    assert found["batch size"][1:3] == ("128", "unverified")
    assert found["units"][3] == MODELS["hamiltonian-stl10"].sources["units"].text


def test_other_experiments_do_not_crowd_chapter_5(bundle):
    training(bundle, "few-hamiltonian-cifar10-500-seed0", 0.4,
             settings={"model": "hamiltonian-few", "data": "cifar10", "subset": 500, "steps": 500})  # fmt: skip
    settings = {"model": "hamiltonian-74", "data": "cifar10", "subset": 10_000, "subset_seed": 0, "steps": 2000}
    training(bundle, "rough", 0.7, settings=settings | {"smoothness": 0.0})
    training(bundle, "cifar100-hamiltonian-74", 0.3, settings=settings | {"data": "cifar100"})
    told = figures.planned_runs()
    assert len(told.rows) == sum(map(len, figures.PLANNED.values()))
    assert {row[3] for row in told.rows} == {"not run yet"}
    assert figures.training_time().rows[0][0] == "CPU", "no run of this chapter was timed"
