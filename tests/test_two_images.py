"""The two images: what is stored is what the network does, and what is not stored is refused."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
import traitlets
from torch import Tensor

from revode import data, load_trained, results
from revode.analysis.lyapunov import distances, linear_distances, unit_states
from revode.errors import CheckpointError
from revode.networks import Network
from revode.stability import unpack
from revode.widgets import TwoImages, two_images, two_images_data

SPEC = TwoImages().spec
IMAGES, DIRECTIONS = len(SPEC["pictures"]), len(SPEC["directions"])
STEPS, SIZES = len(SPEC["h"]), len(SPEC["changes"])


def arrays(spec: dict) -> dict:
    """The packed numbers, in their shapes."""
    n, h, e = len(spec["pictures"]), len(spec["h"]), len(spec["changes"])
    pixels = unpack(spec["pixels"], "u1").reshape(n, 3, 32, 32)
    logs = {k: two_images.QUANTUM * unpack(spec[k], "<i2") for k in ("distances", "sizes")}
    return {
        "pixels": pixels,
        "patterns": unpack(spec["patterns"], "i1").reshape(n + 1, 3, 32, 32),
        "distances": 10 ** logs["distances"].reshape(n, DIRECTIONS, h, e + 1, -1),
        "sizes": 10 ** logs["sizes"].reshape(n, h, -1),
        "answers": unpack(spec["answers"], "u1").reshape(n, h, -1),
        "probabilities": unpack(spec["probabilities"], "<u2").reshape(n, h, -1) / 65535,
    }


def neighbours(spec: dict, i: int, d: int, change: float) -> tuple[Tensor, Tensor]:
    """An image and its neighbour as the network gets them, written out once more."""
    a, (mean, std) = arrays(spec), (np.reshape(spec[k], (3, 1, 1)) for k in ("mean", "std"))
    image, pattern = a["pixels"][i], a["patterns"][i + 1 if d else 0]
    other = np.clip(image + change * spec["pictures"][i]["greys"][d] * pattern, 0, 255)
    return tuple(torch.from_numpy((v / 255 - mean) / std)[None] for v in (image, other))


@pytest.fixture(scope="module")
def trained():
    return load_trained("hamiltonian-74").double().eval()


def agree(spec: dict, network: Network, i: int, d: int, k: int, e: int) -> None:
    """Everything stored for one position of the controls, computed anew."""
    a, h = arrays(spec), network.h
    one, other = neighbours(spec, i, d, spec["changes"][e])
    network.h = spec["h"][k]
    try:
        first = unit_states(network, one)[0][0].norm().item()
        found = np.concatenate(distances(network, one, other)) / first
        norms = [y.norm().item() / first for unit in unit_states(network, one) for y in unit]
        with torch.no_grad():
            logits = network(torch.cat([one, other])).softmax(dim=1)
    finally:
        network.h = h
    np.testing.assert_allclose(a["distances"][i, d, k, e], found, rtol=5e-4)
    np.testing.assert_allclose(a["sizes"][i, k], norms, rtol=5e-4)
    for n, answer in zip((0, 1 + d * len(spec["changes"]) + e), logits):
        assert a["answers"][i, k, n] == answer.argmax()
        assert a["probabilities"][i, k, n] == pytest.approx(answer.max().item(), abs=1e-5)
    left = ((other - one).norm() / one.norm()).item()
    assert spec["pictures"][i]["left"][d][e] == pytest.approx(left, rel=1e-9)


@pytest.mark.parametrize(("i", "d", "k", "e"), [(0, 1, 4, 6), (1, 0, 0, 0), (2, 1, 6, 8), (2, 0, 4, 8)])
def test_what_is_stored_is_what_the_network_does(trained, i, d, k, e):
    agree(SPEC, trained, i, d, k, e)


def test_pictures_are_those_of_the_sample_and_the_first_is_named_rightly(trained):
    sample, a = data.load("sample", "test"), arrays(SPEC)
    own = SPEC["h"].index(SPEC["own_h"])
    assert SPEC["own_h"] == trained.h
    for n, picture in enumerate(SPEC["pictures"]):
        np.testing.assert_array_equal(a["pixels"][n], sample.images[picture["index"]].numpy())
        assert 0 < a["pixels"][n].min() <= a["pixels"][n].max() < 255, "the linear law knows of no clipping"
        assert sample.classes[sample.labels[picture["index"]]] == picture["class"]
        assert sample.classes[int(a["answers"][n, own, 0])] == picture["class"]


def test_a_change_has_its_size_until_it_is_clipped():
    for i, picture in enumerate(SPEC["pictures"]):
        for d in range(DIRECTIONS):
            one, other = neighbours(SPEC, i, d, 0.001)
            assert ((other - one).norm() / one.norm()).item() == pytest.approx(0.001, rel=1e-9)
            shares = np.array(picture["left"][d]) / SPEC["changes"]
            assert (np.diff(shares) < 1e-9).all()
            assert shares[-1] < 1


def test_linear_law_is_what_the_distance_tends_to():
    a = arrays(SPEC)
    law, distance = a["distances"][:, :, :, -1:], a["distances"][:, :, :, :-1]
    off = np.abs(distance / law / np.array(SPEC["changes"])[:, None] - 1).max(axis=(0, 1, 2, 4))
    assert off[0] < 0.03, "a few entries of the state pass the kink of a ReLU"
    assert off[-1] > 0.5
    assert off[0] < off[4] < off[-1]


def test_no_other_direction_was_found_that_the_network_stretches_more(trained):
    one, _ = neighbours(SPEC, 2, 1, 1)
    worst = neighbours(SPEC, 2, 1, 0.001)[1] - one
    ahead = linear_distances(trained, one, worst / worst.norm())[-1][-1]
    for d in torch.randn(3, *one.shape, generator=torch.Generator().manual_seed(5), dtype=torch.float64):
        assert linear_distances(trained, one, d / d.norm())[-1][-1] < ahead / 5
    nudged = [worst / worst.norm() + 0.3 * d / d.norm() for d in (one, neighbours(SPEC, 0, 1, 1)[0])]
    for d in nudged:
        assert linear_distances(trained, one, d / d.norm())[-1][-1] < ahead


def test_make_does_the_same_for_another_network(monkeypatch):
    torch.manual_seed(1)
    network = Network("leapfrog", units=[1, 2], widths=[4, 6], h=0.75).double().eval()
    network.meta = {"mean": (0.4, 0.5, 0.6), "std": (0.2, 0.25, 0.3)}
    made = two_images_data.make(network, images=(3, 9), h=(0.5, 1.5), changes=(0.01, 0.5), passes=2)
    assert (made["own_h"], network.h, made["blocks"]) == (0.75, 0.75, [2, 1])
    for i in range(2):
        for d in range(2):
            for k in range(2):
                for e in range(2):
                    agree(made, network, i, d, k, e)


def test_state_has_less_than_sixty_kilobytes_and_an_origin():
    widget = TwoImages()
    plain = {k: v for k, v in widget.get_state().items() if isinstance(v, (str, int, float, dict)) and k[0] != "_"}
    assert len(json.dumps(plain, allow_nan=False)) < 60_000
    record = json.loads(two_images.DATA_FILE.read_text("utf-8"))
    assert {"commit", "date", "hardware", "torch"} <= set(record["evidence"])
    assert record["evidence"]["commit"]
    assert not record["evidence"]["uncommitted_changes"]


def test_exponents_are_those_of_the_result_file(monkeypatch):
    record = results.load("lyapunov-hamiltonian-74")
    assert SPEC["exponents"]["images"] == record["settings"]["images"]
    (run,) = [r for r in record["final"]["runs"] if (r["weights"], r["h"]) == ("trained", 1.0)]
    growth = SPEC["exponents"]["growth"]["1"]
    assert len(growth) == SPEC["blocks"][0] + 1
    assert growth[-1] == pytest.approx(np.exp(SPEC["blocks"][0] * run["leading"]["mean"][0]), rel=1e-3)

    def gone(name):
        raise CheckpointError("there is no such result")

    monkeypatch.setattr(two_images.results, "load", gone)
    assert TwoImages().spec["exponents"] == {}


@pytest.mark.parametrize("wrong", [{"picture": "frog"}, {"h": 0.3}, {"change": 0.02}, {"direction": "best"}])
def test_what_was_not_computed_is_refused(wrong):
    with pytest.raises(traitlets.TraitError, match=r"must be one of|expected"):
        TwoImages(**wrong)
    widget = TwoImages()
    for name, value in wrong.items():
        with pytest.raises(traitlets.TraitError):
            setattr(widget, name, value)


def test_what_the_chapter_says_of_the_figure_holds():
    a, h, sizes = arrays(SPEC), SPEC["h"], SPEC["changes"]
    own, hundredth = h.index(1.0), sizes.index(0.01)
    random, worst = (
        a["distances"][:, d] / a["distances"][:, d, ..., :1] for d in range(2)
    )  # the distance at the entry
    law, other = random[:, own, -1], random[:, own, :-1] / random[:, own, -1:]
    assert (np.abs(other[:, : hundredth + 1] - 1) < 0.1).all()
    soonest = [next(n for n in range(len(sizes)) if row[n] > 1.1) for row in other[:, :, -1]]
    dog, horse, ship = soonest
    assert dog < ship < horse
    assert (other[:, -1, SPEC["blocks"][0]] < 0.9).all()

    stretched = worst[:, own, :-1, -1] / worst[:, own, -1:, -1]
    assert (stretched[:, hundredth:] < 1).all()
    assert (stretched[:, hundredth + 1 :] < 0.7).all()
    assert (worst[:, own, -1, -1] / law[:, -1] > 5).all(), "far apart by the law"
    assert (np.abs(np.log(worst[:, own, -2, -1] / random[:, own, -2, -1])) < 0.5).all(), "nearly alike"
    ends = a["distances"][:, :, own, :-1, -1]
    assert (ends < a["sizes"][:, own, -1][:, None, None]).all()
    assert (ends[1, 1] > ends[1, 0]).all()

    answers = a["answers"][:, :, 1:].reshape(IMAGES, STEPS, DIRECTIONS, SIZES)
    names = a["answers"][:, :, :1]
    differs = answers[:, own] != names[:, own, :, None]
    assert not differs[:, 0, :-1].any()
    assert differs[:, 0, -1].all()
    assert [int(row.argmax()) if row.any() else None for row in differs[:, 1]] == [6, None, 7]
    certain = a["probabilities"][1, own]
    assert (certain[1 + SIZES :] >= certain[0] - 1e-3).all()
    right = np.array([[SPEC["classes"].index(p["class"])] for p in SPEC["pictures"]]) == names[:, :, 0]
    assert not right[:, :own].any()
    assert right[:, own].all()
    assert set(right[:, own + 1 :].flatten()) == {True, False}

    for growth in (random, worst):
        assert (np.diff(growth[..., SPEC["blocks"][0]], axis=1) > 0).all(), "more in the first unit for a larger h"
        assert (growth[:, 0, :, -1] < 1).all(), "nearer at the smallest h"
