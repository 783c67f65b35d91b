"""Segmentation, the use of m-RevNet: a reversible encoder-decoder against a plain one, on composed scenes.

m-RevNet (Li and Gao 2021, arXiv 2108.05862) is the rule of Momentum ResNets (Sander et al. 2021, arXiv 2102.07870), so
the network here is a momentum network. What that paper measured is not known here beyond its abstract, and none of its
numbers is compared: the scenes are this package's own (:mod:`revode.data.compose`).

The plain network has the same residual functions, so both have the same number of parameters.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from .. import data
from ..data.compose import Scenes
from ..data.sets import whole
from ..memory import saved_bytes
from ..models import Source, count_parameters
from ..schemes import Momentum
from ..segmentation import SegmentationNetwork
from ._base import Experiment, Measured, Run

#: Classes of CIFAR-10 that are to be found; the six others make grounds.
CLASSES = ("automobile", "frog", "horse", "ship")
#: Channels of the levels, so that all networks have nearly as many parameters: a Hamiltonian block of twice the width
#: has as many as one of the others.
WIDTHS = {"euler": (16, 32, 64), "momentum": (16, 32, 64), "hamiltonian": (32, 64, 128)}
#: Number of the colours, for each channel, that :func:`colour_iou` tells apart.
COLOURS = 16
#: Seed of the test scenes, the same for every run; no run may have it, since the seed gives the masks.
TEST_SEED = 0
#: Scenes of the bundled sample's test images whose masks are kept in a result, for the book's pictures.
SHOWN = 4
#: Steps of the runs of :data:`EXPERIMENTS`.
STEPS = 800


def network(scheme: str, units: Sequence[int], num_classes: int, *, seed: int, c: float = 0.9) -> SegmentationNetwork:
    """The network of a scheme, one of :data:`WIDTHS`; a momentum network starts with the velocity f(x)."""
    rule = (lambda h: Momentum(h, c, start="field")) if scheme == "momentum" else scheme
    return SegmentationNetwork(rule, units, WIDTHS[scheme][: len(units)], num_classes=num_classes, seed=seed)


def confusion(masks: Tensor, found: Tensor, num_classes: int) -> Tensor:
    """Number of pixels for each class (row) and each class that was found there (column)."""
    pairs = masks.flatten() * num_classes + found.flatten()
    return torch.bincount(pairs, minlength=num_classes**2).reshape(num_classes, num_classes)


def iou(counts: Tensor) -> list[float]:
    """Intersection over union of each class: pixels of the class found as such, of all that are it or found as it.

    A class that neither is there nor is found has no such number, and nan stands for it.

    Args:
        counts: As :func:`confusion` gives them.
    """
    counts = counts.double()
    both = counts.diagonal()
    return (both / (counts.sum(0) + counts.sum(1) - both)).tolist()


def colour_iou(train: tuple[Tensor, Tensor], test: tuple[Tensor, Tensor], num_classes: int) -> list[float]:
    """IoU of each class if each pixel gets the class that is the most frequent one for its colour in training scenes.

    Args:
        train: Scenes and masks.
        test: Likewise.
        num_classes: With the ground.
    """

    def colours(scenes: Tensor) -> Tensor:
        red, green, blue = (scenes.long() * COLOURS // 256).unbind(1)
        return (red * COLOURS + green) * COLOURS + blue

    pairs = colours(train[0]).flatten() * num_classes + train[1].flatten()
    best = torch.bincount(pairs, minlength=COLOURS**3 * num_classes).reshape(-1, num_classes).argmax(1)
    return iou(confusion(test[1], best[colours(test[0])], num_classes))


def activation_bytes(scheme: str, units: Sequence[int], shape: Sequence[int], num_classes: int) -> dict[str, int]:
    """Bytes that autograd keeps of a forward pass, parameters not counted, in each memory mode of the scheme.

    Args:
        scheme: One of :data:`WIDTHS`.
        units: Blocks of each level.
        shape: Of a batch of images.
        num_classes: With the ground.
    """
    net, x, found = network(scheme, units, num_classes, seed=0), torch.zeros(shape), {}
    for memory in ("reversible", "stored") if net.down[0].scheme.reversible else ("stored",):
        net.memory = memory
        found[memory] = saved_bytes(lambda: net(x), exclude=net.parameters())
    return found


def shown(classes: Sequence[str] = CLASSES, size: int = 48) -> tuple[Tensor, Tensor]:
    """The scenes of the book's pictures, with masks: of test images in the bundled sample, which are always there."""
    return Scenes(data.load("sample", "test"), classes, size=size, seed=TEST_SEED).batch(0, SHOWN)


def rate_at(step: int, steps: int, rate: float) -> float:
    """The rate of a step: linear to its largest value over the first twentieth, then half a cosine down to 0."""
    warm = max(steps // 20, 1)
    return rate * min((step + 1) / warm, 0.5 * (1 + math.cos(math.pi * step / steps)))


def measure_segmentation(
    *,
    seed: int,
    scheme: str,
    steps: int,
    units: Sequence[int] = (2, 2, 2),
    batch: int = 16,
    size: int = 48,
    rate: float = 3e-3,
    test_scenes: int = 500,
    deeper: int = 4,
    images: str = "cifar10",
    classes: Sequence[str] = CLASSES,
    every: int = 50,
) -> Measured:
    """Train on composed scenes of training images; IoU on scenes of test images, and memory counted from saved tensors.

    Adam on the mean cross-entropy of all pixels, each scene seen once. Test scenes are the same for every run.

    Args:
        seed: Of weights and training scenes; not :data:`TEST_SEED`.
        scheme: One of :data:`WIDTHS`; "euler" is the plain network.
        steps: Of Adam.
        units: Blocks of each level.
        batch: Scenes of a step.
        size: Height and width of a scene.
        rate: Largest learning rate, see :func:`rate_at`.
        test_scenes: How many, of all test images.
        deeper: Memory is counted for ``units``, and for this many times as many blocks.
        images: Name of the image set.
        classes: Classes to be found.
        every: Steps between points of the curve, whose loss is the mean over them.

    Returns:
        In ``final``: "miou", the mean of "iou" over "classes" (the ground first), "accuracy" of all pixels, the same of
        two trivial predictors, activations in "memory", "parameters", "cpu_seconds" of training, and in "shown" the
        label that is found for each pixel of the scenes of :func:`shown`, row by row, one digit each.

    Raises:
        ValueError: a setting is out of range, or ``seed`` is that of the test scenes.
    """
    if seed == TEST_SEED:
        raise ValueError(
            f"seed = {seed} must not be {TEST_SEED}: training scenes would have the masks of the test scenes"
        )
    for name, value in (("steps", steps), ("batch", batch), ("test_scenes", test_scenes), ("every", every)):
        whole(name, value, 1)
    train_set, test_set = data.load(images, "train"), data.load(images, "test")
    scenes = Scenes(train_set, classes, size=size, seed=seed)
    channels = train_set.mean_std()
    k, units = len(scenes.classes), tuple(units)
    net = network(scheme, units, k, seed=seed).to(memory_format=torch.channels_last)
    optimizer = torch.optim.Adam(net.parameters(), lr=rate)
    curve, losses, begin = [], [], time.process_time()
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = rate_at(step, steps, rate)
        x, masks = scenes.batch(step * batch, batch)
        x = data.normalize(x, *channels).contiguous(memory_format=torch.channels_last)
        loss = F.cross_entropy(net(x), masks)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
        if (step + 1) % every == 0 or step + 1 == steps:
            curve.append({"step": step + 1, "loss": round(sum(losses) / len(losses), 5)})
            losses = []
    seconds = time.process_time() - begin

    test = Scenes(test_set, classes, size=size, seed=TEST_SEED).batch(0, test_scenes)
    counts = confusion(test[1], predict(net, test[0], channels), k)
    ground = confusion(test[1], torch.zeros_like(test[1]), k)
    trivial = {"ground": iou(ground), "colour": colour_iou(scenes.batch(0, 2000), test, k)}
    shape = (batch, 3, size, size)
    memory = []
    for times in (1, deeper):
        blocks = tuple(times * n for n in units)
        memory.append({"units": list(blocks)} | activation_bytes(scheme, blocks, shape, k))
    found = iou(counts)
    final = {
        "classes": list(scenes.classes),
        "iou": found,
        "miou": sum(found) / k,
        "accuracy": (counts.diagonal().sum() / counts.sum()).item(),
        "confusion": counts.tolist(),
        "trivial_miou": {name: sum(values) / k for name, values in trivial.items()},
        "trivial_accuracy": (ground.diagonal().sum() / ground.sum()).item(),
        "memory": memory,
        "parameters": count_parameters(net),
        "batch": batch,
        "trained": net.memory,
        "cpu_seconds": round(seconds, 1),
        "shown": ["".join(map(str, m.flatten().tolist())) for m in predict(net, shown(classes, size)[0], channels)],
    }
    return Measured(final, curve)


@torch.no_grad()
def predict(net: SegmentationNetwork, scenes: Tensor, channels: tuple, batch: int = 100) -> Tensor:
    """The class found for each pixel of uint8 scenes (n, 3, size, size), with running statistics; int64."""
    net.eval()
    return torch.cat([net(data.normalize(x, *channels)).argmax(1) for x in scenes.split(batch)])


def _run(scheme: str, seed: int, cpu_minutes: float) -> Run:
    settings = {"scheme": scheme, "steps": STEPS}
    return Run(f"segmentation-{scheme}-seed{seed}", "segmentation:measure_segmentation", settings, seed, cpu_minutes)


EXPERIMENTS = (
    Experiment(
        "segmentation",
        "Composed scenes: a reversible encoder-decoder against the plain one",
        (),
        Source("V", "m-RevNet, arXiv 2108.05862: its abstract claims gains on semantic segmentation; no number"),
        tuple(
            _run(scheme, seed, minutes)
            for schemes in ((("euler", 1.2), ("momentum", 1.5)), (("hamiltonian", 3.5),))
            for seed in (1, 2, 3)
            for scheme, minutes in schemes
        ),
    ),
)
