"""Training that can be trusted: the papers' schedules, exact resumption, and a result file with its evidence.

Source of the defaults: Chang et al. 2018 (arXiv 1709.03698) and its released code, by network in
:data:`revode.models.MODELS`. Other than the released code, the weight smoothness decay is part of the loss that is
differentiated, so it reaches the gradient.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import math
import os
import resource
import signal
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from . import checkpoint, data, results
from .errors import CheckpointError, TrainingError
from .models import MODELS, build
from .networks import Network
from .stage import Stage

AMP = {"off": None, "bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True)
class TrainConfig:
    """Everything that decides the outcome of a run; None stands for the default of the network's recipe.

    Attributes:
        model: Name in :data:`revode.models.MODELS`.
        data: Name of the data set, as for :func:`revode.data.load`.
        data_root: Folder of the data; None is ``$REVODE_DATA`` or ``data``.
        subset: Train on a stratified subset of this many images; None is all.
        subset_seed: Seed that chooses the subset.
        steps: Number of optimizer steps. Give this or ``epochs``, or neither.
        epochs: Passes over the training images.
        batch: Images per step, over all processes.
        lr: Initial learning rate.
        milestones: Steps after which the rate is cut. Default: the recipe's, scaled to the number of steps.
        lr_factor: What the rate is multiplied by there.
        weight_decay: Factor of 1/2 ||w||^2 over kernels and the last matrix.
        smoothness: Factor of :meth:`revode.networks.Network.smoothness`.
        momentum: Of SGD.
        seed: Of the initial weights, the order of the images, and the augmentation.
        memory: "reversible" or "stored".
        store_last: Blocks at the end whose activations are kept.
        normalization: "batch" or "none".
        h: Step size.
        device: "cpu", "cuda", ...; "auto" takes CUDA where there is one.
        threads: CPU threads; None leaves torch's setting.
        channels_last: Lay images out with the channels last, faster on most devices.
        amp: "off", "bf16" or "fp16": precision of the increments; the state stays float32.
        compile: Compile the network.
        eval_every: Steps between evaluations on ``eval_images`` test images; the last is on all of them.
        eval_images: See ``eval_every``.
        checkpoint_every: Steps between checkpoints.
        limit_seconds: Stop with a checkpoint after this time; the run goes on with resume.
        out: Folder of the run.

    Raises:
        ValueError: for a value that is not allowed.
    """

    model: str
    data: str = "cifar10"
    data_root: str | None = None
    subset: int | None = None
    subset_seed: int = 0
    steps: int | None = None
    epochs: float | None = None
    batch: int | None = None
    lr: float | None = None
    milestones: tuple[int, ...] | None = None
    lr_factor: float | None = None
    weight_decay: float | None = None
    smoothness: float | None = None
    momentum: float | None = None
    seed: int = 0
    memory: str = "reversible"
    store_last: int = 0
    normalization: str = "batch"
    h: float | None = None
    device: str = "auto"
    threads: int | None = None
    channels_last: bool = True
    amp: str = "off"
    compile: bool = False
    eval_every: int = 250
    eval_images: int = 2000
    checkpoint_every: int = 250
    limit_seconds: float | None = None
    out: str | None = None

    def __post_init__(self) -> None:
        if self.model not in MODELS:
            raise ValueError(f"model = {self.model!r} must be one of {', '.join(MODELS)}")
        if self.data not in data.SPLITS:
            raise ValueError(f"data = {self.data!r} must be one of {', '.join(data.SPLITS)}")
        if self.steps is not None and self.epochs is not None:
            raise ValueError(f"steps = {self.steps} and epochs = {self.epochs}: give one of the two")
        if self.amp not in AMP:
            raise ValueError(f"amp = {self.amp!r} must be one of {', '.join(AMP)}")
        for name in ("subset", "steps", "epochs", "batch", "threads", "eval_every", "eval_images", "checkpoint_every"):
            value = getattr(self, name)
            if value is not None and not (math.isfinite(value) and value > 0):
                raise ValueError(f"{name} = {value} must be a positive number")
        for name in ("lr", "lr_factor", "weight_decay", "smoothness", "momentum", "limit_seconds"):
            value = getattr(self, name)
            if value is not None and not (math.isfinite(value) and value >= 0):
                raise ValueError(f"{name} = {value} must be a finite number, 0 or more")
        if self.milestones is not None:
            object.__setattr__(self, "milestones", tuple(self.milestones))
            if any(m <= 0 or m != int(m) for m in self.milestones) or list(self.milestones) != sorted(self.milestones):
                raise ValueError(f"milestones = {self.milestones} must be increasing numbers of steps")

    def resolved(self, train_images: int) -> TrainConfig:
        """The same with every default filled in, for a training set of this size."""
        recipe = MODELS[self.model].recipe
        batch = self.batch or recipe.batch_size
        if batch > train_images:
            raise ValueError(f"batch = {batch} is larger than the training set of {train_images} images")
        steps = self.steps or (round(self.epochs * (train_images // batch)) if self.epochs else recipe.steps)
        scale = steps / recipe.steps
        milestones = (
            self.milestones if self.milestones is not None else tuple(round(m * scale) for m in recipe.milestones)
        )
        fill = {k: getattr(recipe, k) for k in ("lr", "lr_factor", "weight_decay", "smoothness", "momentum")}
        return dataclasses.replace(
            self,
            batch=batch,
            steps=max(steps, 1),
            epochs=None,
            milestones=milestones,
            device=("cuda" if torch.cuda.is_available() else "cpu") if self.device == "auto" else self.device,
            out=self.out or f"runs/{self.name}",
            **{k: v for k, v in fill.items() if getattr(self, k) is None},
        )

    @property
    def name(self) -> str:
        """Name of the run, from what distinguishes it."""
        parts = [
            self.model,
            self.data,
            f"n{self.subset}" if self.subset else "",
            f"{self.steps}steps" if self.steps else "",
        ]
        parts += ["" if self.normalization == "batch" else "nonorm", f"seed{self.seed}"]
        return "-".join(p for p in parts if p)


#: What may differ when a run is resumed: it does not change the numbers, or only where they go.
FREE = {"limit_seconds", "out", "data_root", "threads", "eval_every", "eval_images", "checkpoint_every", "compile"}
FREE -= {"threads", "eval_every", "eval_images", "compile"}


class _Run:
    """One process of one run."""

    def __init__(self, config: TrainConfig, *, quiet: bool, callback: Callable[[dict], None] | None):
        self.rank, self.world = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
        self.main = self.rank == 0
        self.quiet, self.callback = quiet or not self.main, callback
        train = data.load(config.data, "train", config.data_root)
        test = data.load(config.data, "test", config.data_root)
        train = train.subset(config.subset, config.subset_seed) if config.subset else train
        self.config = c = config.resolved(len(train))
        self.out = Path(c.out)
        if c.threads:
            torch.set_num_threads(c.threads)
        self.device = torch.device(c.device, int(os.environ.get("LOCAL_RANK", 0)) if c.device == "cuda" else None)
        mean, std = train.mean_std()
        self.batches = data.Batches(
            train.to(self.device), c.batch, c.seed, mean=mean, std=std, rank=self.rank, world=self.world
        )
        self.test = test.to(self.device)
        self.network: Network = build(
            c.model, len(train.classes), memory=c.memory, normalization=c.normalization, h=c.h,
            store_last=c.store_last, seed=c.seed,
        )  # fmt: skip
        self.layout = torch.channels_last if c.channels_last else torch.contiguous_format
        self.network.to(self.device, memory_format=self.layout)
        self.model: nn.Module = self.network
        if c.compile:
            self.model = torch.compile(self.model)
        if self.world > 1:
            if not dist.is_initialized():
                dist.init_process_group("nccl" if c.device == "cuda" else "gloo")
            self.model = DistributedDataParallel(self.model)
        self.optimizer = _optimizer(self.network, c)
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=c.amp == "fp16")
        self.step, self.seconds = 0, 0.0
        self.curve: list[dict] = []
        self.sums = [0.0, 0.0, 0]  # loss, correct, images since the last point of the curve
        self.log = self.out / "log.jsonl"

    # --- one step ---------------------------------------------------------------------------------------------

    def lr(self, step: int) -> float:
        c = self.config
        return c.lr * c.lr_factor ** sum(step >= m for m in c.milestones)

    def images(self, x: Tensor) -> Tensor:
        return x.contiguous(memory_format=self.layout)

    def autocast(self):
        dtype = AMP[self.config.amp]
        return torch.autocast(self.device.type, dtype) if dtype else contextlib.nullcontext()

    def train_step(self) -> tuple[float, float]:
        """One optimizer step; returns loss and number of right answers on this process's images."""
        for group in self.optimizer.param_groups:
            group["lr"] = self.lr(self.step)
        x, y = self.batches[self.step]
        with self.autocast():
            logits = self.model(self.images(x))
            loss = F.cross_entropy(logits.float(), y)
        total = loss
        if self.config.smoothness:
            total = loss + self.config.smoothness * self.network.smoothness()
        self.optimizer.zero_grad(set_to_none=True)
        self.scaler.scale(total).backward()
        # Asked before the weights change: a loss that is not finite must not reach them.
        value = total.detach()
        if self.world > 1:
            value = value.clone()
            dist.all_reduce(value)
        if not math.isfinite(value.item()):
            raise self.diverged(x, y)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        return loss.item(), (logits.argmax(1) == y).sum().item()

    def diverged(self, x: Tensor, y: Tensor) -> TrainingError:
        """The error that names step, layer and last good checkpoint."""
        kept = self.out / "checkpoint.pt"
        last = f"the last good checkpoint is {kept}" if kept.exists() else "there is no checkpoint yet"
        return TrainingError(
            f"the loss is not finite at step {self.step} (learning rate {self.lr(self.step):g}); "
            f"{first_not_finite(self.network, self.images(x), y)}; {last}; try a smaller lr or h"
        )

    @torch.no_grad()
    def evaluate(self, images: int | None = None) -> tuple[float, float]:
        """Mean loss and accuracy on the first test images, all of them if None, in eval mode, not augmented."""
        self.network.eval()
        loss = right = count = 0
        for x, y in data.evaluation_batches(self.test, 500, self.batches.mean, self.batches.std):
            with self.autocast():
                logits = self.network(self.images(x)).float()
            loss += F.cross_entropy(logits, y, reduction="sum").item()
            right += (logits.argmax(1) == y).sum().item()
            count += len(y)
            if images is not None and count >= images:
                break
        self.network.train()
        return loss / count, right / count, count

    # --- files ------------------------------------------------------------------------------------------------

    def state(self) -> dict:
        return {
            "config": dataclasses.asdict(self.config),
            "step": self.step,
            "seconds": self.seconds,
            "curve": self.curve,
            "sums": self.sums,
            "log_bytes": self.log.stat().st_size if self.log.exists() else 0,
            "network": self.network.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
            "rng": torch.get_rng_state(),
            "rng_device": torch.cuda.get_rng_state(self.device) if self.device.type == "cuda" else None,
        }

    def save(self) -> None:
        if self.main:
            checkpoint.save(self.out / "checkpoint.pt", self.state())

    def resume(self) -> None:
        state = checkpoint.load(self.out / "checkpoint.pt")
        mine = json.loads(json.dumps(dataclasses.asdict(self.config)))
        saved = json.loads(json.dumps(state["config"]))
        for key, value in saved.items():
            if key not in FREE and mine.get(key) != value:
                raise CheckpointError(
                    f"{key} = {mine.get(key)!r} differs from {value!r} of the checkpoint in {self.out}; "
                    "resume with the same settings, or name another folder with out"
                )
        self.network.load_state_dict(state["network"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.scaler.load_state_dict(state["scaler"])
        torch.set_rng_state(state["rng"])
        if state["rng_device"] is not None and self.device.type == "cuda":
            torch.cuda.set_rng_state(state["rng_device"], self.device)
        self.step, self.seconds = state["step"], state["seconds"]
        self.curve, self.sums = state["curve"], list(state["sums"])
        if self.main and self.log.exists():  # what came after the checkpoint is done again
            with open(self.log, "r+b") as f:
                f.truncate(state["log_bytes"])

    def write_log(self, entry: dict) -> None:
        if not self.main:
            return
        try:
            with open(self.log, "a", encoding="utf-8") as f:
                f.write(json.dumps(entry) + "\n")
        except OSError as error:
            raise CheckpointError(
                f"{self.log} could not be written ({error.strerror}); the last checkpoint is kept; free some space"
            ) from error

    def record(self, status: str, reason: str = "") -> dict:
        """The result so far, as it goes into the result file."""
        c = self.config
        settings = dataclasses.asdict(c) | {"h": self.network.h, "processes": self.world}
        for key in ("out", "data_root", "limit_seconds"):
            settings.pop(key)
        last = self.curve[-1] if self.curve else {}
        final = {"step": self.step} | ({"reason": reason} if reason else {})
        if status == "finished":
            final |= {k: last[k] for k in ("train_loss", "test_loss", "test_accuracy", "test_images")}
        return {
            "name": c.name,
            "kind": "training",
            "status": status,
            "seed": c.seed,
            "settings": settings,
            "parameters": sum(p.numel() for p in self.network.parameters()),
            "wall_seconds": round(self.seconds, 1),
            "evidence": results.evidence(self.device),
            "curve": self.curve,
            "final": final,
        }

    # --- the run ----------------------------------------------------------------------------------------------

    def run(self) -> dict:
        c = self.config
        self.network.train()
        started, before = time.monotonic(), self.seconds
        marked, done = started, self.step
        with _signals() as stop, self.bar() as bar:
            while self.step < c.steps:
                try:
                    loss, right = self.train_step()
                except TrainingError as error:
                    self.seconds = before + time.monotonic() - started
                    self.finish("failed", str(error))
                    raise
                self.step += 1
                size = c.batch // self.world
                self.sums = [self.sums[0] + loss * size, self.sums[1] + right, self.sums[2] + size]
                now = time.monotonic()
                self.seconds = before + now - started
                speed = c.batch * (self.step - done) / max(now - marked, 1e-9)
                bar.set_postfix(
                    loss=f"{loss:.3f}", acc=f"{right / size:.2f}", img_s=f"{speed:.0f}", MiB=_memory(self.device)
                )
                bar.update(1)
                self.write_log(
                    {"step": self.step, "loss": loss, "accuracy": right / size, "lr": self.lr(self.step - 1)}
                )
                last = self.step == c.steps
                if last or self.step % c.eval_every == 0:
                    self.point(None if last else c.eval_images, speed)
                    marked, done = time.monotonic(), self.step
                limit = c.limit_seconds is not None and time.monotonic() - started >= c.limit_seconds
                halt = self.agree(bool(stop) or limit) and not last
                if last or halt or self.step % c.checkpoint_every == 0:
                    self.save()
                if halt:
                    record = self.finish("unfinished")
                    if stop:
                        raise KeyboardInterrupt
                    return record
        return self.finish("finished")

    def point(self, images: int | None, speed: float) -> None:
        """Evaluate, and add a point to the curve."""
        test_loss, test_accuracy, count = self.evaluate(images)
        loss, right, seen = self.sums
        self.sums = [0.0, 0.0, 0]
        self.curve.append(
            {
                "step": self.step,
                "epoch": round(self.step * self.config.batch / len(self.batches.train_set), 4),
                "lr": self.lr(self.step - 1),
                "train_loss": loss / seen,
                "train_accuracy": right / seen,
                "test_loss": test_loss,
                "test_accuracy": test_accuracy,
                "test_images": count,
                "images_per_second": round(speed, 1),
                "seconds": round(self.seconds, 1),
            }
        )
        if self.callback:
            self.callback(self.curve[-1])
        if not self.quiet:
            print(json.dumps(self.curve[-1]), file=sys.stderr, flush=True)

    def agree(self, stop: bool) -> bool:
        """Whether any process wants to stop: all do, or none."""
        if self.world == 1:
            return stop
        flag = torch.tensor(float(stop), device=self.device)
        dist.all_reduce(flag)
        return flag.item() > 0

    def finish(self, status: str, reason: str = "") -> dict:
        record = self.record(status, reason)
        if self.main:
            results.write(self.out / "result.json", record)
        return record

    def bar(self):
        from tqdm import tqdm

        return tqdm(
            total=self.config.steps, initial=self.step, disable=self.quiet, desc=self.config.model, mininterval=1.0
        )


def fit(
    config: TrainConfig,
    *,
    resume: bool = False,
    quiet: bool = False,
    callback: Callable[[dict], None] | None = None,
) -> dict:
    """Train a network; the same as the command ``revode train``.

    Args:
        config: What to train and how.
        resume: Go on from the checkpoint in ``config.out``. On the same machine the weights become, bit for bit,
            those of a run that was never interrupted.
        quiet: No progress bar.
        callback: Called with each point of the curve.

    Returns:
        The result, as written to ``result.json`` in ``config.out`` (:mod:`revode.results`): "status" is "finished"
        or "unfinished". ``network`` is not part of it: read it with :func:`load_network`.

    Raises:
        TrainingError: if the loss is not finite: step, layer and last good checkpoint are named.
        CheckpointError: if a file cannot be written or read, or a checkpoint is there and ``resume`` is not set.
        KeyboardInterrupt: after Ctrl-C or a termination signal, once the checkpoint is written.
    """
    run = _Run(config, quiet=quiet, callback=callback)
    there = (run.out / "checkpoint.pt").exists()
    if resume:
        run.resume()
    elif there:
        raise CheckpointError(
            f"{run.out} holds the checkpoint of a run; go on from it with --resume, name another folder with "
            "--out, or remove it"
        )
    elif run.main:
        run.out.mkdir(parents=True, exist_ok=True)
        run.log.unlink(missing_ok=True)
    try:
        return run.run()
    finally:
        if run.world > 1 and dist.is_initialized():
            dist.destroy_process_group()


def load_network(out: str | Path) -> Network:
    """The network of a run with the weights of its last checkpoint, in eval mode.

    Raises:
        CheckpointError: if there is no checkpoint that can be read.
    """
    state = checkpoint.load(Path(out) / "checkpoint.pt")
    c, classes = state["config"], len(state["network"]["fc.bias"])
    network = build(c["model"], classes, memory=c["memory"], normalization=c["normalization"], h=c["h"], seed=c["seed"])
    network.load_state_dict(state["network"])
    return network.eval()


def _optimizer(network: Network, c: TrainConfig) -> torch.optim.SGD:
    """SGD with momentum; decay acts on kernels and the last matrix only, as in the released code."""
    decayed = [p for p in network.parameters() if p.dim() > 1]
    others = [p for p in network.parameters() if p.dim() <= 1]
    groups = [{"params": decayed, "weight_decay": c.weight_decay}, {"params": others, "weight_decay": 0.0}]
    return torch.optim.SGD(groups, lr=c.lr, momentum=c.momentum, foreach=True)


def first_not_finite(network: Network, x: Tensor, y: Tensor) -> str:
    """Where the first value that is not finite appears, by one more pass with stored activations."""
    found: list[str] = []

    def watch(name: str):
        def hook(module, args, out):
            for t in out if isinstance(out, tuple) else (out,):
                if not found and isinstance(t, Tensor) and not torch.isfinite(t).all():
                    found.append(f"the first value that is not finite is the output of layer '{name}'")

        return hook

    for name, p in network.named_parameters():
        if not torch.isfinite(p).all():
            return f"parameter '{name}' is not finite"
    leaves = [(n, m) for n, m in network.named_modules() if n and not any(True for _ in m.children())]
    handles = [m.register_forward_hook(watch(n)) for n, m in leaves]
    modes = [(s, s.memory) for s in network.modules() if isinstance(s, Stage)]
    buffers = [b.clone() for b in network.buffers()]
    try:
        for stage, _ in modes:
            stage.memory = "stored"
        with torch.no_grad():
            network(x)
    finally:
        for handle in handles:
            handle.remove()
        for stage, mode in modes:
            stage.memory = mode
        for b, old in zip(network.buffers(), buffers):
            b.copy_(old)
    return found[0] if found else "every layer's output is finite: the loss itself is not"


@contextlib.contextmanager
def _signals() -> Iterator[list]:
    """Collects SIGINT and SIGTERM: the step at hand is finished and saved first."""
    caught: list[int] = []
    old = {}
    try:
        for s in (signal.SIGINT, signal.SIGTERM):
            old[s] = signal.signal(s, lambda number, frame: caught.append(number))
    except ValueError:  # not in the main thread
        pass
    try:
        yield caught
    finally:
        for s, handler in old.items():
            signal.signal(s, handler)


def _memory(device: torch.device) -> int:
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) >> 20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10


def add_arguments(parser) -> None:
    """Options of ``revode train``: the fields of :class:`TrainConfig`."""
    text = {name.strip(): rest.strip() for name, _, rest in (
        line.partition(":") for line in (TrainConfig.__doc__ or "").splitlines() if line.startswith("        ")
    )}  # fmt: skip
    kinds = {"int": int, "float": float, "str": str}
    parser.add_argument("model", help="name of the network, see `revode models`")
    for f in dataclasses.fields(TrainConfig):
        if f.name == "model":
            continue
        option, kind = "--" + f.name.replace("_", "-"), str(f.type).split(" ")[0]
        about = text.get(f.name, "")
        if kind == "bool":
            parser.add_argument(option, action=_boolean(), default=f.default, help=about)
        elif kind.startswith("tuple"):
            parser.add_argument(option, type=int, nargs="*", default=f.default, help=about)
        else:
            parser.add_argument(option, type=kinds[kind], default=f.default, help=about)
    parser.add_argument("--resume", action="store_true", help="go on from the checkpoint in --out")
    parser.add_argument("--quiet", action="store_true", help="no progress bar")


def _boolean():
    import argparse

    return argparse.BooleanOptionalAction


def main(args) -> int:
    """The command ``revode train``."""
    fields = {f.name for f in dataclasses.fields(TrainConfig)}
    config = TrainConfig(**{k: v for k, v in vars(args).items() if k in fields})
    record = fit(config, resume=args.resume, quiet=args.quiet)
    if int(os.environ.get("RANK", 0)) == 0:
        out = config.out or f"runs/{record['name']}"
        if record["status"] == "finished":
            print(f"test accuracy {100 * record['final']['test_accuracy']:.2f} %; result in {out}/result.json")
        else:
            print(f"unfinished at step {record['final']['step']} of {record['settings']['steps']}; go on with --resume")
    return 0
