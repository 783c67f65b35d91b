"""Two nearby images on their way through a trained network: their distance layer by layer."""

from __future__ import annotations

import json
import math

import traitlets as t

from .. import results
from ..errors import CheckpointError
from .base import HERE, InteractiveFigure

DATA_FILE = HERE / "two_images.json"  # written by revode.widgets.two_images_data
QUANTUM = 1 / 4000  # of the stored logarithms to base 10
DIRECTIONS = {"random": "random", "worst": "stretched most"}


class TwoImages(InteractiveFigure):
    """Two nearby images sent through a trained network, with sliders for the step size and the size of the change.

    Shows the picture, its neighbour and their difference; the distance of their states before and after each block,
    beside what the derivative alone predicts and the largest growth of a change of the state that
    ``revode lyapunov`` measured; and the class that the network gives to each of the two. All is computed beforehand
    by :mod:`revode.widgets.two_images_data`.

    Args:
        **traits: ``picture``, the class of one of the bundled pictures; ``direction``, "random" or "worst" (the one
            that the network stretches most at its own step size); ``change``, its size relative to the norm of the
            normalised picture, and ``h``, both of those that were computed; ``title``.

    Source: Eckmann and Ruelle 1985 (Reviews of Modern Physics 57, 617) for the growth of small differences; the
    distances are those of :func:`revode.analysis.lyapunov.distances`.
    """

    picture = t.Unicode().tag(sync=True)
    direction = t.Enum(list(DIRECTIONS), "random").tag(sync=True)
    h = t.Float(1.0).tag(sync=True)
    change = t.Float(0.01).tag(sync=True)
    title = t.Unicode("How far do two nearby pictures part?").tag(sync=True)
    spec = t.Dict({}).tag(sync=True)

    def __init__(self, **traits):
        found = json.loads(DATA_FILE.read_text("utf-8"))
        found = {k: v for k, v in found.items() if k not in ("evidence", "wall_seconds")}
        self._allowed = {
            "picture": [p["class"] for p in found["pictures"]],
            "h": found["h"],
            "change": found["changes"],
        }
        spec = found | {"quantum": QUANTUM, "directions": DIRECTIONS, "exponents": exponents(found["network"])}
        super().__init__(**{"spec": spec, "picture": self._allowed["picture"][0]} | traits)

    @t.validate("picture", "h", "change")
    def _known(self, proposal):
        name, value = proposal["trait"].name, proposal["value"]
        if value not in self._allowed[name]:
            raise t.TraitError(f"{name} = {value!r} must be one of {self._allowed[name]}, which were computed")
        return value


def exponents(network: str) -> dict:
    """Measured growth of the worst change of the first unit's state, from the bundled result of ``revode lyapunov``.

    Args:
        network: Name of bundled weights.

    Returns:
        A dictionary with "images", the number of test images that it is a mean over (of logarithms), and "growth", by
        the step size as text the factor after 0, 1, ... blocks. Empty where there is no such result.
    """
    try:
        record = results.load(f"lyapunov-{network}")
    except CheckpointError:
        return {}
    growth = {
        f"{run['h']:g}": [1.0, *(round(math.exp(j * c[0]), 3) for j, c in enumerate(run["leading"]["curve"], 1))]
        for run in record["final"]["runs"]
        if run["weights"] == "trained"
    }
    return {"images": record["settings"]["images"], "growth": growth}
