"""The drift explorer: error of a round trip over depth, by scheme, step size and precision."""

from __future__ import annotations

import json
from functools import cache
from typing import Any

import traitlets as t

from .base import HERE, InteractiveFigure
from .step_size import TITLES

DATA_FILE = HERE / "drift.json"  # written by revode.widgets.drift_data
SCHEMES = ("hamiltonian", "midpoint", "leapfrog", "revnet", "momentum")
DTYPES = ("float16", "bfloat16", "float32", "float64")


@cache
def bundled() -> dict[str, Any]:
    """The data that :mod:`revode.widgets.drift_data` wrote."""
    return json.loads(DATA_FILE.read_text("utf-8"))


def specification() -> dict[str, Any]:
    """All that the page needs, for JSON: the data without their origin, with the names of the schemes."""
    titles = TITLES | {"revnet": "RevNet"}
    data = {k: v for k, v in bundled().items() if k != "origin"}
    return data | {"schemes": [{"title": titles.get(s["name"], s["name"])} | s for s in data["schemes"]]}


class DriftExplorer(InteractiveFigure):
    """Relative error of a round trip, forward and by the inverse, over up to 1000 blocks.

    A slider for the step size h, or for the factor c of the momentum rule, which has no step size; a choice of scheme
    and of precision. Shows the measured error, the prediction of :func:`revode.analysis.drift.predicted`, the unit
    roundoff, the other schemes, and exact arithmetic, whose error is 0. All numbers are precomputed
    (:mod:`revode.widgets.drift_data`), on random networks of 64 channels with 16 inputs.

    Args:
        **traits: ``scheme``, ``dtype``, ``h``, ``c`` and ``title`` to begin with; h and c must be measured values.

    Source: Higham 2002, chapters 2 and 3, for rounding errors; Chang et al. 2018 (arXiv 1709.03698), Gomez et al. 2017
    (arXiv 1707.04585) and Sander et al. 2021 (arXiv 2102.07870) for the schemes.
    """

    scheme = t.Enum(list(SCHEMES), "hamiltonian").tag(sync=True)
    dtype = t.Enum(list(DTYPES), "float32").tag(sync=True)
    h = t.Float(0.1).tag(sync=True)
    c = t.Float(0.9).tag(sync=True)
    title = t.Unicode("What comes back?").tag(sync=True)
    data = t.Dict({}).tag(sync=True)

    def __init__(self, **traits):
        super().__init__(data=specification(), **traits)

    @t.validate("h", "c")
    def _measured(self, proposal):
        name, value = proposal["trait"].name, proposal["value"]
        allowed = next(s["values"] for s in bundled()["schemes"] if s["parameter"] == name)
        if value not in allowed:
            raise t.TraitError(f"{name} = {value!r} must be one of the measured values {allowed}")
        return value
