"""The augmentation's law is torchvision's, and its crops and flips are torchvision's bit for bit."""

import itertools

import numpy as np
import pytest
import torch
from torchvision.transforms import Compose, RandomCrop, RandomHorizontalFlip
from torchvision.transforms import functional as official

from revode import augment


def images(n, height=32, width=32, dtype=torch.uint8):
    return torch.randint(1, 256, (n, 3, height, width), generator=torch.Generator().manual_seed(n)).to(dtype)


def chi_square(observed, expected):
    """How many standard deviations Pearson's statistic lies above its mean."""
    observed, expected = np.broadcast_arrays(observed, expected)
    freedom = observed.size - 1
    return (((observed - expected) ** 2 / expected).sum() - freedom) / (2 * freedom) ** 0.5


@pytest.mark.parametrize("pad", [0, 1, 4])
@pytest.mark.parametrize("shape", [(32, 32), (8, 12)])
@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
def test_apply_is_torchvisions_crop_and_flip_bit_for_bit(pad, shape, dtype):
    x = images(64, *shape, dtype)
    before = x.clone()
    dy, dx, flip = augment.draw(64, pad, 1)
    result = augment.apply(x, dy, dx, flip, pad)
    for i in range(64):
        crop = official.crop(official.pad(x[i], [pad]), int(dy[i]), int(dx[i]), *shape)
        assert torch.equal(result[i], official.hflip(crop) if flip[i] else crop)
    assert result.dtype == dtype
    assert torch.equal(x, before)


def test_padding_is_black_and_offsets_count_from_the_padded_corner():
    x = images(3)
    none = torch.zeros(3, dtype=torch.bool)
    corner = augment.apply(x, torch.zeros(3, dtype=torch.int64), torch.full((3,), 8), none)
    assert not corner[:, :, :4].any()
    assert not corner[:, :, :, -4:].any()
    assert torch.equal(corner[:, :, 4:, :-4], x[:, :, :-4, 4:])


def test_every_place_and_mirroring_is_as_likely():
    """All 9 x 9 x 2 outcomes alike: uniform offsets, flips of 1/2, independent of each other."""
    dy, dx, flip = (d.numpy() for d in augment.draw(162 * 600, 4, np.random.PCG64(5)))
    counts = np.bincount((dy * 9 + dx) * 2 + flip, minlength=162)
    assert abs(chi_square(counts, 600)) < 4


def test_images_are_drawn_independently():
    """Each image's draw says nothing of the next one's, nor one step's of the next step's."""
    dy, dx, flip = (d.numpy() for d in augment.draw(81 * 600 + 1, 4, np.random.PCG64(6)))
    for a, b in itertools.product((dy, dx), repeat=2):
        assert abs(chi_square(np.bincount(a[:-1] * 9 + b[1:], minlength=81), 600)) < 4
    assert abs(chi_square(np.bincount(flip[:-1] * 2 + flip[1:], minlength=4), len(flip) / 4)) < 4


def test_the_law_is_torchvisions():
    """torchvision's own transforms lead to the same outcomes, as often: a two-sample chi-square over all of them."""
    torch.manual_seed(0)
    x = torch.arange(1, 32 * 32 + 1, dtype=torch.int32).reshape(1, 1, 32, 32)  # each pixel tells where it was
    outcomes = {}
    for cell, (dy, dx, flip) in enumerate(itertools.product(range(9), range(9), (False, True))):
        one = augment.apply(x, torch.tensor([dy]), torch.tensor([dx]), torch.tensor([flip]))
        outcomes[one.numpy().tobytes()] = cell
    assert len(outcomes) == 162
    transform = Compose([RandomCrop(32, padding=4), RandomHorizontalFlip(0.5)])
    n = 162 * 25
    theirs = np.bincount([outcomes[transform(x).numpy().tobytes()] for _ in range(n)], minlength=162)
    mine = augment.random_crop_flip(x.expand(n, 1, 32, 32), 4, 7)
    mine = np.bincount([outcomes[one.numpy().tobytes()] for one in mine], minlength=162)
    freedom = 161
    statistic = ((theirs - mine) ** 2 / (theirs + mine)).sum()
    assert abs(statistic - freedom) < 4 * (2 * freedom) ** 0.5


def test_draws_of_a_seed_are_the_same_on_every_machine():
    dy, dx, flip = augment.draw(6, 4, 2026)
    assert dy.tolist() == [1, 4, 5, 2, 4, 3]
    assert dx.tolist() == [2, 0, 7, 8, 8, 2]
    assert flip.int().tolist() == [1, 0, 1, 0, 1, 1]
    for again in (np.random.PCG64(2026), np.random.default_rng(2026)):
        assert torch.equal(dy, augment.draw(6, 4, again)[0])
    generator = np.random.default_rng(2026)
    augment.draw(6, 4, generator)
    assert not torch.equal(dy, augment.draw(6, 4, generator)[0])
    assert {d.dtype for d in (dy, dx)} == {torch.int64}
    assert flip.dtype == torch.bool


def test_random_crop_flip_is_draw_then_apply():
    x = images(50)
    assert torch.equal(augment.random_crop_flip(x, 2, 3), augment.apply(x, *augment.draw(50, 2, 3), pad=2))
    assert not torch.equal(augment.random_crop_flip(x, 2, 3), augment.random_crop_flip(x, 2, 4))
    assert augment.random_crop_flip(x[:0]).shape == (0, 3, 32, 32)


def test_bad_input_is_refused():
    x = images(5)
    dy, dx, flip = augment.draw(5, 4, 0)
    with pytest.raises(ValueError, match="neither can be negative: n=-1"):
        augment.draw(-1, 4, 0)
    with pytest.raises(ValueError, match="neither can be negative: n=5, pad=-1"):
        augment.draw(5, -1, 0)
    for function in (lambda: augment.apply(x[0], dy, dx, flip), lambda: augment.random_crop_flip(x[0])):
        with pytest.raises(ValueError, match=r"images must be a batch .* not \(3, 32, 32\)"):
            function()
    with pytest.raises(ValueError, match=r"dy must be torch.int64 of shape \(5,\)"):
        augment.apply(x, dy[:4], dx, flip)
    with pytest.raises(ValueError, match="dx must be"):
        augment.apply(x, dy, dx.float(), flip)
    with pytest.raises(ValueError, match="flip must be"):
        augment.apply(x, dy, dx, flip.long())
    with pytest.raises(ValueError, match=r"dy must lie in 0\.\.8"):
        augment.apply(x, dy + 9, dx, flip)
    with pytest.raises(ValueError, match=r"dx must lie in 0\.\.8"):
        augment.apply(x, dy, dx - 9, flip)
