"""The switch for fast training: what it chooses for which device, and that it computes the same."""

from __future__ import annotations

import dataclasses
import functools
from pathlib import Path

import pytest
import torch

from benchmarks import training
from revode import checkpoint, results, train
from revode.errors import CheckpointError

from .training import lines, same, tiny, weights

__all__ = ["tiny"]


def fit(config, **options):
    return train.fit(config, quiet=True, **options)


@pytest.fixture
def card(monkeypatch):
    """Makes torch report a GPU of a compute capability, without there being one."""

    def pretend(*capability):
        monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device=None: capability)

    return pretend


@pytest.mark.parametrize(
    ("capability", "chosen"),
    [((6, 1), "off"), ((7, 0), "fp16"), ((7, 5), "fp16"), ((8, 0), "bf16"), ((8, 9), "bf16"), ((9, 0), "bf16")],
)
def test_half_precision_is_what_the_card_has_units_for(card, capability, chosen):
    card(*capability)
    assert train.half_precision("cuda:1") == chosen
    c = train.TrainConfig("hamiltonian-74", fast=True).resolved(50_000)
    assert (c.device, c.amp, c.compile) == ("cuda", chosen, True)
    assert c.resolved(50_000) == c  # as when it is resumed by its command


def test_what_is_set_by_hand_stays(card):
    card(9, 0)
    assert train.half_precision("cpu") == "off"
    make = functools.partial(train.TrainConfig, "hamiltonian-74")
    assert make(fast=True, amp="fp16").resolved(50_000).amp == "fp16"
    assert not make(fast=True, arithmetic="exact").resolved(50_000).compile
    plain, cpu = make().resolved(50_000), make(fast=True, device="cpu").resolved(50_000)
    assert (plain.amp, plain.compile) == (cpu.amp, cpu.compile) == ("off", False)


@pytest.mark.parametrize("amp", ["off", "bf16"])
def test_fused_steps_are_the_same_steps(tiny, amp):
    fast, plain = tiny("fast", fast=True, amp=amp), tiny("plain", amp=amp)
    fit(fast)
    fit(plain)
    assert [one["loss"] for one in lines(fast.out)] == pytest.approx(
        [one["loss"] for one in lines(plain.out)], rel=1e-4
    )
    a, b = weights(fast.out), weights(plain.out)
    assert all(torch.allclose(a[k], b[k], rtol=1e-3, atol=1e-5) for k in a)
    state = [checkpoint.load(Path(c.out) / train.CHECKPOINT)["optimizer"] for c in (fast, plain)]
    assert [g["fused"] for g in state[0]["param_groups"]] == [True, True]
    assert [g["weight_decay"] for g in state[0]["param_groups"]] == [
        g["weight_decay"] for g in state[1]["param_groups"]
    ]


@pytest.mark.parametrize("amp", ["off", "fp16"])
def test_a_fast_run_resumes(tiny, amp):
    whole, parts = tiny("whole", fast=True, amp=amp), tiny("parts", fast=True, amp=amp)
    fit(whole)
    for step in (1, 2, 3):
        assert fit(dataclasses.replace(parts, limit_seconds=0.0), resume=step > 1)["final"]["step"] == step
    fit(parts, resume=True)
    assert same(weights(whole.out), weights(parts.out))
    assert lines(whole.out) == lines(parts.out)


def test_a_run_goes_on_as_it_began(tiny):
    fit(dataclasses.replace(tiny(), limit_seconds=0.0))
    with pytest.raises(CheckpointError, match="fast = True differs from False"):
        fit(tiny(fast=True), resume=True)


def test_a_fused_step_with_an_overflow_is_left_out(tiny, monkeypatch):
    monkeypatch.setattr(torch.amp, "GradScaler", functools.partial(torch.amp.GradScaler, init_scale=2.0**120))
    c = tiny(fast=True, amp="fp16", steps=1)
    fit(c)
    fresh = train.run.Run(c, quiet=True, callback=None).network
    assert all(torch.equal(weights(c.out)[n], p) for n, p in fresh.named_parameters())


def test_the_machine_is_left_as_it_was(tiny, monkeypatch):
    cudnn, seen = torch.backends.cudnn, []
    before = cudnn.deterministic, cudnn.benchmark, torch.get_float32_matmul_precision()
    real = train.run.Run.train_step

    def step(run):
        seen.append((cudnn.deterministic, cudnn.benchmark))
        return real(run)

    monkeypatch.setattr(train.run.Run, "train_step", step)
    for name, options in (("fast", {"fast": True}), ("plain", {}), ("exact", {"fast": True, "arithmetic": "exact"})):
        fit(tiny(name, steps=1, **options))
    assert seen == [(False, True), (True, False), (True, False)]
    assert before == (cudnn.deterministic, cudnn.benchmark, torch.get_float32_matmul_precision())


def test_cuda_graphs_are_asked_for_on_cuda_only(tiny, monkeypatch):
    asked = []
    monkeypatch.setattr(torch, "compile", lambda network, mode=None: asked.append(mode) or network)
    monkeypatch.setattr(
        train.run.results, "evidence", lambda device: dict.fromkeys(("date", "commit", "uncommitted_changes", "torch"))
    )
    for options in ({"fast": True, "compile": True}, {"compile": True}):
        run = train.run.Run(tiny(**options), quiet=True, callback=None)
        for device in ("cpu", "cuda"):
            run.device = torch.device(device)
            run.distribute()
    assert asked == [None, "reduce-overhead", None, None]


def test_the_benchmark_compares_the_cases_and_reckons_the_full_recipe(tiny, tmp_path, capsys):
    tiny()
    out = tmp_path / "time.json"
    cases = ["--cases", "fast", "--model", "tiny", "--device", "cpu", "--rounds", "2", "--warm-up", "1"]
    assert training.main(training.arguments([*cases, "--out", str(out)])) == 0
    rows = results.read(out)["final"]["rows"]
    assert [r["case"] for r in rows] == ["plain", "fast"]
    assert rows[0]["ratio"] == 1.0
    assert rows[0]["first_loss"] == pytest.approx(rows[1]["first_loss"], rel=1e-5)
    for r in rows:
        assert r["images_per_second"] == pytest.approx(10 / r["seconds"])
        assert r["full_minutes"] == pytest.approx(80 * r["seconds"] / 60)
    assert "| fast | float32 | reversible |" in capsys.readouterr().out


def test_the_benchmark_says_that_there_is_no_gpu(capsys, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert training.main(training.arguments([])) == 0
    assert capsys.readouterr().out.strip() == training.NO_GPU
