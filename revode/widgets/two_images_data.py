"""Make the bundled data of the two images: ``python -m revode.widgets.two_images_data``.

Takes test images of the sample and their neighbours through a trained network, and writes beside the widget what it
draws: the pictures, the patterns that change them, and the distances layer by layer. A pattern is rounded to whole
numbers before anything is computed, and a changed picture is clipped to what a picture can hold, so that the page shows
the very pictures that the network was given.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .. import data, results
from ..analysis.lyapunov import linear_distances, unit_states, worst_change
from ..checkpoint import write_atomic
from ..networks import Network
from ..stability import pack
from ..weights import load_trained
from .two_images import DATA_FILE, QUANTUM

H = (0.1, 0.25, 0.5, 0.75, 1.0, 1.25, 1.5)
CHANGES = (0.0001, 0.0003, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0)
IMAGES = (35, 67, 48)  # a dog, a horse and a ship, each given its name, and none with a pixel that is black or white


def whole_numbers(change: Tensor, std: Sequence[float]) -> Tensor:
    """A change of a normalised image as a pattern of pixels in whole numbers from -127 to 127.

    Args:
        change: (3, H, W), of any size.
        std: By which the channels were divided.
    """
    pixels = change * change.new_tensor(std)[:, None, None]
    return (127 * pixels / pixels.abs().max()).round().to(torch.int8)


def grey_levels(pattern: Tensor, image: Tensor, mean: Sequence[float], std: Sequence[float]) -> float:
    """Grey levels for each unit of the pattern that make it as large as the image; both count as normalised.

    Args:
        pattern: From :func:`whole_numbers`.
        image: uint8, (3, H, W).
        mean: Of the channels.
        std: Of the channels.
    """
    size = _normalised(image.double(), mean, std).norm()
    return (size / (pattern / (255 * torch.tensor(std, dtype=torch.float64)[:, None, None])).norm()).item()


def changed(image: Tensor, pattern: Tensor, amount: float) -> Tensor:
    """The image (3, H, W) with an amount of the pattern added, in float64 grey levels clipped to 0..255."""
    return (image.double() + amount * pattern.double()).clamp(0, 255)


@torch.no_grad()
def make(
    name: str | Network = "hamiltonian-74",
    images: Sequence[int] = IMAGES,
    h: Sequence[float] = H,
    changes: Sequence[float] = CHANGES,
    passes: int = 16,
    seed: int = 0,
) -> dict:
    """What the figure shows, for JSON.

    All is computed in float64 and evaluation mode. The direction that is stretched most belongs to the network's own
    step size, and is the same pattern for all others.

    Args:
        name: Of bundled weights, or a network with "mean" and "std" in its ``meta``.
        images: Positions in the sample's test split.
        h: Step sizes.
        changes: Sizes of the change, relative to the norm of the normalised image.
        passes: Of the power method, for the direction that is stretched most.
        seed: Of the random direction, and of the power method.

    Returns:
        Settings; "pictures" with index, class and for each direction the grey levels of one unit of its pattern at a
        change of 1, and what clipping leaves of the size of each change; and packed arrays: "pixels" uint8
        (images, 3, H, W); "patterns" int8 (1 + images, 3, H, W), the random one and each image's own; "distances" int16
        (images, 2, h, changes + 1, states), logarithms to base 10 in units of QUANTUM, of the distance divided by the
        norm of the image's own first state, last the linear law at a change of 1; "sizes" int16 (images, h, states),
        the same of the norm of the image's own states; "answers" uint8 and "probabilities" uint16
        (images, h, 1 + 2 changes), of the image and its neighbours.

    Raises:
        CheckpointError: if there are no such weights.
        BatchStatisticsError, NonFiniteStateError: as :func:`revode.analysis.lyapunov.worst_change`.
    """
    network = (load_trained(name) if isinstance(name, str) else name).double().eval()
    mean, std = network.meta["mean"], network.meta["std"]
    own, sample = network.h, data.load("sample", "test")
    chosen = sample.images[list(images)]
    noise = torch.randn(chosen.shape[1:], generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    patterns, pictures = [whole_numbers(noise, std)], []
    distances, sizes, answers = [], [], []
    for i, image in zip(images, chosen, strict=True):
        x = _normalised(image[None].double(), mean, std)
        worst = worst_change(network, x, passes=passes, seed=seed, through=len(network.stages))
        patterns.append(whole_numbers(worst[0], std))
        both = (patterns[0], patterns[-1])
        greys = [grey_levels(p, image, mean, std) for p in both]
        near = [
            _normalised(torch.stack([changed(image, p, e * g) for e in changes]), mean, std)
            for p, g in zip(both, greys)
        ]
        ideal = [_normalised(image + g * p.double(), mean, std) - x for p, g in zip(both, greys)]
        left = [((y - x).flatten(1).norm(dim=1) / x.norm()).tolist() for y in near]
        pictures.append({"index": i, "class": sample.classes[sample.labels[i]], "greys": greys, "left": left})
        for network.h in h:
            states = [y for unit in unit_states(network, torch.cat([x, *near])) for y in unit]
            first = states[0][0].norm().item()
            sizes.append([y[0].norm().item() / first for y in states])
            apart = np.array([_norms(y[1:] - y[0]) for y in states]).T.reshape(2, len(changes), -1)
            law = np.array([np.concatenate(linear_distances(network, x, d)) for d in ideal])
            distances.append(np.concatenate([apart, law[:, None]], axis=1) / first)
            answers.append(network(torch.cat([x, *near])).softmax(dim=1).max(dim=1))
        network.h = own
    probabilities = np.array([a.values.tolist() for a in answers])
    # h before the directions was quicker to compute; the figure wants it behind them
    distances = np.array(distances).reshape(len(images), len(h), 2, len(changes) + 1, -1).swapaxes(1, 2)
    return {
        "network": network.name,
        "dataset": "sample",
        "split": "test",
        "own_h": own,
        "h": list(h),
        "changes": list(changes),
        "passes": passes,
        "seed": seed,
        "classes": list(sample.classes),
        "mean": list(mean),
        "std": list(std),
        "blocks": [len(s.blocks) for s in network.stages],
        "pictures": pictures,
        "pixels": pack(chosen.numpy(), "u1"),
        "patterns": pack(torch.stack(patterns).numpy(), "i1"),
        "distances": pack(_logarithms(distances), "<i2"),
        "sizes": pack(_logarithms(np.array(sizes)), "<i2"),
        "answers": pack(np.array([a.indices.tolist() for a in answers]), "u1"),
        "probabilities": pack(np.round(65535 * probabilities), "<u2"),
    }


def _normalised(pixels: Tensor, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """Images in grey levels, as the network gets them."""
    mean, std = (pixels.new_tensor(v)[:, None, None] for v in (mean, std))
    return (pixels / 255 - mean) / std


def _norms(states: Tensor) -> list[float]:
    return states.flatten(1).norm(dim=1).tolist()


def _logarithms(values: NDArray) -> NDArray:
    """Logarithms to base 10 in units of the quantum."""
    return np.round(np.log10(values) / QUANTUM)


if __name__ == "__main__":
    began = time.perf_counter()
    torch.set_num_threads(1)
    made = make() | {"wall_seconds": round(time.perf_counter() - began, 1), "evidence": results.evidence()}
    write_atomic(DATA_FILE, json.dumps(made, indent=1, allow_nan=False).encode() + b"\n")
    print(f"{DATA_FILE}: {', '.join(p['class'] for p in made['pictures'])}, {DATA_FILE.stat().st_size / 1024:.0f} KiB")
