"""Scenes for segmentation, composed of labelled images: the mask says exactly whose pixel each pixel is.

On a canvas stand two or three *objects* of different classes. Each is an image of the set, cut out along a smooth
random curve that does not touch the image's border, in a place of its own but for some overlap; what is painted later
hides what is under it. The *ground*, labelled 0, is an image of one of the classes that are not asked for, laid out
with its mirror images so that it has no seams and is as sharp as the objects.

So there are no straight borders, and neither sharpness nor place nor size tells one class from another: the content
has to be recognised.

A scene depends on the images, the seed and its number alone, so nothing has to be kept, and a scene of training images
never has a pixel of a test image.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from .sets import ImageSet, bits, whole

__all__ = ["GROUND", "Scenes"]

GROUND = "ground"
SCENES = 3  # what random words are for, beside those of revode.data.sets
OBJECTS = 3  # on a canvas, at most; the last one is missing on half of them
RADIUS = (0.27, 0.34)  # mean radius of a cut-out in sides of its image
WAVE = 0.12  # largest coefficient of the waves of its radius, in mean radii


class Scenes:
    """Scenes composed of the images of a set.

    Args:
        images: The set; scenes are made on its device.
        classes: Names of the classes that are to be found, three or more; their labels are 1, 2, ... in this order.
            All other classes of the set give grounds.
        size: Height and width of a scene, from one to two sides of an image.
        seed: At least 0; gives the scenes of all numbers.

    Attributes:
        classes: Name of each label, 0 first.

    Raises:
        ValueError: A class is not in the set or has no image, there are too few of them, none is left for the ground,
            or size or seed is out of range.
    """

    def __init__(self, images: ImageSet, classes: Sequence[str], *, size: int = 64, seed: int = 0) -> None:
        self.images, self.size, self.seed = images, whole("size", size, 1), whole("seed", seed, 0)
        if unknown := [c for c in classes if c not in images.classes]:
            raise ValueError(f"classes: {', '.join(map(str, unknown))} must be of {', '.join(images.classes)}")
        self.side = images.images.shape[2]
        if images.images.shape[3] != self.side or not self.side <= size <= 2 * self.side:
            raise ValueError(
                f"size = {size} must be from {self.side} to {2 * self.side}, one to two sides of the square images, "
                f"which are {tuple(images.images.shape[2:])}"
            )
        wanted = [images.classes.index(c) for c in classes]
        others = [k for k in range(len(images.classes)) if k not in wanted]
        if len(set(wanted)) != len(classes) or len(wanted) < 3 or not others:
            raise ValueError(
                f"classes = {tuple(classes)} must be three or more different names, and leave one for the ground"
            )
        self.classes = (GROUND, *classes)
        labels = images.labels.cpu()
        # Positions in the set of each label's images: row 0 those of the ground's classes.
        members = [torch.isin(labels, torch.tensor(k)).nonzero()[:, 0] for k in (others, *([k] for k in wanted))]
        if empty := [c for c, m in zip(self.classes, members) if not len(m)]:
            raise ValueError(f"the set has no image for: {', '.join(empty)}; take a larger one")
        self._members = torch.nn.utils.rnn.pad_sequence(members, batch_first=True)
        self._counts = torch.tensor([len(m) for m in members])

    def __repr__(self) -> str:
        found = ", ".join(self.classes[1:])
        return f"Scenes({self.images.name} {self.images.split}: {found} on {self.size}x{self.size}, seed {self.seed})"

    def _drawn(self, first: int, n: int) -> Tensor:
        """Random numbers in [0, 1) for scenes first, ..., first + n - 1: float64 (n, 1 + OBJECTS, ...)."""
        shape = (1 + OBJECTS, 9 + len(self.classes))  # of the canvas and of each object; more than are used
        words = np.stack([bits(self.seed, SCENES, first + i).random_raw(shape) for i in range(n)])
        return torch.from_numpy((words >> np.uint64(11)).astype(np.float64) * 2.0**-53)

    def _image(self, label: Tensor, u: Tensor) -> Tensor:
        """Position in the set of a random image of each label."""
        return self._members[label, (u * self._counts[label]).long()]

    def batch(self, first: int, n: int) -> tuple[Tensor, Tensor]:
        """Scenes number first, ..., first + n - 1: uint8 images (n, 3, size, size), int64 masks (n, size, size).

        Raises:
            ValueError: ``first`` is no whole number from 0 up, or ``n`` none from 1 up.
        """
        first, n = whole("first", first, 0), whole("n", n, 1)
        device, side, size = self.images.images.device, self.side, self.size
        u = self._drawn(first, n)
        canvas, own = u[:, 0], u[:, 1:]
        label = 1 + canvas[:, 8 : 7 + len(self.classes)].argsort(1)[:, :OBJECTS]
        there = (torch.arange(OBJECTS) < OBJECTS - 1) | (canvas[:, :1] < 0.5)
        places = canvas[:, 4:8].argsort(1)[:, :OBJECTS]
        room = size - side
        corner = torch.stack((places // 2, places % 2), -1)  # of a 2 x 2 grid, and up to a quarter of the room inwards
        corner = (corner * room + (1 - 2 * corner) * (own[..., 0:2] * (room // 4 + 1)).long()).to(device)
        position = self._image(label, own[..., 2]).to(device)
        flip = (own[..., 3] < 0.5).to(device)
        radius = (side * (RADIUS[0] + (RADIUS[1] - RADIUS[0]) * own[..., 4])).to(device)
        waves = (WAVE * (2 * own[..., 5:9] - 1)).to(device)
        ground = self._image(torch.zeros(n, dtype=torch.int64), canvas[:, 1]).to(device)
        shift = (canvas[:, 2:4] * 2 * side).long().to(device)

        pixels = self.images.images.movedim(1, -1)
        at = torch.arange(size, device=device)
        mirrored = [(at + shift[:, i, None]) % (2 * side) for i in (0, 1)]
        y, x = (torch.where(m < side, m, 2 * side - 1 - m) for m in mirrored)
        scenes = pixels[ground[:, None, None], y[:, :, None], x[:, None, :]]
        masks = torch.zeros(n, size, size, dtype=torch.int64, device=device)
        label, there = label.to(device), there.to(device)
        for k in range(OBJECTS):
            dy, dx = (at - corner[:, k, i, None] for i in (0, 1))  # in the image that is cut out
            inside = self._inside(dy[:, :, None], dx[:, None, :], radius[:, k], waves[:, k])
            b, row, column = (inside & there[:, k, None, None]).nonzero(as_tuple=True)
            y, x = dy[b, row], dx[b, column]
            x = torch.where(flip[b, k], side - 1 - x, x)
            scenes[b, row, column] = pixels[position[b, k], y, x]
            masks[b, row, column] = label[b, k]
        return scenes.movedim(-1, 1).contiguous(), masks

    def _inside(self, y: Tensor, x: Tensor, radius: Tensor, waves: Tensor) -> Tensor:
        """Whether pixels of an image lie in its cut-out: r < R (1 + a cos 2t + b sin 2t + c cos 3t + d sin 3t)."""
        y, x = y - (self.side - 1) / 2, x - (self.side - 1) / 2
        r = (y * y + x * x).sqrt().clamp_min(1e-9)
        cos, sin = x / r, y / r
        cos2, sin2 = cos * cos - sin * sin, 2 * cos * sin
        cos3, sin3 = cos * cos2 - sin * sin2, sin * cos2 + cos * sin2
        a, b, c, d = waves[:, :, None, None].unbind(1)
        return r < radius[:, None, None] * (1 + a * cos2 + b * sin2 + c * cos3 + d * sin3)
