"""Nested rings and x -> -x^3: what a network of momentum c does to points, block by block, while it is trained."""

from __future__ import annotations

from functools import cache
from typing import Any

import traitlets as t

from .. import results, stability
from .base import InteractiveFigure

POINTS, SEED = 100, 7  # of each ring


@cache
def _spec() -> dict[str, Any]:
    from ..experiments import rings
    from ..experiments.toys import DEPTH, HIDDEN

    x, labels = rings.points(POINTS, SEED)
    records = {"rings": results.load("rings"), "line": results.load("crossing")}
    momenta = [row["c"] for row in records["rings"]["final"]["momenta"]]
    return {
        "depth": DEPTH,
        "hidden": HIDDEN,
        "momenta": momenta,
        "points": stability.pack(x, "<f4"),
        "labels": labels.tolist(),
        "inputs": [i / 100 - 1 for i in range(201)],
        "problems": {
            name: {"kept": r["final"]["kept"], "weights": [r["final"]["weights"][str(c)] for c in momenta]}
            for name, r in records.items()
        },
    }


class RingsExplorer(InteractiveFigure):
    """Points on their way through a trained momentum network, by sliders for c, training and depth.

    The weights are those of the result files "rings" and "crossing", kept at some steps of the training; the page
    computes the states from them. c = 0 is the residual network.

    Args:
        **traits: ``problem``, "rings" or "line" (x to -x^3); ``c``, the momentum, rounded to one of those trained;
            ``trained``, how far the training has come, from 0 to 7; ``block``, after how many blocks; ``title``.

    Source: Sander et al. 2021 (arXiv 2102.07870), figures 1 and 5.
    """

    problem = t.Enum(["rings", "line"], "rings").tag(sync=True)
    c = t.Float(0.0, min=0.0, max=0.99).tag(sync=True)
    trained = t.Int(7, min=0, max=7).tag(sync=True)
    block = t.Int(15, min=0, max=15).tag(sync=True)
    title = t.Unicode("What does momentum do that a residual network does not?").tag(sync=True)
    spec = t.Dict({}).tag(sync=True)

    def __init__(self, **traits):
        super().__init__(spec=_spec(), **traits)
