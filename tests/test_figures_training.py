"""Chapter 5 says what the result files say, whichever of them are there; and the picture of the README."""

from __future__ import annotations

import base64
import io
import json
import re
import shlex
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import nbformat
import numpy as np
import pytest
from matplotlib.image import imread

from revode import cli, data, figures, paths, results
from revode.models import MODELS
from revode.train import TrainConfig

ROOT = Path(__file__).resolve().parent.parent
RUNS = sum(map(len, figures.PLANNED.values()))
CHAPTER = ROOT / "book" / "05_training_on_cifar10.ipynb"


@pytest.fixture
def bundle(tmp_path, monkeypatch) -> Path:
    """An empty folder in place of the package's data."""
    monkeypatch.setattr(paths, "bundled", lambda: tmp_path)
    (tmp_path / "results").mkdir()
    return tmp_path / "results"


def write(bundle: Path, model: str, seed: int, accuracy: float, *, at: int = 2000, status: str = "finished", **more):
    """A result file that a run of the plan could have left."""
    settings = figures.PROTOCOL | {"model": model, "milestones": [1000, 1500], "seed": seed, "memory": "reversible"}
    points = [
        {
            "step": k, "epoch": k / 100, "lr": 0.1, "train_loss": 2.0 - k / 2000, "train_accuracy": 0.7,
            "test_loss": 1.0, "test_accuracy": accuracy * k / at, "test_images": 2000 + 8000 * (k == 2000),
            "images_per_second": 50.0, "seconds": k / 50,
        }
        for k in range(at // 5, at + 1, at // 5)
    ]  # fmt: skip
    final = {"step": at}
    if status == "finished":
        final |= {"test_accuracy": accuracy, "test_images": 10_000, "train_loss": 0.5, "inverse_error": 3e-6}
    hardware = {"cpu": "Some CPU", "cores": 2, "threads": 1, "gpu": more.pop("gpu", None)}
    evidence = {"revode": "0.1.0", "commit": "0123456789abcdef", "date": "2026-11-21T00:00:00+00:00", "torch": "2.6.0"}
    evidence |= {"hardware": hardware, "python": "3.11.0", "uncommitted_changes": False}
    record = {"kind": "training", "status": status, "seed": seed, "wall_seconds": 4500.0, "final": final}
    record |= {"settings": settings | more, "evidence": evidence, "curve": points}
    record["name"] = f"{model}-{settings['data']}-{more.get('steps', 0)}-seed{seed}-{status}"
    results.write(bundle / f"{record['name']}.json", record)


def test_a_run_of_another_experiment_is_not_one_of_the_plan(bundle):
    write(bundle, "hamiltonian-74", 0, 0.5)
    for i, more in enumerate(({"smoothness": 0.0}, {"image_size": 16}, {"init": "x"}, {"refine": "copy"})):
        write(bundle, "hamiltonian-74", 0, 0.7, status="finished", **more)
        (written,) = bundle.glob("*-0-*")  # names that sort behind
        written.rename(bundle / f"z{i}.json")
    write(bundle, "hamiltonian-74", 0, 0.5)
    found = {(m, k): r for m, k, r in figures.planned_results()}
    assert found["hamiltonian-74", 0]["final"]["test_accuracy"] == 0.5


def cells(table: figures.Table) -> str:
    return "\n".join(" | ".join(map(str, row)) for row in table.rows)


def test_without_any_file_the_chapter_says_so_and_shows_no_number(bundle):
    assert [record for *_, record in figures.planned_results()] == [None] * sum(map(len, figures.PLANNED.values()))
    runs = figures.planned_runs()
    assert len(runs.rows) == RUNS
    assert all(row[3] == "not run yet" for row in runs.rows)
    assert f"0 of {RUNS}" in runs.alt
    assert "%" not in "".join(str(row[2:4]) for row in figures.accuracy_summary().rows)
    assert "no result file" in figures.training_curves().alt
    assert "not measured" in cells(figures.training_time())
    assert "0 and 0 finished" in figures.compare_networks()


def test_exact_arithmetic_is_judged_by_the_spread_of_the_seeds_and_counts_for_no_plan(bundle):
    write(bundle, "hamiltonian-74", 0, 0.750)
    write(bundle, "hamiltonian-74", 1, 0.756)
    assert "not finished" in figures.exact_training().alt
    write(bundle, "hamiltonian-74", 0, 0.752, arithmetic="exact", steps=2000)
    told = figures.exact_training()
    assert [row[:4] for row in told.rows] == [
        ("float32", 0, "finished", "75.00 %"),
        ("float32", 1, "finished", "75.60 %"),
        ("exact", 0, "finished", "75.20 %"),
    ]
    assert "inside the range" in told.alt
    assert "-0.10 points" in told.alt
    assert figures.accuracy_summary().rows[0][2].startswith("75.30 ±"), "the mean is of float32 alone"
    assert "rebuilt, exact" in cells(figures.planned_runs())
    write(bundle, "hamiltonian-74", 0, 0.70, arithmetic="exact", steps=2000)
    assert "below the range" in figures.exact_training().alt


def test_finished_unfinished_failed_and_missing_runs_are_told_apart(bundle):
    write(bundle, "hamiltonian-74", 0, 0.80)
    write(bundle, "leapfrog-26", 0, 0.5, at=750, status="unfinished")
    write(bundle, "midpoint-26", 0, 0.3, at=250, status="failed")
    rows = {(row[0], row[1]): row for row in figures.planned_runs().rows}
    assert rows["Hamiltonian-74", 0][2:5] == ("rebuilt", "finished", "80.00 % of 10,000")
    assert rows["Leapfrog-26", 0][3] == "unfinished at step 750 of 2,000"
    assert rows["MidPoint-26", 0][3] == "failed at step 250 of 2,000"
    assert rows["Hamiltonian-74", 1][3] == "not run yet"
    summary = cells(figures.accuracy_summary())
    assert "Leapfrog-26 | 0 of 1 | – | –" in summary  # what is not finished has no accuracy
    alt = figures.training_curves().alt
    assert f"3 of {RUNS}" in alt
    assert "Leapfrog-26 seed 0 50.00 %, unfinished at step 750" in alt


def test_how_activations_were_kept_is_told(bundle):
    write(bundle, "hamiltonian-74", 0, 0.80)
    write(bundle, "hamiltonian-74", 1, 0.80, memory="stored")
    write(bundle, "resnet-32", 0, 0.80)  # which has no other way, whatever was asked for
    rows = {(row[0], row[1]): row[2] for row in figures.planned_runs().rows}
    assert [rows["Hamiltonian-74", 0], rows["Hamiltonian-74", 1]] == ["rebuilt", "stored"]
    assert rows["ResNet-32", 0] == "stored"
    assert rows["ResNet-32", 1] == "–"


def test_mean_and_deviation_are_over_finished_seeds_and_only_from_two_on(bundle):
    write(bundle, "hamiltonian-74", 0, 0.80)
    row = figures.accuracy_summary().rows[0]
    assert row[1:3] == ("1 of 3", "80.00 %")
    write(bundle, "hamiltonian-74", 1, 0.82)
    write(bundle, "hamiltonian-74", 2, 0.99, at=500, status="unfinished")
    row = figures.accuracy_summary().rows[0]
    assert row[1:3] == ("2 of 3", f"81.00 ± {np.sqrt(2):.2f} %")


def test_comparison_has_its_standard_error(bundle):
    for seed, (a, b) in enumerate([(0.80, 0.70), (0.82, 0.72), (0.81, 0.71)]):
        write(bundle, "hamiltonian-74", seed, a)
        write(bundle, "resnet-32", seed, b)
    text = figures.compare_networks()
    assert f"+10.00 points, standard error {np.sqrt(2 / 3):.2f} (3 and 3 seeds); more than two" in text


def test_a_finished_file_goes_before_an_unfinished_one_of_the_same_run(bundle):
    write(bundle, "leapfrog-26", 0, 0.7)
    write(bundle, "leapfrog-26", 0, 0.3, at=500, status="unfinished")
    (record,) = (r for model, _, r in figures.planned_results() if model == "leapfrog-26")
    assert record["status"] == "finished"


def test_a_run_of_another_protocol_is_listed_and_not_mixed_in(bundle):
    write(bundle, "hamiltonian-74", 0, 0.93, at=80_000, subset=None, steps=80_000, gpu="Some GPU")
    assert figures.accuracy_summary().rows[0][1] == "0 of 3"
    last = figures.planned_runs().rows[-1]
    assert last[0] == "Hamiltonian-74 (cifar10, all images, 80,000 steps)"
    assert f"0 of {RUNS}" in figures.training_curves().alt
    times = cells(figures.training_time())
    assert "Some GPU" in times
    assert "not measured" not in times


def test_hours_of_the_full_recipe_are_those_of_the_measured_speed(bundle):
    write(bundle, "hamiltonian-74", 0, 0.8)
    (cpu, gpu) = figures.training_time().rows
    assert cpu[0].endswith("rebuilt")
    assert cpu[1:] == ("Some CPU, 1 thread", "50", "2,000", "75", f"{80_000 * 100 / 50 / 3600:.0f}")
    assert gpu[0] == "GPU"
    assert "not measured" in gpu[1]


def test_papers_accuracies_carry_their_status(bundle):
    for row, model in zip(figures.accuracy_summary().rows, figures.PLANNED):
        spec = MODELS[model]
        assert row[-1] == f"{spec.accuracy['cifar10']} % ({spec.sources['accuracy'].status})"


@pytest.mark.parametrize("model", figures.PLANNED)
def test_protocol_has_a_status_for_every_number_of_the_paper(model):
    rows = {row[0]: row for row in figures.protocol(model).rows}
    assert all(re.fullmatch(r"(V|code|calc|unverified)(, (V|code))?", row[2]) for row in rows.values())
    config = TrainConfig(model, **figures.PROTOCOL).resolved(figures.PROTOCOL["subset"])
    assert rows["rate times 0.1 after step"][3] == ", ".join(f"{m:,}" for m in config.milestones)
    assert max(config.milestones) < config.steps  # all cuts of the rate are passed


def test_planned_networks_and_settings_are_known():
    for model in figures.PLANNED:
        assert MODELS[model].accuracy["cifar10"]
        TrainConfig(model, **figures.PROTOCOL)


def test_augmented_images_are_windows_of_the_padded_one():
    few = data.load("sample", "train").subset(2, seed=0)
    film = figures.augmented_images(few, draws=3)
    for i, images in enumerate(film.rows.values()):
        shown = [np.rint(255 * imread(io.BytesIO(base64.b64decode(png)))[..., :3]).astype(np.uint8) for png in images]
        assert [s.shape for s in shown] == [(40, 40, 3)] + 3 * [(32, 32, 3)]
        np.testing.assert_array_equal(shown[0][4:36, 4:36], few.images[i].permute(1, 2, 0))
        assert not shown[0][:4].any()
        windows = [shown[0][a : a + 32, b : b + 32] for a in range(9) for b in range(9)]
        windows += [w[:, ::-1] for w in windows]
        assert all(any((w == s).all() for w in windows) for s in shown[1:])


def test_losses_are_those_of_the_logs_and_their_distance(tmp_path):
    for name, shift in (("one", 0.0), ("two", 0.25)):
        (tmp_path / name).mkdir()
        entries = [{"step": k, "loss": 3.0 - k + shift * (k > 1), "lr": 0.1} for k in (1, 2)]
        (tmp_path / name / "log.jsonl").write_text("".join(json.dumps(e) + "\n" for e in entries))
    drawing = figures.loss_per_step({name: tmp_path / name for name in ("one", "two")})
    assert "from 2 to 1" in drawing.alt
    assert "two from one by at most 0.25, not at all in step 1" in drawing.alt


# --- the chapter's own text -------------------------------------------------------------------------------------


def commands() -> list[list[str]]:
    notebook = nbformat.read(CHAPTER, as_version=4)
    text = "\n".join(c.source for c in notebook.cells if c.cell_type == "markdown")
    blocks = re.findall(r"```sh\n(.*?)```", text, re.DOTALL)
    return [words for block in blocks for words in (shlex.split(k, comments=True) for k in block.splitlines()) if words]


def test_commands_of_the_chapter_are_accepted_and_the_first_run_is_that_of_the_plan():
    lines = commands()
    assert any(words[0] == "torchrun" for words in lines)
    assert any("--resume" in words for words in lines)
    parsed = []
    for words in lines:
        words = words[words.index("revode") + 1 :]
        parsed.append(vars(cli.parser(words[0]).parse_args(words)))
    short = next(p for p in parsed if p.get("subset"))
    assert short["model"] in figures.PLANNED
    assert {k: short[k] for k in figures.PROTOCOL} == figures.PROTOCOL
    full = [p for p in parsed if p.get("model") and not p["subset"]]
    assert all(p["steps"] is None and p["batch"] is None for p in full)  # the recipe's


def test_chapter_asks_colab_for_a_gpu():
    metadata = nbformat.read(CHAPTER, as_version=4).metadata
    assert metadata["accelerator"] == "GPU"
    assert metadata["colab"]["gpuType"] == "T4"


# --- the picture of the README -----------------------------------------------------------------------------------


def check_hero(text: str) -> None:
    svg = ET.fromstring(text)
    left, top, width, height = map(float, svg.attrib["viewBox"].split())
    board = svg.find("{http://www.w3.org/2000/svg}rect")
    x, y, w, h = (float(board.attrib[k]) for k in ("x", "y", "width", "height"))
    assert re.fullmatch("#[0-9a-f]{6}", board.attrib["fill"])  # opaque, so that light and dark pages show the same
    assert x - left <= 1 <= y - top + 1
    assert w >= width - 2
    assert h >= height - 2
    # an image has no page around it to take colours, fonts or scripts from
    assert not re.search(r"currentColor|var\(|<script|<style", text)
    assert "sans-serif" in svg.attrib["font-family"]
    assert len(svg.find("{http://www.w3.org/2000/svg}title").text) > 100


def test_hero_stands_alone_on_an_opaque_ground(tmp_path):
    out = tmp_path / "hero.svg"
    subprocess.run([sys.executable, "-m", "revode.figures", "hero", str(out)], check=True, cwd=ROOT, timeout=120)
    check_hero(out.read_text("utf-8"))


def test_the_readmes_picture_is_a_hero():
    text = (ROOT / "book" / "_static" / "hero.svg").read_text("utf-8")
    check_hero(text)
    drawn = set(re.findall(r">([^<>\s][^<>]*)</text>", text))
    assert drawn == set(re.findall(r">([^<>\s][^<>]*)</text>", figures.hero()))  # `python -m revode.figures hero FILE`
    assert "book/_static/hero.svg" in (ROOT / "README.md").read_text("utf-8")
