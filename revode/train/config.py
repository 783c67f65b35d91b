"""Everything that decides the outcome of a run."""

from __future__ import annotations

import dataclasses
import math
import os
import shlex
from dataclasses import dataclass
from typing import Any

import torch

from .. import data
from ..data.sets import whole
from ..fields import NORMALIZATIONS, choose
from ..models import MODELS
from ..multilevel import INTERPOLATIONS
from ..multiscale import PROLONGATIONS
from ..networks import LEARN
from ..stage import ARITHMETIC, MEMORY

AMP = {"off": None, "bf16": torch.bfloat16, "fp16": torch.float16}

REFINE = ("off", *INTERPOLATIONS)
SCHEDULES = ("steps", "cosine")

CHECKPOINT, LOG, RESULT = "checkpoint.pt", "log.jsonl", "result.json"


def half_precision(device: str | torch.device) -> str:
    """The setting of ``amp`` that is fast on a device: "bf16", "fp16", or "off" where half precision is not.

    GPUs have matrix units for float16 from compute capability 7.0 on and for bfloat16 from 8.0 on; a T4 (7.5) only
    imitates bfloat16. float16 needs its loss scaled, which training does.
    """
    device = torch.device(device)
    if device.type != "cuda":
        return "off"
    capability = torch.cuda.get_device_capability(device)
    return "bf16" if capability >= (8, 0) else "fp16" if capability >= (7, 0) else "off"


@dataclass(frozen=True)
class TrainConfig:
    """Everything that decides the outcome of a run.

    Attributes:
        model: Name in :data:`revode.models.MODELS`.
        data: Name of the data set, as for :func:`revode.data.load`.
        data_root: Folder of the data sets; None is ``$REVODE_DATA``, or ``./data``.
        subset: Train on a stratified subset of this many images; None is all of them.
        subset_seed: Seed that chooses the subset.
        image_size: Side of the images, to which they are averaged or interpolated when they are loaded; None leaves
            them as they are. Random crops shift by up to an eighth of it.
        init: Weights to begin with: a name known to :func:`revode.load_trained`, the folder of a run, or a file of
            weights that ends in .pth or .pt, for fine-tuning (:func:`revode.load_checkpoint`: another number of classes
            is no obstacle). Folder and file are seen from the folder that ``out`` is in, a file also from here. None
            draws new ones.
        prolongation: How 3x3 kernels of ``init`` move to this run's resolution if its images had another,
            "constant" or "bilinear" (:mod:`revode.multiscale`); None leaves them. Running statistics are then estimated
            anew, from ten batches.
        steps: Number of optimizer steps; give this, or epochs, or neither for the recipe's number.
        epochs: Passes over the training images.
        batch: Images per step, of all processes together; None is the recipe's.
        lr: Learning rate at the start; None is the recipe's.
        milestones: Steps after which the rate is cut, or begins again; None is the recipe's, scaled to the number of
            steps.
        lr_factor: What the rate is multiplied by at each milestone; None is the recipe's.
        schedule: "steps" cuts the rate at each milestone; "cosine" lets it fall from lr to lr_min as a cosine does,
            anew from each milestone on. None is the recipe's.
        lr_min: Learning rate at the end of a cosine; None is the recipe's.
        weight_decay: Factor of half the squared norm of kernels and last matrix; None is the recipe's.
        smoothness: Factor of the network's smoothness, half the squared differences of the kernels of
            consecutive blocks; None is the recipe's.
        momentum: Momentum of SGD, at least 0 and less than 1; None is the recipe's.
        seed: Seed of the initial weights, the order of the images and their augmentation.
        memory: "reversible" rebuilds activations in the backward pass, "stored" keeps them.
        store_last: Number of blocks at the network's end whose activations are kept.
        arithmetic: "float", or "exact" for states in 32-bit fixed point, reversible bit for bit.
        normalization: "batch" as in the released code, "none" for the pure equations.
        h: Step size of the network; None is the network's own.
        c: Factor of the momentum rule, of a "momentum" network; None is the network's own.
        start: How its stages begin, "rest" (velocity 0) or "field" (that of the first block); None is "rest".
        learn_c: Learn c: "no", "shared" (one number for the network) or "layer" (one for each block).
        units: Number of blocks of each unit at the start; None is as the network is named.
        refine: At each milestone double the blocks and halve the step, the new ones by "copy" or "linear"
            interpolation (:func:`revode.multilevel.refine`); "off" does not.
        carry: Hand the momentum of SGD on to a refined network; else it begins at rest.
        device: "cpu", "cuda" or any device of torch; "auto" takes CUDA where there is one.
        threads: Threads of the CPU; None leaves torch's setting.
        channels_last: Lay images out with the channels last.
        amp: Precision of the increments, "off" (float32), "bf16" or "fp16"; the state stays float32.
        compile: Compile the network with torch.compile.
        fast: On a GPU all that makes it fast: ``compile`` with CUDA graphs, increments in half precision (``amp``, or
            what :func:`revode.train.half_precision` chooses), TensorFloat-32, cuDNN's quickest kernels, and SGD in one
            kernel. A resumed run then repeats up to rounding, not bit for bit. On the CPU, SGD in one kernel alone.
        eval_every: Steps between evaluations; there is one more at the end, on all test images.
        eval_images: Number of test images, the first ones, of an evaluation before the end.
        statistics: Number of training batches from which the running statistics of batch normalization are estimated
            anew before the last evaluation (:func:`revode.multiscale.estimate_statistics`); 0 keeps those of training,
            a mean over about the last hundred steps, which after few steps still remembers the beginning.
        checkpoint_every: Steps between checkpoints.
        checkpoint_seconds: Seconds after which there is a checkpoint in any case.
        limit_seconds: Stop with a checkpoint after this time; the run is unfinished and can be resumed.
        out: Folder of the run; None is ``runs/`` and a name made of the settings.

    Raises:
        ValueError: a value is not allowed.
    """

    model: str
    data: str = "cifar10"
    data_root: str | None = None
    subset: int | None = None
    subset_seed: int = 0
    image_size: int | None = None
    init: str | None = None
    prolongation: str | None = None
    steps: int | None = None
    epochs: float | None = None
    batch: int | None = None
    lr: float | None = None
    milestones: tuple[int, ...] | None = None
    lr_factor: float | None = None
    schedule: str | None = None
    lr_min: float | None = None
    weight_decay: float | None = None
    smoothness: float | None = None
    momentum: float | None = None
    seed: int = 0
    memory: str = "reversible"
    store_last: int = 0
    arithmetic: str = "float"
    normalization: str = "batch"
    h: float | None = None
    c: float | None = None
    start: str | None = None
    learn_c: str = "no"
    units: tuple[int, ...] | None = None
    refine: str = "off"
    carry: bool = True
    device: str = "auto"
    threads: int | None = None
    channels_last: bool = True
    amp: str = "off"
    compile: bool = False
    fast: bool = False
    eval_every: int = 250
    eval_images: int = 2000
    statistics: int = 0
    checkpoint_every: int = 250
    checkpoint_seconds: float = 300.0
    limit_seconds: float | None = None
    out: str | None = None

    def __post_init__(self) -> None:
        choose("model", self.model, MODELS)
        choose("data", self.data, data.SPLITS)
        choose("memory", self.memory, MEMORY)
        choose("arithmetic", self.arithmetic, ARITHMETIC)
        choose("normalization", self.normalization, NORMALIZATIONS)
        choose("amp", self.amp, AMP)
        choose("learn_c", self.learn_c, LEARN)
        choose("refine", self.refine, REFINE)
        if self.schedule is not None:
            choose("schedule", self.schedule, SCHEDULES)
        for name in (
            "subset",
            "image_size",
            "steps",
            "batch",
            "threads",
            "eval_every",
            "eval_images",
            "checkpoint_every",
        ):
            if (value := getattr(self, name)) is not None:
                self._set(name, whole(name, value, 1))
        for name in ("subset_seed", "seed", "store_last", "statistics"):
            self._set(name, whole(name, getattr(self, name), 0))
        for name, above in (("epochs", True), ("lr", True), ("lr_factor", True), ("checkpoint_seconds", True),
                            ("lr_min", False), ("weight_decay", False), ("smoothness", False), ("momentum", False),
                            ("limit_seconds", False), ("c", False), ("h", None)):  # fmt: skip
            if (value := getattr(self, name)) is not None:
                self._set(name, _number(name, value, above))
        if self.prolongation is not None:
            choose("prolongation", self.prolongation, PROLONGATIONS)
            if self.init is None:
                raise ValueError(f"prolongation = {self.prolongation!r} needs init: there are no kernels to move")
        if self.momentum is not None and self.momentum >= 1:
            raise ValueError(f"momentum = {self.momentum} must be less than 1: past gradients would never be forgotten")
        if self.steps is not None and self.epochs is not None:
            raise ValueError(f"steps = {self.steps} and epochs = {self.epochs}: give one of the two")
        if self.milestones is not None:
            milestones = tuple(whole("milestones", m, 1) for m in self.milestones)
            if list(milestones) != sorted(milestones):
                raise ValueError(f"milestones = {milestones} must be steps in increasing order")
            self._set("milestones", milestones)
        if self.units is not None:
            self._set("units", tuple(whole("units", n, 1) for n in self.units))
        units = self.units or MODELS[self.model].units
        if self.refine != "off" and min(units) < 2:
            raise ValueError(f"units = {units} must hold 2 or more blocks each for refine = {self.refine!r}")
        if MODELS[self.model].block:
            for name in ("smoothness", "prolongation", "refine"):
                if (value := getattr(self, name)) not in (None, 0.0, "off"):
                    raise ValueError(
                        f"{name} = {value!r} is not for {self.model}: the blocks of torchvision are no steps of one "
                        "shape, so leave it out, or take another network of `revode models`"
                    )
        for name in ("out", "data_root", "init"):
            if (value := getattr(self, name)) is not None:
                self._set(name, os.fspath(value))
        if self.device != "auto":
            try:
                torch.device(self.device)
            except RuntimeError:
                raise ValueError(
                    f"device = {self.device!r} must be 'auto' or a device of torch such as 'cpu'"
                ) from None

    def _set(self, name: str, value: Any) -> None:
        object.__setattr__(self, name, value)

    def resolved(self, train_images: int) -> TrainConfig:
        """The same with every default filled in, for a training set of this size.

        Raises:
            ValueError: the set is smaller than a batch, or a milestone is never reached.
        """
        recipe = MODELS[self.model].recipe
        batch = self.batch or recipe.batch_size
        if batch > train_images:
            raise ValueError(f"batch = {batch} must be at most {train_images}, the number of training images")
        steps = self.steps or recipe.steps
        if self.epochs:
            steps = max(round(self.epochs * (train_images // batch)), 1)
        milestones = self.milestones
        if milestones is None:
            milestones = tuple(max(round(m * steps / recipe.steps), 1) for m in recipe.milestones)
        elif any(m >= steps for m in milestones):
            raise ValueError(f"milestones = {milestones} must be less than the {steps} steps, or empty")
        filled = {
            name: getattr(recipe, name) if getattr(self, name) is None else getattr(self, name)
            for name in ("lr", "lr_factor", "schedule", "lr_min", "weight_decay", "smoothness", "momentum")
        }
        device = self.device
        if device == "auto":
            device = "cuda" if torch.cuda.is_available() else "cpu"
        if self.fast and torch.device(device).type == "cuda":
            filled["amp"] = half_precision(device) if self.amp == "off" else self.amp
            filled["compile"] = self.compile or self.arithmetic == "float"  # exact stages are not compiled
        full = dataclasses.replace(
            self,
            batch=batch,
            steps=steps,
            epochs=None,
            milestones=milestones,
            units=MODELS[self.model].units if self.units is None else self.units,
            device=device,
            threads=self.threads or torch.get_num_threads(),  # sums over other parts round otherwise
            **filled,
        )
        return full if full.out else dataclasses.replace(full, out=os.path.join("runs", full.name))

    @property
    def name(self) -> str:
        """A name of the run, from what usually tells runs apart."""
        parts = [
            self.model,
            "-".join(map(str, self.units)) if self.units and self.units != MODELS[self.model].units else "",
            "" if self.refine == "off" else self.refine,
            self.data,
            f"n{self.subset}" if self.subset else "",
            f"{self.image_size}px" if self.image_size else "",
            f"{self.steps}steps" if self.steps else "",
            "" if self.normalization == "batch" else "nonorm",
            f"seed{self.seed}",
        ]
        return "-".join(p for p in parts if p)

    def command(self) -> str:
        """The command line that goes on with the run."""
        words = ["revode", "train", self.model]
        for f in dataclasses.fields(self):
            value = getattr(self, f.name)
            if f.name in ("model", "limit_seconds") or value == f.default:
                continue
            option = "--" + f.name.replace("_", "-")
            if isinstance(value, bool):
                words.append(option if value else "--no-" + option[2:])
            elif isinstance(value, tuple):
                words += [option, *map(str, value)]
            else:
                words += [option, str(value)]
        return shlex.join([*words, "--resume"])

    def lr_at(self, step: int) -> float:
        """The learning rate of a step, counted from 0; of settings with defaults filled in."""
        passed = sum(step >= m for m in self.milestones)
        if self.schedule == "steps":
            return self.lr * self.lr_factor**passed
        edges = (0, *self.milestones, self.steps)
        done = (step - edges[passed]) / (edges[passed + 1] - edges[passed])
        return self.lr_min + 0.5 * (self.lr - self.lr_min) * (1 + math.cos(math.pi * done))


def _number(name: str, value: Any, above: bool | None) -> float:
    """``value`` as a finite float, above 0 (True), at least 0 (False), or any (None)."""
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not math.isfinite(number) or (above is not None and (number <= 0 if above else number < 0)):
        allowed = {True: "a finite number above 0", False: "a finite number, 0 or more", None: "a finite number"}[above]
        raise ValueError(f"{name} = {value!r} must be {allowed}")
    return number
