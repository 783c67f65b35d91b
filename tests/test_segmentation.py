"""The encoder-decoder: gradients, parameters, memory; and the numbers of its experiment."""

from __future__ import annotations

import json
import math

import pytest
import torch

from revode import data
from revode.errors import ChannelError, ImageError
from revode.experiments import segmentation
from revode.models import count_parameters
from revode.schemes import SCHEMES
from revode.segmentation import SegmentationNetwork

from .helpers import gradients, stored_copy, worst


def small(scheme, units=(1, 2), widths=(4, 8), **kwargs):
    return SegmentationNetwork(scheme, units, widths, num_classes=3, seed=0, **kwargs)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_reversible_gradients_are_those_of_stored_activations(scheme):
    net = small(scheme, h=0.5).double()
    x = torch.randn(2, 3, 8, 12, dtype=torch.float64)
    reference = gradients(stored_copy(net), x)
    found = gradients(net, x)
    assert found["output"].shape == (2, 3, 8, 12)
    assert worst(found, reference) < 1e-9
    assert all(g is not None and g.abs().sum() > 0 for name, g in found.items() if not name.startswith("output"))


def test_plain_and_reversible_networks_have_as_many_parameters():
    units, count = (2, 2, 2), {}
    for scheme in segmentation.WIDTHS:
        count[scheme] = count_parameters(segmentation.network(scheme, units, 5, seed=0))
    assert count["momentum"] == count["euler"]
    assert count["hamiltonian"] == pytest.approx(count["euler"], rel=0.05)
    assert segmentation.network("momentum", units, 5, seed=0).memory == "reversible"
    assert segmentation.network("euler", units, 5, seed=0).memory == "stored"


def test_memory_of_a_reversible_network_does_not_grow_with_depth():
    shape, kept = (2, 3, 16, 16), {}
    for n in (2, 8):
        kept[n] = segmentation.activation_bytes("hamiltonian", (n, n), shape, 3)
    assert kept[8]["reversible"] == kept[2]["reversible"]
    assert kept[8]["stored"] > 3 * kept[2]["stored"]
    (plain,) = {segmentation.activation_bytes("euler", (n, n), shape, 3)["stored"] for n in (2,)}
    assert kept[8]["reversible"] < plain


def test_the_lowest_level_sees_the_whole_image_and_the_skips_pass_it_by():
    net = small("momentum", units=(2, 2, 2), widths=(4, 8, 8)).double().eval()
    x = torch.randn(1, 3, 32, 32, dtype=torch.float64, requires_grad=True)
    net(x)[0, 0, 0, 0].backward()
    assert (x.grad[0, :, -1, -1] != 0).any()
    for lift in net.lifts:
        torch.nn.init.zeros_(lift.weight)
    x.grad = None
    net(x)[0, 0, 0, 0].backward()
    assert (x.grad[0, :, 0, 0] != 0).any()
    assert (x.grad[0, :, -1, -1] == 0).all()


@pytest.mark.parametrize(
    ("change", "error", "said"),
    [
        ({"scheme": "rk4"}, ValueError, "scheme = 'rk4'"),
        ({"widths": (8, 4)}, ValueError, "must not decrease"),
        ({"units": (1,)}, ValueError, "of one length"),
        ({"widths": (3, 5)}, ChannelError, "must be even"),
    ],
)
def test_bad_networks_are_refused(change, error, said):
    with pytest.raises(error, match=said):
        small(**{"scheme": "hamiltonian"} | change)


def test_images_that_cannot_be_halved_are_refused():
    with pytest.raises(ImageError, match="multiples of 4"):
        small("euler")(torch.zeros(1, 3, 6, 8))


def test_intersection_over_union_by_hand():
    masks = torch.tensor([[0, 0, 0, 1], [1, 1, 2, 2]])
    found = torch.tensor([[0, 0, 1, 1], [1, 0, 2, 1]])
    counts = segmentation.confusion(masks, found, 4)
    assert counts.tolist() == [[2, 1, 0, 0], [1, 2, 0, 0], [0, 1, 1, 0], [0, 0, 0, 0]]
    assert segmentation.iou(counts)[:3] == [2 / 4, 2 / 5, 1 / 2]
    assert math.isnan(segmentation.iou(counts)[3])


def test_the_colour_predictor_knows_colours_and_nothing_else():
    masks = torch.tensor([[[0, 1], [2, 2]]])
    scenes = 100 * masks[:, None].expand(-1, 3, -1, -1).to(torch.uint8)
    assert segmentation.colour_iou((scenes, masks), (scenes, masks), 3) == [1.0, 1.0, 1.0]
    grey = torch.zeros_like(scenes)
    assert segmentation.colour_iou((grey, masks), (grey, masks), 3) == [0.0, 0.0, 0.5]  # 2 is the most frequent


def test_the_rate_warms_up_and_dies_out():
    rates = [segmentation.rate_at(step, 100, 2.0) for step in range(100)]
    assert rates[0] == pytest.approx(0.4)
    assert max(rates) == pytest.approx(2.0, rel=0.01)
    assert rates[-1] < 0.01


def test_the_experiment_learns_repeats_and_fits_its_file(monkeypatch):
    used = {"train": 0, "test": 0}

    class Counted(segmentation.Scenes):
        def batch(self, first, n):
            used[self.images.split] += n
            return super().batch(first, n)

    monkeypatch.setattr(segmentation, "Scenes", Counted)
    settings = {"scheme": "momentum", "steps": 6, "units": (1, 1), "batch": 4, "size": 32, "test_scenes": 20}
    settings |= {"images": "sample", "classes": data.load("sample", "train").classes[:3], "every": 4, "rate": 0.01}
    made, again = (segmentation.measure_segmentation(seed=1, **settings) for _ in range(2))
    assert [p["step"] for p in made.curve] == [4, 6]
    assert made.curve[-1]["loss"] < made.curve[0]["loss"] < 2 * math.log(4)
    final = made.final
    assert final["iou"] == again.final["iou"]
    # Trained on 6 batches of 4, 2,000 for the colours; tested on 20, and the book's pictures: each time, twice.
    assert used == {"train": 2 * (6 * 4 + 2000), "test": 2 * (20 + segmentation.SHOWN)}
    assert sum(map(sum, final["confusion"])) == 20 * 32 * 32
    assert final["miou"] == pytest.approx(sum(final["iou"]) / 4)
    assert final["trivial_miou"]["ground"] == pytest.approx(final["trivial_accuracy"] / 4)
    assert final["memory"][1]["units"] == [4, 4]
    assert final["memory"][1]["stored"] > 2.5 * final["memory"][0]["stored"]
    assert final["memory"][1]["reversible"] < 1.2 * final["memory"][0]["reversible"]
    assert len(json.dumps(made._asdict())) < 20_000


def test_the_runs_pair_plain_and_reversible_over_three_seeds():
    (experiment,) = segmentation.EXPERIMENTS
    runs = {(r.settings["scheme"], r.seed): r for r in experiment.runs}
    assert {seed for scheme, seed in runs if scheme == "euler"} == {1, 2, 3}
    assert {seed for scheme, seed in runs if scheme == "momentum"} == {1, 2, 3}
    assert segmentation.TEST_SEED not in {seed for _, seed in runs}
    shared = {tuple(sorted((k, v) for k, v in r.settings.items() if k != "scheme")) for r in experiment.runs}
    assert len(shared) == 1


def test_a_run_has_not_the_masks_of_the_test_scenes():
    with pytest.raises(ValueError, match="seed = 0 must not be 0"):
        segmentation.measure_segmentation(seed=0, scheme="euler", steps=1, images="sample")
