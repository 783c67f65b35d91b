"""What a training would cost on a GPU: an estimate from counted work, for runs that nobody has made yet.

A step takes at least the time to start its operations, and at least the time of its multiplications. The two rates are
assumptions about one GPU of the H200's class without compilation or graphs, not measurements; an estimate is right
to a factor of two or three.
"""

from __future__ import annotations

from ..models import MODELS

#: Seconds to start the operations of one layer in a training step: about 16 kernels (convolution, normalization,
#: activation, sum; computed forward, again, and differentiated) of about 8 microseconds each.
LAYER_SECONDS = 130e-6

#: Floating-point operations per second of convolutions with some dozen channels in float32 (TF32), a few per cent of
#: what the hardware promises for large matrices.
OPERATIONS_PER_SECOND = 20e12

#: The same of large convolutions in bfloat16, as on ImageNet.
LARGE_OPERATIONS_PER_SECOND = 100e12

#: What estimates are of.
GPU = "H200"


def multiplications(model: str, side: int) -> int:
    """Multiplications of the kernels of a named network for one image, forward.

    Args:
        model: Name in :data:`revode.models.MODELS`.
        side: Of the image, pixels.
    """
    spec, total = MODELS[model], 0
    if spec.block:
        raise ValueError(f"model = {model!r} is counted otherwise: its blocks are those of torchvision")
    total += 27 * spec.widths[0] * side**2
    for unit, (blocks, width) in enumerate(zip(spec.units, spec.widths, strict=True)):
        part = width // 2 if spec.scheme in ("hamiltonian", "revnet") else width
        kernels = 4 if spec.scheme in ("hamiltonian", "revnet") else 2
        total += blocks * kernels * 9 * part**2 * (side >> unit) ** 2
    return total


def gpu_minutes(model: str, steps: int, batch: int, side: int) -> float:
    """Estimated minutes of a training on one GPU of the class of :data:`GPU`, with activations rebuilt.

    Args:
        model: Name in :data:`revode.models.MODELS`.
        steps: Number of steps.
        batch: Images per step.
        side: Of the images, pixels.
    """
    # Two operations for a multiplication and its sum; forward, again forward, and two products backward.
    work = 2 * 4 * multiplications(model, side) * batch
    return round(steps * max(MODELS[model].depth * LAYER_SECONDS, work / OPERATIONS_PER_SECOND) / 60, 1)


def long_minutes(multiplications: float, images: float, networks: int = 1) -> float:
    """Estimated minutes of trainings that are all work: large networks, large images.

    Args:
        multiplications: Of one image forward.
        images: How many images are seen, all epochs together.
        networks: How many trainings.
    """
    return round(networks * images * 2 * 4 * multiplications / LARGE_OPERATIONS_PER_SECOND / 60)
