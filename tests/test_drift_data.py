"""The data of the drift explorer: what is packed is what the package measures, and the bundled file is of this code."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import torch
import traitlets

from revode import results, stability
from revode.analysis import drift
from revode.widgets import DriftExplorer, drift_data
from revode.widgets.drift import DATA_FILE, DTYPES, SCHEMES
from revode.widgets.drift_data import quantised, restored

SMALL = {"depths": (1, 10, 30), "steps": (0.1, 2.5), "factors": (0.2, 0.9), "exact_depths": (5, 30)}
SIZE = {"width": 8, "batch": 4, "seed": 3}


def numbers(scheme: dict, name: str, *shape: int) -> np.ndarray:
    codes = stability.unpack(scheme[name], "<i2").reshape(len(scheme["values"]), *shape)
    return codes if name == "overflow" else restored(codes)


def stage_of(name: str, value: float, depth: int, size: dict):
    return drift.random_stage(name, depth, value, width=size["width"], seed=size["seed"])


def test_codes_keep_a_number_to_a_thousandth_of_a_decade_and_what_is_none():
    values = np.array([1e-17, 3.7e-8, 1.0, 2.5, 9.9e31])
    np.testing.assert_allclose(restored(quantised(values)), values, rtol=0.00116)
    np.testing.assert_array_equal(
        restored(quantised([0.0, math.inf, math.nan, 1e33])), [0, math.inf, math.inf, math.inf]
    )
    assert quantised(0.5).dtype == np.int16


def test_packed_numbers_are_the_measured_and_the_predicted_ones():
    data = drift_data.make(**SMALL, **SIZE)
    assert [s["name"] for s in data["schemes"]] == list(SCHEMES)
    x = drift.random_input(SIZE["batch"], SIZE["width"], SIZE["seed"])
    overflows = 0
    for s in data["schemes"]:
        measured, predicted = numbers(s, "measured", 4, 3), numbers(s, "predicted", 3)
        exact, overflow = numbers(s, "exact", 2), numbers(s, "overflow", 4)
        assert (exact == 0).all()
        for k, value in enumerate(s["values"]):
            made = stage_of(s["name"], value, 30, SIZE)
            for i, dtype in enumerate(drift.DTYPES):
                error = np.array(drift.round_trip(made, x, SMALL["depths"], dtype).error)
                want = np.where(error <= 1e32, error, math.inf)  # nan is neither
                np.testing.assert_allclose(measured[k, i], want, rtol=0.0012)
                if at := int(overflow[k, i]):
                    overflows += 1
                    around = [*range(1, at + 1)][-2:]
                    finite = np.isfinite(drift.round_trip(made, x, around, dtype).error)
                    assert finite.tolist() == ([True, False] if at > 1 else [False])
                else:
                    assert np.isfinite(error).all()
            guess = np.array(drift.predicted(made, x, SMALL["depths"], torch.float32)) * 2**24
            np.testing.assert_allclose(predicted[k], np.where(guess <= 1e32, guess, math.inf), rtol=0.0012)
        if s["parameter"] == "c":
            assert s["values"] == list(SMALL["factors"])
        else:
            limit = drift.critical_step(stage_of(s["name"], 0.1, 30, SIZE), x[:1])
            assert 0 <= limit - s["limit"] < 0.01
            assert s["limit"] in [0.0, *s["values"]]
    assert overflows, "there is something to find"


# --- the bundled file -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def bundled() -> dict:
    return json.loads(DATA_FILE.read_text("utf-8"))


def test_bundled_file_names_its_origin_and_is_of_a_committed_tree(bundled):
    assert not results._mistyped(bundled["origin"], results.EVIDENCE)
    assert bundled["origin"]["uncommitted_changes"] is False
    assert bundled["setting"] == {"width": 64, "batch": 16, "seed": 0}
    assert tuple(bundled["depths"]) == drift_data.DEPTHS
    assert tuple(d["name"] for d in bundled["dtypes"]) == DTYPES


def test_bundled_file_is_what_this_package_measures(bundled):
    """A few of its numbers; another processor adds in another order, and rounds otherwise."""
    x = drift.random_input()
    i = bundled["depths"].index(100)
    for s in bundled["schemes"]:
        measured = numbers(s, "measured", 4, len(bundled["depths"]))
        predicted = numbers(s, "predicted", len(bundled["depths"]))
        k = s["values"].index(0.9 if s["parameter"] == "c" else 0.2)
        made = stage_of(s["name"], s["values"][k], 100, bundled["setting"])
        u = drift.unit_roundoff(torch.float32)
        assert predicted[k, i] * u == pytest.approx(drift.predicted(made, x, [100])[0], rel=0.01)
        assert measured[k, 2, i] == pytest.approx(drift.round_trip(made, x, [100]).error[0], rel=0.3)
        assert (numbers(s, "exact", len(bundled["exact_depths"])) == 0).all(), "exact arithmetic returns every bit"


def test_prediction_meets_every_measurement_from_a_hundred_blocks_on(bundled):
    """Up to where nothing is left; in fewer blocks a small increment often gives back the very bits."""
    u = np.array([d["u"] for d in bundled["dtypes"]])
    first = bundled["depths"].index(100)
    ratios = []
    for s in bundled["schemes"]:
        error = numbers(s, "measured", 4, len(bundled["depths"]))[..., first:]
        guess = numbers(s, "predicted", len(bundled["depths"]))[:, None, first:] * u[:, None]
        small = (error > 0) & (error < 0.1) & (guess < 0.1)
        ratios.append((guess[small] / error[small]).ravel())
    ratios = np.concatenate(ratios)
    assert len(ratios) > 500
    assert 0.4 < ratios.min() < ratios.max() < 10
    assert 1 < np.median(ratios) < 1.6


def test_values_that_were_not_measured_are_refused():
    with pytest.raises(traitlets.TraitError, match=r"h = 0\.33 must be one of the measured values \[0\.01"):
        DriftExplorer(h=0.33)
    with pytest.raises(traitlets.TraitError, match=r"c = 0\.1 must be one of the measured values \[0\.5"):
        DriftExplorer(c=0.1)
    for wrong in ({"scheme": "euler"}, {"dtype": "int8"}):
        with pytest.raises(traitlets.TraitError):
            DriftExplorer(**wrong)
