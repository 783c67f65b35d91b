"""Composed scenes: the mask is exact, scenes repeat, and no pixel comes from images that were not given."""

from __future__ import annotations

import pytest
import torch

from revode import data
from revode.data.compose import GROUND, OBJECTS, RADIUS, WAVE, Scenes

NAMES = ("a", "b", "c", "d", "e", "f")
WANTED = ("e", "b", "d")  # labels 1, 2, 3; a, c and f are ground


def coloured(n: int = 60, side: int = 16) -> data.ImageSet:
    """Images of one colour: red tells the class, green the image."""
    labels = torch.arange(n) % len(NAMES)
    images = torch.zeros(n, 3, side, side, dtype=torch.uint8)
    images[:, 0] = (10 * labels).to(torch.uint8)[:, None, None]
    images[:, 1] = torch.arange(n, dtype=torch.uint8)[:, None, None]
    return data.ImageSet(images, labels, NAMES, "coloured", "train")


def test_the_mask_says_whose_pixel_each_pixel_is():
    scenes, masks = Scenes(coloured(), WANTED, size=28, seed=3).batch(0, 200)
    assert scenes.shape == (200, 3, 28, 28)
    assert scenes.dtype == torch.uint8
    assert masks.shape == (200, 28, 28)
    assert masks.dtype == torch.int64
    label = torch.tensor([WANTED.index(name) + 1 if name in WANTED else 0 for name in NAMES])
    assert torch.equal(masks, label[scenes[:, 0].long() // 10])


def test_a_scene_depends_on_its_number_alone():
    scenes = Scenes(coloured(), WANTED, size=32, seed=5)
    x, masks = scenes.batch(0, 12)
    for first, n in ((0, 5), (5, 4), (9, 3)):
        part = scenes.batch(first, n)
        assert torch.equal(part[0], x[first : first + n])
        assert torch.equal(part[1], masks[first : first + n])
    again, other = (Scenes(coloured(), WANTED, size=32, seed=seed).batch(0, 12) for seed in (5, 6))
    assert torch.equal(again[1], masks)
    assert not torch.equal(other[1], masks)
    assert len({m.numpy().tobytes() for m in masks}) == 12


def test_pixels_are_copied_from_given_images_unchanged():
    """Each image's pixels carry its number and place; the ground and every cut-out show them in order."""
    side, n = 16, 12
    place = torch.arange(side * side, dtype=torch.uint8).reshape(side, side)
    images = torch.stack([torch.stack((torch.full_like(place, 20 + i), place, place // 16)) for i in range(n)])
    given = data.ImageSet(images, torch.arange(n) % len(NAMES), NAMES, "placed", "test")
    scenes, masks = Scenes(given, WANTED, size=2 * side, seed=1).batch(0, 50)
    number, where = scenes[:, 0].long() - 20, scenes[:, 1].long()
    assert number.min() >= 0
    assert number.max() < n
    y, x = where // side, where % side
    for axis, c in ((1, y), (2, x)):  # neighbours in a scene are neighbours in their image, or the mirror's edge
        same = number.diff(dim=axis) == 0
        assert (c.diff(dim=axis).abs()[same & (masks.diff(dim=axis) == 0)] <= 1).float().mean() > 0.95
    lying = masks > 0
    assert ((y - 7.5) ** 2 + (x - 7.5) ** 2)[lying].sqrt().max() < RADIUS[1] * side * (1 + 2 * 2**0.5 * WAVE)
    assert x[lying].float().mean().item() == pytest.approx(7.5, abs=0.2)  # cut from the middle, mirrored or not
    assert y[lying].float().mean().item() == pytest.approx(7.5, abs=0.2)
    edge = (y == 0) | (y == side - 1) | (x == 0) | (x == side - 1)
    assert not (edge & lying).any()  # no straight piece of an image's border is a cue


def test_classes_objects_and_places_are_balanced():
    scenes = Scenes(coloured(), WANTED, size=32, seed=0)
    x, masks = scenes.batch(0, 1500)
    assert scenes.classes == (GROUND, *WANTED)
    there = torch.stack([(masks == k).flatten(1).any(1) for k in range(4)], 1)
    objects = there[:, 1:].sum(1)
    assert objects.float().mean() == pytest.approx(2.5, abs=0.05)
    assert set(objects.tolist()) <= {1, 2, 3}  # one may be hidden
    share = there[:, 1:].float().mean(0)
    assert share.tolist() == pytest.approx([2.5 / 3] * 3, abs=0.04)
    images = torch.stack([torch.stack([(x[i, 1] == j).any() for j in range(60)]).sum() for i in range(20)])
    assert images.max() <= 1 + OBJECTS
    where = (masks > 0).float().mean(0)
    quarters = torch.stack([where[:16, :16], where[:16, 16:], where[16:, :16], where[16:, 16:]]).mean((1, 2))
    assert quarters.tolist() == pytest.approx([quarters.mean().item()] * 4, rel=0.06)


def colours(images: torch.Tensor) -> torch.Tensor:
    red, green, blue = images.long().unbind(1)
    return ((256 * red + green) * 256 + blue).unique()


def test_scenes_of_test_images_have_none_of_the_training_images():
    train, test = data.load("sample", "train"), data.load("sample", "test")
    classes = train.classes[:4]
    for given, other in ((train, test), (test, train)):
        scenes, _ = Scenes(given, classes, size=40, seed=2).batch(0, 20)
        assert torch.isin(colours(scenes), colours(given.images)).all()
        assert not torch.isin(colours(scenes), colours(other.images)).all()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"classes": ("a", "b", "z")}, "z must be of a, b"),
        ({"classes": ("a", "b")}, "three or more"),
        ({"classes": ("a", "b", "b")}, "different"),
        ({"classes": NAMES}, "leave one for the ground"),
        ({"size": 15}, "size = 15 must be from 16 to 32"),
        ({"size": 33}, "size = 33"),
        ({"seed": -1}, "seed must be a whole number"),
    ],
)
def test_bad_settings_are_refused(change, said):
    with pytest.raises(ValueError, match=said):
        Scenes(coloured(), **{"classes": WANTED, "size": 32} | change)


def test_a_class_without_images_is_refused():
    given = coloured()
    few = data.ImageSet(given.images[:4], given.labels[:4], NAMES, "few", "train")
    with pytest.raises(ValueError, match="no image for: e"):
        Scenes(few, WANTED, size=32)
    with pytest.raises(ValueError, match="n must be"):
        Scenes(given, WANTED, size=32).batch(0, 0)
