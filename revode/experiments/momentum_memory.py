"""Momentum networks: what their backward pass keeps, what a buffer of remainders is good for, and c after training.

The paper's rule divides by c on the way back, and each division by c multiplies rounding errors by 1/c. Either a few
states are kept on the way (:func:`revode.unwind.snapshot_positions`), or what a multiplication by c forgets is kept as
a remainder (:mod:`revode.fixed_point`), log2(1/c) bits of each entry and layer.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from .. import build, data, load_trained
from ..analysis.drift import random_input, random_stage
from ..convert import to_momentum
from ..fields import BranchField
from ..fixed_point import FixedPoint, Remainder, Scale
from ..memory import saved_bytes
from ..models import Source
from ..networks import Network
from ..schemes import Momentum
from ..stage import Stage
from ..train import TrainConfig, fit, load_network
from ..unwind import snapshot_positions
from ._base import Experiment, Measured, Run

DEPTHS = (25, 50, 100, 200, 400, 900)
BATCHES = (1, 2, 4, 8, 16, 32, 64)
#: Ways to keep what the backward pass needs: name, c, memory, arithmetic.
WAYS = (
    ("stored", 0.9, "stored", "float"),
    ("snapshots", 0.9, "reversible", "float"),
    ("snapshots", 0.99, "reversible", "float"),
    ("remainder", 0.9, "reversible", "exact"),
    ("remainder", 0.99, "reversible", "exact"),
)


# --- memory --------------------------------------------------------------------------------------------------------


def _stage(blocks: int, c: float, memory: str, arithmetic: str, seed: int) -> Stage:
    """Blocks BN - ReLU - K1 - BN - ReLU - K2 on 8 channels."""
    torch.manual_seed(seed)
    return Stage(Momentum(c=c), [[BranchField(8)] for _ in range(blocks)], memory=memory, arithmetic=arithmetic)


def _kept(model: nn.Module, x: Tensor) -> int:
    return saved_bytes(lambda: model(x), model.parameters())


def measure_memory(
    *,
    seed: int,
    depths: Sequence[int] = DEPTHS,
    batches: Sequence[int] = BATCHES,
    depth: int = 100,
    batch: int = 8,
    size: int = 8,
) -> Measured:
    """Bytes that autograd keeps of a momentum stage, against depth (at one batch) and against batch (at one depth).

    A block is BN - ReLU - 3x3 - BN - ReLU - 3x3 on 8 channels, at ``size`` x ``size`` pixels. Parameters are not
    counted. "state_bytes" are those of one state (x, v); "kept" over it is the number of states that a way keeps.

    Returns:
        Rows with "way", "c", "depth", "batch", "kept", "state_bytes" and "snapshots", their number.
    """
    with torch.random.fork_rng(devices=[]):
        rows = []
        for n, b in [(n, batch) for n in depths] + [(depth, b) for b in batches]:
            x = torch.randn(b, 8, size, size, generator=torch.Generator().manual_seed(seed)).requires_grad_()
            for way, c, memory, arithmetic in WAYS:
                stage = _stage(n, c, memory, arithmetic, seed)
                rows.append({
                    "way": way, "c": c, "depth": n, "batch": b, "kept": _kept(stage, x), "state_bytes": 2 * x.nbytes,
                    "snapshots": len(snapshot_positions(stage.shears())) if way == "snapshots" else 0,
                })  # fmt: skip
    return Measured({"rows": rows})


def _resnet_152(way: str, c: float, memory: str, arithmetic: str) -> nn.Module:
    from torchvision.models import resnet152

    model = resnet152()
    return model if way == "stored" else to_momentum(model, c, memory=memory, arithmetic=arithmetic)


def _resnet_1202(way: str, c: float, memory: str, arithmetic: str) -> nn.Module:
    if way == "stored":
        return build("resnet-1202")
    return Network("momentum", (200, 200, 200), (16, 32, 64), c=c, memory=memory, arithmetic=arithmetic)


#: Of the paper's figure 7: the network, and the side of its images.
NETWORKS = {"resnet152": (_resnet_152, 224), "resnet-1202": (_resnet_1202, 32)}


def measure_networks(
    *, seed: int, networks: Sequence[str] = tuple(NETWORKS), batches: Sequence[int] = (1, 2)
) -> Measured:
    """Bytes that autograd keeps of whole networks per image, from the difference of two batches; without parameters.

    "resnet152" is torchvision's at 224 x 224 pixels, "resnet-1202" that for CIFAR at 32 x 32, and the momentum forms
    of both. What lies between the reversible stages is stored.

    Returns:
        Rows with "network", "way", "c", "per_image" and "fixed", the bytes that do not depend on the batch.
    """
    rows = []
    low, high = batches
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for name in networks:
            make, size = NETWORKS[name]
            for way in WAYS:
                model = make(*way)
                a, b = (_kept(model, torch.randn(n, 3, size, size)) for n in batches)
                per_image = (b - a) / (high - low)
                rows.append({"network": name, "way": way[0], "c": way[1] if way[0] != "stored" else None,
                             "per_image": per_image, "fixed": a - low * per_image})  # fmt: skip
                del model
    return Measured({"rows": rows})


# --- remainders ----------------------------------------------------------------------------------------------------


def bits_held(remainder: Remainder | None) -> float:
    """Mean number of binary digits of an entry's remainder, all words together."""
    bits = 0.0
    while remainder is not None:
        bits += (remainder.word.double() + 1).log2().mean().item()
        remainder = remainder.full
    return bits


def _with_x_in_floats(stage: Stage, x: Tensor, bits: int) -> float:
    """Relative error of x after a round trip with v in fixed point, its remainders kept, and x in float32."""
    c = stage.scheme.c
    v, begin = FixedPoint.of(torch.zeros_like(x), bits), x
    for (f,) in stage.blocks:
        v = v.plus(1 - c, f(x), c)
        x = x + v.decode()
    for (f,) in reversed(stage.blocks):
        x = x - v.decode()
        v = v.minus(1 - c, f(x), c)
    return ((x - begin).norm() / begin.norm()).item()


@torch.no_grad()
def measure_remainders(*, seed: int, c: float = 0.9, depths: Sequence[int] = (15, 50, 100, 200, 400)) -> Measured:
    """Relative error of x_0 from the last state, and bits of the remainders, by depth, in the setting of claim 23.

    Dense layers of width 64 with tanh and 16 inputs (:func:`revode.analysis.drift.random_stage`).

    Returns:
        For each depth: "float", the error in float32; "x_in_float", with v in fixed point and its remainders kept but x
        in float32; "exact", with both in fixed point, and "wrong", the number of entries of x or v that differ in any
        bit; "bits", the mean number of digits of an entry's remainder, and "expected_bits" = depth log2(1/c).
    """
    rows = []
    for depth in depths:
        wide, x = random_stage("momentum", depth, c, seed=seed), random_input(seed=seed).float()
        stage = wide.float()
        begin = stage.scheme.start(x)
        back = stage.inverse_state(stage.forward_state(begin))[0]
        stage.arithmetic = "exact"
        scale: Scale = stage.scale
        stage.calibrate(x)
        start = scale.enter(begin)
        end = stage.forward_state(start)
        again = stage.inverse_state(end)
        rows.append({
            "depth": depth,
            "float": _finite(((back - x).norm() / x.norm()).item()),
            "x_in_float": _finite(_with_x_in_floats(stage, x, scale.bits[1])),
            "exact": ((again[0].decode() - start[0].decode()).norm() / x.norm()).item(),
            "wrong": sum(int((a.ints != b.ints).sum()) for a, b in zip(again, start)),
            "bits": bits_held(end[1].remainder),
            "expected_bits": depth * math.log2(1 / c),
        })  # fmt: skip
    return Measured({"c": c, "depths": rows})


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


# --- c after training ----------------------------------------------------------------------------------------------


def measure_other_c(
    *,
    seed: int,
    trained_at: float,
    weights: str | None = None,
    tested_at: Sequence[float] = (0.0, 0.5, 0.8, 0.9, 0.95),
    start: str = "field",
    model: str = "momentum-32",
    refit_steps: int = 200,
    refit_lr: float = 0.01,
    test_images: int | None = None,
    **budget,
) -> Measured:
    """Trains a momentum network with one c, tests it with others, and once more after some further steps with each.

    With c = 0 it is the residual network. With c = 1 the rule of the paper never changes its first velocity, so the
    largest c here is less. The velocity of a stage starts with f(x): from rest a stage of 5 blocks would move by a
    quarter of what it moves with c = 0, whatever f.

    Args:
        seed: Of weights and batches.
        trained_at: c of the training.
        weights: Name known to :func:`revode.load_trained`, in the place of the training.
        tested_at: Values of c.
        start: Velocity at the beginning of a stage.
        model: A momentum network.
        refit_steps: Further steps with the other c.
        refit_lr: Their learning rate.
        test_images: Number of test images, the first ones; None is all.
        budget: Further settings of :class:`revode.train.TrainConfig`.

    Returns:
        "accuracy" as trained; for each c "before" and "after" the further steps, which the c of the training gets too.
    """
    settings = {"seed": seed, "start": start, "memory": "stored", "device": "cpu"} | budget
    with tempfile.TemporaryDirectory() as folder:
        if weights is None:
            trained = Path(folder) / "trained"
            fit(TrainConfig(model, c=trained_at or 0.0, out=str(trained), **settings), quiet=True)
            state, meta = load_network(trained).state_dict(), load_network(trained).meta
        else:
            trained = load_trained(weights)
            state, meta = trained.state_dict(), trained.meta
        network = build(model, len(state["fc.bias"]), c=trained_at, start=start, memory="stored")
        network.load_state_dict(state)
        test = data.load(settings["data"], "test", settings.get("data_root"))

        def accuracy(c: float) -> float:
            network.c = c
            return _accuracy(network.eval(), test, meta, test_images)

        out, rows = accuracy(trained_at), []
        for c in tested_at:
            rows.append({"c": c, "before": accuracy(c), "after": None})
        for row in rows:
            tuned = Path(folder) / f"c-{row['c']:g}"
            refit = {"steps": refit_steps, "lr": refit_lr, "milestones": (), "init": weights or "trained"}
            fit(TrainConfig(model, c=row["c"], out=str(tuned), **settings | refit), quiet=True)
            network.load_state_dict(load_network(tuned).state_dict())
            row["after"] = accuracy(row["c"])
    return Measured({"trained_at": trained_at, "accuracy": out, "tested": rows})


@torch.no_grad()
def _accuracy(network: Network, test, meta: dict, images: int | None) -> float:
    right = seen = 0
    for x, y in data.evaluation_batches(test, 500, meta["mean"], meta["std"]):
        right, seen = right + int((network(x).argmax(1) == y).sum()), seen + len(y)
        if images and seen >= images:
            break
    return right / seen


_SANDER = "Sander et al. 2021 (arXiv 2102.07870)"

EXPERIMENTS = (
    Experiment(
        "momentum-memory",
        "What a momentum network keeps for its backward pass, against depth and batch",
        (11,),
        Source("V", f"{_SANDER}, figures 2 and 7, read off"),
        (
            Run("momentum-memory", "momentum_memory:measure_memory", {}, 0, 1),
            Run("momentum-memory-networks", "momentum_memory:measure_networks", {}, 0, 2),
        ),
    ),
    Experiment(
        "remainders",
        "Inverse of a momentum network with remainders kept, both states or v alone in fixed point",
        (24, 25),
        Source("calc", f"calculated for this project; x in floating point as in the released code of {_SANDER}"),
        tuple(
            Run("remainders" if s == 0 else f"remainders-seed{s}", "momentum_memory:measure_remainders", {}, s, 0.2)
            for s in range(3)
        ),
    ),
    Experiment(
        "other-c",
        "c at test time other than in training, CIFAR-10",
        (26,),
        Source("V", f"{_SANDER}, figure 6, read off; depth 101, 20 epochs of refit"),
        tuple(
            Run(
                f"other-c-{at:g}-seed{s}", "momentum_memory:measure_other_c",
                {"trained_at": at, "data": "cifar10", "subset": 10_000, "threads": 1, "amp": "bf16",
                 "steps": 1000, "refit_steps": 100, "eval_every": 500}, s, cpu_minutes=15,
            )
            for s in range(3)
            for at in (0.0, 0.9)
        ),
    ),
)  # fmt: skip
