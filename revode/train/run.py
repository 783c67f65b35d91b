"""One run: its steps, its files, and how it goes on after it was cut off."""

from __future__ import annotations

import dataclasses
import gc
import io
import json
import math
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, redirect_stdout, suppress
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from .. import checkpoint, data, multiscale, results
from .. import shear as primitive
from ..convert import load_checkpoint
from ..errors import (
    CheckpointError,
    FixedPointRangeError,
    NonFiniteIncrementError,
    RecomputationError,
    TrainingError,
)
from ..models import MODELS, build
from ..multilevel import carry, refine
from ..networks import Network
from ..stage import Stage
from ..weights import load_trained
from .config import AMP, CHECKPOINT, LOG, RESULT, TrainConfig
from .diagnosis import first_not_finite
from .interruption import Stopped, signals


def _finite(number: float) -> float | None:
    """The number if it is finite, else None: JSON has no others."""
    return number if math.isfinite(number) else None


def _text(number: float | None) -> str:
    return "not finite" if number is None else f"{number:.4f}"


#: How files of weights end that a run may begin with.
WEIGHTS = (".pth", ".pt")

#: Settings that may differ when a run is resumed: they say where things are and when they are saved, not what they are.
FREE = frozenset({"out", "data_root", "checkpoint_every", "checkpoint_seconds", "limit_seconds"})


def fit(
    config: TrainConfig,
    *,
    resume: bool = False,
    quiet: bool = False,
    callback: Callable[[dict], None] | None = None,
) -> dict:
    """Train a network; the same as the command ``revode train``.

    The folder ``config.out`` gets ``checkpoint.pt`` (and the one before, ``.bak``), ``log.jsonl`` with a line for each
    step, and ``result.json`` (:mod:`revode.results`). Started by ``torchrun``, the processes share each batch by
    DistributedDataParallel, and the first one writes.

    Args:
        config: What to train, and how.
        resume: Go on from the checkpoint in ``config.out``; without one, start. On the same machine the weights
            become, bit for bit, those of a run that was never interrupted.
        quiet: No progress bar and no messages.
        callback: Called with each point of the curve, a dict as in the result's "curve".

    Returns:
        The result, as in ``result.json``: its "status" is "finished", or "unfinished" after ``limit_seconds``. The
        trained network is given by :func:`load_network`.

    Raises:
        ValueError: a setting does not fit the data or the machine.
        DataError: the data are not there or damaged.
        TrainingError: loss or gradient is not finite; step, layer and last good checkpoint are named.
        CheckpointError: a file cannot be written or read, the folder holds a run and ``resume`` is not set, or that
            run has other settings.
        KeyboardInterrupt: Ctrl-C or SIGTERM, after the checkpoint was written.
    """
    with _machine(config), _processes(config):
        run = Run(config, quiet=quiet, callback=callback)
        try:
            if not run.restore(resume):
                run.start()
            return run.run()
        finally:
            # DistributedDataParallel has to go before its process group: if it held the last reference, the group's
            # threads would be waited for with the interpreter's lock, which they may need (seen to hang, torch 2.6).
            run.model = None


def load_network(out: str | os.PathLike[str]) -> Network:
    """The network of a run with the weights of its last checkpoint, on the CPU, in eval mode.

    Its attribute ``meta`` has the "classes", and the "mean" and "std" by which its images must be normalised.

    Raises:
        CheckpointError: there is no checkpoint that can be read.
    """
    state = checkpoint.load(Path(out) / CHECKPOINT)
    c, weights = state["config"], state["network"]
    images = state.get("images")
    if images is None:  # a checkpoint of the first version
        train = data.load(c["data"], "train", c["data_root"])
        train = train.subset(c["subset"], c["subset_seed"]) if c["subset"] else train
        images = dict(zip(("mean", "std"), map(list, train.mean_std()))) | {"classes": list(train.classes)}
    network = build(
        c["model"],
        len(weights["fc.bias"]),
        memory=c["memory"],
        normalization=c["normalization"],
        h=state.get("h", c["h"]),
        store_last=c["store_last"],
        arithmetic=c.get("arithmetic", "float"),
        seed=c["seed"],
        units=c.get("units"),
        c=c.get("c"),
        start=c.get("start"),
        learn_c=c.get("learn_c", "no"),
    )
    while network.units < tuple(state.get("units", network.units)):
        network = refine(network)  # its weights come next
    network.h = state.get("h", network.h)
    if state.get("c") is not None:
        network.c = state["c"]
    network.load_state_dict(weights)
    network.meta = images
    return network.eval()


@contextmanager
def _machine(config: TrainConfig) -> Iterator[None]:
    """Threads, random generators, cuDNN and TensorFloat-32 as the run wants them; afterwards as they were."""
    threads, cudnn = torch.get_num_threads(), torch.backends.cudnn
    chosen, precision = (cudnn.deterministic, cudnn.benchmark), torch.get_float32_matmul_precision()
    with torch.random.fork_rng(devices=[]):
        try:
            if config.threads:
                torch.set_num_threads(config.threads)
            # Else resumed runs repeat bit for bit, and a second evaluation its first, as exact arithmetic needs.
            quickest = config.fast and config.arithmetic == "float"
            cudnn.deterministic, cudnn.benchmark = not quickest, quickest
            if config.fast and _on_cuda(config):
                torch.set_float32_matmul_precision("high")
            yield
        finally:
            torch.set_num_threads(threads)
            cudnn.deterministic, cudnn.benchmark = chosen
            torch.set_float32_matmul_precision(precision)


def _on_cuda(config: TrainConfig) -> bool:
    return config.device.startswith("cuda") or (config.device == "auto" and torch.cuda.is_available())


@contextmanager
def _processes(config: TrainConfig) -> Iterator[None]:
    """The process group, where torchrun started several processes."""
    if int(os.environ.get("WORLD_SIZE", 1)) == 1 or dist.is_initialized():
        yield
        return
    dist.init_process_group("nccl" if _on_cuda(config) else "gloo")
    try:
        yield
    finally:
        gc.collect()  # DistributedDataParallel must be gone: see `fit`
        dist.destroy_process_group()


def _device(name: str) -> torch.device:
    """The device of this process."""
    device = torch.device(name)
    if device.type == "cuda":
        if not torch.cuda.is_available():
            raise ValueError(f"device = {name!r}, but torch sees no CUDA device here; use 'cpu' or 'auto'")
        index = int(os.environ.get("LOCAL_RANK", 0)) if device.index is None else device.index
        if index >= torch.cuda.device_count():
            raise ValueError(
                f"device = {name!r}: process {index} has no CUDA device; there are {torch.cuda.device_count()}"
            )
        device = torch.device("cuda", index)
        torch.cuda.set_device(device)
    return device


class Run:
    """One process of a run: what it holds, its steps, and its files."""

    def __init__(self, config: TrainConfig, *, quiet: bool, callback: Callable[[dict], None] | None):
        grouped = dist.is_initialized()
        self.rank, self.world = (dist.get_rank(), dist.get_world_size()) if grouped else (0, 1)
        self.main = self.rank == 0
        self.quiet, self.callback = quiet or not self.main, callback
        train = data.load(config.data, "train", config.data_root)
        test = data.load(config.data, "test", config.data_root)
        if config.subset:
            train = train.subset(config.subset, config.subset_seed)
        pad = 4
        if config.image_size:
            train, test, pad = train.resized(config.image_size), test.resized(config.image_size), config.image_size // 8
        self.config = c = config.resolved(len(train))
        self.out = Path(c.out)
        self.log = self.out / LOG
        self.device = _device(c.device)
        mean, std = train.mean_std()
        self.batches = data.Batches(
            train.to(self.device), c.batch, c.seed, mean=mean, std=std, rank=self.rank, world=self.world, pad=pad
        )
        self.test = test.to(self.device)
        self.layout = torch.channels_last if c.channels_last else torch.contiguous_format
        with redirect_stdout(io.StringIO() if self.quiet else sys.stdout):  # it tells how h was chosen
            self.network = build(
                c.model,
                len(train.classes),
                memory=c.memory,
                normalization=c.normalization,
                h=c.h,
                store_last=c.store_last,
                arithmetic=c.arithmetic,
                seed=c.seed,
                c=c.c,
                start=c.start,
                learn_c=c.learn_c,
                units=c.units,
            )
        size = train.images.shape[-1]
        self.images = {"classes": list(train.classes), "mean": list(mean), "std": list(std), "size": size}
        self.network.to(self.device, memory_format=self.layout).train()
        self.optimizer = sgd(self.network, c)
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=c.amp == "fp16")
        self.model: nn.Module | None = None  # what is called for training, from `distribute` on
        self.step = 0  # steps done
        self.before = 0.0  # seconds of earlier sessions
        self.curve: list[dict] = []
        self.sums = [0.0, 0.0, 0]  # loss, right answers, images since the last point of the curve
        self.sessions: list[dict] = []
        self.peak = 0  # bytes of memory, of earlier sessions
        torch.manual_seed(c.seed + self.rank)  # for dropout; weights and batches have their own generators

    def start(self) -> None:
        """A new run in its folder."""
        if self.config.init:
            self.begin_with(self.config.init)
        self.distribute()
        if self.main:
            self.put(lambda: (self.out.mkdir(parents=True, exist_ok=True), self.log.write_bytes(b"")))
        self.save()  # from here on the run can be killed at any moment, and resumed

    def begin_with(self, init: str) -> None:
        """The weights of another run, bundled ones, or a file's; the first two for this run's resolution.

        Raises:
            CheckpointError: there are no such weights, or they do not fit the network.
            ValueError: the two resolutions are not whole multiples of each other.
        """
        folder, size = self.out.parent / init, self.images["size"]
        if folder.suffix in WEIGHTS:
            if self.config.prolongation:
                raise ValueError(
                    f"prolongation = {self.config.prolongation!r} needs the resolution that init was trained at, which "
                    f"a file ({init}) does not tell; leave it out"
                )
            new = load_checkpoint(self.network, folder if folder.exists() else init)
            if new and not self.quiet:
                print(f"{init}: all weights but {', '.join(new)}, which are new", file=sys.stderr)
            return
        there = (folder / CHECKPOINT).exists() or checkpoint.backup(folder / CHECKPOINT).exists()
        other = load_network(folder) if there else load_trained(init)
        old = other.meta.get("size", MODELS[other.name].image_size)
        if self.config.prolongation:
            other = multiscale.to_size(other, old, size, self.config.prolongation)
        try:
            self.network.load_state_dict(other.state_dict())
        except RuntimeError as error:
            raise CheckpointError(f"init = {init!r} does not fit {self.config.model} ({error})") from error
        if size != old:
            multiscale.estimate_statistics(self.network, (self.batch(k)[0] for k in range(10)))

    def wrap(self) -> None:
        """The module that is called for training: compiled, or the processes' common one, if wanted."""
        # CUDA graphs: a step of a deep network is thousands of small kernels, which take longer to start than to run.
        mode = "reduce-overhead" if self.config.fast and self.device.type == "cuda" else None
        self.model = torch.compile(self.network, mode=mode) if self.config.compile else self.network
        if self.world > 1:
            self.model = DistributedDataParallel(self.model)

    def refine(self) -> None:
        """Go on with twice the blocks."""
        c, coarse, before = self.config, self.network, self.optimizer
        self.model = None  # before its process group's next one
        self.network = refine(coarse, c.refine).train()
        self.optimizer = sgd(self.network, c)
        if c.carry:
            carry(before, coarse, self.network, self.optimizer, c.refine)

    def distribute(self) -> None:
        """The module that is called for training, and what is known of this session."""
        self.wrap()
        # What of the result is known once: asking git for it takes a while.
        self.evidence = results.evidence(self.device)
        about = {k: self.evidence[k] for k in ("date", "commit", "uncommitted_changes", "torch")}
        self.sessions.append({"from_step": self.step, **about})
        self.began = self.saved = time.monotonic()

    @property
    def blocks(self) -> int:
        """Number of blocks of the network as it is now."""
        return sum(self.network.units)

    @property
    def seconds(self) -> float:
        """Time of training so far, over all sessions."""
        return self.before + time.monotonic() - self.began

    # --- one step ---------------------------------------------------------------------------------------------

    def batch(self, step: int) -> tuple[Tensor, Tensor]:
        x, y = self.batches[step]
        return x.contiguous(memory_format=self.layout), y

    def autocast(self):
        dtype = AMP[self.config.amp]
        return torch.autocast(self.device.type, dtype) if dtype else nullcontext()

    def loss(self, model: nn.Module, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """What is differentiated (but for weight decay, which SGD adds), its cross-entropy, and the logits."""
        with self.autocast():
            logits = model(x).float()
        entropy = F.cross_entropy(logits, y)
        rate = self.config.smoothness
        return entropy + rate * self.network.smoothness() if rate else entropy, entropy, logits

    def train_step(self) -> dict:
        """One optimizer step; the line of the log about it.

        Raises:
            TrainingError: loss or gradient is not finite, or exact arithmetic left its range; the weights are left as
                they were.
        """
        if self.config.refine != "off" and self.step in self.config.milestones:
            for _ in range(self.config.milestones.count(self.step)):
                self.refine()
            self.wrap()
        rate = self.config.lr_at(self.step)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        x, y = self.batch(self.step)
        try:
            self.optimizer.zero_grad(set_to_none=True)  # first: a CUDA graph writes where the last gradients lie
            total, entropy, logits = self.loss(self.model, x, y)
            self.scaler.scale(total).backward()
        except (FixedPointRangeError, NonFiniteIncrementError, RecomputationError) as error:  # of exact arithmetic
            raise self.lost(f"step {self.step + 1} (learning rate {rate:g}): {error}") from error
        gradients = [p.grad for p in self.network.parameters() if p.grad is not None]
        norm = torch.nn.utils.get_total_norm(gradients, foreach=True) / self.scaler.get_scale()
        right = (logits.argmax(1) == y).sum()
        # One transfer, and one message between processes, for all that is asked of a step.
        numbers = torch.stack([v.detach().float() for v in (total, entropy, right, norm)])
        if self.world > 1:
            dist.all_reduce(numbers)
        total, entropy, right, norm = numbers.tolist()
        scaled = self.scaler.is_enabled()  # then overflows are expected: the scaler leaves that step out
        if not math.isfinite(total) or not (scaled or math.isfinite(norm)):
            raise self.diverged(x, y, "gradient" if math.isfinite(total) else "loss")
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.step += 1
        seen = len(y) * self.world
        entropy /= self.world
        self.sums = [self.sums[0] + entropy * seen, self.sums[1] + right, self.sums[2] + seen]
        line = {"step": self.step, "loss": entropy, "accuracy": right / seen, "lr": rate, "blocks": self.blocks}
        return line | ({} if scaled else {"gradient_norm": norm / self.world})

    def diverged(self, x: Tensor, y: Tensor, what: str) -> TrainingError:
        """The error that names step, layer and last good checkpoint."""
        where = first_not_finite(self.network, lambda: self.loss(self.network, x, y)[0])
        if self.world > 1:
            found: list[Any] = [None] * self.world
            dist.all_gather_object(found, where)
            where = next((w for w in found if w), None)
        where = where or "every layer repeats with finite values: the error is not in the network's own arithmetic"
        rate = self.config.lr_at(self.step)
        return self.lost(f"the {what} is not finite in step {self.step + 1} (learning rate {rate:g}); {where}")

    def lost(self, what: str) -> TrainingError:
        return TrainingError(f"{what}; the last good checkpoint is {self.out / CHECKPOINT}; try a smaller lr or h")

    @torch.no_grad()
    def evaluate(self, images: int | None = None) -> tuple[float | None, float, int]:
        """Mean loss, accuracy and number of test images: the first ones, or all if None; never augmented.

        The loss is None where it is not finite: after few steps the running statistics can be far from the batches'.
        """
        test = self.test
        if images is not None and images < len(test):
            test = dataclasses.replace(test, images=test.images[:images], labels=test.labels[:images])
        loss = right = 0.0
        self.network.eval()
        try:
            for x, y in data.evaluation_batches(test, 500, self.batches.mean, self.batches.std):
                with self.autocast():
                    logits = self.network(x.contiguous(memory_format=self.layout)).float()
                loss += F.cross_entropy(logits, y, reduction="sum").item()
                right += (logits.argmax(1) == y).sum().item()
        finally:
            self.network.train()
        return _finite(loss / len(test)), right / len(test), len(test)

    # --- files ------------------------------------------------------------------------------------------------

    def put(self, write: Callable[[], Any]) -> None:
        """Write something into the run's folder, or say why that failed."""
        try:
            write()
        except OSError as error:
            raise CheckpointError(
                f"{error.filename or self.log} could not be written: {checkpoint.reason(error)}; the last checkpoint "
                f"is kept; free some space and go on with `{self.config.command()}`"
            ) from error

    def write_log(self, line: dict) -> None:
        def write() -> None:
            with open(self.log, "a", encoding="utf-8") as f:
                f.write(json.dumps(line) + "\n")

        if self.main:
            self.put(write)

    def save(self) -> None:
        """A checkpoint, and the result so far.

        Raises:
            TrainingError: a weight or a running statistic is not finite; the checkpoint before is kept.
        """
        for name, t in self.network.state_dict().items():
            if not t.isfinite().all():  # a step can be too large although loss and gradient are finite
                raise self.lost(f"'{name}' is not finite after step {self.step}")
        device = self.device if self.device.type == "cuda" else None
        generators = [torch.get_rng_state(), torch.cuda.get_rng_state(device) if device else None]
        if self.world > 1:
            found: list[Any] = [None] * self.world
            dist.all_gather_object(found, generators)
            generators = [None if g[0] is None else torch.stack(g) for g in zip(*found)]
        if self.main:
            with open(self.log, "rb") as f:  # what the checkpoint counts on must be on the disk before it
                os.fsync(f.fileno())
                log_bytes = f.seek(0, os.SEEK_END)
            state = {
                "config": dataclasses.asdict(self.config),
                "processes": self.world,
                "step": self.step,
                "seconds": self.seconds,
                "sessions": self.sessions,
                "peak_memory": self.peak_memory,
                "curve": self.curve,
                "sums": self.sums,
                "log_bytes": log_bytes,
                "images": self.images,
                "network": self.network.state_dict(),
                "h": self.network.h,
                "c": self.network.c,
                "units": self.network.units,
                "optimizer": self.optimizer.state_dict(),
                "scaler": self.scaler.state_dict(),
                "rng": generators[0],
                "rng_device": generators[1],
            }
            checkpoint.save(self.out / CHECKPOINT, state)
            results.write(self.out / RESULT, self.record("unfinished"))
        self.saved = time.monotonic()

    def restore(self, resume: bool) -> bool:
        """Go on from the checkpoint in the run's folder; False where there is none and the run has to start."""
        file = self.out / CHECKPOINT
        there = [file.exists() or checkpoint.backup(file).exists()]
        if self.world > 1:
            dist.broadcast_object_list(there)
        if not there[0]:
            if resume and not self.quiet:
                print(f"no checkpoint in {self.out}: starting at step 0", file=sys.stderr)
            return False
        if not resume:
            raise CheckpointError(
                f"{self.out} holds a run; go on with it by --resume (resume=True in Python), name another folder with "
                "--out, or remove it"
            )
        loaded = [checkpoint.load(file) if self.main else None]
        if self.world > 1:
            dist.broadcast_object_list(loaded)
        state = loaded[0]
        self.compare(state)
        while self.network.units < tuple(state.get("units", self.network.units)):
            self.refine()  # its weights come next
        self.network.load_state_dict(state["network"])
        self.network.h = state.get("h", self.network.h)
        self.optimizer.load_state_dict(state["optimizer"])
        self.scaler.load_state_dict(state["scaler"])
        self.step, self.before = state["step"], state["seconds"]
        self.sessions, self.peak = state.get("sessions", []), state.get("peak_memory", 0)
        self.curve, self.sums = state["curve"], list(state["sums"])
        self.distribute()
        own, device = (
            None if g is None else g.reshape(self.world, -1)[self.rank].clone()
            for g in (state["rng"], state["rng_device"])
        )
        torch.set_rng_state(own)
        if device is not None:
            torch.cuda.set_rng_state(device, self.device)
        if self.main:
            self.shorten(state["log_bytes"])
        return True

    def compare(self, state: dict) -> None:
        """Refuse a checkpoint of other settings."""
        mine = dataclasses.asdict(self.config) | {"processes": self.world}
        usual = dataclasses.asdict(TrainConfig(self.config.model).resolved(10**9))  # of settings newer than the file
        theirs = usual | state["config"] | {"processes": state.get("processes", 1)}
        for name, value in theirs.items():
            value = tuple(value) if isinstance(value, list) else value
            if name not in FREE and mine.get(name) != value:
                raise CheckpointError(
                    f"{name} = {mine.get(name)!r} differs from {value!r} of the run in {self.out}; resume it with that "
                    "value, or name another folder with --out"
                )

    def shorten(self, size: int) -> None:
        """Cut off what the log has of later steps: it will be written again."""

        def cut() -> None:
            with open(self.log, "a+b") as f:
                if f.tell() < size:  # someone else did; the curve is in the checkpoint, so that is no reason to stop
                    f.seek(0)
                    size_now = f.read().rfind(b"\n") + 1
                    print(f"{self.log} lacks steps before step {self.step}: it was changed", file=sys.stderr)
                else:
                    size_now = size
                f.truncate(size_now)

        self.put(cut)

    @property
    def peak_memory(self) -> int:
        """Peak memory of this process in bytes: of tensors on CUDA, else of the whole process; 0 if not known."""
        if self.device.type == "cuda":
            return max(self.peak, torch.cuda.max_memory_allocated(self.device))
        try:
            from resource import RUSAGE_SELF, getrusage
        except ImportError:  # Windows
            return self.peak
        unit = 1 if sys.platform == "darwin" else 1024
        return max(self.peak, getrusage(RUSAGE_SELF).ru_maxrss * unit)

    def record(self, status: str, **more: Any) -> dict:
        """The result, finished or not."""
        c = self.config
        settings = {k: v for k, v in dataclasses.asdict(c).items() if k not in FREE and k != "epochs"}
        settings["init"] = c.init and Path(c.init).name
        final = {"step": self.step, **more}
        if status == "finished":
            point = self.curve[-1]
            final |= {
                k: point[k] for k in ("train_loss", "train_accuracy", "test_loss", "test_accuracy", "test_images")
            }
        record = {
            "name": c.name,
            "kind": "training",
            "status": status,
            "seed": c.seed,
            "settings": settings
            | {"processes": self.world}
            | {k: v for k, v in self.network.settings.items() if k in ("h", "c", "start", "learn_c")},
            "parameters": sum(p.numel() for p in self.network.parameters()),
            "wall_seconds": round(self.seconds, 1),
            "peak_memory_bytes": self.peak_memory,
            "evidence": self.evidence | {"date": results.now()},
            "sessions": self.sessions,
            "mean": self.batches.mean,
            "std": self.batches.std,
            "curve": self.curve,
            "final": final,
        }
        return json.loads(json.dumps(record))  # as it is in the file: tuples are lists there

    def finish(self, status: str, **more: Any) -> dict:
        """Write the result file."""
        record = self.record(status, **more)
        if self.main:
            results.write(self.out / RESULT, record)
        return record

    # --- the run ----------------------------------------------------------------------------------------------

    def run(self) -> dict:
        """From the present step to the last one."""
        try:
            return self.go_on()
        except TrainingError as error:
            with suppress(CheckpointError):  # a full disk must not hide what went wrong first
                self.finish("failed", reason=str(error))
            raise

    def go_on(self) -> dict:
        c, first = self.config, self.step
        if first == c.steps and self.evaluated and (done := self.done()):
            return done
        measured = [time.monotonic(), self.step]  # since when, and since which step, the speed is measured
        with signals(self.world == 1) as caught, self.bar() as bar:
            while True:
                late = c.limit_seconds is not None and time.monotonic() - self.began >= c.limit_seconds
                halt, due = self.agree(
                    bool(caught) or (late and self.step > first),
                    time.monotonic() - self.saved >= c.checkpoint_seconds,
                )
                last = self.step == c.steps
                pending = self.step > 0 and (last or self.step % c.eval_every == 0) and not self.evaluated
                if halt and not (last and not pending):
                    return self.halt(bool(caught))
                if pending:
                    if last and self.step > first:
                        self.save()  # evaluating all test images takes a while
                    speed = c.batch * (self.step - measured[1]) / max(time.monotonic() - measured[0], 1e-9)
                    self.point(None if last else c.eval_images, speed, bar)
                    measured = [time.monotonic(), self.step]
                if pending or due or (self.step > first and self.step % c.checkpoint_every == 0):
                    self.save()
                if last:
                    return self.finish("finished", **self.inverse_error(), kernel_change=self.network.kernel_change())
                line = self.train_step()
                self.write_log(line)
                memory = f"{self.peak_memory >> 20} MiB"
                speed = c.batch * (self.step - measured[1]) / max(time.monotonic() - measured[0], 1e-9)
                shown = {"loss": f"{line['loss']:.3f}", "acc": f"{line['accuracy']:.2f}", "images/s": f"{speed:.0f}"}
                bar.set_postfix(shown | {"memory": memory}, refresh=False)
                bar.update()

    def done(self) -> dict | None:
        """The result file, if it says that the run is finished."""
        file = self.out / RESULT
        record = results.read(file) if file.exists() else None
        return record if record and record["status"] == "finished" else None

    @property
    def evaluated(self) -> bool:
        """Whether the curve has a point at the present step."""
        return bool(self.curve) and self.curve[-1]["step"] == self.step

    def point(self, images: int | None, speed: float, bar: Any) -> None:
        """Evaluate, and add a point to the curve."""
        loss, right, seen = self.sums
        self.sums = [0.0, 0.0, 0]
        point = {
            "step": self.step,
            "epoch": round(self.step / self.batches.steps_per_epoch, 4),
            "lr": self.config.lr_at(self.step - 1),
            "blocks": self.blocks,
            "train_loss": loss / seen,
            "train_accuracy": right / seen,
            "images_per_second": round(speed, 1),
            "seconds": round(self.seconds, 1),
        }
        if images is None and self.config.statistics and self.config.normalization == "batch":
            batches = (self.batch(k)[0] for k in range(self.config.statistics))
            multiscale.estimate_statistics(self.network, batches)
        tested = [self.evaluate(images) if self.main else None]
        if self.world > 1:
            dist.broadcast_object_list(tested)
        point |= dict(zip(("test_loss", "test_accuracy", "test_images"), tested[0]))
        self.curve.append(point)
        if not self.main:
            return
        if not self.quiet:
            bar.write(
                f"step {point['step']} (epoch {point['epoch']:g}, rate {point['lr']:g}): train loss "
                f"{point['train_loss']:.4f}, accuracy {100 * point['train_accuracy']:.2f} %; test loss "
                f"{_text(point['test_loss'])}, accuracy {100 * point['test_accuracy']:.2f} % of "
                f"{point['test_images']:,}",
                file=sys.stderr,
            )
        if self.callback:
            self.callback(dict(point))

    @torch.no_grad()
    def inverse_error(self) -> dict:
        """How well the trained stages are undone: the largest relative error of a stage's input, 100 test images."""
        if not self.network.scheme.reversible or not self.main:
            return {}
        errors, hooks = [], []

        def measure(stage: Stage, args: tuple[Tensor, ...], _: Tensor) -> None:
            state = stage.encode(args[0]) if stage.arithmetic == "exact" else stage.scheme.start(args[0])
            back = stage.inverse_state(stage.forward_state(state))
            state, back = [list(map(primitive.value, parts)) for parts in (state, back)]
            error = sum((a - b).square().sum() for a, b in zip(state, back)) / sum(a.square().sum() for a in state)
            errors.append(error.sqrt().item())

        self.network.eval()
        try:
            hooks += [stage.register_forward_hook(measure) for stage in self.network.stages]
            x = data.normalize(self.test.images[:100], self.batches.mean, self.batches.std)
            self.network(x.contiguous(memory_format=self.layout))
        finally:
            for hook in hooks:
                hook.remove()
            self.network.train()
        return {"inverse_error": _finite(max(errors))}

    def agree(self, *wishes: bool) -> list[bool]:
        """What any of the processes wishes, all do."""
        if self.world == 1:
            return list(wishes)
        flags = torch.tensor(wishes, dtype=torch.float32, device=self.device)
        dist.all_reduce(flags)
        return [flag > 0 for flag in flags.tolist()]

    def halt(self, signalled: bool) -> dict:
        """Save and stop before the end."""
        self.save()
        record = self.finish("unfinished")
        text = f"unfinished at step {self.step} of {self.config.steps}; go on with\n  {self.config.command()}"
        if signalled:
            raise Stopped(text)
        if not self.quiet:
            print(text, file=sys.stderr)
        return record

    def bar(self):
        """The progress bar."""
        from tqdm import tqdm

        steps, model = self.config.steps, self.config.model
        interval = 0.2 if sys.stderr.isatty() else 15.0  # a log file needs no animation
        return tqdm(
            total=steps, initial=self.step, desc=model, unit="step", disable=self.quiet, mininterval=interval,
            maxinterval=2 * interval,
        )  # fmt: skip


def sgd(network: nn.Module, config: TrainConfig) -> torch.optim.SGD:
    """SGD with momentum; weight decay acts on kernels and the last matrix only, as in the released code."""
    decayed = [p for p in network.parameters() if p.dim() > 1]
    others = [p for p in network.parameters() if p.dim() <= 1]
    groups = [{"params": decayed, "weight_decay": config.weight_decay}, {"params": others, "weight_decay": 0.0}]
    one = {"fused": True} if config.fast else {"foreach": True}
    return torch.optim.SGD(groups, lr=config.lr, momentum=config.momentum, **one)
