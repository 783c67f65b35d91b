"""Reading the sets, choosing subsets, and batches that are a pure function of seed and step."""

import argparse
import hashlib
import pickle

import numpy as np
import pytest
import torch
import torchvision.datasets as official
from torchvision.transforms import functional as transforms

from revode import augment
from revode.data import SPLITS, Batches, ImageSet, add_arguments, evaluation_batches, load, main, normalize, sets
from revode.errors import DataError
from revode.paths import bundled, data_root


def md5(path):
    return hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()


def image_set(n=60, classes=10, size=8, seed=0):
    """Random images whose labels go round the classes."""
    generator = torch.Generator().manual_seed(seed)
    images = torch.randint(0, 256, (n, 3, size, size), dtype=torch.uint8, generator=generator)
    return ImageSet(images, torch.arange(n) % classes, tuple(f"class {c}" for c in range(classes)), "toy", "train")


# --- reading


@pytest.fixture
def tiny(tmp_path, monkeypatch):
    """Every set in its official layout with a few random images, and torchvision's checksums set to these files'."""
    random = np.random.default_rng(0)

    def write(path, contents):
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(contents)
        return [path.name, md5(path)]

    truth = {}

    def cifar(cls, train, test, names, label_key, names_key):
        folder, lists, n_classes = tmp_path / cls.base_folder, {}, len(names)
        for split, files in (("train", train), ("test", test)):
            lists[split], x, y = [], [], []
            for file in files:
                x.append(random.integers(0, 256, (7, 3072), dtype=np.uint8))
                y.append(random.integers(0, n_classes, 7).tolist())
                lists[split].append(write(folder / file, pickle.dumps({"data": x[-1], label_key: y[-1]})))
            truth[cls, split] = np.concatenate(x).reshape(-1, 3, 32, 32), np.concatenate(y).tolist()
        monkeypatch.setattr(cls, "train_list", lists["train"])
        monkeypatch.setattr(cls, "test_list", lists["test"])
        file, checksum = write(folder / cls.meta["filename"], pickle.dumps({names_key: names}))
        monkeypatch.setattr(cls, "meta", {"filename": file, "key": names_key, "md5": checksum})

    names = [f"class {c}" for c in range(100)]
    cifar(official.CIFAR10, ["data_batch_1", "data_batch_2"], ["test_batch"], names[:10], "labels", "label_names")
    cifar(official.CIFAR100, ["train"], ["test"], names, "fine_labels", "fine_label_names")

    def stl10(folder, part, n):
        x = random.integers(0, 256, (n, 3, 96, 96), dtype=np.uint8)
        y = random.integers(0, 10, n)
        stored = x.swapaxes(2, 3).tobytes(), (y + 1).astype(np.uint8).tobytes()
        return [write(folder / f"{part}_{k}.bin", c) for k, c in zip("Xy", stored)], (x, y.tolist())

    folder = tmp_path / "stl10_binary"
    for split, attribute in (("train", "train_list"), ("test", "test_list"), ("unlabeled", None)):
        files, truth[official.STL10, split] = stl10(folder, split, 5)
        if attribute:
            monkeypatch.setattr(official.STL10, attribute, files)
    write(folder / "class_names.txt", "\n".join(sets.STL10_CLASSES).encode())
    parts = {}
    for split, part in (("train", "train_fold0"), ("test", "heldout"), ("test-head", "test_head")):
        files, truth["subset", split] = stl10(tmp_path / "stl10_subset", part, 4)
        checksums = [hashlib.sha256((tmp_path / "stl10_subset" / f).read_bytes()).hexdigest() for f, _ in files]
        parts[part] = (4, *checksums)
    monkeypatch.setattr(sets, "STL10_SUBSET", parts)
    return tmp_path, truth


KINDS = {"cifar10": official.CIFAR10, "cifar100": official.CIFAR100, "stl10": official.STL10, "stl10-subset": "subset"}


@pytest.mark.parametrize(("name", "split"), [(name, split) for name in KINDS for split in SPLITS[name]])
def test_load_reads_the_official_layouts(tiny, name, split):
    root, truth = tiny
    images, labels = truth[KINDS[name], split]
    result = load(name, split, root)
    assert np.array_equal(result.images.numpy(), images)
    assert result.labels.tolist() == labels
    assert len(result.classes) == (100 if name == "cifar100" else 10)
    assert (result.name, result.split) == (name, split)
    assert result.images.is_contiguous()


def test_pixels_are_those_that_torchvision_gives(tiny):
    root, _ = tiny
    for name in ("cifar10", "cifar100", "stl10"):
        theirs = KINDS[name](root, **({"split": "test"} if name == "stl10" else {"train": False}))
        mine = load(name, "test", root)
        for i, (picture, label) in enumerate(theirs):
            assert torch.equal(transforms.pil_to_tensor(picture), mine.images[i])
            assert label == mine.labels[i]


def test_the_default_root_is_revode_data_else_data(tiny, monkeypatch):
    root, _ = tiny
    monkeypatch.setenv("REVODE_DATA", str(root))
    assert len(load("cifar10", "train")) == 14
    monkeypatch.delenv("REVODE_DATA")
    monkeypatch.chdir(root)
    with pytest.raises(DataError, match=str(root / "data")):
        load("cifar10", "train")


@pytest.mark.parametrize("name", ["cifar10", "cifar100", "stl10", "stl10-subset"])
def test_an_absent_set_is_one_sentence_that_names_the_ways_out(tmp_path, name):
    with pytest.raises(DataError) as error:
        load(name, "train", tmp_path)
    message = str(error.value)
    assert "\n" not in message
    assert str(tmp_path) in message
    ways = ["load('sample'", "REVODE_DATA"]
    if name != "stl10-subset":
        ways += [f"revode data {name}", "download=True"]
    for way in ways:
        assert way in message


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("cifar10", "cifar-10-batches-py/data_batch_2"),
        ("cifar10", "cifar-10-batches-py/batches.meta"),
        ("cifar100", "cifar-100-python/test"),
        ("stl10", "stl10_binary/train_X.bin"),
        ("stl10-subset", "stl10_subset/train_fold0_y.bin"),
    ],
)
def test_a_damaged_file_is_refused(tiny, name, file):
    root, _ = tiny
    path = root / file
    contents = bytearray(path.read_bytes())
    contents[-1] ^= 1
    path.write_bytes(contents)
    with pytest.raises(DataError, match="incomplete or damaged"):
        load(name, "train", root)


def test_stl10_without_its_class_names_is_incomplete(tiny):
    root, _ = tiny
    (root / "stl10_binary" / "class_names.txt").unlink()
    with pytest.raises(DataError, match="stl10_binary is incomplete"):
        load("stl10", "train", root)


def test_load_refuses_unknown_names(tmp_path):
    with pytest.raises(ValueError, match=r"name must be one of cifar10, .* not 'mnist'"):
        load("mnist", "train")
    with pytest.raises(ValueError, match="split of stl10 must be one of train, test, not 'unlabeled'"):
        load("stl10", "unlabeled")
    with pytest.raises(ValueError, match="download must be False for 'stl10-subset'"):
        load("stl10-subset", "train", tmp_path, download=True)


def test_the_sample_is_real_and_balanced():
    train, test = load("sample", "train"), load("sample", "test")
    assert train.counts() == (26,) * 10
    assert test.counts() == (13,) * 10
    assert train.classes == test.classes
    assert train.classes[:3] == ("airplane", "automobile", "bird")
    for images, digest in (
        (train, "ffe54adc0888249900586d42edd077c23f2806767e1b4471e0dc96e30f1938b8"),
        (test, "5e5721f3422704c78067e65c9840b8cfcd8448e761809d9390439b50038e3d24"),
    ):
        assert hashlib.sha256(images.images.numpy().tobytes()).hexdigest() == digest


@pytest.mark.parametrize(
    ("name", "each", "side", "digests"),
    [
        (
            "cifar100-sample",
            (2, 1),
            32,
            (
                "d2439acde99a0195fb894bb9973e766294c90b5fc6e08356bb7f770abb73e9f4",
                "c0c0251d6fa624cd569ca4d0a65a86cce52ba1f7b01d8dd86e68e8346f275bc8",
            ),
        ),
        (
            "stl10-sample",
            (2, 1),
            96,
            (
                "df57f012c3be31df99e9546b166b5a9f500f47a6260571385bf2893e25d885b1",
                "637bc24482999fb22b891e611f874c5ae9ffdb09aa6d9707c273c0c7d7acfe5a",
            ),
        ),
    ],
)
def test_the_other_samples_are_the_first_images_of_each_class(name, each, side, digests):
    train, test = load(name, "train"), load(name, "test")
    n = len(train.classes)
    for images, k, digest in zip((train, test), each, digests):
        assert images.labels.tolist() == [*range(n)] * k, "each prefix is balanced"
        assert images.images.shape[1:] == (3, side, side)
        assert hashlib.sha256(images.images.numpy().tobytes()).hexdigest() == digest
    official = {"cifar100-sample": ("cifar100", "cifar-100-python"), "stl10-sample": ("stl10-subset", "stl10_subset")}
    whole, folder = official[name]
    if (data_root() / folder).is_dir():  # from what it was cut
        for images, k, split in ((train, each[0], "train"), (test, each[1], "test-head" if side == 96 else "test")):
            source = load(whole, split)
            assert source.classes == images.classes
            firsts = [int((source.labels == c).nonzero()[i]) for i in range(k) for c in range(n)]
            assert torch.equal(source.images[firsts], images.images)
    assert (bundled() / "sample" / sets.SAMPLES[name]).stat().st_size < 900_000


def test_a_broken_sample_is_a_clear_error(tmp_path, monkeypatch):
    monkeypatch.setattr(sets, "bundled", lambda: tmp_path)
    with pytest.raises(DataError, match=r"bundled sample .* cannot be read"):
        load("sample", "train")
    (tmp_path / "sample").mkdir()
    whole = (bundled() / "sample" / "cifar10_sample.npz").read_bytes()
    (tmp_path / "sample" / "cifar10_sample.npz").write_bytes(whole[:5000])
    with pytest.raises(DataError, match=r"bundled sample .* cannot be read"):
        load("sample", "train")


# Split, images, mean and deviation: CIFAR's are the values in common use, rounded as they are.
KNOWN = {
    "cifar10": (50_000, 10_000, (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)),
    "cifar100": (50_000, 10_000, (0.5071, 0.4865, 0.4409), (0.2673, 0.2564, 0.2762)),
    "sample": (260, 130, (0.4936, 0.4840, 0.4479), (0.2433, 0.2402, 0.2552)),
}


def test_mean_and_deviation_of_the_sets_at_hand():
    """Always of the sample; also of CIFAR where $REVODE_DATA (or ./data) has it."""
    folders = {"cifar10": "cifar-10-batches-py", "cifar100": "cifar-100-python"}
    at_hand = ["sample"] + [name for name, folder in folders.items() if (data_root() / folder).is_dir()]
    for name in at_hand:
        n_train, n_test, mean, std = KNOWN[name]
        train = load(name, "train")
        assert (len(train), len(load(name, "test"))) == (n_train, n_test)
        assert train.mean_std() == (pytest.approx(mean, abs=5.1e-5), pytest.approx(std, abs=5.1e-5))


# --- image sets


def test_mean_std_is_exact():
    images = image_set(1100)  # more than two chunks
    x = images.images.numpy().astype(np.float64) / 255
    mean, std = images.mean_std()
    assert mean == pytest.approx(x.mean((0, 2, 3)), rel=1e-14)
    assert std == pytest.approx(x.std((0, 2, 3)), rel=1e-13)
    reverse = ImageSet(images.images.flip(0), images.labels.flip(0), images.classes, "toy", "train")
    assert reverse.mean_std() == (mean, std)
    white = ImageSet(torch.full((2, 3, 4, 4), 255, dtype=torch.uint8), torch.tensor([0, 1]), ("a", "b"), "toy", "train")
    assert white.mean_std() == ((1.0, 1.0, 1.0), (0.0, 0.0, 0.0))


@pytest.mark.parametrize("seed", [0, 1, 12345678901234567890])
def test_subsets_are_stratified_nested_and_without_repetition(seed):
    images = image_set(300, classes=7)
    # So that each image is known by its first pixels.
    images.images[:, 0, 0, 0], images.images[:, 0, 0, 1] = torch.arange(300) % 256, torch.arange(300) // 256
    everything = images.subset(294, seed)
    for n in (1, 6, 7, 8, 50, 293):
        subset = images.subset(n, seed)
        assert len(subset) == n
        assert max(subset.counts()) - min(subset.counts()) <= 1
        assert torch.equal(subset.images, everything.images[:n])
        assert torch.equal(subset.labels, everything.labels[:n])
    position = everything.images[:, 0, 0, 0].long() + 256 * everything.images[:, 0, 0, 1].long()
    assert len(position.unique()) == 294
    assert torch.equal(images.images[position], everything.images)
    assert torch.equal(images.labels[position], everything.labels)


def test_the_seed_chooses_the_images_and_the_classes_with_one_more():
    images = image_set(100)
    more = torch.stack([torch.bincount(images.subset(23, seed).labels, minlength=10) == 3 for seed in range(200)])
    assert more.sum(1).eq(3).all()
    assert (more.float().mean(0) - 0.3).abs().max() < 5 * (0.3 * 0.7 / 200) ** 0.5
    assert len({images.subset(10, seed).images.numpy().tobytes() for seed in range(50)}) == 50


def test_subsets_are_the_same_on_every_machine():
    sample = load("sample", "train")
    place = {image.numpy().tobytes(): i for i, image in enumerate(sample.images)}
    chosen = [place[image.numpy().tobytes()] for image in sample.subset(12, 0).images]
    assert chosen == [143, 135, 199, 30, 16, 78, 132, 77, 111, 234, 48, 244]
    labels = torch.arange(50_000) % 10
    big = ImageSet(torch.zeros(50_000, 3, 1, 1, dtype=torch.uint8), labels, sample.classes, "toy", "train")
    big.images[:, 0, 0, 0], big.images[:, 1, 0, 0] = torch.arange(50_000) % 256, torch.arange(50_000) // 256
    digest = hashlib.sha256(big.subset(10_000, 1).images.numpy().tobytes()).hexdigest()
    assert digest == "b6de911652eb04372e2d07e00a27e252c5e31639bb5946354a680fec5f383f92"


def test_impossible_subsets_are_refused():
    images = image_set(25)  # counts 3 and 2
    assert images.subset(25, 0).counts() == images.counts()
    with pytest.raises(ValueError, match="n must be at most 25"):
        images.subset(26, 0)
    uneven = ImageSet(images.images[:5], torch.tensor([0, 0, 0, 1, 1]), ("a", "b", "c"), "toy", "train")
    assert uneven.subset(2, 0).counts() == (1, 1, 0)
    with pytest.raises(ValueError, match=r"n must be at most 2 .* 0 of its rarest class, not 3"):
        uneven.subset(3, 0)
    for n in (0, -1, 2.0, True, "3", None):
        with pytest.raises(ValueError, match="n must be a whole number, at least 1"):
            images.subset(n, 0)
    with pytest.raises(ValueError, match="seed must be a whole number, at least 0, not -1"):
        images.subset(5, -1)
    assert len(images.subset(np.int64(5), np.int32(0))) == 5


def test_image_sets_refuse_what_does_not_fit():
    good = image_set(4)
    for images in (good.images.float(), good.images[:, :2], good.images[0], good.images[:0]):
        with pytest.raises(ValueError, match="images must be uint8"):
            ImageSet(images, good.labels, good.classes, "toy", "train")
    for labels in (good.labels[:3], good.labels.int(), good.labels.to("meta")):
        with pytest.raises(ValueError, match="labels must be int64"):
            ImageSet(good.images, labels, good.classes, "toy", "train")
    for labels in (good.labels - 1, good.labels + 7):
        with pytest.raises(ValueError, match=r"labels must lie in 0\.\.9"):
            ImageSet(good.images, labels, good.classes, "toy", "train")


def test_repr_is_one_line():
    assert repr(image_set(4)) == "ImageSet(toy train: 4 images 3x8x8, 10 classes, cpu)"


# --- batches


def test_normalize_is_torchvisions():
    images = image_set(5)
    mean, std = images.mean_std()
    for given in ((mean, std), (torch.tensor(mean), np.array(std))):
        result = normalize(images.images, *given)
        for image, mine in zip(images.images, result):
            theirs = transforms.normalize(transforms.convert_image_dtype(image), mean, std)
            assert torch.equal(mine, theirs)
    everything = normalize(images.images, mean, std).double()
    assert everything.mean((0, 2, 3)).abs().max() < 1e-6
    assert everything.std((0, 2, 3), correction=0) == pytest.approx(np.ones(3), abs=1e-6)


def test_normalize_refuses_what_does_not_fit():
    x, third = image_set(2).images, (0.3, 0.3, 0.3)
    with pytest.raises(ValueError, match="images must be uint8"):
        normalize(x.float(), third, third)
    for mean in ((0.3, 0.3), (0.3, 0.3, float("nan"))):
        with pytest.raises(ValueError, match="mean must be 3 finite numbers"):
            normalize(x, mean, third)
    for std in ((0.3,), (0.3, 0.3, 0.0)):
        with pytest.raises(ValueError, match="std must be 3 positive numbers"):
            normalize(x, third, std)


def same(a, b):
    return torch.equal(a[0], b[0]) and torch.equal(a[1], b[1])


def test_batches_are_a_pure_function_of_seed_and_step():
    images = image_set()
    one, other = Batches(images, 20, 3), Batches(images, 20, 3)
    forward = {step: one[step] for step in range(9)}
    for step in (8, 0, 4, 4, 2, 7, 3):  # in whatever order, as often as wanted
        assert same(other[step], forward[step])
    torch.manual_seed(1)
    np.random.default_rng(1)
    assert same(other[5], forward[5])
    assert not same(Batches(images, 20, 4)[5], forward[5])


def test_an_epoch_sees_each_image_once_and_each_epoch_has_its_own_order():
    images = image_set(65)
    batches = Batches(images, 20, 0)
    assert batches.steps_per_epoch == 3
    seen = np.array([[batches.indices(3 * epoch + step) for step in range(3)] for epoch in range(4)]).reshape(4, 60)
    assert all(len(set(epoch)) == 60 for epoch in seen.tolist())
    assert len({tuple(epoch) for epoch in seen.tolist()}) == 4
    assert set(seen.flatten()) == set(range(65))  # no image is left out of every epoch
    batches = Batches(images, 20, 0, drop_last=False)
    assert batches.steps_per_epoch == 4
    assert sorted(np.concatenate([batches.indices(step) for step in range(4)])) == list(range(65))
    assert batches[3][0].shape == (5, 3, 8, 8)


def test_each_place_of_an_epoch_is_as_likely_for_each_image():
    batches = Batches(image_set(10), 10, 0)
    counts = np.zeros((10, 10))
    for epoch in range(2000):
        counts[batches.indices(epoch), np.arange(10)] += 1
    # Rows and columns have fixed sums: 81 degrees of freedom, each of variance 2000 / (10 - 1).
    statistic = ((counts - 200) ** 2).sum() / (2000 / 9)
    assert abs(statistic - 81) < 4 * (2 * 81) ** 0.5


def test_a_batch_is_its_images_augmented_and_normalised():
    images = image_set()
    mean, std = images.mean_std()
    plain, augmented = Batches(images, 20, 3, augment=False), Batches(images, 20, 3)
    x, y = plain[7]
    index = torch.from_numpy(plain.indices(7))
    assert torch.equal(x, normalize(images.images[index], mean, std))
    assert torch.equal(y, images.labels[index])
    draws = augment.draw(20, 4, sets.bits(3, sets.AUGMENTATION, 7))
    assert same(augmented[7], (normalize(augment.apply(images.images[index], *draws), mean, std), y))
    assert (x.dtype, y.dtype) == (torch.float32, torch.int64)


def test_augmentation_differs_from_step_to_step():
    images = image_set(20, size=32)
    batches = Batches(images, 20, 0)
    draws = [augment.draw(20, 4, sets.bits(0, sets.AUGMENTATION, step))[0].tolist() for step in range(50)]
    assert len(set(map(tuple, draws))) == 50
    assert not torch.equal(batches[0][0].sort(0).values, batches[1][0].sort(0).values)


@pytest.mark.parametrize("world", [1, 2, 4, 5])
@pytest.mark.parametrize("augmented", [True, False])
def test_processes_share_the_batch_of_one(world, augmented):
    images = image_set()
    alone = Batches(images, 20, 0, augment=augmented)
    parts = [Batches(images, 20, 0, augment=augmented, rank=rank, world=world) for rank in range(world)]
    for step in (0, 3, 8):
        each = [part[step] for part in parts]
        assert {len(y) for _, y in each} == {20 // world}
        assert same([torch.cat(side) for side in zip(*each)], alone[step])


def test_batches_are_the_same_on_every_machine():
    batches = Batches(load("sample", "train"), 100, 0)
    assert batches.indices(0)[:8].tolist() == [198, 238, 105, 186, 234, 103, 111, 237]
    assert batches.indices(2)[:8].tolist() == [70, 38, 159, 125, 150, 253, 145, 127]
    dy, dx, _ = augment.draw(100, 4, sets.bits(0, sets.AUGMENTATION, 2))
    assert (dy[:4].tolist(), dx[:4].tolist()) == ([4, 3, 2, 5], [3, 4, 3, 0])


def test_mean_and_deviation_come_from_the_training_images_or_as_given():
    images = image_set()
    assert (Batches(images, 20, 0).mean, Batches(images, 20, 0).std) == images.mean_std()
    given = Batches(images, 20, 0, augment=False, mean=(0.1, 0.2, 0.3), std=(0.5, 0.6, 0.7))
    index = torch.from_numpy(given.indices(0))
    assert torch.equal(given[0][0], normalize(images.images[index], (0.1, 0.2, 0.3), (0.5, 0.6, 0.7)))
    assert given.mean == (0.1, 0.2, 0.3)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"batch_size": 0}, "batch_size must be a whole number, at least 1, not 0"),
        ({"batch_size": 61}, "batch_size must be at most 60"),
        ({"batch_size": 2.5}, "batch_size must be a whole number"),
        ({"seed": -1}, "seed must be a whole number, at least 0"),
        ({"seed": None}, "seed must be a whole number"),
        ({"world": 0}, "world must be a whole number, at least 1"),
        ({"rank": 1}, "rank must be less than world"),
        ({"rank": -1, "world": 2}, "rank must be a whole number, at least 0"),
        ({"world": 3}, "each of 3 processes gets equally many images, not 20"),
        ({"batch_size": 22, "world": 2, "drop_last": False}, None),
        ({"batch_size": 34, "world": 17, "drop_last": False}, "leaves 26 for an epoch's last batch"),
        ({"pad": -1}, "pad must be a whole number, at least 0"),
        ({"mean": (0.5, 0.5, 0.5)}, "mean and std are given both or neither"),
        ({"mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0)}, "std must be 3 positive numbers"),
    ],
)
def test_batches_refuse_what_cannot_be(arguments, message):
    make = lambda: Batches(image_set(), **({"batch_size": 20, "seed": 0} | arguments))  # noqa: E731
    if message is None:
        assert make().steps_per_epoch == 3
        return
    with pytest.raises(ValueError, match=message):
        make()


def test_a_step_is_a_whole_number_and_batches_have_no_end():
    batches = Batches(image_set(), 20, 0)
    for step in (-1, 1.0):
        with pytest.raises(ValueError, match="step must be a whole number, at least 0"):
            batches[step]
    with pytest.raises(TypeError, match="not iterable"):
        iter(batches)
    assert repr(Batches(image_set(), 20, 0, rank=1, world=2)).endswith("20 a batch, seed 0, rank 1 of 2)")


def test_evaluation_goes_through_the_set_in_order_and_never_augments():
    images, given = image_set(65), ((0.1, 0.2, 0.3), (0.5, 0.6, 0.7))
    batches = list(evaluation_batches(images, 20, *given))
    assert [len(y) for _, y in batches] == [20, 20, 20, 5]
    assert same([torch.cat(side) for side in zip(*batches)], (normalize(images.images, *given), images.labels))
    with pytest.raises(ValueError, match="batch_size must be a whole number"):
        evaluation_batches(images, 0, *given)
    with pytest.raises(ValueError, match="std must be 3 positive"):
        evaluation_batches(images, 20, given[0], (0, 0, 0))


@pytest.mark.needs_cuda
def test_cuda_sees_the_batches_of_the_cpu():
    images = image_set(size=32)
    here, there = Batches(images, 20, 0), Batches(images.to("cuda"), 20, 0)
    assert there.mean == here.mean
    for step in (0, 5):
        (x, y), (x_cuda, y_cuda) = here[step], there[step]
        assert x_cuda.is_cuda
        assert torch.equal(y, y_cuda.cpu())
        torch.testing.assert_close(x, x_cuda.cpu())


# --- revode data


def run_command(*arguments):
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    return main(parser.parse_args(arguments))


def test_the_command_tells_where_the_set_is_and_what_it_is(tiny, capsys):
    root, _ = tiny
    assert run_command("cifar10", "--root", str(root)) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"cifar10 in {root}"
    assert "14 images of 32x32, 10 classes" in lines[1]
    mean, _ = load("cifar10", "train", root).mean_std()
    assert f"mean {mean[0]:.4f} {mean[1]:.4f} {mean[2]:.4f}," in lines[2]
    assert "7 images of 32x32" in lines[3]
    assert run_command("sample") == 0
    assert "260 images of 32x32, 10 classes, 26 of each" in capsys.readouterr().out


def test_the_command_knows_its_sets(capsys):
    with pytest.raises(SystemExit):
        run_command("mnist")
    assert "cifar100" in capsys.readouterr().err
