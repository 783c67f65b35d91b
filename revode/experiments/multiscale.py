"""Kernels at another resolution: what the Galerkin map does, and what it is good for.

Haber, Ruthotto, Holtham and Jun 2017 (arXiv 1703.02009) move the kernels of a network between resolutions, to classify
images of one resolution with a network trained at another, and to start training at a fine resolution from a coarse
one. No numbers of theirs are at hand.
"""

from __future__ import annotations

import copy
import dataclasses
import tempfile
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor

from .. import data, multiscale, train
from ..models import Source
from ..networks import Network
from ..weights import load_trained
from ._base import Experiment, Measured, Run

#: Images from which running statistics are estimated, and of one batch of them.
STATISTICS, BATCH = 1000, 250

# --- the map itself ---------------------------------------------------------------------------------------------


def dense(kernel: Tensor, n: int) -> Tensor:
    """The matrix of a 3x3 convolution on a periodic grid of n x n pixels, (n^2, n^2)."""
    matrix = torch.zeros(n, n, n, n, dtype=kernel.dtype)
    row, column = torch.meshgrid(torch.arange(n), torch.arange(n), indexing="ij")
    for i in range(3):
        for j in range(3):
            matrix[row, column, (row + i - 1) % n, (column + j - 1) % n] += kernel[i, j]
    return matrix.reshape(n * n, n * n)


def dense_restriction(n: int, factor: int = 2) -> Tensor:
    """The matrix Q of averages over factor x factor pixels of n x n, ((n / factor)^2, n^2)."""
    line = torch.eye(n // factor, dtype=torch.float64).repeat_interleave(factor, dim=1) / factor
    return torch.kron(line, line)


def dense_prolongation(n: int, prolongation: str, factor: int = 2) -> Tensor:
    """The matrix P onto a periodic grid of n x n pixels, (n^2, (n / factor)^2)."""
    coarse = n // factor
    at = (torch.arange(n) + 0.5) / factor - 0.5  # of the centres of fine pixels, in coarse pixels
    below, line = at.floor().long(), torch.zeros(n, coarse, dtype=torch.float64)
    share = (at - below).double() if prolongation == "bilinear" else (at - below >= 0.5).double()
    line[torch.arange(n), below % coarse] += 1 - share
    line[torch.arange(n), (below + 1) % coarse] += share
    return torch.kron(line, line)


def measure_map(*, seed: int, n: int = 16, factors: tuple[int, ...] = (2, 3)) -> Measured:
    """The map against dense matrices, its condition, and what becomes of the coefficients of the nine stencils.

    Args:
        seed: Of the kernel that is tried.
        n: Coarse pixels of a side of the grid.
        factors: Fine pixels for each coarse one, in a line.
    """
    kernel = torch.randn(3, 3, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    final: dict = {}
    for prolongation in multiscale.PROLONGATIONS:
        for factor in factors:
            fine = n * factor
            product = dense_restriction(fine, factor) @ dense(kernel, fine)
            product = product @ dense_prolongation(fine, prolongation, factor)
            coarse = multiscale.restrict(kernel, prolongation, factor)
            outside = product.clone()
            outside[dense(torch.ones(3, 3), n) > 0] = 0
            back = multiscale.prolong(coarse, prolongation, factor)
            flipped = multiscale.restrict(kernel.flip(0, 1), prolongation, factor)
            moved = multiscale.restrict(multiscale.stencils(1), prolongation, factor)
            ratio = multiscale.coefficients(moved, factor)
            matrix = multiscale.galerkin(prolongation, factor)
            final.setdefault(prolongation, {})[str(factor)] = {
                "outside_3x3": outside.abs().max().item(),
                "from_dense": (product - dense(coarse, n)).abs().max().item(),
                "round_trip": (back - kernel).abs().max().item(),
                "flip": (flipped - coarse.flip(0, 1)).abs().max().item(),
                "coefficients": dict(zip(multiscale.STENCILS, ratio.diagonal().tolist(), strict=True)),
                "second_derivative_beside_mass": ratio[0, multiscale.STENCILS.index("dxx")].item(),
                "condition": torch.linalg.cond(matrix).item(),
                "norm": torch.linalg.matrix_norm(matrix, 2).item(),
                "norm_of_inverse": torch.linalg.matrix_norm(torch.linalg.inv(matrix), 2).item(),
            }
    return Measured(final)


# --- a network at another resolution ------------------------------------------------------------------------------


@torch.no_grad()
def answers_of(network: Network, images: data.ImageSet) -> Tensor:
    """The classes that a network in eval mode finds."""
    network.eval()
    return torch.cat([network(x).argmax(1) for x in _inputs(network, images)])


def accuracy(network: Network, images: data.ImageSet) -> float:
    """The share of images that a network with an attribute ``meta`` classifies rightly."""
    return _share(answers_of(network, images) == images.labels)


def _inputs(network: Network, images: data.ImageSet) -> Iterator[Tensor]:
    """Batches of images as a network takes them, without labels."""
    batches = data.evaluation_batches(images, BATCH, network.meta["mean"], network.meta["std"])
    return (x.contiguous(memory_format=torch.channels_last) for x, _ in batches)


def transfer(network: Network, train_set: data.ImageSet, test_set: data.ImageSet, old: int, new: int) -> dict:
    """What a network trained on images of one size makes of images of another.

    Args:
        network: With its attribute ``meta``, as from :func:`revode.load_trained`.
        train_set: Images for running statistics; their labels are not looked at.
        test_set: Images on which accuracies are measured.
        old: Side of the images that the network was trained on, pixels.
        new: Side of the images that are to be classified.

    Returns:
        For each way, "kept" and "estimated" accuracy: with the running statistics of training, and with those
        estimated at the size that the network is given. "kernels as they are", "kernels, constant" and "kernels,
        bilinear" are given images of the new size; the other ways give the unchanged network those images brought
        back to the old size. "trained on" is the network on the test images of the old size. "agreement" tells which
        share of the answers of the moved kernels (statistics kept) is that of the unchanged network on the images
        that the map has in mind: prolonged by the same P if ``new`` is the smaller size, else averaged.
    """
    at_new = test_set.resized(new)
    statistics = train_set.resized(new)
    right = lambda answers: _share(answers == test_set.labels)  # noqa: E731
    found = {"trained on": {"kept": right(answers_of(network, test_set.resized(old)))}}
    ways = {"kernels as they are": (network, at_new, statistics)}
    for p in multiscale.PROLONGATIONS:
        ways[f"kernels, {p}"] = (multiscale.to_size(network, old, new, p), at_new, statistics)
    if new < old:
        back = {"images, constant": lambda s: repeated(s, old), "images, bilinear": lambda s: s.resized(old)}
    else:
        back = {"images, averaged": lambda s: s.resized(old)}
    for way, change in back.items():
        ways[way] = (network, change(at_new), change(statistics))
    answers = {}
    for way, (moved, images, others) in ways.items():
        answers[way] = answers_of(moved, images)
        moved = copy.deepcopy(moved)
        multiscale.estimate_statistics(moved, _inputs(moved, others))
        found[way] = {"kept": right(answers[way]), "estimated": right(answers_of(moved, images))}
    found["agreement"] = {
        p: _share(answers[f"kernels, {p}"] == answers[f"images, {p}" if new < old else "images, averaged"])
        for p in multiscale.PROLONGATIONS
    }
    return found


def _share(true: Tensor) -> float:
    return true.double().mean().item()


def repeated(images: data.ImageSet, size: int) -> data.ImageSet:
    """Images with each pixel repeated, piecewise constant."""
    factor = size // images.images.shape[-1]
    larger = images.images.repeat_interleave(factor, dim=2).repeat_interleave(factor, dim=3)
    return dataclasses.replace(images, images=larger)


def _sets(name: str, test_images: int | None) -> tuple[data.ImageSet, data.ImageSet]:
    """Training images for statistics, and test images: the first ones, or all if None."""
    train_set, test_set = data.load(name, "train"), data.load(name, "test")
    n = min(STATISTICS, len(train_set))
    test_set = dataclasses.replace(test_set, images=test_set.images[:test_images], labels=test_set.labels[:test_images])
    return train_set.subset(n, 0), test_set


def measure_bundled(
    *, seed: int, weights: tuple[str, ...], data: str = "cifar10", old: int = 32, new: int = 16, test_images: int = 2000
) -> Measured:
    """Trained networks of the package at another resolution, each as :func:`transfer` tells.

    Args:
        seed: Not used: nothing is random.
        weights: Names for :func:`revode.load_trained`.
        data: Name of the data set.
        old: Side of the images that they were trained on.
        new: Side of the images to be classified.
        test_images: Number of test images, the first ones.
    """
    sets = _sets(data, test_images)
    return Measured({name: transfer(load_trained(name), *sets, old, new) for name in weights})


def _fit(out: Path, **settings) -> tuple[dict, Network]:
    """A training from its beginning: its result, and the network."""
    record = train.fit(train.TrainConfig(out=str(out), **settings), quiet=True)
    return record, train.load_network(out)


def _end(record: dict) -> dict:
    keys = ("step", "train_loss", "train_accuracy", "test_loss", "test_accuracy", "test_images")
    return {k: record["final"][k] for k in keys} | {"seconds": record["wall_seconds"]}


def measure_transfer(*, seed: int, old: int, new: int, test_images: int | None = None, **settings) -> Measured:
    """Train at one resolution, classify at another, as :func:`transfer` tells.

    Args:
        seed: Of the training.
        old: Side of the training images.
        new: Side of the images to be classified.
        test_images: Number of test images, the first ones; None is all of them.
        settings: Of :class:`revode.train.TrainConfig`.
    """
    with tempfile.TemporaryDirectory() as folder:
        record, network = _fit(Path(folder) / "run", seed=seed, image_size=old, **settings)
    found = transfer(network, *_sets(settings["data"], test_images), old, new)
    return Measured({"training": _end(record), "transfer": found}, record["curve"])


# --- warm start against cold ---------------------------------------------------------------------------------------

#: What training at the fine resolution starts from, and the prolongation of the coarse kernels.
STARTS = {
    "scratch": None,
    "kernels as they are": None,
    "kernels, constant": "constant",
    "kernels, bilinear": "bilinear",
}
LONGER = "scratch, equal cost"


def measure_warm_start(
    *,
    seed: int,
    coarse_size: int,
    size: int,
    coarse_steps: int,
    steps: int,
    test_images: int | None = 2000,
    **settings,
) -> Measured:
    """Train at a coarse resolution, then at a fine one from its kernels; beside training at the fine one alone.

    All trainings at the fine resolution follow the same recipe for as many steps, and one from scratch for as many more
    as the coarse training cost: a step there counts as (coarse size / size)^2 steps.

    Args:
        seed: Of all trainings; the order of images and the crops are the same for all starts.
        coarse_size: Side of the images of the first training.
        size: Side of the images of the second.
        coarse_steps: Steps of the first training.
        steps: Steps of the second.
        test_images: Number of test images of :func:`transfer`.
        settings: Of :class:`revode.train.TrainConfig`.

    Returns:
        "coarse" and "starts" have the ends of the trainings, on all test images; "estimated_accuracy" is that with
        running statistics of the last weights alone: after few steps those of training remember the beginning.
        "transfer" is that of the coarse network before any step at the fine resolution. The curve has the points of
        all trainings by "start".
    """
    equal = steps + round(coarse_steps * (coarse_size / size) ** 2)
    train_set, test_set = _sets(settings["data"], None)
    curve, ends = [], {}

    def trained(start: str, side: int, **more) -> tuple[dict, Network]:
        record, network = _fit(out / start, seed=seed, image_size=side, **more, **settings)
        keys = ("step", "train_loss", "train_accuracy", "test_loss", "test_accuracy", "test_images", "seconds")
        curve.extend({"start": start} | {k: p[k] for k in keys} for p in record["curve"])
        again = copy.deepcopy(network)
        multiscale.estimate_statistics(again, _inputs(again, train_set.resized(side)))
        answers = answers_of(again, test_set.resized(side))
        return _end(record) | {"estimated_accuracy": _share(answers == test_set.labels)}, network

    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder)
        coarse, network = trained("coarse", coarse_size, steps=coarse_steps)
        found = transfer(network, *_sets(settings["data"], test_images), coarse_size, size)
        for start, prolongation in STARTS.items():
            begin = {} if start == "scratch" else {"init": "coarse", "prolongation": prolongation}
            ends[start], _ = trained(start, size, steps=steps, **begin)
        ends[LONGER], _ = trained(LONGER, size, steps=equal)
    return Measured({"coarse": coarse, "transfer": found, "starts": ends}, curve)


# --- what is run ---------------------------------------------------------------------------------------------------

#: Activations are kept, and increments computed in bfloat16: that saves time on a CPU.
_CPU = {"memory": "stored", "amp": "bf16", "threads": 1}
_CIFAR = {"model": "hamiltonian-74", "data": "cifar10", "batch": 100, "subset": 10_000} | _CPU
_WARM = _CIFAR | {"coarse_size": 16, "size": 32, "coarse_steps": 480, "steps": 120, "eval_every": 40}
_WARM |= {"eval_images": 1000}
_STL = {"model": "hamiltonian-74", "data": "stl10-subset", "batch": 32} | _CPU
_FULL = {"model": "hamiltonian-74", "data": "cifar10", "batch": 100}


def _full(seed: int) -> tuple[Run, ...]:
    """All images, and steps enough for the rate to fall, on a GPU; each training a run of its own."""
    coarse = f"multiscale-full-16-seed{seed}"
    runs = [Run(coarse, "train", _FULL | {"image_size": 16, "steps": 40_000}, seed, gpu_minutes=20)]
    for start, prolongation in (("as-it-is", None), ("constant", "constant"), ("bilinear", "bilinear")):
        begin = {"init": coarse, "prolongation": prolongation, "steps": 10_000}
        runs.append(Run(f"multiscale-full-32-{start}-seed{seed}", "train", _FULL | begin, seed, gpu_minutes=10))
    for steps in (10_000, 20_000):
        name = f"multiscale-full-32-scratch-{steps}-seed{seed}"
        runs.append(Run(name, "train", _FULL | {"steps": steps}, seed, gpu_minutes=steps / 1000))
    return tuple(runs)


_SOURCE = Source("V", "Haber et al. 2017 (arXiv 1703.02009), idea; no numbers at hand")

EXPERIMENTS = (
    Experiment(
        "multiscale-map",
        "Is the coarse operator of a 3x3 kernel 3x3 again, and are its derivatives right?",
        (30,),
        Source("calc", "map of Haber et al. 2017 (arXiv 1703.02009) as in the group's code, Meganet.m"),
        (Run("multiscale-map", "multiscale:measure_map", cpu_minutes=0.1),),
    ),
    Experiment(
        "multiscale",
        "Does a network trained at one resolution classify another, and does a coarse start save time?",
        (),
        _SOURCE,
        (
            *(
                Run(f"multiscale-warm-start-seed{k}", "multiscale:measure_warm_start", _WARM, k, cpu_minutes=20)
                for k in range(3)
            ),
            Run(
                "multiscale-bundled",
                "multiscale:measure_bundled",
                {"weights": ("hamiltonian-74", "resnet-32", "leapfrog-26", "midpoint-26")},
                cpu_minutes=4,
            ),
            Run(
                "multiscale-stl10-48-to-96",
                "multiscale:measure_transfer",
                _STL | {"old": 48, "new": 96, "steps": 400},
                cpu_minutes=15,
            ),
            Run(
                "multiscale-stl10-96-to-48",
                "multiscale:measure_transfer",
                _STL | {"old": 96, "new": 48, "steps": 100},
                cpu_minutes=14,
            ),
        ),
    ),
    Experiment(
        "multiscale-full",
        "The same on all images of CIFAR-10, with a recipe long enough",
        (),
        _SOURCE,
        tuple(run for seed in range(3) for run in _full(seed)),
    ),
)
