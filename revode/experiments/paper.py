"""The papers' own trainings, what they would cost, and what has been run of them on a CPU.

Names of runs: ``MODEL-DATA-seedN`` for the full protocol. The runs at a reduced budget, 10,000 images and 2,000 steps,
have the names of the bundled results that the book shows.
"""

from __future__ import annotations

from ..models import MODELS, Source
from ._base import Experiment, Run
from .cost import gpu_minutes, long_minutes

SEEDS = (0, 1, 2)

#: A fifth of CIFAR-10's training images and a fortieth of the steps: what a CPU does in an hour.
REDUCED = {"data": "cifar10", "subset": 10_000, "steps": 2000, "threads": 1}

#: Training images of ImageNet (ILSVRC 2012); multiplications of ResNet-101 for 224x224 pixels, and for 32x32 with a
#: stem of stride 1, counted with torch.utils.flop_counter on torchvision's network.
IMAGENET, RESNET_101, RESNET_101_CIFAR = 1_281_167, 7.80e9, 2.51e9
_NO_IMAGENET = "ImageNet, which revode does not read"

_OTHER = "1710.10348"  # the paper on multilevel training has a table of its own
_RESNET_50 = gpu_minutes("resnet-50", 80_000, 100, 32)
_TABLE = Source("unverified", "main table of Chang et al. 2018 (arXiv 1709.03698), recalled")


def _full(model: str, data: str, side: int) -> list[Run]:
    """The recipe of a network, for each seed."""
    recipe = MODELS[model].recipe
    minutes = gpu_minutes(model, recipe.steps, recipe.batch_size, side)
    settings = {"model": model, "data": data}
    return [Run(f"{model}-{data}-seed{seed}", "train", settings, seed, gpu_minutes=minutes) for seed in SEEDS]


def _table(data: str, side: int) -> tuple[Run, ...]:
    """The full protocol of every network of which Chang et al. print an accuracy, in the order of :data:`MODELS`."""
    table = {n: s for n, s in MODELS.items() if data in s.accuracy and not s.block}
    names = [n for n, spec in table.items() if _OTHER not in spec.sources["accuracy"].text]
    return tuple(run for name in names for run in _full(name, data, side))


def _reduced(name: str, model: str, seed: int = 0, minutes: float = 68, **more) -> Run:
    return Run(name, "train", {"model": model} | REDUCED | more, seed, cpu_minutes=minutes)


#: Networks of 101 layers by the name of their runs: the momentum form from rest, and from f, and the plain one.
MOMENTUM_101 = {
    "momentum-101": {"model": "torchvision-momentum-101-cifar"},
    "momentum-101-field": {"model": "torchvision-momentum-101-cifar", "start": "field"},
    "resnet-101": {"model": "torchvision-resnet-101-cifar"},
}


def _momentum_101(data: str, kind: str, seed: int) -> Run:
    recipe = MODELS["torchvision-resnet-101-cifar"].recipe
    minutes = long_minutes(RESNET_101_CIFAR, recipe.steps * recipe.batch_size)
    return Run(f"{kind}-{data}-seed{seed}", "train", MOMENTUM_101[kind] | {"data": data}, seed, gpu_minutes=minutes)


EXPERIMENTS = (
    Experiment(
        "cifar10-reduced",
        "CIFAR-10 at a reduced budget: 10,000 images, 2,000 steps",
        (14, 16),
        Source("calc", "no paper: the settings of Chang et al. 2018 with fewer images and steps"),
        (
            _reduced("hamiltonian-74", "hamiltonian-74", minutes=86),
            _reduced("hamiltonian-74-seed1", "hamiltonian-74", 1),
            _reduced("hamiltonian-74-seed2", "hamiltonian-74", 2),
            _reduced("resnet-32", "resnet-32", minutes=38),
            _reduced("resnet-32-seed1", "resnet-32", 1, minutes=22),
            _reduced("resnet-32-seed2", "resnet-32", 2, minutes=22),
            _reduced("midpoint-26", "midpoint-26", minutes=71),
            _reduced("midpoint-26-seed1", "midpoint-26", 1, minutes=37),
            _reduced("leapfrog-26", "leapfrog-26", minutes=80),
            _reduced("hamiltonian-74-exact", "hamiltonian-74", minutes=62, arithmetic="exact"),
        ),
    ),
    Experiment(
        "cifar100-reduced",
        "CIFAR-100 at a reduced budget: 10,000 images, 2,000 steps",
        (15,),
        Source("calc", "no paper: the settings of Chang et al. 2018 with fewer images and steps"),
        (
            _reduced("cifar100-hamiltonian-74", "hamiltonian-74", data="cifar100"),
            _reduced("cifar100-resnet-32", "resnet-32", minutes=38, data="cifar100"),
        ),
    ),
    Experiment("cifar10-table", "CIFAR-10, main table, 160 epochs", (14, 16, 20), _TABLE, _table("cifar10", 32)),
    Experiment("cifar100-table", "CIFAR-100, main table, 160 epochs", (15, 16), _TABLE, _table("cifar100", 32)),
    Experiment(
        "stl10-table",
        "STL-10, official 5,000 and 8,000 images",
        (17,),
        Source("V", "STL-10 table of Chang et al. 2018, as listed by Papers with Code; its recipe is recalled"),
        _table("stl10", 96),
    ),
    Experiment(
        "multilevel-table",
        "CIFAR-10, 160 epochs: ResNet-50 begun with 2-2-2 blocks and doubled twice, against the full network",
        (28,),
        Source("V", "Chang et al. 2018 (arXiv 1710.10348), table of errors and times: 7.10 and 7.58 % error"),
        tuple(
            Run(
                f"multilevel-{kind}-cifar10-seed{seed}",
                "train",
                {"model": "resnet-50", "data": "cifar10"} | how,
                seed,
                gpu_minutes=round(share * _RESNET_50, 1),
            )
            for seed in SEEDS
            for kind, how, share in (
                ("copy", {"units": (2, 2, 2), "h": 1.0, "refine": "copy"}, 0.5625),  # block-steps of the full network
                ("full", {"h": 0.25}, 1.0),
            )
        ),
    ),
    Experiment(
        "momentum-101",
        "Depth 101 on CIFAR-10 and -100: momentum (from rest, and from f) and ResNet, 10 seeds",
        (27,),
        Source("V", "Sander et al. 2021 (arXiv 2102.07870), table 2; recipe from the released code"),
        tuple(
            _momentum_101(data, kind, seed)
            for data in ("cifar10", "cifar100")
            for seed in range(10)
            for kind in MOMENTUM_101
        ),
    ),
    Experiment(
        "imagenet-momentum",
        "ImageNet, depth 101: error of momentum networks 23 %, of ResNet 22 %",
        (),
        Source("V", "Sander et al. 2021 (arXiv 2102.07870), figure 6"),
        (),
        needs=_NO_IMAGENET,
        gpu_minutes=long_minutes(RESNET_101, 100 * IMAGENET, 3),
    ),
    Experiment(
        "imagenet-revnet",
        "ImageNet: error of RevNet-104 23.10 %, of ResNet-101 23.01 %",
        (),
        Source("V", "README of the released code of Gomez et al. 2017 (arXiv 1707.04585); ResNet-101: a survey (V2)"),
        (),
        needs=_NO_IMAGENET,
        gpu_minutes=long_minutes(RESNET_101, 600_000 * 256, 2),
    ),
)
