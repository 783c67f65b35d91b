"""Multilevel training in depth: time saved, the size of residuals against depth, and the Swiss roll."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .. import data
from ..errors import DataError
from ..fields import AntisymmetricField, OneLayerField, choose
from ..models import Source, build
from ..multilevel import refine
from ..networks import Network
from ..schemes import Euler, Hamiltonian
from ..stage import Stage
from ..train import load_network
from ..train.config import TrainConfig
from ..train.run import sgd
from ..weights import load_trained
from ._base import Experiment, Measured, Run

# --- time saved -----------------------------------------------------------------------------------------------------


def counted_saving(parts: Sequence[float]) -> float:
    """Share of block-steps saved, each level having twice the blocks of the one before and this many steps.

    Against as many steps of the last level; 1 - (2^{k+1} - 1) / (2^k (k + 1)) for k + 1 equal parts.

    Source: Chang et al. 2018 (arXiv 1710.10348).
    """
    last = len(parts) - 1
    return 1 - sum(n / 2 ** (last - level) for level, n in enumerate(parts)) / sum(parts)


def measure_times(
    *,
    seed: int,
    model: str = "resnet-50",
    units: Sequence[int] = (2, 2, 2),
    parts: Sequence[int] = (60, 50, 50),
    batch: int = 100,
    rounds: int = 5,
) -> Measured:
    """Time of a step of each level, measured in turns, and what the schedule saves by them.

    Seconds of the processor, one thread, the median over the rounds: other processes lengthen them less than they
    lengthen the time on the wall.

    Args:
        seed: Of weights and images, which are noise.
        model: Name of the network.
        units: Blocks of each unit at the first level.
        parts: Steps, or epochs, of each level.
        batch: Images a step.
        rounds: Steps timed at each level, after one that is not.
    """
    torch.manual_seed(seed)
    x = torch.randn(batch, 3, 32, 32).contiguous(memory_format=torch.channels_last)
    y = torch.randint(10, (batch,))
    networks = [build(model, units=units, seed=seed).to(memory_format=torch.channels_last)]
    for _ in parts[1:]:
        networks.append(refine(networks[-1]))
    config = TrainConfig(model).resolved(50_000)
    optimizers = [sgd(network, config) for network in networks]
    found: list[list[float]] = [[] for _ in networks]
    for turn in range(rounds + 1):
        for network, optimizer, times in zip(networks, optimizers, found, strict=True):
            began = time.process_time()
            optimizer.zero_grad(set_to_none=True)
            F.cross_entropy(network(x), y).backward()
            optimizer.step()
            times += [time.process_time() - began] * (turn > 0)
    seconds = [statistics.median(times) for times in found]
    spent = sum(n * s for n, s in zip(parts, seconds, strict=True)) / sum(parts)
    levels = [
        {"units": list(n.units), "seconds": s, "spread": [min(t), max(t)]}
        for n, s, t in zip(networks, seconds, found, strict=True)
    ]
    final = {
        "seconds_full": seconds[-1],
        "seconds_multilevel": spent,
        "saved": 1 - spent / seconds[-1],
        "saved_counted": counted_saving(parts),
        "saved_counted_equal": counted_saving([1] * len(parts)),
    }
    return Measured(final, levels)


# --- residuals against depth ----------------------------------------------------------------------------------------


@torch.no_grad()
def residual_norms(network: Network, x: Tensor) -> list[dict]:
    r"""Of each block that keeps the shape, \|\|h F(Y)\|\|, and that over \|\|Y\|\|: root mean squares over images x."""
    found = []

    def measure(unit: int):
        def hook(stage: Stage, args: tuple[Tensor, ...], _: Tensor) -> None:
            state = stage.scheme.start(args[0])
            for j, block in enumerate(stage.blocks):
                before = stage.scheme.finish(state, j)
                state = stage.scheme.step(state, block, j)
                added = stage.scheme.finish(state, j + 1) - before
                size = before.square().mean().sqrt()
                added = added.square().mean().sqrt()
                found.append({"unit": unit, "block": j, "norm": added.item(), "relative": (added / size).item()})

        return hook

    hooks = [stage.register_forward_hook(measure(unit)) for unit, stage in enumerate(network.stages)]
    try:
        network.eval()(x)
    finally:
        for hook in hooks:
            hook.remove()
    return found


def measure_norms(
    *, seed: int, networks: Sequence[str] = (), depths: Sequence[int] = (2, 4, 8, 16), images: int = 100
) -> Measured:
    """Size of what a block adds, against the number of blocks: trained ResNets, and untrained ones beside.

    Args:
        seed: Of the weights of untrained networks and of what they are shown.
        networks: Trained ones: names of :func:`revode.load_trained`, or folders of runs of ``revode train``.
        depths: Blocks of each unit of the untrained ones, which have the widths of ResNet-32.
        images: Number of test images that trained ones are shown, of CIFAR-10, or of the bundled sample without it.
    """
    try:
        test = data.load("cifar10", "test")
    except DataError:
        test = data.load("sample", "test")
    curve = []
    for name in networks:
        network = load_network(name) if Path(name).is_dir() else load_trained(name)
        x = data.normalize(test.images[:images], network.meta["mean"], network.meta["std"])
        curve.append(_norms(network, x) | {"network": Path(name).name, "images": test.name})
    for depth in depths:
        network = build("resnet-32", units=(depth,) * 3, seed=seed)
        noise = torch.randn(images, 3, 32, 32, generator=torch.Generator().manual_seed(seed))
        for m in network.modules():
            if isinstance(m, nn.BatchNorm2d):
                m.momentum = 1.0  # the statistics of these images
        with torch.no_grad():
            network.train()(noise)
        curve.append(_norms(network, noise) | {"network": None, "images": "noise"})
    final = {}
    for kind, name in (("trained", True), ("untrained", False)):
        found = [row for row in curve if (row["network"] is not None) == name]
        if len({row["blocks"] for row in found}) > 1:  # mean norm ~ blocks^slope
            final[f"slope_{kind}"] = slope([row["blocks"] for row in found], [row["mean"] for row in found])
    return Measured(final, curve)


def _norms(network: Network, x: Tensor) -> dict:
    rows = residual_norms(network, x)
    return {
        "blocks": sum(network.units),
        "h": network.h,
        "mean": statistics.mean(row["norm"] for row in rows),
        "mean_relative": statistics.mean(row["relative"] for row in rows),
        "rows": rows,
    }


def slope(x: Sequence[float], y: Sequence[float]) -> float:
    """Of the straight line through (log x, log y): the power of x that y follows."""
    return statistics.linear_regression([math.log(v) for v in x], [math.log(v) for v in y]).slope


# --- the Swiss roll -------------------------------------------------------------------------------------------------

T = 20.0
#: Of each network: factors of the smoothness of its weights and of the classifier's squared norm.
SWISS = {"resnet": (5e-3, 1e-3), "antisymmetric": (5e-4, 1e-4), "hamiltonian": (5e-3, 1e-3)}


class Points(NamedTuple):
    """Points (N, 2) in the plane, float64, and the number of the class of each."""

    x: Tensor
    y: Tensor


def swiss_roll(n: int = 513) -> tuple[Points, Points]:
    """Two spirals of n points: those at even places to train on, the others to validate with.

    Source: the group's code, Meganet.m, setupSwissRoll.m: angles 0 to 4 pi, radii 0 to 1 and 0.2 to 1.2.
    """
    angle = torch.linspace(0, 4 * math.pi, n, dtype=torch.float64)
    radius = torch.linspace(0, 1, n, dtype=torch.float64)[:, None]
    circle = torch.stack((angle.cos(), angle.sin()), 1)
    x = torch.cat((radius * circle, (radius + 0.2) * circle))
    y = torch.arange(2).repeat_interleave(n)
    return Points(x[::2], y[::2]), Points(x[1::2], y[1::2])


class Classifier(nn.Module):
    """A network of vectors of 4 features, of which the last two begin as 0, up to the time T, and a linear classifier.

    "resnet" is y + h tanh(K y + b), "antisymmetric" y + h tanh((K - K^T - gamma I) y + b) with gamma = 1e-4, and
    "hamiltonian" Verlet with tanh(K z + b) and tanh(K^T y + b') for two halves of 2 features.

    Args:
        name: One of :data:`SWISS`.
        layers: Number of layers N; h = T / N.
        seed: Of the start: the group's kernels, -I/100, 0 and I, the same noise of deviation 0.05 added in every
            layer, and a classifier of deviation 0.1.

    Source: Haber and Ruthotto 2017 (arXiv 1705.03341); settings of the group's code, Meganet.m, EResNN_SwissRoll*.m.
    """

    def __init__(self, name: str, layers: int, seed: int):
        super().__init__()
        choose("name", name, SWISS)
        self.smoothness, self.decay = SWISS[name]
        generator = torch.Generator().manual_seed(seed)
        options = {"activation": "tanh", "normalization": "none", "dense": True}
        make, kernel = {
            "resnet": (lambda: [OneLayerField(4, **options)], -torch.eye(4) / 100),
            "antisymmetric": (lambda: [AntisymmetricField(4, damping=1e-4, **options)], torch.zeros(4, 4)),
            "hamiltonian": (lambda: OneLayerField.pair(2, **options), torch.eye(2)),
        }[name]
        kernel = kernel + 0.05 * torch.randn(kernel.shape, generator=generator)
        blocks = [make() for _ in range(layers)]
        for block in blocks:
            block[0].weight.data.copy_(kernel)
        self.stage = Stage((Hamiltonian if name == "hamiltonian" else Euler)(T / layers), blocks, memory="stored")
        self.last = nn.Linear(4, 2)
        self.last.weight.data.copy_(0.1 * torch.randn(2, 4, generator=generator))
        nn.init.zeros_(self.last.bias)
        self.double()

    def features(self, x: Tensor) -> Tensor:
        """The features (N, 4) at time T of points (N, 2)."""
        return self.stage(F.pad(x, (0, 2)))

    def objective(self, points: Points) -> tuple[Tensor, Tensor]:
        r"""Cross-entropy with penalties, and alone; for roughness 1/2 h sum \|\|(theta_{j+1} - theta_j)/h\|\|^2."""
        entropy = F.cross_entropy(self.last(self.features(points.x)), points.y)
        weights = [torch.stack(ps) for ps in zip(*(block.parameters() for block in self.stage.blocks), strict=True)]
        rough = sum(w.diff(dim=0).square().sum() for w in weights) / self.stage.h
        return entropy + 0.5 * self.smoothness * rough + 0.5 * self.decay * self.last.weight.square().sum(), entropy

    def optimizer(self, evaluations: int) -> torch.optim.LBFGS:
        """L-BFGS with about this many evaluations a call of :meth:`fit`."""
        return torch.optim.LBFGS(
            self.parameters(), max_iter=evaluations, max_eval=evaluations, history_size=20,
            line_search_fn="strong_wolfe", tolerance_grad=1e-9, tolerance_change=1e-12,
        )  # fmt: skip

    def fit(self, points: Points, optimizer: torch.optim.LBFGS) -> int:
        """Go on minimising; the number of evaluations."""
        count = 0

        def closure() -> Tensor:
            nonlocal count
            count += 1
            optimizer.zero_grad()
            value = self.objective(points)[0]
            value.backward()
            return value

        optimizer.step(closure)
        return count

    @torch.no_grad()
    def point(self, train: Points, validation: Points) -> dict:
        """Losses, accuracy on both sets, and the mean norm of the last features over that of the points."""
        features = [self.features(points.x) for points in (train, validation)]
        right = [
            (self.last(z).argmax(1) == points.y).double().mean().item()
            for z, points in zip(features, (train, validation), strict=True)
        ]
        objective, entropy = self.objective(train)
        return {
            "layers": len(self.stage.blocks),
            "objective": objective.item(),
            "entropy": entropy.item(),
            "train_accuracy": right[0],
            "validation_accuracy": right[1],
            "growth": (features[1].norm(dim=1).mean() / validation.x.norm(dim=1).mean()).item(),
        }


def measure_swiss_roll(
    *,
    seed: int,
    network: str = "hamiltonian",
    first: int = 4,
    last: int = 10,
    evaluations: int = 400,
    layer_evaluations: int = 25_600,
    interpolation: str = "linear",
) -> Measured:
    """The Swiss roll at T = 20 from 2^first to 2^last layers: each level begins with the refined one before.

    Beside it a cold start with 2^last layers and as many evaluations of layers in all. The paper's code has a solver
    of Newton's type; here it is L-BFGS.

    Args:
        seed: Of the start.
        network: One of :data:`SWISS`.
        first: Power of 2 of the first level.
        last: Power of 2 of the last level.
        evaluations: Most evaluations of the objective at one level.
        layer_evaluations: Most evaluations at one level times its layers; at least 25 are allowed.
        interpolation: As for :func:`revode.multilevel.refine`.
    """
    train, validation = swiss_roll()
    model, spent, curve = Classifier(network, 2**first, seed), 0, []
    for level in range(first, last + 1):
        if level > first:
            model.stage = refine(model.stage, interpolation)
            curve.append(model.point(train, validation) | {"start": "multilevel", "evaluations": 0, "cost": spent})
        allowed = min(evaluations, max(layer_evaluations >> level, 25))
        count = model.fit(train, model.optimizer(allowed))
        spent += count << level
        curve.append(model.point(train, validation) | {"start": "multilevel", "evaluations": count, "cost": spent})
    cold, done = Classifier(network, 2**last, seed), 0
    curve.append(cold.point(train, validation) | {"start": "cold", "evaluations": 0, "cost": 0})
    optimizer = cold.optimizer(12)
    while done + 12 <= spent >> last:  # in parts, to see the way
        count = cold.fit(train, optimizer)
        done += count
        curve.append(cold.point(train, validation) | {"start": "cold", "evaluations": count, "cost": done << last})
    keys = ("objective", "entropy", "train_accuracy", "validation_accuracy", "growth")
    found = {"multilevel": model.point(train, validation), "cold": cold.point(train, validation)}
    return Measured({f"{k}_{start}": point[k] for start, point in found.items() for k in keys} | {"cost": spent}, curve)


# --- runs -----------------------------------------------------------------------------------------------------------

SEEDS = (0, 1, 2)
#: Where trainings leave their checkpoints, which stay on the machine that made them.
RUNS = "runs"
#: Steps of the three levels, in the ratio of the paper's 60, 50 and 50 epochs.
PARTS = {"resnet-50": (240, 200, 200), "hamiltonian-74": (120, 100, 100)}
#: Seconds of one core for a step of 100 images with 2-2-2, 4-4-4 and 8-8-8 blocks, as measured once.
STEP_SECONDS = {"resnet-50": (0.25, 0.50, 1.20), "hamiltonian-74": (0.64, 1.24, 2.57)}


def _training(model: str, kind: str, seed: int, **more: float) -> Run:
    """A run on 10,000 images of CIFAR-10; kinds: the schedule "copy" or "linear", "full", or "shallow"."""
    parts, seconds = PARTS[model], STEP_SECONDS[model]
    levels = kind in ("copy", "linear")
    settings = {
        "model": model,
        "data": "cifar10",
        "subset": 10_000,
        "units": (8, 8, 8) if kind == "full" else (2, 2, 2),
        "h": 0.25 if kind == "full" else 1.0,
        "refine": kind if levels else "off",
        "schedule": "cosine",
        "lr_min": 0.001,
        "steps": sum(parts),
        "milestones": (parts[0], parts[0] + parts[1]),
        "eval_every": 20,
        "eval_images": 1000,
        "threads": 1,
        "memory": "stored",
    }
    times = seconds if levels else (seconds[2 if kind == "full" else 0],) * 3
    minutes = sum(n * (s + 0.1 * s) for n, s in zip(parts, times, strict=True)) / 60 + 1
    name = "-".join(("multilevel", model.split("-")[0], kind, *(f"{k}{v:g}" for k, v in more.items()), f"seed{seed}"))
    return Run(name, "train", settings | more, seed, cpu_minutes=round(minutes, 1), gpu_minutes=round(minutes / 40, 1))


_PAPER = Source("V", "Chang et al. 2018 (arXiv 1710.10348), table of errors and times, schedule and figures")
_TIMES = tuple(
    Run(f"multilevel-times-{model.split('-')[0]}", "multilevel:measure_times", {"model": model}, cpu_minutes=minutes)
    for model, minutes in (("resnet-50", 0.2), ("hamiltonian-74", 0.5))
)

EXPERIMENTS = (
    Experiment(
        "multilevel",
        "2-2-2 to 8-8-8 blocks by doubling, against the full network: time and error",
        (28,),
        _PAPER,
        (
            *_TIMES,
            *(_training("resnet-50", kind, 0) for kind in ("copy", "full", "shallow")),
            _training("resnet-50", "full", 0, h=1.0),
            *(_training("resnet-50", kind, seed) for seed in SEEDS[1:] for kind in ("copy", "full", "shallow")),
            *(_training("hamiltonian-74", kind, 0) for kind in ("copy", "full")),
            _training("resnet-50", "linear", 0),
            *(_training("resnet-50", "full", seed, h=1.0) for seed in SEEDS[1:]),
        ),
    ),
    Experiment(
        "residual-norms",
        "What a block adds, against the number of blocks",
        (29,),
        _PAPER,
        (
            Run("residual-norms", "multilevel:measure_norms", {"networks": ("resnet-32",)}, cpu_minutes=0.2),
            # Trained with h = 1 at either depth: nothing in them but the training could make a block's part smaller.
            *(
                Run(
                    f"residual-norms-trained-seed{seed}",
                    "multilevel:measure_norms",
                    {
                        "networks": tuple(f"{RUNS}/multilevel-resnet-{k}-seed{seed}" for k in ("shallow", "full-h1")),
                        "depths": (),
                    },
                    seed,
                    cpu_minutes=0.2,
                )
                for seed in SEEDS
            ),
        ),
    ),
    Experiment(
        "swiss-roll",
        "The Swiss roll at T = 20 with 2^4 to 2^10 layers, begun coarse or cold",
        (31,),
        Source("code", "Meganet.m, examples/EResNN_SwissRoll*.m; numbers of the journal paper not found"),
        tuple(
            Run(
                f"swiss-roll-{network}-seed{seed}",
                "multilevel:measure_swiss_roll",
                {"network": network},
                seed,
                cpu_minutes=minutes,
            )
            for seed in SEEDS
            for network, minutes in (("hamiltonian", 2.2), ("resnet", 1.4), ("antisymmetric", 1.9))
        ),
    ),
)
