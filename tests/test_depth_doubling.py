"""The data of the depth doubling figure: what is packed is what refined networks compute."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
import traitlets

from revode import stability
from revode.experiments.multilevel import Classifier, swiss_roll
from revode.multilevel import refine
from revode.widgets import DepthDoubling, depth_doubling_data
from revode.widgets.depth_doubling import DATA_FILE, INTERPOLATIONS, LEVELS, NETWORKS


def unpacked(found: dict, key: str, quantum: float) -> np.ndarray:
    return stability.unpack(found[key], "<i2").reshape(-1, 2) * quantum


def test_packed_features_are_those_of_refined_networks():
    data = depth_doubling_data.make((2, 3), 5, every=100)
    train, validation = swiss_roll()
    points = validation.x[::100]
    assert data["classes"] == "".join(str(y) for y in validation.y[::100].tolist())
    for n in data["networks"]:
        model = Classifier(n["name"], 4, 0)
        model.fit(train, model.optimizer(5))
        coarse = model.stage
        for interpolation in INTERPOLATIONS:
            found, ends = n[interpolation], []
            for stage in (coarse, refine(coarse, interpolation)):
                model.stage = stage
                with torch.no_grad():
                    ends.append(model.features(validation.x))
            drawn = np.concatenate([e[::100, :2].numpy() for e in ends])
            np.testing.assert_allclose(unpacked(found, "features", n["quantum"]), drawn, atol=n["quantum"])
            gap = (ends[1] - ends[0]).norm() / ends[1].norm()
            assert found["gaps"] == [pytest.approx(gap.item())]
            way = unpacked(found, "ways", n["quantum"])
            assert len(way) == 5 + 9
            np.testing.assert_allclose(way[[0, 5]], points[[data["followed"]] * 2].numpy(), atol=n["quantum"])
            np.testing.assert_allclose(way[-1], ends[1][::100][data["followed"], :2].numpy(), atol=n["quantum"])


def test_the_bundled_file_is_of_this_code():
    data = json.loads(DATA_FILE.read_text("utf-8"))
    assert data["origin"]["uncommitted_changes"] is False
    assert data["levels"] == list(LEVELS)
    assert [n["name"] for n in data["networks"]] == list(NETWORKS)
    for n in data["networks"]:
        for interpolation in INTERPOLATIONS:
            found = n[interpolation]
            assert len(unpacked(found, "features", 1)) == len(LEVELS) * len(data["classes"])
            assert len(unpacked(found, "ways", 1)) == sum(min(2**level, 64) + 1 for level in LEVELS)
            assert len(found["gaps"]) == len(LEVELS) - 1


@pytest.mark.parametrize("name", ["hamiltonian", "antisymmetric"])
def test_the_bundled_distances_halve(name):
    data = json.loads(DATA_FILE.read_text("utf-8"))
    (network,) = (n for n in data["networks"] if n["name"] == name)
    gaps = network["copy"]["gaps"]
    assert gaps[-2] / gaps[-1] == pytest.approx(2, abs=0.1)


def test_a_value_that_is_not_there_is_refused():
    with pytest.raises(traitlets.TraitError, match="level"):
        DepthDoubling(level=11)
    with pytest.raises(traitlets.TraitError, match="interpolation"):
        DepthDoubling(interpolation="cubic")
