"""Batches as a pure function of seed and step: nothing to save in a checkpoint, and a resumed run sees the same ones.

The whole set lies on its device as bytes; a batch is chosen, augmented and normalised there. What is random is drawn
on the CPU, so that runs on every device see the same images.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from revode import augment

from .sets import AUGMENTATION, ORDER, ImageSet, bits, whole

__all__ = ["Batches", "evaluation_batches", "normalize"]

Channels = Sequence[float] | Tensor


def normalize(images: Tensor, mean: Channels, std: Channels) -> Tensor:
    """``(images / 255 - mean) / std`` for each channel, in float32.

    Args:
        images: uint8 of shape (N, C, H, W).
        mean: C numbers in 0..1, as from :meth:`ImageSet.mean_std`.
        std: C positive numbers, likewise.

    Returns:
        float32 of the same shape, on the images' device.

    Raises:
        ValueError: ``images`` are not bytes, or ``mean`` or ``std`` does not fit.
    """
    if images.dtype != torch.uint8 or images.ndim != 4:
        raise ValueError(f"images must be uint8 of shape (N, C, H, W), not {images.dtype} {tuple(images.shape)}")
    return _normalize(images, *_channels(mean, std, images))


def _channels(mean: Channels, std: Channels, images: Tensor) -> tuple[Tensor, Tensor]:
    n = images.shape[1]
    values = [torch.as_tensor(v, dtype=torch.float32, device="cpu").reshape(-1, 1, 1) for v in (mean, std)]
    for name, value in zip(("mean", "std"), values):
        if len(value) != n or not value.isfinite().all() or (name == "std" and not (value > 0).all()):
            kind = "positive" if name == "std" else "finite"
            raise ValueError(
                f"{name} must be {n} {kind} numbers, one for each channel, not {value.flatten().tolist()}; "
                "take it from ImageSet.mean_std of the training images"
            )
    return values[0].to(images.device), values[1].to(images.device)


def _normalize(images: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    return images.to(torch.float32).div_(255).sub_(mean).div_(std)


class Batches:
    """The training batches of a run: ``batches[step]`` is the batch of that step, counted from 0 over all epochs.

    Each epoch goes through the set in its own random order, given by (seed, epoch). The crops and flips of a step are
    given by (seed, step). With several processes each of them gets its part of the batch that one alone would see.

    Args:
        train_set: The training images, on the device where the batches are wanted.
        batch_size: Images in a batch, of all processes together.
        seed: At least 0.
        augment: Whether to crop and mirror at random (:mod:`revode.augment`).
        mean: Of each channel, in 0..1; with ``std`` by default ``train_set.mean_std()``.
        std: Likewise.
        rank: Which of the processes this one is, from 0.
        world: The number of processes.
        drop_last: Whether an epoch leaves out the images that fill no whole batch; else its last batch is smaller.
        pad: Pixels of padding on each side for the crops.

    Attributes:
        steps_per_epoch: The number of batches in an epoch.
        mean: As used.
        std: As used.

    Raises:
        ValueError: A number is out of range, the set is smaller than a batch, a batch cannot be dealt evenly to the
            processes, or only one of ``mean`` and ``std`` is given.
    """

    def __init__(
        self,
        train_set: ImageSet,
        batch_size: int,
        seed: int,
        augment: bool = True,
        mean: Channels | None = None,
        std: Channels | None = None,
        rank: int = 0,
        world: int = 1,
        drop_last: bool = True,
        pad: int = 4,
    ) -> None:
        self.train_set, self.augment, self.drop_last = train_set, augment, drop_last
        self.batch_size, self.seed = whole("batch_size", batch_size, 1), whole("seed", seed, 0)
        self.rank, self.world, self.pad = whole("rank", rank, 0), whole("world", world, 1), whole("pad", pad, 0)
        if self.rank >= self.world:
            raise ValueError(f"rank must be less than world, the number of processes, not {rank} of {world}")
        if self.batch_size > len(train_set):
            raise ValueError(
                f"batch_size must be at most {len(train_set)}, the images in {train_set}, not {batch_size}"
            )
        rest = 0 if drop_last else len(train_set) % self.batch_size
        for images in (self.batch_size, rest):
            if images % self.world:
                raise ValueError(
                    f"batch_size must be such that each of {world} processes gets equally many images, not {batch_size}"
                    + (f", which leaves {rest} for an epoch's last batch; set drop_last=True" if images == rest else "")
                )
        self.steps_per_epoch = len(train_set) // self.batch_size + (rest > 0)
        if (mean is None) != (std is None):
            raise ValueError(f"mean and std are given both or neither, not mean={mean} and std={std}")
        if mean is None:
            mean, std = train_set.mean_std()
        self._mean, self._std = _channels(mean, std, train_set.images)
        self.mean, self.std = tuple(float(v) for v in mean), tuple(float(v) for v in std)
        self._order = (-1, np.empty(0, np.int64))  # the last epoch asked for and its order

    __iter__ = None  # it has no end: ask for steps

    def __repr__(self) -> str:
        part = f", rank {self.rank} of {self.world}" if self.world > 1 else ""
        return f"Batches({self.train_set}, {self.batch_size} a batch, seed {self.seed}{part})"

    def indices(self, step: int) -> np.ndarray:
        """The positions in the set of the images that all processes together see in a step, int64."""
        epoch, place = divmod(whole("step", step, 0), self.steps_per_epoch)
        if self._order[0] != epoch:
            words = bits(self.seed, ORDER, epoch).random_raw(len(self.train_set))
            self._order = (epoch, np.argsort(words, kind="stable"))
        return self._order[1][place * self.batch_size : (place + 1) * self.batch_size]

    def __getitem__(self, step: int) -> tuple[Tensor, Tensor]:
        """This process's part of the batch of a step: float32 images of shape (n, 3, H, W), int64 labels (n,)."""
        index = torch.from_numpy(self.indices(step))
        n = len(index) // self.world
        mine = slice(self.rank * n, (self.rank + 1) * n)
        device = self.train_set.images.device
        draws = [index]
        if self.augment:
            draws += augment.draw(len(index), self.pad, bits(self.seed, AUGMENTATION, step))
        # One transfer for all, and only of this process's part.
        index, *draws = torch.stack([d.to(torch.int64) for d in draws])[:, mine].to(device).unbind()
        x, y = self.train_set.images[index], self.train_set.labels[index]
        if self.augment:
            dy, dx, flip = draws
            x = augment.apply(x, dy, dx, flip.bool(), self.pad)
        return _normalize(x, self._mean, self._std), y


def evaluation_batches(
    images: ImageSet, batch_size: int, mean: Channels, std: Channels
) -> Iterator[tuple[Tensor, Tensor]]:
    """A set's batches in order, normalised and never augmented; the last one may be smaller.

    Args:
        images: The set, on the device where the batches are wanted.
        batch_size: Images in a batch.
        mean: Of each channel, in 0..1: those of the *training* images.
        std: Likewise.

    Returns:
        An iterator over float32 images of shape (n, 3, H, W) and int64 labels (n,).

    Raises:
        ValueError: ``batch_size`` is no whole number from 1 up, or ``mean`` or ``std`` does not fit.
    """
    size, channels = whole("batch_size", batch_size, 1), _channels(mean, std, images.images)
    pairs = zip(images.images.split(size), images.labels.split(size))
    return ((_normalize(x, *channels), y) for x, y in pairs)
