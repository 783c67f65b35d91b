"""Few labels: Hamiltonian networks against residual ones where training images are scarce.

The networks are those of the paper's experiment, four units of four blocks. They are trained on stratified subsets;
the seed of a run chooses the subset, the initial weights and the order of the images, so networks of one seed see the
same images. All are tested on the same images: the official 10,000 of CIFAR-10, or the 1,600 held-out ones of STL-10,
which are cut from its official training images and are no official test.

Every run of one experiment takes the same number of steps, whatever the number of images, and passes all drops of the
learning rate.

Source: Chang et al. 2018 (arXiv 1709.03698): Hamiltonian above ResNet at every size, by up to 13 points (recalled).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ..models import Source
from ._base import Experiment, Run
from .cost import gpu_minutes

#: Networks by the name of their scheme in this experiment, the two of the paper first.
NETWORKS = {
    "hamiltonian": "hamiltonian-few",
    "resnet": "resnet-few",
    "leapfrog": "leapfrog-few",
    "midpoint": "midpoint-few",
    "momentum": "momentum-few",
}
PAPER = ("hamiltonian", "resnet")
SEEDS = (0, 1, 2)

#: Numbers of images: of CIFAR-10's 50,000, and of the 1,000 of STL-10's first official fold (5, 10, 20, 40, 70 %).
CIFAR10_SIZES = (500, 1000, 2000, 5000, 10_000, 20_000)
STL10_SIZES = (50, 100, 200, 400, 700)

#: What is trained on a CPU.
CIFAR10_CPU_SIZES, STL10_CPU_SIZES = (500, 1000, 2000), (50, 200, 700)

#: Steps and images per step, for a CPU and for a GPU. The recipe's 80,000 steps are those of 50,000 images.
CIFAR10_STEPS, STL10_STEPS = 500, 200
CIFAR10_GPU_STEPS, STL10_GPU_STEPS = 20_000, 10_000
CIFAR10_BATCH, STL10_BATCH = 100, 32

#: On a CPU activations are kept, since memory is no want: that saves time. So does bfloat16 for STL-10's large images
#: on a processor that multiplies in it; CIFAR-10 was begun on one that does not.
CPU = {"memory": "stored"}
#: After so few steps the running statistics of training are of no use: they remember the first weights.
STL10_CPU = CPU | {"amp": "bf16", "statistics": 10}

#: Runs that were made a second time with increments in bfloat16: network, number of images, seed.
BFLOAT16 = (*((n, 500, seed) for seed in SEEDS for n in PAPER), ("hamiltonian", 1000, 0))

#: Minutes of one run on one core, estimated.
CIFAR10_CPU_MINUTES = {"hamiltonian": 8, "resnet": 12, "leapfrog": 12, "midpoint": 12, "momentum": 12}
STL10_CPU_MINUTES = {"hamiltonian": 4, "resnet": 6, "leapfrog": 6, "midpoint": 6, "momentum": 6}


def name(network: str, data: str, images: int, seed: int, *, kind: str = "") -> str:
    """Name of the result file of a run.

    kind: "" for a CPU, "gpu", "bf16" for one of :data:`BFLOAT16`, "kept" with the running statistics of training.
    """
    return f"few-{kind and kind + '-'}{network}-{data.partition('-')[0]}-{images}-seed{seed}"


def run(network: str, data: str, images: int, seed: int, *, kind: str = "") -> Run:
    """A run; arguments as of :func:`name`."""
    cifar, gpu = data == "cifar10", kind == "gpu"
    batch = CIFAR10_BATCH if cifar else STL10_BATCH
    cpu_steps, gpu_steps = (CIFAR10_STEPS, CIFAR10_GPU_STEPS) if cifar else (STL10_STEPS, STL10_GPU_STEPS)
    steps, side = gpu_steps if gpu else cpu_steps, 32 if cifar else 96
    minutes = CIFAR10_CPU_MINUTES if cifar else STL10_CPU_MINUTES
    settings: dict[str, Any] = {
        "model": NETWORKS[network],
        "data": data,
        "subset": images,
        "subset_seed": seed,
        "steps": steps,
        "batch": batch,
        "eval_every": steps // 4 if cifar or gpu else steps,  # a test on large images takes as long as 20 steps
    }
    if not gpu:
        settings |= CPU if cifar else STL10_CPU
    if kind == "bf16":
        settings["amp"] = "bf16"
    if kind == "kept":
        settings["statistics"] = 0
    return Run(
        name(network, data, images, seed, kind=kind),
        "train",
        settings,
        seed,
        cpu_minutes=None if gpu else minutes[network],
        gpu_minutes=gpu_minutes(NETWORKS[network], steps, batch, side),
    )


def runs(data: str, sizes: Iterable[int], networks: Iterable[str], *, kind: str = "") -> tuple[Run, ...]:
    """Runs of all sizes, seeds and networks, those to be compared next to each other.

    Args:
        data: "cifar10" or "stl10-subset".
        sizes: Numbers of images.
        networks: Of :data:`NETWORKS`.
        kind: As of :func:`name`.
    """
    return tuple(run(n, data, images, seed, kind=kind) for images in sizes for seed in SEEDS for n in networks)


_CIFAR10 = Source("unverified", "Chang et al. 2018 (arXiv 1709.03698), section on few labels, numbers recalled")
_STL10 = Source("unverified", "Chang et al. 2018 (arXiv 1709.03698), section on few labels, numbers recalled")

EXPERIMENTS = (
    Experiment(
        "few-labels-cifar10",
        "Few labels: is Hamiltonian above ResNet on 500 to 2,000 images of CIFAR-10?",
        (18,),
        _CIFAR10,
        runs("cifar10", CIFAR10_CPU_SIZES, PAPER),
    ),
    Experiment(
        "few-labels-stl10",
        "Few labels: the same on 5 to 70 % of 1,000 images of STL-10, tested on held-out ones",
        (18,),
        _STL10,
        runs("stl10-subset", STL10_CPU_SIZES, PAPER),
    ),
    Experiment(
        "few-labels-bfloat16",
        "Few labels: do increments in bfloat16 change an accuracy by more than another seed does?",
        (),
        Source("calc", "no paper: runs on CIFAR-10 once more, in the other precision"),
        tuple(run(network, "cifar10", images, seed, kind="bf16") for network, images, seed in BFLOAT16),
    ),
    Experiment(
        "few-labels-statistics",
        "Few labels: what do the running statistics of training make of networks after 200 steps on STL-10?",
        (),
        Source("calc", "no paper: runs on STL-10 whose statistics were not estimated anew"),
        runs("stl10-subset", STL10_CPU_SIZES[:1], PAPER, kind="kept"),
    ),
    Experiment(
        "few-labels-cifar10-gpu",
        "Few labels: five networks on 500 to 20,000 images of CIFAR-10",
        (18,),
        _CIFAR10,
        runs("cifar10", CIFAR10_SIZES, NETWORKS, kind="gpu"),
    ),
    Experiment(
        "few-labels-stl10-gpu",
        "Few labels: five networks on 5 to 70 % of 1,000 images of STL-10, tested on held-out ones",
        (18,),
        _STL10,
        runs("stl10-subset", STL10_SIZES, NETWORKS, kind="gpu"),
    ),
)
