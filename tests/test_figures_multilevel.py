"""Drawings of multilevel training: what they say in words is what they were given."""

from __future__ import annotations

import torch

from revode import figures, results
from revode.experiments import multilevel
from revode.train import TrainConfig

(TRAININGS,) = (e for e in multilevel.EXPERIMENTS if e.name == "multilevel")


def test_doubled_blocks_name_where_their_weights_are_from():
    assert "1 2; 1 1 2 2; 1 1 1 1 2 2 2 2." in figures.doubled_blocks(2).alt
    assert "1 2; 1 ½ (1 + 2) 2 2." in figures.doubled_blocks(2, 2, "linear").alt


def test_cycles_are_those_of_the_settings():
    config = TrainConfig("resnet-50", units=(2, 2, 2), refine="copy").resolved(50_000)
    assert "falls 3 times from 0.5 to 0.001" in figures.cosine_cycles(config).alt
    assert "from 6 to 24" in figures.cosine_cycles(config).alt


def test_a_table_says_what_is_not_yet_run_and_gives_the_mean_of_what_is(monkeypatch):
    monkeypatch.setattr(results, "names", lambda: ["multilevel-resnet-copy-seed0", "multilevel-resnet-copy-seed2"])
    found = {"0": 0.75, "2": 0.73}
    monkeypatch.setattr(
        results, "load", lambda name: {"wall_seconds": 600, "final": {"test_accuracy": found[name[-1]]}}
    )
    rows = {row[0]: row[1:] for row in figures.planned_or_done(TRAININGS).rows}
    assert rows["ResNet 2-2-2 to 8-8-8 by copies, h = 0.25"] == ("2 of 3", "26.0 % (from 25.0 to 27.0)", "10 min")
    assert rows["ResNet 8-8-8, h = 0.25"] == ("0 of 3", "not yet run", "about 15 min each")


def test_errors_over_cost():
    def record(kind: str, blocks: list[int], accuracy: float) -> dict:
        curve = [{"step": k, "blocks": b, "test_accuracy": accuracy} for k, b in enumerate(blocks, 1)]
        return {"name": f"multilevel-resnet-{kind}-seed0", "settings": {"steps": 2, "milestones": (1,)}, "curve": curve}

    full = [record("full", [12, 12], 0.8), record("full-h1", [12, 12], 0.6)]
    drawn = figures.error_over_cost([record("copy", [6, 12], 0.75), *full])
    assert "doubled, copies 25.0 %; 8-8-8 throughout 20.0 %; 8-8-8 throughout, h = 1 40.0 %" in drawn.alt
    assert "none has been run yet" in str(figures.error_over_cost([]).rows)


def test_bundled_measurements_are_drawn_with_their_numbers():
    norms = results.load("residual-norms")
    assert f"resnet-32 with 15 blocks {norms['curve'][0]['mean']:.3g}" in figures.residual_norms(norms).alt
    times = results.load("multilevel-times-resnet")
    assert f"{100 * times['final']['saved']:.1f} %" in figures.time_saved([times]).rows[0]


def test_swiss_roll_runs_end_where_they_end():
    found = results.load("swiss-roll-hamiltonian-seed0")
    ends = [100 * found["final"][f"validation_accuracy_{start}"] for start in ("multilevel", "cold")]
    told = figures.swiss_roll_runs([found]).alt
    assert f"hamiltonian: validation accuracy in per cent with most layers, doubled {ends[0]:.3g} (" in told
    assert f"cold {ends[1]:.3g} (" in told
    assert f"hamiltonian {found['final']['growth_multilevel']:.3g}." in told
    assert "none has been made yet" in str(figures.swiss_roll_runs([]).rows)


def test_features_in_the_plane():
    x, classes = torch.randn(4, 3), torch.tensor([0, 1, 0, 1])
    assert figures.plane_features({"here": x}, classes, "Points.").alt == "here: 4 points of two classes in the plane."
