"""Training across refinements: blocks double, the rate begins again, and a run may be cut anywhere."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch

from revode import checkpoint, cli, models, train
from revode.errors import CheckpointError
from revode.multilevel import refine
from revode.train.run import Run

from .training import lines, same, timeless, tiny, weights

__all__ = ["tiny"]

LEVELS = {"units": (2, 2), "refine": "copy", "milestones": (2, 3), "schedule": "cosine", "lr_min": 0.01, "steps": 5}
LEVELS |= {"batch": 5, "eval_images": 5}


def fit(config, **options):
    return train.fit(config, quiet=True, **options)


def test_the_papers_schedule():
    """Rates of arXiv 1710.10348: from 0.5 to 0.001 as a cosine in each cycle, 60 + 50 + 50 epochs."""
    c = train.TrainConfig("resnet-50", units=(2, 2, 2), refine="copy").resolved(50_000)
    assert (c.steps, c.batch, c.milestones, c.weight_decay, c.momentum) == (80_000, 100, (30_000, 55_000), 2e-4, 0.9)
    assert [m / 500 for m in c.milestones] == [60, 110]
    assert [c.lr_at(s) for s in (0, 30_000, 55_000)] == [0.5] * 3
    assert c.lr_at(15_000) == pytest.approx((0.5 + 0.001) / 2)
    assert c.lr_at(55_000 + 6_250) == pytest.approx(0.001 + 0.499 * 0.5 * (1 + math.sqrt(0.5)))
    assert all(0.001 < c.lr_at(s) < 0.001 + 1e-8 for s in (29_999, 54_999, 79_999))


def test_the_papers_networks():
    for name, spec in models.MODELS.items():
        if spec.recipe is models.MULTILEVEL:
            assert spec.depth == int(name.split("-")[1])
            assert spec.sources["accuracy"].status == "V"
            assert spec.widths == ((32, 64, 128) if name.startswith("w") else (16, 32, 64))
    assert models.MODELS["resnet-50"].accuracy["cifar10"] == 92.42
    assert refine(refine(models.build("resnet-14"))).units == models.MODELS["resnet-50"].units


def test_blocks_double_at_the_milestones(tiny):
    c = tiny(**LEVELS, eval_every=1)
    record = fit(c)
    assert [line["blocks"] for line in lines(c.out)] == [4, 4, 8, 16, 16]
    assert [p["blocks"] for p in record["curve"]] == [4, 4, 8, 16, 16]
    assert [p["lr"] for p in record["curve"]] == [0.1, pytest.approx(0.055), 0.1, 0.1, pytest.approx(0.055)]
    assert record["settings"]["h"] == 0.25
    assert record["settings"]["units"] == [2, 2]
    network = train.load_network(c.out)
    assert network.units == (8, 8)
    assert network.h == 0.25
    assert record["parameters"] == models.count_parameters(network)


@pytest.mark.parametrize("carry", [True, False])
def test_the_step_after_a_refinement_by_hand(tiny, carry, monkeypatch):
    """From the checkpoint before: refined weights, momentum as asked for, one step of SGD."""
    monkeypatch.setattr(train.run.data.Batches, "__getitem__", lambda self, k: (IMAGES, LABELS))
    usual = {"milestones": (2,), "carry": carry, "smoothness": 0.0, "weight_decay": 0.0, "steps": 3}
    cut = tiny(**LEVELS | usual, limit_seconds=0.0)
    for again in (False, True):
        fit(cut, resume=again)
    state = checkpoint.load(f"{cut.out}/{train.CHECKPOINT}")
    assert (state["step"], state["units"]) == (2, (2, 2))
    momenta = [s["momentum_buffer"] for s in state["optimizer"]["state"].values()]
    network = refine(train.load_network(cut.out)).train()
    torch.nn.functional.cross_entropy(network(IMAGES), LABELS).backward()
    fit(tiny(**LEVELS | usual), resume=True)
    fc = network.fc.weight
    (momentum,) = (m for m in momenta if m.shape == fc.shape)
    velocity = fc.grad + (0.9 * momentum if carry else 0)
    torch.testing.assert_close(weights(cut.out)["fc.weight"], fc.detach() - 0.1 * velocity)


IMAGES = torch.randn(5, 3, 32, 32, generator=torch.Generator().manual_seed(0))
LABELS = torch.arange(5)


def test_cut_after_each_step_and_resumed_bit_for_bit(tiny):
    whole, cut = tiny("whole", **LEVELS), tiny("cut", **LEVELS, limit_seconds=0.0)
    fit(whole)
    for step in (1, 2, 3, 4, 5, 5):
        record = fit(cut, resume=step > 1)
        assert record["final"]["step"] == step
    assert record["status"] == "finished"
    assert same(weights(whole.out), weights(cut.out))
    assert timeless(record["curve"]) == timeless(fit(whole, resume=True)["curve"])
    assert lines(whole.out) == lines(cut.out)


def test_cut_in_the_midst_of_a_refinement(tiny, monkeypatch):
    """Between doubling the blocks and the first step with them nothing is saved, so it is done again."""
    fit(tiny("whole", **LEVELS))
    wrap = Run.wrap

    def killed(run):
        if run.step in (2, 3) and run.model is None and run.sessions and run.step not in seen:
            seen.append(run.step)
            raise RuntimeError("power cut")
        wrap(run)

    seen = []
    monkeypatch.setattr(Run, "wrap", killed)
    for again in (False, True):
        with pytest.raises(RuntimeError, match="power cut"):
            fit(tiny("cut", **LEVELS, checkpoint_every=1), resume=again)
    fit(tiny("cut", **LEVELS, checkpoint_every=1), resume=True)
    assert seen == [2, 3]
    assert same(weights(tiny("whole").out), weights(tiny("cut").out))


def test_a_baseline_has_the_same_restarts_and_its_blocks(tiny):
    options = LEVELS | {"units": (4, 4), "refine": "off"}
    fit(tiny("base", **options))
    fit(tiny("levels", **LEVELS))
    found = [[line["lr"] for line in lines(tiny(name).out)] for name in ("base", "levels")]
    assert found[0] == found[1]
    assert {line["blocks"] for line in lines(tiny("base").out)} == {8}


@pytest.mark.parametrize(("name", "value"), [("refine", "linear"), ("units", (3, 3)), ("carry", False)])
def test_resuming_with_another_schedule_is_refused(tiny, name, value):
    fit(tiny(**LEVELS, limit_seconds=0.0))
    with pytest.raises(CheckpointError, match=rf"^{name} = .* differs from .* of the run in"):
        fit(tiny(**LEVELS | {name: value}), resume=True)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"refine": "cubic"}, "refine = 'cubic' must be one of: off, copy, linear"),
        ({"schedule": "linear"}, "schedule = 'linear' must be one of: steps, cosine"),
        ({"units": (2, 0)}, "units must be a whole number, at least 1, not 0"),
        ({"units": (1, 2), "refine": "copy"}, r"units = \(1, 2\) must hold 2 or more"),
        ({"lr_min": -1}, "lr_min = -1"),
    ],
)
def test_refused_settings(tiny, options, says):
    with pytest.raises(ValueError, match=says):
        tiny(**options)


def test_the_command_line(tiny):
    c = tiny(**LEVELS).resolved(260)
    assert "--units 2 2" in c.command()
    args = cli.parser("train").parse_args(c.command().split()[1:])
    again = train.TrainConfig(**{f.name: getattr(args, f.name) for f in dataclasses.fields(c)})
    assert again.resolved(260) == c
    assert "tiny-2-2-copy-sample" in c.name
