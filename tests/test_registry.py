"""The registry finds every experiment, its commands print and run them, and the runs are what they say."""

from __future__ import annotations

import dataclasses
import json

import pytest
import torch

from revode import cli, results
from revode.experiments import Experiment, Measured, Run, _base, cost, few_labels, gradients, registry, thousand
from revode.experiments import run as runner
from revode.models import MODELS, Source
from revode.train import TrainConfig


def test_names_are_unique_and_every_run_can_be_made():
    found = registry.experiments()
    names = [run.name for e in found.values() for run in e.runs]
    assert len(names) == len(set(names))
    for e in found.values():
        assert bool(e.runs) != bool(e.needs)
        for run in e.runs:
            if run.make == "train":
                TrainConfig(**run.settings, seed=run.seed)
            elif " " in run.make:
                assert run.make.split()[0] in ("revode", "python")
            else:
                module, _, function = run.make.partition(":")
                assert callable(getattr(__import__(f"revode.experiments.{module}", fromlist=[function]), function))


def test_every_bundled_result_belongs_to_a_run():
    names = {run.name for e in registry.experiments().values() for run in e.runs}
    assert set(results.names()) <= names


def test_the_reduced_runs_are_those_of_the_bundled_results():
    for run in registry.find("cifar10-reduced").runs:
        record = results.load(run.name)
        settings = dataclasses.asdict(TrainConfig(**run.settings, seed=run.seed, device="cpu").resolved(10_000))
        settings["milestones"] = list(settings["milestones"])
        ours = {k: v for k, v in record["settings"].items() if k in settings and k != "h"}
        assert ours == {k: settings[k] for k in ours}
        assert record["seed"] == run.seed


def test_two_experiments_of_one_name_are_refused(monkeypatch):
    twin = Experiment("claims", "again", (), Source("calc", "here"), ())
    monkeypatch.setattr(gradients, "EXPERIMENTS", (twin,))
    registry.experiments.cache_clear()
    try:
        with pytest.raises(ValueError, match="two experiments are called 'claims'"):
            registry.experiments()
    finally:
        monkeypatch.undo()
        registry.experiments.cache_clear()


def test_status_says_what_is_missing_and_how_long_it_takes():
    runs = (Run("a", "train", cpu_minutes=30), Run("b", "train", cpu_minutes=60), Run("c", "train", gpu_minutes=90))
    e = Experiment("some", "?", (), Source("calc", "here"), runs)
    assert registry.status(e, {}).words == "not yet run"
    found = registry.status(e, {"a": {}})
    assert found.words == "1 of 3 runs"
    assert found.wait == "about 60 min on one CPU core and about 90 min on one H200, estimated"
    assert registry.status(e, {name: {} for name in "abc"}).words == "finished"


@pytest.mark.parametrize(
    ("minutes", "text"), [(0.5, "30 s"), (12, "12 min"), (150, "2.5 h"), (1500, "25 h"), (4320, "3.0 days")]
)
def test_durations(minutes, text):
    assert registry.hours(minutes) == text


def test_counted_work_is_that_of_the_operations():
    from torch.utils.flop_counter import FlopCounterMode

    from revode.models import build

    for name in ("hamiltonian-few", "resnet-few"):
        with torch.device("meta"):
            network = build(name, memory="stored")
            with FlopCounterMode(display=False) as counter:
                network(torch.empty(1, 3, 32, 32))
        assert cost.multiplications(name, 32) == pytest.approx(counter.get_total_flops() / 2, rel=0.15)
    with pytest.raises(ValueError, match="model = 'torchvision-resnet-18' is counted otherwise"):
        cost.multiplications("torchvision-resnet-18", 32)


# --- commands -------------------------------------------------------------------------------------------------


def test_the_list_names_every_experiment(capsys):
    assert cli.main(["experiments"]) == 0
    out = capsys.readouterr().out
    for name in registry.experiments():
        assert f"\n{name}: " in f"\n{out}"
    assert cli.main(["experiments", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [r["name"] for r in rows] == list(registry.experiments())


def test_the_claims_are_listed_with_their_verdicts(capsys):
    assert cli.main(["experiments", "--claims"]) == 0
    out = capsys.readouterr().out
    assert "\n33  " in out
    assert "not yet run: " in out.splitlines()[-1]
    assert cli.main(["experiments", "--claims", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [r["number"] for r in rows] == list(range(1, 34))
    assert rows[0]["verdict"] == "reproduced"


@pytest.fixture
def small(monkeypatch) -> Experiment:
    """One experiment of two runs."""

    def double(*, seed, n):
        return Measured({"twice": 2 * n})

    monkeypatch.setattr(_base, "double", double, raising=False)
    train = {"model": "resnet-32", "data": "sample", "steps": 1, "batch": 4, "eval_images": 4}
    runs = (Run("twice", "_base:double", {"n": 3}), Run("tiny", "train", train, cpu_minutes=1))
    made = Experiment("small", "?", (), Source("calc", "here"), runs)
    monkeypatch.setattr(registry, "experiments", lambda: {"small": made})
    return made


def test_reproduce_runs_what_is_missing_and_goes_on(small, tmp_path, capsys):
    folder = ["--folder", str(tmp_path), "--device", "cpu"]
    assert cli.main(["reproduce", "small", "--only", "twice", *folder]) == 0
    assert [p.name for p in tmp_path.glob("*.json")] == ["twice.json"]
    before = (tmp_path / "twice.json").read_text()
    assert cli.main(["reproduce", "small", *folder, "--limit-seconds", "0"]) == 1
    assert "unfinished: tiny" in capsys.readouterr().out
    assert cli.main(["reproduce", "small", *folder]) == 0
    assert (tmp_path / "twice.json").read_text() == before
    assert results.read(tmp_path / "tiny.json")["status"] == "finished"


def test_reproduce_says_what_is_wrong(small, tmp_path, capsys):
    assert cli.main(["reproduce", "large"]) == 2
    assert "must be one of: small" in capsys.readouterr().err
    assert cli.main(["reproduce", "small", "--only", "thrice", "--folder", str(tmp_path)]) == 2
    assert "must be one of: twice, tiny" in capsys.readouterr().err


def test_what_needs_a_gpu_or_cannot_be_run_says_how_long_it_takes(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert cli.main(["reproduce", "cifar10-table", "--only", "hamiltonian-74-cifar10-seed0"]) == 2
    assert "needs a GPU: about 13 min on one H200" in capsys.readouterr().err
    assert cli.main(["reproduce", "imagenet-revnet"]) == 2
    assert "needs ImageNet" in capsys.readouterr().err


def test_a_run_can_be_a_command(tmp_path, monkeypatch):
    made = []
    monkeypatch.setattr(cli, "main", lambda words: made.append(words) or 3)
    with pytest.raises(runner.RevodeError, match="status 3 and left no"):
        runner.make(Run("some", "revode claims --out {file}"), tmp_path)
    assert made == [["claims", "--out", str(tmp_path / "some.json")]]


# --- few labels, a thousand layers, gradients -----------------------------------------------------------------


def test_few_labels_compares_networks_that_see_the_same_images():
    for e in few_labels.EXPERIMENTS:
        by_case: dict = {}
        for run in e.runs:
            s = {k: v for k, v in run.settings.items() if k != "model"}
            assert s["subset_seed"] == run.seed
            by_case.setdefault((s["subset"], run.seed), []).append(s)
            recipe = MODELS[run.settings["model"]].recipe
            assert all(round(m * s["steps"] / recipe.steps) < s["steps"] for m in recipe.milestones)
        assert all(case == same[0] for same in by_case.values() for case in same)
        assert len({run.settings["steps"] for run in e.runs}) == 1


def test_memory_is_measured_in_a_process_of_its_own():
    if not thousand.Path("/proc/self/status").exists():
        pytest.skip("resident memory is read from /proc/self/status, which only Linux has")
    found = thousand.measure_memory(seed=0, model="resnet-32", batch=2, steps=1).final
    assert found["parameter_bytes"] == found["gradient_bytes"] == found["momentum_bytes"] == 4 * 464_154
    assert found["peak_bytes"] > 3 * found["parameter_bytes"] + found["saved_bytes"] / 2


def test_stored_bytes_follow_from_few_blocks():
    from revode.memory import saved_bytes
    from revode.networks import Network

    spec = MODELS["hamiltonian-74"]
    network = Network(spec.scheme, spec.units, spec.widths, memory="stored", seed=0)
    x, _ = thousand._random_images(6, 0)
    truth = saved_bytes(lambda: network(x), [x, *network.parameters()])
    found = thousand.measure_stored_bytes(seed=0, model="hamiltonian-74", batch=6, counted_batch=2).final
    assert found["saved_bytes"] == pytest.approx(truth, rel=1e-6)


def test_the_error_of_a_stage_is_that_of_rounding():
    from revode.models import build

    network = build("leapfrog-26", seed=0).train()
    x = torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    single = thousand.stage_errors(network, x)
    double = thousand.stage_errors(network.double(), x.double())
    assert [r["blocks"] for r in single] == [5, 4, 3]
    assert all(1e-8 < r["error"] < 1e-4 for r in single)
    assert all(r["error"] < 1e-12 for r in double)
    assert not network.stages[0]._forward_hooks


def test_gradients_from_rebuilt_activations_are_those_of_stored_ones():
    found = gradients.measure_difference(seed=1, activation="tanh", batch=4).final
    assert found.keys() == {"hamiltonian", "midpoint", "leapfrog", "revnet"}
    assert all(0 < row["relative"] < 1e-5 for row in found.values())
    assert found["hamiltonian"]["layers"] == 8


def test_a_symplectic_network_keeps_the_gradient_alive():
    found = gradients.measure_norm(seed=0, width=8, depths=(16, 48)).final
    assert all(row["smallest"] >= 1 for row in found["symplectic"])
    assert found["euler"][1]["largest"] < found["euler"][0]["largest"] < 1
