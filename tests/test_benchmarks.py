"""The cases of the benchmark that keep the last blocks, and how their rows get into the result file and the chapter."""

from __future__ import annotations

import copy
import json

import pytest
import torch

from benchmarks import __main__ as command
from benchmarks import measure, report
from benchmarks.cases import FAMILIES, STORED_LAST
from revode import figures, results
from revode.memory import saved_bytes

from .helpers import relative

SHAPE = {"channels": 4, "size": 4, "batch": 2}


@pytest.mark.parametrize("case", STORED_LAST)
@pytest.mark.parametrize("family", ["revnet", "hamiltonian", "hamiltonian-bn"])
def test_the_last_blocks_are_not_evaluated_again_and_take_no_memory_per_block(family, case):
    k, saved = STORED_LAST[case], []
    for blocks in (k + 2, k + 8):
        problem = measure.Problem(family, ["plain", "revode", case], blocks, **SHAPE)
        plain, found = problem.gradients("plain"), problem.gradients(case)
        assert max(map(relative, found, plain)) < 1e-3
        assert evaluations(problem, case) == 2 * blocks + 2 * (blocks - k)  # forward, and N - k blocks again
        saved.append([kept(problem, c) for c in ("revode", case)])
    assert saved[0] == saved[1]
    assert saved[0][1] > saved[0][0]


def evaluations(problem: measure.Problem, case: str) -> int:
    """Calls of residual functions in one step."""
    calls = []
    hooks = [f.register_forward_pre_hook(lambda *_: calls.append(1)) for f in problem.functions]
    problem.step(case)
    for hook in hooks:
        hook.remove()
    return len(calls)


def kept(problem: measure.Problem, case: str) -> int:
    """Bytes of activations that the forward pass leaves."""
    x = problem.x.clone().requires_grad_()
    return saved_bytes(lambda: problem.networks[case](x), problem.functions.parameters())


class Measured:
    """Stands in for the measurements: it notes what was asked for, and every case takes as long as is told."""

    def __init__(self, monkeypatch, ratio: float):
        self.ratio, self.timed, self.used = ratio, [], []
        monkeypatch.setattr(measure, "times", self.times)
        monkeypatch.setattr(measure, "memory", self.memory)

    def times(self, family, cases, blocks, rounds, *, layout, **shape):
        self.timed.append((family, blocks, layout, tuple(cases)))
        common = {"family": family, "blocks": blocks, "layout": layout, "rounds": rounds, "gradient_difference": 0.0}
        names = [*cases, "plain again", "one more forward"]
        return [common | {"case": c, "ratio": self.ratio, "seconds": self.ratio} for c in names], {}

    def memory(self, family, case, blocks, **shape):
        self.used.append((case, blocks))
        row = {"family": family, "case": case, "blocks": blocks, "parameter_gradients": 10 * blocks}
        return row | {"peak": 1000 + 10 * blocks, "resident": None}


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Runs the command with made-up measurements; returns these and the result file's rows."""
    threads = torch.get_num_threads()

    def call(ratio: float, *argv: str):
        out = tmp_path / "benchmark.json"
        measured = Measured(monkeypatch, ratio)
        options = ["--families", "revnet", "--parts", "time,memory", "--deep", "", "--out", str(out)]
        assert command.main(command.arguments([*options, *argv])) == 0
        return measured, json.loads(out.read_text())["final"]

    yield call
    torch.set_num_threads(threads)


def test_added_rows_stand_beside_those_of_the_other_cases(run, capsys):
    run(1.5, "--blocks", "8,32", "--cases", "revode,memcnn", "--layouts", "contiguous")
    new = "revode last 4 stored,revode last 12 stored"
    measured, found = run(1.25, "--blocks", "8,32", "--cases", new, "--layouts", "contiguous", "--add")
    first, second = new.split(",")
    assert measured.timed == [
        ("revnet", 8, "contiguous", ("plain", first)),
        ("revnet", 32, "contiguous", ("plain", first, second)),
    ]
    assert measured.used == [(first, 8), (first, 32), (second, 32)]
    rows = [(r["case"], r["ratio"], r.get("plain_seconds")) for r in found["time"] if r["blocks"] == 32]
    assert rows == [
        ("plain", 1.5, None), ("revode", 1.5, None), (first, 1.25, 1.25), (second, 1.25, 1.25), ("memcnn", 1.5, None),
        ("plain again", 1.5, None), ("one more forward", 1.5, None),
    ]  # fmt: skip
    assert [r["case"] for r in found["memory"] if r["blocks"] == 32] == ["plain", "revode", first, second, "memcnn"]
    assert "memory slope, revnet, revode last 4 stored, MiB/block | 0.000 | ≤ 0.020 | met" in capsys.readouterr().out


def test_a_run_without_add_takes_the_place_of_the_whole_run(run):
    run(1.5, "--blocks", "32", "--cases", "revode,memcnn", "--layouts", "contiguous")
    _, found = run(1.25, "--blocks", "32", "--cases", "revode", "--layouts", "contiguous")
    assert [(r["case"], r["ratio"]) for r in found["time"]] == [
        (c, 1.25) for c in ("plain", "revode", "plain again", "one more forward")
    ]


def test_the_coupling_is_timed_at_128_blocks(run):
    measured, _ = run(1.5, "--blocks", "128", "--cases", "revode", "--parts", "time")
    assert [t[1:3] for t in measured.timed] == [(128, "contiguous"), (128, "channels_last")]


@pytest.mark.parametrize(
    ("argv", "says"), [(["--cases", "revod"], "revod: there are no"), (["--add"], "needs --cases")]
)
def test_what_cannot_be_added_is_refused(argv, says):
    with pytest.raises(SystemExit, match=says):
        command.main(command.arguments(["--quick", *argv]))


# --- the chapter ----------------------------------------------------------------------------------------------------


def with_rows(record: dict) -> dict:
    """The result with rows of the new cases, as the benchmark would add them at 32 blocks."""
    record = copy.deepcopy(record)
    final = record["final"]
    final["time"] = [r for r in final["time"] if r["case"] not in STORED_LAST]
    final["memory"] = [r for r in final["memory"] if r["case"] not in STORED_LAST]
    for case, k in STORED_LAST.items():
        for row in [r for r in final["time"] if (r["family"], r["case"], r["blocks"]) == ("revnet", "revode", 32)]:
            final["time"].append(row | {"case": case, "ratio": (4 - k / 32) / 3})
        for row in [r for r in final["memory"] if (r["family"], r["case"]) == ("revnet", "revode") and r["blocks"] > k]:
            final["memory"].append(row | {"case": case, "peak": row["peak"] + k * 25 * 2**20})
    return record


def test_the_chapter_shows_the_rows_where_they_are_and_does_without():
    full = with_rows(results.load("benchmark-cpu"))
    bare = copy.deepcopy(full)
    for part in ("time", "memory"):
        bare["final"][part] = [r for r in bare["final"][part] if r["case"] not in STORED_LAST]
    rows = {r[0]: r for r in figures.memory_choices(full).rows}
    for k, time in ((4, "1.29"), (12, "1.21"), (16, "1.17")):
        assert rows[f"reversible, last {k} blocks stored"][1] == time
        assert rows[f"reversible, last {k} blocks stored"][3] == rows["reversible (revode)"][3] == "0.00"
    assert not any("last" in r[0] for r in figures.memory_choices(bare).rows if r[0] != "time, channels_last")
    assert ">k=12<" in figures.memory_against_time(full).svg
    assert "k=12" not in figures.memory_against_time(bare).svg
    assert figures.time_over_depth(full).rows == figures.time_over_depth(bare).rows
    assert "last 4 stored" in report.markdown(full)
    single = copy.deepcopy(full)  # memory at one depth only has no slope
    single["final"]["memory"] = [r for r in full["final"]["memory"] if r["blocks"] == 32]
    assert all(r[3] == "–" for r in figures.memory_choices(single).rows)


def test_stored_cases_are_of_the_reversible_coupling_and_the_hamiltonian():
    assert {name for name, f in FAMILIES.items() if STORED_LAST.keys() <= f.cases.keys()} == {
        "revnet", "hamiltonian", "hamiltonian-bn",
    }  # fmt: skip
