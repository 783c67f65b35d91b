"""Training: the numbers of a step by hand, schedules, exact resumption, and what happens when something goes wrong."""

from __future__ import annotations

import dataclasses
import functools
import math
import os
import resource
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from revode import checkpoint, cli, data, models, multiscale, results, train
from revode.errors import CheckpointError, TrainingError

from .training import RECIPE, TINY, lines, same, timeless, tiny, weights

__all__ = ["tiny"]


def fit(config, **options):
    return train.fit(config, quiet=True, **options)


# --- settings -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["hamiltonian-74", "resnet-32", "hamiltonian-1202", "midpoint-stl10"])
def test_defaults_are_those_of_the_recipe(name):
    recipe = models.MODELS[name].recipe
    c = train.TrainConfig(name).resolved(50_000)
    assert (c.batch, c.lr, c.steps, c.milestones) == (recipe.batch_size, recipe.lr, recipe.steps, recipe.milestones)
    assert (c.weight_decay, c.smoothness, c.momentum) == (recipe.weight_decay, recipe.smoothness, recipe.momentum)
    assert c.lr_factor == recipe.lr_factor


def test_the_papers_numbers():
    c = train.TrainConfig("hamiltonian-74").resolved(50_000)
    assert (c.batch, c.steps, c.milestones) == (100, 80_000, (40_000, 60_000))
    assert (c.lr, c.lr_factor, c.momentum, c.weight_decay, c.smoothness) == (0.1, 0.1, 0.9, 2e-4, 2e-4)
    rates = [c.lr_at(s) for s in (0, 39_999, 40_000, 59_999, 60_000, 79_999)]
    assert rates == pytest.approx([0.1, 0.1, 0.01, 0.01, 0.001, 0.001])


@pytest.mark.parametrize(
    ("options", "steps", "milestones"),
    [
        ({"steps": 2000}, 2000, (1000, 1500)),
        ({"epochs": 160}, 16_000, (8000, 12_000)),
        ({"epochs": 0.5}, 50, (25, 38)),
        ({"steps": 1}, 1, (1, 1)),
        ({"steps": 100, "milestones": [10, 20, 30]}, 100, (10, 20, 30)),
        ({"steps": 100, "milestones": ()}, 100, ()),
    ],
)
def test_milestones_are_scaled_to_the_number_of_steps(options, steps, milestones):
    c = train.TrainConfig("hamiltonian-74", **options).resolved(10_000)
    assert (c.steps, c.milestones, c.epochs) == (steps, milestones, None)


def test_the_folder_is_named_after_the_whole_settings():
    c = train.TrainConfig("resnet-32", data="sample", epochs=1, batch=10, seed=3).resolved(260)
    assert c.out == os.path.join("runs", "resnet-32-sample-26steps-seed3") == os.path.join("runs", c.name)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"model": "resnet-33"}, "model = 'resnet-33' must be one of"),
        ({"data": "mnist"}, "data = 'mnist' must be one of"),
        ({"memory": "none"}, "memory = 'none'"),
        ({"normalization": "layer"}, "normalization = 'layer'"),
        ({"amp": "fp8"}, "amp = 'fp8'"),
        ({"device": "tea kettle"}, "device = 'tea kettle'"),
        ({"steps": 0}, "steps"),
        ({"steps": 1.5}, "steps"),
        ({"steps": 1, "epochs": 1.0}, "steps = 1 and epochs = 1.0: give one"),
        ({"epochs": 0}, "epochs = 0"),
        ({"batch": -1}, "batch"),
        ({"subset": 0}, "subset"),
        ({"threads": 0}, "threads"),
        ({"seed": -1}, "seed"),
        ({"store_last": -1}, "store_last"),
        ({"eval_every": 0}, "eval_every"),
        ({"eval_images": 0}, "eval_images"),
        ({"checkpoint_every": 0}, "checkpoint_every"),
        ({"lr": math.nan}, "lr = nan"),
        ({"lr": "fast"}, "lr = 'fast'"),
        ({"lr_factor": 0}, "lr_factor = 0"),
        ({"weight_decay": -1.0}, r"weight_decay = -1\.0"),
        ({"smoothness": math.inf}, "smoothness = inf"),
        ({"momentum": 1.0}, r"momentum = 1\.0 must be less than 1"),
        ({"limit_seconds": -1}, "limit_seconds = -1"),
        ({"h": math.inf}, "h = inf"),
        ({"c": -0.1}, r"c = -0\.1"),
        ({"learn_c": "yes"}, "learn_c = 'yes'"),
        ({"milestones": (3, 2)}, r"milestones = \(3, 2\)"),
        ({"milestones": (0, 2)}, "milestones"),
    ],
)
def test_refused_settings(options, says):
    with pytest.raises(ValueError, match=says):
        train.TrainConfig(**{"model": "hamiltonian-74"} | options)


def test_refused_with_the_data(tiny):
    with pytest.raises(ValueError, match="batch = 261 must be at most 260"):
        fit(tiny(batch=261))
    with pytest.raises(ValueError, match=r"milestones = \(2, 4\) must be less than the 4 steps"):
        fit(tiny(milestones=(2, 4)))


# --- one step by hand -----------------------------------------------------------------------------------------------


def start(c):
    """Network and first batch of a run, made without it."""
    network = models.build(c.model, 10, seed=c.seed, normalization=c.normalization, h=c.h, memory="stored")
    images = data.load("sample", "train")
    return network, data.Batches(images, c.batch or RECIPE.batch_size, c.seed)[0]


@pytest.mark.parametrize("memory", ["reversible", "stored"])
def test_a_step_of_sgd_by_hand(tiny, memory):
    c = tiny(steps=1, batch=10, lr=0.05, weight_decay=0.3, smoothness=0.7, milestones=(), memory=memory)
    fit(c)
    network, (x, y) = start(c)
    loss = F.cross_entropy(network(x), y) + 0.7 * network.smoothness()
    grads = torch.autograd.grad(loss, list(network.parameters()))
    found = weights(c.out)
    for (name, w), g in zip(network.named_parameters(), grads, strict=True):
        decay = 0.3 if name.endswith("weight") and w.dim() > 1 else 0.0
        torch.testing.assert_close(found[name], w - 0.05 * (g + decay * w), rtol=1e-4, atol=1e-6)


def test_weight_decay_acts_on_kernels_and_the_last_matrix_only(tiny):
    kinds = {}
    for decay in (0.0, 0.5):
        c = tiny(f"decay{decay}", steps=1, batch=10, lr=0.1, weight_decay=decay, milestones=())
        fit(c)
        kinds[decay] = weights(c.out)
    first = dict(start(c)[0].named_parameters())
    decayed = {n for n in first if not torch.equal(kinds[0.0][n], kinds[0.5][n])}
    assert decayed == {
        n for n in first if n in ("stem.weight", "fc.weight") or (".blocks." in n and first[n].dim() == 4)
    }
    assert "fc.bias" in first
    assert any("norm" in n for n in first)
    for n in decayed:  # w <- w - lr * decay * w
        torch.testing.assert_close(kinds[0.5][n] - kinds[0.0][n], -0.1 * 0.5 * first[n], rtol=1e-4, atol=1e-6)


def test_the_smoothness_term_reaches_the_gradient(tiny):
    """w <- w - lr * smoothness * (2 K_j - K_{j-1} - K_{j+1}): what the released code left out."""
    after = {}
    for smoothness in (0.0, 0.5):
        c = tiny(f"smooth{smoothness}", steps=1, batch=10, lr=0.1, smoothness=smoothness, milestones=())
        fit(c)
        after[smoothness] = weights(c.out)
    network = start(c)[0]
    names = {id(p): n for n, p in network.named_parameters()}
    paths, seen = [[names[id(k)] for k in path] for path in network.paths()], set()
    first = dict(network.named_parameters())
    assert any(len(path) == 3 for path in paths)
    for path in paths:
        ks = [first[n].detach() for n in path]
        for j, n in enumerate(path):
            gradient = sum(ks[j] - ks[i] for i in (j - 1, j + 1) if 0 <= i < len(ks))
            seen.add(n)
            torch.testing.assert_close(
                after[0.5][n] - after[0.0][n], torch.zeros_like(ks[j]) - 0.1 * 0.5 * gradient, rtol=1e-4, atol=1e-6
            )
            assert len(ks) == 1 or not torch.equal(after[0.5][n], after[0.0][n])
    assert all(torch.equal(after[0.5][n], after[0.0][n]) for n in first if n not in seen)


def test_momentum_and_rate_of_the_second_step(tiny):
    c = tiny(steps=2, batch=10, lr=0.05, momentum=0.5, milestones=(1,), lr_factor=0.2, weight_decay=0, smoothness=0)
    c = dataclasses.replace(c, normalization="none", h=0.1)
    fit(c)
    network, _ = start(c)
    batches, v = data.Batches(data.load("sample", "train"), 10, 0), None
    for step, rate in enumerate((0.05, 0.01)):
        x, y = batches[step]
        grads = torch.autograd.grad(F.cross_entropy(network(x), y), list(network.parameters()))
        v = list(grads) if v is None else [0.5 * a + g for a, g in zip(v, grads)]
        with torch.no_grad():
            for p, a in zip(network.parameters(), v, strict=True):
                p -= rate * a
    for n, p in network.named_parameters():
        torch.testing.assert_close(weights(c.out)[n], p.detach(), rtol=1e-4, atol=1e-6)


# --- what a run leaves ----------------------------------------------------------------------------------------------


def test_log_curve_and_result(tiny):
    points = []
    c = tiny(steps=5, eval_every=2, milestones=(3,), lr=0.1)
    record = fit(c, callback=points.append)
    log = lines(c.out)
    assert [e["step"] for e in log] == [1, 2, 3, 4, 5]
    assert [e["lr"] for e in log] == pytest.approx([0.1, 0.1, 0.1, 0.01, 0.01])
    assert points == record["curve"]
    assert [(p["step"], p["test_images"]) for p in points] == [(2, 20), (4, 20), (5, 130)]
    assert points[1]["train_loss"] == pytest.approx((log[2]["loss"] + log[3]["loss"]) / 2)
    assert points[1]["train_accuracy"] == pytest.approx((log[2]["accuracy"] + log[3]["accuracy"]) / 2)
    assert points[1]["epoch"] == pytest.approx(4 / 26, abs=1e-4)
    assert record == results.read(Path(c.out) / train.RESULT)
    assert record["status"] == "finished"
    assert record["name"] == "tiny-sample-5steps-seed0"
    assert record["final"]["test_accuracy"] == points[-1]["test_accuracy"]
    assert record["settings"]["lr"] == 0.1
    assert record["settings"]["h"] == 1.0
    assert not {"out", "data_root"} & record["settings"].keys()  # a machine's folders are nobody's business
    assert record["parameters"] == sum(p.numel() for p in train.load_network(c.out).parameters())
    assert record["final"]["inverse_error"] < 1e-4


def test_the_final_accuracy_is_that_of_the_saved_network_on_all_test_images(tiny):
    c = tiny(steps=12, lr=0.05)
    final = fit(c)["final"]
    network, test = train.load_network(c.out), data.load("sample", "test")
    with torch.no_grad():
        logits = network(data.normalize(test.images, network.meta["mean"], network.meta["std"]))
    assert network.meta["mean"] == pytest.approx(data.load("sample", "train").mean_std()[0])
    assert network.meta["classes"] == list(test.classes)
    assert final["test_accuracy"] == (logits.argmax(1) == test.labels).sum().item() / 130
    assert final["test_loss"] == pytest.approx(F.cross_entropy(logits, test.labels).item(), rel=1e-4)


def test_an_evaluation_changes_nothing(tiny):
    often, once = tiny("often", eval_every=1), tiny("once")
    assert len(fit(often)["curve"]) == 4
    fit(once)
    assert same(weights(often.out), weights(once.out))


def test_an_evaluation_is_in_eval_mode_without_augmentation(tiny, monkeypatch):
    run = train.run.Run(tiny(), quiet=True, callback=None)
    modes = []
    run.network.register_forward_hook(lambda m, a, o: modes.append((m.training, torch.is_grad_enabled())))
    before = {k: v.clone() for k, v in run.network.state_dict().items()}
    monkeypatch.setattr(data.batches.augment, "apply", lambda *a: pytest.fail("augmented"))
    assert run.evaluate(20) == run.evaluate(20)
    assert set(modes) == {(False, False)}
    assert same(before, run.network.state_dict())
    assert all(m.training for m in run.network.modules())


def test_a_test_loss_that_is_not_finite_is_none_in_the_result(tiny, monkeypatch):
    monkeypatch.setattr(train.run.F, "cross_entropy", functools.partial(_inf_for_sums, F.cross_entropy))
    assert fit(tiny())["final"]["test_loss"] is None


def _inf_for_sums(real, *args, **options):
    return torch.tensor(math.inf) if options else real(*args)


def test_quiet_prints_nothing_and_settings_are_put_back(tiny, capfd):
    torch.manual_seed(12)
    threads, rng = torch.get_num_threads(), torch.get_rng_state()
    fit(tiny("a", normalization="none", steps=1))
    fit(tiny("a", normalization="none", steps=1), resume=True)
    assert capfd.readouterr() == ("", "")
    assert torch.get_num_threads() == threads
    assert torch.equal(torch.get_rng_state(), rng)


def test_the_bar_shows_speed_loss_accuracy_and_memory(tiny, capfd):
    train.fit(tiny(steps=2, eval_every=1))
    err = capfd.readouterr().err
    for word in ("images/s=", "loss=", "acc=", "memory=", "step 1 ", "2/2"):
        assert word in err, word


# --- cut off and resumed --------------------------------------------------------------------------------------------


def equal_runs(a: str, b: str) -> None:
    assert same(weights(a), weights(b))
    assert lines(a) == lines(b)
    one, two = (results.read(Path(o) / train.RESULT) for o in (a, b))
    assert timeless(one["curve"]) == timeless(two["curve"])
    assert one["status"] == two["status"] == "finished"


@pytest.mark.parametrize(
    "options", [{}, {"amp": "bf16", "eval_every": 2}, {"normalization": "none", "memory": "stored"}]
)
def test_stopped_at_the_time_limit_after_each_step(tiny, options):
    whole, parts = tiny("whole", **options), tiny("parts", **options)
    fit(whole)
    part = dataclasses.replace(parts, limit_seconds=0.0)
    for step in (1, 2, 3):
        record = fit(part, resume=step > 1)
        assert (record["status"], record["final"]["step"]) == ("unfinished", step)
        assert results.read(Path(parts.out) / train.RESULT)["status"] == "unfinished"
    record = fit(parts, resume=True)
    assert [s["from_step"] for s in record["sessions"]] == [0, 1, 2, 3]
    equal_runs(whole.out, parts.out)
    assert fit(parts, resume=True) == record  # nothing is left to do


def test_c_learns_and_goes_on_where_it_was(tiny, monkeypatch):
    monkeypatch.setitem(models.MODELS, "tiny", dataclasses.replace(TINY, scheme="momentum", c=0.9))
    options = {"c": 0.7, "start": "field", "learn_c": "layer", "steps": 2}
    whole, parts = tiny("whole", **options), tiny("parts", **options)
    record = fit(whole)
    network = train.load_network(whole.out)
    assert record["settings"]["c"] == list(network.c)
    assert network.scheme.start_rule == "field"
    learned = torch.tensor(network.c)
    assert len(learned) == 5
    assert 0 < (learned - 0.7).abs().max() < 0.1
    fit(dataclasses.replace(parts, limit_seconds=0.0))
    with pytest.raises(CheckpointError, match=r"c = 0\.5 differs from 0\.7"):
        fit(dataclasses.replace(parts, c=0.5), resume=True)
    fit(parts, resume=True)
    equal_runs(whole.out, parts.out)


def test_c_is_refused_where_there_is_none(tiny):
    with pytest.raises(ValueError, match=r"c = 0\.5: scheme 'midpoint' has no such option"):
        fit(tiny(c=0.5))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_saves_and_exits_with_130(tiny, number, monkeypatch, capfd):
    whole, cut = tiny("whole", eval_every=1), tiny("cut", eval_every=1)
    fit(whole)
    handlers = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    real = train.run.Run.train_step

    def step(run):
        if run.step == 1:
            os.kill(os.getpid(), number)
        return real(run)

    with monkeypatch.context() as patch:
        patch.setattr(train.run.Run, "train_step", step)
        options = ["--data", "sample", "--steps", "4", "--eval-images", "20", "--eval-every", "1", "--threads", "1"]
        argv = ["train", "tiny", *options, "--device", "cpu", "--out", cut.out]
        assert cli.main([*argv, "--quiet"]) == 130
    err = capfd.readouterr().err
    assert "unfinished at step 2 of 4" in err
    assert "--resume" in err
    assert "Traceback" not in err
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == handlers
    assert checkpoint.load(Path(cut.out) / train.CHECKPOINT)["step"] == 2
    assert cli.main([*argv, "--quiet", "--resume"]) == 0
    assert "test accuracy" in capfd.readouterr().out
    equal_runs(whole.out, cut.out)


def test_a_second_ctrl_c_does_not_wait(tiny, monkeypatch):
    def step(run):
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)
        pytest.fail("went on")

    monkeypatch.setattr(train.run.Run, "train_step", step)
    with pytest.raises(KeyboardInterrupt, match="at once"):
        fit(tiny())


def test_in_a_thread_of_a_notebook(tiny):
    found = []
    thread = threading.Thread(target=lambda: found.append(fit(tiny(steps=1))["status"]))
    thread.start()
    thread.join()
    assert found == ["finished"]


class Process:
    """`python -m revode train` in a process of its own."""

    STEPS = 10

    def __init__(self, out: Path, *more: str):
        options = (
            f"--data sample --batch 4 --steps {self.STEPS} --eval-every 4 --eval-images 4 --device cpu --threads 1"
        )
        command = [sys.executable, "-m", "revode", "train", "midpoint-26", *options.split(), "--out", str(out)]
        self.out = out
        self.running = subprocess.Popen(
            [*command, "--checkpoint-every", "2", "--quiet", *more], text=True,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip

    def wait_for(self, step: int) -> None:
        """Until the log has this step."""
        log = self.out / train.LOG
        while self.running.poll() is None and (not log.exists() or log.read_bytes().count(b"\n") < step):
            time.sleep(0.002)

    def end(self, number: int | None = None) -> int:
        if number is not None:
            self.running.send_signal(number)
        self.stdout, self.stderr = self.running.communicate(timeout=240)
        return self.running.returncode


def test_killed_at_any_moment_and_resumed_bit_for_bit(tmp_path):
    """kill -9 after 3 steps, and at a random moment after 6; in the end all is as if nothing had happened."""
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    config = train.TrainConfig(
        "midpoint-26", data="sample", batch=4, steps=Process.STEPS, eval_every=4, eval_images=4, threads=1,
        device="cpu", out=str(whole),
    )  # fmt: skip
    process = Process(cut, "--resume")  # where nothing is there yet, it starts
    fit(config)
    process.wait_for(3)
    assert process.end(signal.SIGKILL) == -signal.SIGKILL
    at = checkpoint.load(cut / train.CHECKPOINT)["step"]
    process = Process(cut, "--resume")
    process.wait_for(6)
    time.sleep(int.from_bytes(os.urandom(1)) / 2000)
    process.end(signal.SIGKILL)
    assert checkpoint.load(cut / train.CHECKPOINT)["step"] >= at
    assert fit(dataclasses.replace(config, out=str(cut), checkpoint_every=2), resume=True)["status"] == "finished"
    equal_runs(str(whole), str(cut))


# --- refused --------------------------------------------------------------------------------------------------------


def test_a_run_is_not_started_over(tiny):
    fit(tiny(steps=2))
    before = weights(tiny().out)
    with pytest.raises(CheckpointError, match=r"holds a run.*--resume"):
        fit(tiny(steps=2, seed=1))
    assert same(before, weights(tiny().out))


@pytest.mark.parametrize(
    ("name", "value"),
    [("seed", 1), ("steps", 6), ("lr", 0.2), ("batch", 20), ("smoothness", 0.0), ("normalization", "none"),
     ("threads", 2), ("milestones", (1,)), ("eval_every", 3), ("data", "cifar10"), ("memory", "stored")],
)  # fmt: skip
def test_resuming_with_another_setting_is_refused_by_name(tiny, name, value, monkeypatch):
    fit(tiny(limit_seconds=0.0))
    sample = data.load
    monkeypatch.setattr(data, "load", lambda name, *more: sample("sample", *more))
    with pytest.raises(CheckpointError, match=rf"^{name} = .* differs from .* of the run in"):
        fit(tiny(**{name: value}), resume=True)


def test_resuming_with_another_number_of_processes_is_refused(tiny):
    c = tiny(limit_seconds=0.0)
    fit(c)
    file = Path(c.out) / train.CHECKPOINT
    checkpoint.save(file, checkpoint.load(file) | {"processes": 2})
    with pytest.raises(CheckpointError, match="processes = 1 differs from 2"):
        fit(c, resume=True)


def test_what_does_not_change_the_numbers_may_differ(tiny):
    fit(tiny(limit_seconds=0.0))
    assert fit(tiny(checkpoint_every=1, checkpoint_seconds=1.0), resume=True)["status"] == "finished"


def test_a_damaged_checkpoint_names_the_one_before(tiny):
    c = tiny(checkpoint_every=1, limit_seconds=0.0)
    fit(c)
    file = Path(c.out) / train.CHECKPOINT
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(CheckpointError, match=r"damaged.*checkpoint\.pt\.bak"):
        fit(c, resume=True)
    file.unlink()
    with pytest.raises(CheckpointError, match=r"holds a run"):  # the one before is still something
        fit(c)
    os.replace(checkpoint.backup(file), file)
    assert fit(tiny(checkpoint_every=1), resume=True)["status"] == "finished"


def test_a_checkpoint_of_the_first_version_is_read(tiny):
    c = tiny("old", limit_seconds=0.0)
    fit(c)
    fit(tiny("whole"))
    file = Path(c.out) / train.CHECKPOINT
    state = checkpoint.load(file)
    new = ("processes", "images", "h", "sessions", "peak_memory")
    state = {k: v for k, v in state.items() if k not in new}
    for name in ("checkpoint_seconds", "c", "start", "learn_c"):
        del state["config"][name]
    checkpoint.save(file, state)
    assert train.load_network(c.out).meta["mean"] == pytest.approx(data.load("sample", "train").mean_std()[0])
    fit(tiny("old"), resume=True)
    equal_runs(c.out, tiny("whole").out)


def test_a_log_that_lost_lines_does_not_stop_a_run(tiny, capfd):
    c = tiny(limit_seconds=0.0)
    fit(c)
    fit(c, resume=True)
    log = Path(c.out) / train.LOG
    log.write_bytes(log.read_bytes()[:-9])
    train.fit(dataclasses.replace(c, limit_seconds=None), resume=True)
    assert [e["step"] for e in lines(c.out)] == [1, 3, 4]
    assert "was changed" in capfd.readouterr().err


# --- what goes wrong ------------------------------------------------------------------------------------------------


def failed(c, says: str) -> TrainingError:
    with pytest.raises(TrainingError, match=says) as caught:
        fit(c)
    record = results.read(Path(c.out) / train.RESULT)
    assert record["status"] == "failed"
    assert record["final"]["reason"] == str(caught.value)
    assert f"the last good checkpoint is {Path(c.out) / train.CHECKPOINT}" in str(caught.value)
    assert all(t.isfinite().all() for t in weights(c.out).values())
    return caught.value


def test_a_rate_that_is_much_too_large(tiny):
    error = failed(tiny(lr=1e30, checkpoint_every=1), r"step \d")
    assert "learning rate 1e+30" in str(error) or "is not finite after step" in str(error)


def poisoned(monkeypatch, at: int, poison) -> None:
    real = train.run.Run.batch

    def batch(run, step):
        x, y = real(run, step)
        return (poison(run, x) if step == at else x), y

    monkeypatch.setattr(train.run.Run, "batch", batch)


def test_a_poisoned_weight_is_named(tiny, monkeypatch):
    def poison(run, x):
        run.network.get_parameter("fc.bias").data[3] = math.nan
        return x

    poisoned(monkeypatch, 2, poison)
    failed(tiny(checkpoint_every=1), r"loss is not finite in step 3 .*in parameter 'fc\.bias'")
    assert checkpoint.load(Path(tiny().out) / train.CHECKPOINT)["step"] == 2


def test_a_layer_that_overflows_is_named(tiny, monkeypatch):
    def poison(run, x):
        block = run.network.stages[1].blocks[1][0]
        block.register_forward_hook(lambda m, a, out: out * math.inf)
        return x

    poisoned(monkeypatch, 1, poison)
    failed(tiny(), r"loss is not finite in step 2 .*output of layer 'stages\.1\.blocks\.1\.0'")


def test_a_gradient_that_is_not_finite_never_reaches_the_weights(tiny, monkeypatch):
    real = train.run.Run.loss

    def loss(run, *args):
        total, entropy, logits = real(run, *args)
        bad = (run.network.fc.bias[0] * 0).sqrt() if run.step == 2 else 0.0  # value 0, derivative infinite
        return total + bad, entropy, logits

    monkeypatch.setattr(train.run.Run, "loss", loss)
    failed(tiny(checkpoint_every=1), r"the gradient is not finite in step 3 .*gradient of parameter 'fc\.bias'")


@pytest.mark.parametrize("name", ["fc.weight", "norm.running_var"])
def test_a_checkpoint_with_a_number_that_is_not_finite_is_not_written(tiny, monkeypatch, name):
    real = train.run.Run.train_step

    def step(run):
        line = real(run)
        if run.step == 3:
            run.network.state_dict()[name].view(-1)[0] = math.inf
        return line

    monkeypatch.setattr(train.run.Run, "train_step", step)
    failed(tiny(checkpoint_every=1), f"'{name}' is not finite after step 3")
    assert checkpoint.load(Path(tiny().out) / train.CHECKPOINT)["step"] == 2


class FileSize:
    """No file of this process may become larger: what a full disk does, by the system itself."""

    def __init__(self, size: int):
        self.size = size

    def __enter__(self):
        self.old = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (self.size, self.old[1]))

    def __exit__(self, *_):
        resource.setrlimit(resource.RLIMIT_FSIZE, self.old)


def test_a_full_disk_keeps_the_last_checkpoint(tiny):
    c = tiny(limit_seconds=0.0)
    fit(c)
    before = (Path(c.out) / train.CHECKPOINT).read_bytes()
    with FileSize(len(before) // 2), pytest.raises(CheckpointError, match=r"checkpoint\.pt could not be written.*kept"):
        fit(c, resume=True)
    assert (Path(c.out) / train.CHECKPOINT).read_bytes() == before
    assert not list(Path(c.out).glob("*.part"))
    assert fit(tiny(), resume=True)["status"] == "finished"
    fit(tiny("whole"))
    equal_runs(c.out, tiny("whole").out)


def test_a_full_disk_for_the_log(tiny):
    c = tiny(steps=40, limit_seconds=0.0)
    fit(c)
    before = (Path(c.out) / train.CHECKPOINT).read_bytes()
    log = Path(c.out) / train.LOG
    with FileSize(log.stat().st_size + 30), pytest.raises(CheckpointError) as error:
        fit(c, resume=True)
    assert "log.jsonl could not be written" in str(error.value)
    assert "--resume" in str(error.value)
    assert "\n" not in str(error.value)
    assert (Path(c.out) / train.CHECKPOINT).read_bytes() == before
    fit(c, resume=True)
    assert [e["step"] for e in lines(c.out)] == [1, 2]  # the half line is gone


def test_a_full_disk_does_not_hide_what_went_wrong(tiny, monkeypatch):
    def step(run):
        monkeypatch.setattr(results, "write", _full)
        raise TrainingError("the loss is not finite")

    monkeypatch.setattr(train.run.Run, "train_step", step)
    with pytest.raises(TrainingError, match="loss"):
        fit(tiny())


def _full(*args):
    raise CheckpointError("the disk is full")


def test_a_folder_that_cannot_be_made(tiny, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(CheckpointError, match="could not be written"):
        fit(tiny("file/run"))


# --- precision, compilation, machines -------------------------------------------------------------------------------


@pytest.mark.parametrize("amp", ["bf16", "fp16"])
def test_half_precision_trains(tiny, amp):
    half, full = tiny("half", amp=amp), tiny("full")
    fit(half)
    fit(full)
    a, b = lines(half.out)[0]["loss"], lines(full.out)[0]["loss"]
    assert a == pytest.approx(b, rel=0.05)
    assert a != b
    assert weights(half.out)["fc.weight"].dtype == torch.float32


def test_fp16_leaves_out_steps_whose_scaled_gradient_overflows(tiny, monkeypatch):
    monkeypatch.setattr(torch.amp, "GradScaler", functools.partial(torch.amp.GradScaler, init_scale=2.0**120))
    c = tiny(amp="fp16", steps=1)
    assert fit(c)["status"] == "finished"
    network, _ = start(c)
    assert all(torch.equal(weights(c.out)[n], p) for n, p in network.named_parameters())
    assert checkpoint.load(Path(c.out) / train.CHECKPOINT)["scaler"]["scale"] == 2.0**119


def test_fp16_with_a_loss_that_is_not_finite_stops(tiny, monkeypatch):
    poisoned(monkeypatch, 1, lambda run, x: x * math.inf)
    failed(tiny(amp="fp16"), "loss is not finite in step 2 .*layer 'stem'")


def test_compiled_weights_have_the_plain_names(tiny, monkeypatch):
    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend="eager"))
    compiled, plain = tiny("compiled", compile=True, steps=1), tiny("plain", steps=1)
    fit(compiled)
    fit(plain)
    a, b = weights(compiled.out), weights(plain.out)
    assert a.keys() == b.keys()
    assert all(torch.allclose(a[k], b[k], rtol=1e-3, atol=1e-5) for k in a)


def test_peak_memory_on_other_systems(tiny, monkeypatch):
    run = train.run.Run(tiny(), quiet=True, callback=None)
    monkeypatch.setattr(resource, "getrusage", lambda who: type("Usage", (), {"ru_maxrss": 3 << 20}))
    assert run.peak_memory == 3 << 30  # KiB
    monkeypatch.setattr(sys, "platform", "darwin")
    assert run.peak_memory == 3 << 20  # bytes
    monkeypatch.setitem(sys.modules, "resource", None)  # Windows
    assert run.peak_memory == 0


def test_the_command_of_a_run_makes_the_same_settings(tiny):
    c = tiny(milestones=(1, 2), channels_last=False, lr=0.3).resolved(260)
    argv = c.command().split()[1:]
    args = cli.parser("train").parse_args(argv)
    assert args.resume
    again = train.TrainConfig(**{f.name: getattr(args, f.name) for f in dataclasses.fields(c)})
    assert again.resolved(260) == c


def test_the_number_of_threads_is_written_down(tiny):
    """Sums over other parts round otherwise, so a run is not gone on with by another number."""
    assert tiny(threads=None).resolved(260).threads == torch.get_num_threads()


def test_every_setting_has_a_line_of_help():
    known = train.command._descriptions()
    assert all(known.get(f.name) for f in dataclasses.fields(train.TrainConfig))


def test_running_statistics_are_estimated_anew_before_the_last_evaluation(tiny):
    kept, anew = tiny("kept", eval_every=2), tiny("anew", eval_every=2, statistics=2)
    curves = [fit(c)["curve"] for c in (kept, anew)]
    same_until_the_end = [timeless(curve[:1]) for curve in curves]
    assert same_until_the_end[0] == same_until_the_end[1]
    assert curves[0][-1]["test_loss"] != curves[1][-1]["test_loss"]
    a, b = (train.load_network(c.out) for c in (kept, anew))
    assert same(*(dict(n.named_parameters()) for n in (a, b))), "only the statistics differ"
    images = data.load("sample", "train")
    batch = anew.resolved(len(images)).batch
    batches = data.Batches(images, batch, anew.seed, mean=a.meta["mean"], std=a.meta["std"])
    multiscale.estimate_statistics(a, [batches[k][0] for k in range(2)])
    for (name, x), y in zip(a.named_buffers(), b.buffers(), strict=True):
        assert torch.allclose(x.float(), y.float(), rtol=1e-3, atol=1e-5), (name, x, y)
