"""Random crops and flips of a whole batch of images at once, on the images' device, each image its own draw.

The law is torchvision's ``RandomCrop(size, padding=4)`` followed by ``RandomHorizontalFlip(0.5)``: pad with
zeros (black, before any normalisation), cut a window of the old size at an offset uniform over all places,
mirror it with probability 1/2. :func:`draw` draws and :func:`apply` applies, so that the same draws can be made
on every machine and used on any device.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["apply", "draw", "random_crop_flip"]


def draw(n: int, pad: int, generator: Any) -> tuple[Tensor, Tensor, Tensor]:
    """Draws a window and a mirroring for each of ``n`` images.

    They are made from the raw 64-bit words of numpy's bit generator, the one part of a random generator whose
    stream is promised to stay the same in later versions and on other machines.

    Args:
        n: Number of images.
        pad: Pixels of padding on each side, at least 0.
        generator: What :func:`numpy.random.default_rng` takes: a seed, a ``BitGenerator`` or a ``Generator``
            (which advances), or None for fresh randomness.

    Returns:
        ``dy`` and ``dx``, int64 of shape (n,), the window's first row and column in the padded image, each pair
        of 0..2 pad as likely; ``flip``, bool of shape (n,), true with probability 1/2. All on the CPU.

    Raises:
        ValueError: ``n`` or ``pad`` is negative.
    """
    if n < 0 or pad < 0:
        raise ValueError(f"n and pad are counts of images and pixels, neither can be negative: {n=}, {pad=}")
    words = np.random.default_rng(generator).bit_generator.random_raw((2, n))
    places = 2 * pad + 1
    offset = torch.from_numpy((words[0] % np.uint64(places**2)).astype(np.int64))
    flip = torch.from_numpy(words[1] >> np.uint64(63) == 1)
    return offset // places, offset % places, flip


def apply(images: Tensor, dy: Tensor, dx: Tensor, flip: Tensor, pad: int = 4) -> Tensor:
    """Cuts and mirrors each image as drawn, with no loop over the images.

    Image i becomes ``crop(zero_pad(images[i], pad), dy[i], dx[i])``, mirrored left to right if ``flip[i]``.

    Args:
        images: Batch of shape (N, C, H, W) of any dtype; raw pixels, since the padding is zero.
        dy: First row of each window in the padded image, int64 of shape (N,), in 0..2 pad.
        dx: First column, likewise.
        flip: Whether to mirror, bool of shape (N,).
        pad: Pixels of padding on each side.

    Returns:
        A new batch of the same shape, dtype and device. The draws may lie on the CPU or on that device.

    Raises:
        ValueError: A shape or dtype does not fit, or an offset (where it lies on the CPU) is outside 0..2 pad.
    """
    if images.ndim != 4:
        raise ValueError(f"images must be a batch of shape (N, C, H, W), not {tuple(images.shape)}")
    n, _, height, width = images.shape
    for name, value, dtype in (("dy", dy, torch.int64), ("dx", dx, torch.int64), ("flip", flip, torch.bool)):
        if value.shape != (n,) or value.dtype != dtype:
            raise ValueError(
                f"{name} must be {dtype} of shape ({n},), one for each image, not {value.dtype} of shape "
                f"{tuple(value.shape)}; take it from revode.augment.draw"
            )
        if name != "flip" and value.device.type == "cpu" and n:  # a look at a GPU's values would wait for it
            low, high = int(value.min()), int(value.max())
            if low < 0 or high > 2 * pad:
                raise ValueError(f"{name} must lie in 0..{2 * pad}, twice the padding, not in {low}..{high}")
    dy, dx, flip = (value.to(images.device, non_blocking=True) for value in (dy, dx, flip))
    # A view of all windows, (N, C, 2 pad + 1, 2 pad + 1, H, W); only the chosen one of each image is copied.
    windows = F.pad(images, (pad, pad, pad, pad)).unfold(2, height, 1).unfold(3, width, 1)
    crops = windows[torch.arange(n, device=images.device), :, dy, dx]
    return torch.where(flip[:, None, None, None], crops.flip(-1), crops)


def random_crop_flip(images: Tensor, pad: int = 4, generator: Any = None) -> Tensor:
    """Crops and mirrors each image of a batch at random: :func:`draw`, then :func:`apply`.

    Args:
        images: Batch of shape (N, C, H, W), raw pixels.
        pad: Pixels of zero padding on each side.
        generator: As in :func:`draw`.

    Returns:
        A new batch of the same shape, dtype and device.

    Raises:
        ValueError: ``images`` is no batch or ``pad`` is negative.
    """
    if images.ndim != 4:
        raise ValueError(f"images must be a batch of shape (N, C, H, W), not {tuple(images.shape)}")
    return apply(images, *draw(len(images), pad, generator), pad=pad)
