"""Depth doubling: the features of points as a trained network is refined, from 16 layers to 1024."""

from __future__ import annotations

import json
from functools import cache
from typing import Any

import traitlets as t

from .base import HERE, InteractiveFigure

DATA_FILE = HERE / "depth_doubling.json"  # written by revode.widgets.depth_doubling_data
#: Titles, and the scheme whose colour a network has.
NETWORKS = {
    "hamiltonian": ("Hamiltonian", "hamiltonian"),
    "antisymmetric": ("antisymmetric", "midpoint"),
    "resnet": ("ResNet", "euler"),
}
LEVELS = tuple(range(4, 11))
INTERPOLATIONS = ("copy", "linear")


@cache
def bundled() -> dict[str, Any]:
    """The data that ``revode.widgets.depth_doubling_data`` wrote."""
    return json.loads(DATA_FILE.read_text("utf-8"))


def specification() -> dict[str, Any]:
    """All that the page needs, for JSON: the data without their origin, with the networks' titles."""
    data = {k: v for k, v in bundled().items() if k != "origin"}
    named = [dict(zip(("title", "hue"), NETWORKS[n["name"]])) | n for n in data["networks"]]
    return data | {"networks": named}


class DepthDoubling(InteractiveFigure):
    """Two features of the points of the Swiss roll at time T = 20, as the depth doubles and the step halves.

    The network was trained with 16 layers; the deeper ones are refined from it by :func:`revode.multilevel.refine` and
    not trained again. A slider for the depth, a choice of network and of interpolation. Beside the features stands the
    distance to those of twice the depth, which falls with h where the depth follows a differential equation. All
    numbers are precomputed (``revode.widgets.depth_doubling_data``).

    Args:
        **traits: ``network``, ``interpolation``, ``level`` (4 to 10, for 2^level layers) and ``title`` to begin with.

    Source: Haber and Ruthotto 2017 (arXiv 1705.03341) for the networks and the Swiss roll; Chang et al. 2018 (arXiv
    1710.10348) for copies, Haber et al. 2017 (arXiv 1703.02009) for linear interpolation.
    """

    network = t.Enum(list(NETWORKS), "hamiltonian").tag(sync=True)
    interpolation = t.Enum(list(INTERPOLATIONS), "copy").tag(sync=True)
    level = t.Int(LEVELS[0], min=LEVELS[0], max=LEVELS[-1]).tag(sync=True)
    title = t.Unicode("Does the depth have a limit?").tag(sync=True)
    data = t.Dict({}).tag(sync=True)

    def __init__(self, **traits):
        super().__init__(data=specification(), **traits)
