"""Sets of labelled images: CIFAR-10, CIFAR-100, STL-10, and a sample of each that is always at hand.

CIFAR: A. Krizhevsky, Learning Multiple Layers of Features from Tiny Images, technical report, University of Toronto,
2009. STL-10: A. Coates, H. Lee, A. Y. Ng, An Analysis of Single Layer Networks in Unsupervised Feature Learning,
AISTATS 2011.
"""

from __future__ import annotations

import argparse
import hashlib
import operator
import os
import warnings
import zipfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from revode.errors import DataError
from revode.paths import bundled, data_root

from .download import ARCHIVES, fetch, unpack

__all__ = ["SPLITS", "ImageSet", "add_arguments", "bits", "load", "main", "whole"]

SPLITS = {
    "cifar10": ("train", "test"),
    "cifar100": ("train", "test"),
    "stl10": ("train", "test"),
    "stl10-subset": ("train", "test", "test-head"),
    "sample": ("train", "test"),
    "cifar100-sample": ("train", "test"),
    "stl10-sample": ("train", "test"),
}

#: Samples that ride in the package, and their files.
SAMPLES = {
    "sample": "cifar10_sample.npz",
    "cifar100-sample": "cifar100_sample.npz",
    "stl10-sample": "stl10_sample.npz",
}

#: What the sets are called in text.
TITLES = {"cifar10": "CIFAR-10", "cifar100": "CIFAR-100", "stl10": "STL-10"}

# Part of the STL-10 subset: images, SHA-256 of its images' and its labels' file.
STL10_SUBSET = {
    "train_fold0": (
        1000,
        "3d0e564874057fa941df0d28531fa91f38b7513ba61e9849aed238e747077d56",
        "a1afdcf1bd67ae990df3f350bf50006094bbe25697ea33cfb79cc0606e4b7ba7",
    ),
    "heldout": (
        1600,
        "5488324d2318ce9b47d357454560f285f9eca721e9168a7222741d55b855a50b",
        "64ce8d56b97bdf851043d1c2f252ab91bcd4e592bc10dfd52f4505a679ca003a",
    ),
    "test_head": (
        95,
        "0ada2cd0d9a2cfa1b7f9da7b63e735e2ae92c354da143aeaca5d31c510047789",
        "fa497810adb3abbd215125a538fddf46bbdea143e0000c20b7850daab2042020",
    ),
}
STL10_CLASSES = ("airplane", "bird", "car", "cat", "deer", "dog", "horse", "monkey", "ship", "truck")

SUBSET, ORDER, AUGMENTATION = range(3)  # what random words are for; each purpose has its own


def whole(name: str, value: Any, low: int) -> int:
    """The argument ``name`` as an int of at least ``low``, or a ValueError that says so."""
    try:
        if isinstance(value, bool | np.bool_):
            raise TypeError
        number = operator.index(value)
    except TypeError:
        number = low - 1
    if number < low:
        raise ValueError(f"{name} must be a whole number, at least {low}, not {value!r}")
    return number


def bits(seed: int, purpose: int, index: int = 0) -> np.random.PCG64:
    """Random 64-bit words for a purpose, the same on each machine and with each version of numpy (its NEP 19)."""
    return np.random.PCG64(np.random.SeedSequence(seed, spawn_key=(purpose, index)))


@dataclass(frozen=True, eq=False, repr=False)
class ImageSet:
    """Labelled images, all in one tensor.

    Attributes:
        images: uint8 of shape (N, 3, H, W), RGB.
        labels: int64 of shape (N,), positions in ``classes``; on the images' device.
        classes: The classes' names.
        name: The set's name, such as ``"cifar10"``.
        split: The part of it, such as ``"train"``.

    Raises:
        ValueError: A shape, a dtype, a device or a label does not fit.
    """

    images: Tensor
    labels: Tensor
    classes: tuple[str, ...]
    name: str
    split: str

    def __post_init__(self) -> None:
        images, labels = self.images, self.labels
        if images.dtype != torch.uint8 or images.ndim != 4 or images.shape[1] != 3 or len(images) == 0:
            raise ValueError(
                f"images must be uint8 of shape (N, 3, H, W) with N > 0, not {images.dtype} of shape "
                f"{tuple(images.shape)}"
            )
        if labels.dtype != torch.int64 or labels.shape != images.shape[:1] or labels.device != images.device:
            raise ValueError(
                f"labels must be int64 of shape ({len(images)},) on {images.device}, one for each image, not "
                f"{labels.dtype} of shape {tuple(labels.shape)} on {labels.device}"
            )
        low, high = int(labels.min()), int(labels.max())
        if low < 0 or high >= len(self.classes):
            raise ValueError(f"labels must lie in 0..{len(self.classes) - 1}, one of the classes, not in {low}..{high}")

    def __len__(self) -> int:
        return len(self.images)

    def __repr__(self) -> str:
        shape = "x".join(str(n) for n in self.images.shape[1:])
        classes = f"{len(self.classes)} classes"
        return f"ImageSet({self.name} {self.split}: {len(self):,} images {shape}, {classes}, {self.images.device})"

    def counts(self) -> tuple[int, ...]:
        """The number of images of each class."""
        return tuple(np.bincount(self.labels.cpu().numpy(), minlength=len(self.classes)).tolist())

    def subset(self, n: int, seed: int) -> ImageSet:
        """A stratified random choice of ``n`` images: the classes' counts differ by at most one.

        Images are dealt from the shuffled classes in turn, each round of the classes in its own order. So the first k
        images of a subset are the subset of k with the same seed. The choice depends on the labels, ``n`` and
        ``seed`` alone, and is the same on each machine.

        Args:
            n: Number of images.
            seed: At least 0; chooses the images, their order, and the classes that have one image more.

        Raises:
            ValueError: ``n`` is no whole number from 1 up, or there are too few images of some class for it; or
                ``seed`` is none from 0 up.
        """
        n, seed = whole("n", n, 1), whole("seed", seed, 0)
        labels, counts = self.labels.cpu().numpy(), np.array(self.counts())
        most = int(counts.min()) * len(counts) + int((counts > counts.min()).sum())
        if n > most:
            raise ValueError(
                f"n must be at most {most} for classes' counts that differ by at most one, since {self.name} "
                f"{self.split} has {len(self)} images, {counts.min()} of its rarest class, not {n}"
            )
        words = bits(seed, SUBSET)
        shuffled = np.lexsort((words.random_raw(len(labels)), labels))  # class by class
        position = np.arange(len(labels)) - np.repeat(np.cumsum(counts) - counts, counts)  # in its shuffled class
        turn = words.random_raw((int(counts.max()), len(counts)))  # of each class in each round
        dealt = shuffled[np.lexsort((turn[position, labels[shuffled]], position))][:n]
        index = torch.from_numpy(dealt).to(self.labels.device)
        return replace(self, images=self.images[index], labels=self.labels[index])

    def to(self, device: torch.device | str) -> ImageSet:
        """The same set on another device."""
        return replace(self, images=self.images.to(device), labels=self.labels.to(device))

    def resized(self, size: int) -> ImageSet:
        """The images at another resolution, rounded to bytes.

        Smaller ones are averages over squares of pixels, larger ones are interpolated bilinearly between the centres
        of pixels.

        Args:
            size: Pixels of a side; it divides the present side, or is a multiple of it.

        Raises:
            ValueError: the images are not square, or ``size`` does neither.
        """
        size, (height, width) = whole("size", size, 1), self.images.shape[2:]
        if height != width or max(size, height) % min(size, height):
            raise ValueError(f"size = {size} must divide both sides of the images, {height}x{width}, or be a multiple")
        if size == height:
            return self
        how = {"mode": "area"} if size < height else {"mode": "bilinear", "align_corners": False}
        parts = [F.interpolate(x.float(), size=(size, size), **how).round().byte() for x in self.images.split(1000)]
        return replace(self, images=torch.cat(parts))

    def mean_std(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Mean and standard deviation of each channel over these images, in 0..1.

        Both come from whole-number sums over the channel's histogram, so they are the same on each device and do not
        depend on the images' order.
        """
        histogram = torch.zeros(3, 256, dtype=torch.int64)
        for chunk in self.images.split(512):
            histogram += torch.stack([torch.bincount(x.flatten(), minlength=256) for x in chunk.unbind(1)]).cpu()
        mean, std = [], []
        for channel in histogram.tolist():  # Python's integers do not overflow
            count = sum(channel)
            first = sum(value * times for value, times in enumerate(channel))
            second = sum(value * value * times for value, times in enumerate(channel))
            mean.append(first / (255 * count))
            std.append((count * second - first * first) ** 0.5 / (255 * count))
        return tuple(mean), tuple(std)


def load(name: str, split: str, root: str | os.PathLike[str] | None = None, download: bool = False) -> ImageSet:
    """Reads an image set; the files' checksums are tested each time.

    =====================  =======================  =================================================================
    name                   splits                   what
    =====================  =======================  =================================================================
    ``"cifar10"``          train, test              50,000 and 10,000 images of 32x32 pixels, 10 classes
    ``"cifar100"``         train, test              likewise, 100 classes
    ``"stl10"``            train, test              5,000 and 8,000 labelled images of 96x96 pixels, 10 classes
    ``"stl10-subset"``     train, test, test-head   1,000 (the first official training fold), 1,600 and 95 of STL-10's.
                                                    Its "test" images are cut from the official *training* images
                                                    outside that fold: their accuracy is **no** official test accuracy.
                                                    "test-head" are the first 95 of the official test images.
    ``"sample"``           train, test              260 and 130 images of CIFAR-10, bundled with revode
    ``"cifar100-sample"``  train, test              200 and 100 of CIFAR-100, bundled: 2 and 1 of each class
    ``"stl10-sample"``     train, test              20 and 10 of STL-10, bundled: 2 and 1 of each class
    =====================  =======================  =================================================================

    Args:
        name: One of the names above.
        split: One of its splits.
        root: Folder with the official folder ``cifar-10-batches-py``, ``cifar-100-python`` or ``stl10_binary``, or with
            ``stl10_subset``; by default :func:`revode.paths.data_root`. The samples need none.
        download: Whether to fetch and unpack what is missing or damaged in ``root``.

    Raises:
        ValueError: There is no such set or split, or it has no download.
        DataError: The files are not in ``root``, are incomplete or damaged, or could not be fetched.
    """
    if name not in SPLITS:
        raise ValueError(f"name must be one of {', '.join(SPLITS)}, not {name!r}")
    if split not in SPLITS[name]:
        raise ValueError(f"split of {name} must be one of {', '.join(SPLITS[name])}, not {split!r}")
    root = Path(data_root() if root is None else root).expanduser()
    if name in SAMPLES:
        return _sample(name, split)
    if name == "stl10-subset":
        if download:
            raise ValueError("download must be False for 'stl10-subset', which no server has; 'stl10' has all of it")
        return _stl10_subset(split, root)
    try:
        return _official(name, split, root)
    except _NotThere as fault:
        if not download:
            raise DataError(_advice(name, f"{fault} in {root.absolute()}")) from None
    archive = ARCHIVES[name]
    unpack(archive, fetch(archive, root))
    try:
        return _official(name, split, root)
    except _NotThere as fault:
        raise DataError(f"{archive.file} was fetched, but then {fault} in {root.absolute()}; try again") from fault


class _NotThere(Exception):
    """torchvision does not find its files, or not with their checksums."""


def _advice(name: str, fault: str) -> str:
    fetching = f"fetch the set with `revode data {name}` or download=True, " if name in ARCHIVES else ""
    return f"{fault}: {fetching}set REVODE_DATA to the folder that has it, or use the bundled sample, load('sample', …)"


def _official(name: str, split: str, root: Path) -> ImageSet:
    import torchvision.datasets as official  # takes a second, so only where it is needed

    train = split == "train"
    try:
        with warnings.catch_warnings():
            # numpy 2.4 has a word about how the official files were pickled, which nobody can change.
            warnings.filterwarnings("ignore", message=".*align should be passed", category=Warning)
            if name == "stl10":
                source = official.STL10(root, split=split)
                images, labels, classes = source.data, source.labels, source.classes
            else:
                source = {"cifar10": official.CIFAR10, "cifar100": official.CIFAR100}[name](root, train=train)
                images, labels, classes = source.data.transpose(0, 3, 1, 2), source.targets, source.classes
    except (RuntimeError, AttributeError) as error:  # AttributeError: STL-10 without its class names
        folder = ARCHIVES[name].folder
        if (root / folder).exists():
            raise _NotThere(f"{folder} is incomplete or damaged") from error
        raise _NotThere(f"there is no {folder}") from error
    return _image_set(images, labels, classes, name, split)


def _stl10_subset(split: str, root: Path) -> ImageSet:
    stem = {"train": "train_fold0", "test": "heldout", "test-head": "test_head"}[split]
    n, *checksums = STL10_SUBSET[stem]
    files = [root / "stl10_subset" / f"{stem}_{kind}.bin" for kind in "Xy"]
    for file, checksum in zip(files, checksums):
        if not file.exists():
            raise DataError(_advice("stl10-subset", f"there is no stl10_subset/{file.name} in {root.absolute()}"))
        if hashlib.sha256(file.read_bytes()).hexdigest() != checksum:
            raise DataError(_advice("stl10-subset", f"{file.absolute()} is incomplete or damaged"))
    pixels, labels = (np.fromfile(file, np.uint8) for file in files)
    images = pixels.reshape(n, 3, 96, 96).swapaxes(2, 3)  # the official layout has columns before rows
    return _image_set(images, labels - 1, STL10_CLASSES, "stl10-subset", split)


def _sample(name: str, split: str) -> ImageSet:
    path = bundled() / "sample" / SAMPLES[name]
    try:
        with open(path, "rb") as opened, np.load(opened) as file:
            return _image_set(file[f"x_{split}"], file[f"y_{split}"], file["classes"], name, split)
    except (OSError, KeyError, ValueError, zipfile.BadZipFile) as error:
        raise DataError(f"the bundled sample {path} cannot be read ({error}); install revode anew") from error


def _image_set(images: np.ndarray, labels: Any, classes: Any, name: str, split: str) -> ImageSet:
    return ImageSet(
        torch.from_numpy(np.ascontiguousarray(images)),
        torch.from_numpy(np.array(labels, np.int64)),
        tuple(str(c) for c in classes),
        name,
        split,
    )


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Gives a parser the arguments of ``revode data``."""
    parser.add_argument("name", choices=SPLITS, help="the set")
    parser.add_argument("--root", type=Path, help="its folder (default: $REVODE_DATA, else ./data)")


def main(args: argparse.Namespace) -> int:
    """``revode data NAME [--root FOLDER]``: fetches a set unless it is there, checks it, and tells what it is.

    Returns:
        The exit status, 0.

    Raises:
        DataError: As :func:`load`.
    """
    root = (data_root() if args.root is None else args.root).absolute()
    print(f"{args.name} in {bundled() / 'sample' if args.name in SAMPLES else root}")
    for split in SPLITS[args.name]:
        images = load(args.name, split, root, download=args.name in ARCHIVES)
        counts = sorted(set(images.counts()))
        size = "x".join(str(n) for n in images.images.shape[2:])
        each = f"{counts[0]}" if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
        print(f"  {split:9s} {len(images):6,} images of {size}, {len(images.classes)} classes, {each} of each")
        if split == "train":
            mean, std = (" ".join(f"{value:.4f}" for value in values) for values in images.mean_std())
            print(f"{'':12s}mean {mean}, standard deviation {std} (red green blue, of 0 to 1)")
    return 0
