"""Result files: what they must have, and what is refused."""

from __future__ import annotations

import datetime
import json
import math
import subprocess

import pytest
import torch

from revode import cli, paths, results
from revode.errors import CheckpointError

POINT = {
    "step": 10, "epoch": 0.5, "lr": 0.1, "train_loss": 2.0, "train_accuracy": 0.25, "test_loss": 2.1,
    "test_accuracy": 0.2, "test_images": 130, "images_per_second": 50.0, "seconds": 2.0,
}  # fmt: skip


def record(**changes) -> dict:
    return {
        "name": "one",
        "kind": "training",
        "status": "finished",
        "settings": {"model": "tiny", "data": "sample", "subset": 100, "steps": 10},
        "seed": 3,
        "wall_seconds": 5400.0,
        "evidence": results.evidence() | {"commit": "0123456789abcdef", "uncommitted_changes": False},
        "curve": [POINT],
        "final": {"step": 10, "test_accuracy": 0.2},
    } | changes


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The package's results, in an empty folder."""
    monkeypatch.setattr(paths, "bundled", lambda: tmp_path)
    return tmp_path / "results"


def test_written_and_read(folder):
    one = record()  # once: its evidence has the time
    speed = one | {"name": "speed", "kind": "benchmark"}
    results.write(folder / "one.json", one)
    results.write(folder / "speed.json", speed)
    assert results.load("one") == one
    assert results.names() == ["one", "speed"]
    assert results.names("training") == ["one"]
    assert results.everything("benchmark") == [speed]


def test_evidence_says_commit_date_hardware_and_versions(root):
    results._commit.cache_clear()  # someone may have committed since it was asked first
    found = results.evidence()
    head = subprocess.run(["git", "rev-parse", "HEAD"], cwd=root, capture_output=True, text=True)
    assert found["commit"] == (head.stdout.strip() if head.returncode == 0 else None)
    age = datetime.datetime.now(datetime.UTC) - datetime.datetime.fromisoformat(found["date"])
    assert 0 <= age.total_seconds() < 60
    assert found["torch"] == torch.__version__
    assert found["hardware"]["cpu"]
    assert found["hardware"]["threads"] == torch.get_num_threads()
    assert found["hardware"]["gpu"] is None
    assert {"revode", "python", "system", "uncommitted_changes"} <= found.keys()
    assert json.loads(json.dumps(found)) == found


def checkout(folder):
    """A package in a checkout of its own."""
    package = folder / "revode"
    package.mkdir(parents=True)
    (package / "results.py").write_text("x = 1\n")
    git = ["git", "-C", str(folder), "-c", "user.name=a", "-c", "user.email=a@b"]
    for command in (["init", "-q"], ["add", "."], ["commit", "-qm", "x"]):
        subprocess.run([*git, *command], check=True)
    return package


def commit_of(package, monkeypatch):
    monkeypatch.setattr(results, "__file__", str(package / "results.py"))
    results._commit.cache_clear()
    try:
        return results._commit()
    finally:
        results._commit.cache_clear()


def test_uncommitted_changes_of_the_code_are_told(tmp_path, monkeypatch):
    package = checkout(tmp_path)
    (tmp_path / "README.md").write_text("not code")
    assert commit_of(package, monkeypatch)[1] is False
    (package / "results.py").write_text("x = 2\n")
    commit, changed = commit_of(package, monkeypatch)
    assert len(commit) == 40
    assert changed is True


def test_the_commit_of_another_project_is_not_taken_for_ours(tmp_path, monkeypatch):
    checkout(tmp_path)
    package = tmp_path / ".venv" / "lib" / "site-packages" / "revode"
    package.mkdir(parents=True)
    assert commit_of(package, monkeypatch) == (None, None)


def test_what_every_result_has():
    issue = {"name", "kind", "status", "settings", "seed", "wall_seconds", "evidence", "curve", "final"}
    assert results.KEYS.keys() == issue
    assert {"commit", "date", "hardware", "torch"} <= results.EVIDENCE.keys()


@pytest.mark.parametrize("key", results.KEYS)
def test_a_missing_or_mistyped_key_is_refused(folder, key):
    broken = record()
    broken.pop(key)
    with pytest.raises(CheckpointError, match=f"{key} is missing"):
        results.write(folder / "one.json", broken)
    with pytest.raises(CheckpointError, match=rf"{key} = \[\[\]\] is of the wrong type|curve\[0\] must be"):
        results.check(record(**{key: [[]]}))
    assert not folder.exists()


@pytest.mark.parametrize("key", ["commit", "date", "hardware", "torch", "python", "revode"])
def test_incomplete_evidence_is_refused(key):
    known = record()["evidence"]
    known.pop(key)
    with pytest.raises(CheckpointError, match=rf"evidence\.{key} is missing"):
        results.check(record(evidence=known))


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"status": "done"}, "status = 'done' must be one of finished"),
        ({"curve": [POINT | {"test_accuracy": 20.0}]}, r"test_accuracy = 20\.0 must lie in 0\.\.1"),
        ({"curve": [POINT | {"train_loss": math.nan}]}, "train_loss = nan is not finite"),
        ({"curve": [POINT, POINT]}, "more than that of the point before"),
        ({"curve": [{"step": 1}]}, r"curve\[0\]\.epoch is missing"),
        ({"final": {"step": 10}}, r"final\.test_accuracy is missing"),
        ({"wall_seconds": math.inf}, "wall_seconds = inf is not finite"),
        ({"seed": True}, "seed = True is of the wrong type"),
    ],
)
def test_refused_records(changes, says):
    with pytest.raises(CheckpointError, match=says):
        results.check(record(**changes))


def test_a_number_that_is_not_finite_is_neither_written_nor_read(folder):
    with pytest.raises(CheckpointError, match="finite"):
        results.write(folder / "one.json", record(final={"test_accuracy": math.nan}))
    assert not folder.exists()
    results.write(folder / "one.json", record())
    text = (folder / "one.json").read_text()
    (folder / "one.json").write_text(text.replace('"test_accuracy": 0.2\n', '"test_accuracy": NaN\n'))
    with pytest.raises(CheckpointError, match="NaN is no number of JSON"):
        results.load("one")


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"null", b"\xff\xfe", b'{"name": "one"}'])
def test_broken_files_are_refused(folder, content):
    folder.mkdir()
    (folder / "one.json").write_bytes(content)
    with pytest.raises(CheckpointError, match=r"one\.json is no (JSON|result) file"):
        results.load("one")


@pytest.mark.parametrize("name", ["two", "../results/one", ""])
def test_an_unknown_name_lists_the_choices(folder, name):
    results.write(folder / "one.json", record())
    with pytest.raises(CheckpointError, match="there are: one"):
        results.load(name)


def test_the_table(folder, capsys):
    assert cli.main(["results"]) == 0
    assert "no results" in capsys.readouterr().out
    results.write(folder / "one.json", record())
    results.write(folder / "two.json", record(name="two", status="unfinished", final={"step": 4}))
    results.write(folder / "speed.json", record(name="speed", kind="benchmark"))
    assert cli.main(["results"]) == 0
    head, one, two = capsys.readouterr().out.splitlines()
    assert head.split()[:2] == ["result", "status"]
    for word in ("one", "finished", "sample, 100 images", "20.00 %", "1.50", "012345678"):
        assert word in one, word
    assert "unfinished" in two
    assert "4 of 10" in two
    assert cli.main(["results", str(folder / "two.json")]) == 0
    assert "one" not in capsys.readouterr().out.splitlines()[1]


def test_all_bundled_results_are_whole():
    for r in results.everything():
        assert r["evidence"]["commit"], r["name"]
        assert r["name"] in results.names()


@pytest.mark.parametrize("key", ["test_loss", "images_per_second"])
def test_what_may_be_unknown(key):
    results.check(record(curve=[POINT | {key: None}]))


def test_a_record_is_what_its_file_gives_back(tmp_path):
    began = results.begin()
    final = {"errors": [1.0, math.inf], "shape": (2, 3), "best": {"at": math.nan}}
    made = results.record("some", "experiment", final, began=began, settings={"n": 3}, seed=4, curve=[{"step": 1}])
    results.write(tmp_path / "some.json", made)
    assert results.read(tmp_path / "some.json") == made
    assert made["final"] == {"errors": [1.0, None], "shape": [2, 3], "best": {"at": None}}
    assert (made["seed"], made["settings"], made["curve"]) == (4, {"n": 3}, [{"step": 1}])
    assert made["evidence"]["commit"] == began.evidence["commit"]
    assert 0 <= made["wall_seconds"] < 60
