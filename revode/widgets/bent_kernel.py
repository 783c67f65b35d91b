"""A kernel bent from symmetric to antisymmetric by a slider: its eigenvalues, and how a small change grows."""

from __future__ import annotations

from functools import cache
from typing import Any

import traitlets as t

from .. import results
from .base import HERE, InteractiveFigure

FILE = HERE / "bent_kernel.json"  # written by revode.widgets.bent_kernel_data
PER_UNIT = 20  # steps of the slider from kappa = 0 to 1
TIME, POINTS = 30.0, 120  # how long a change is followed, in how many steps


@cache
def _record() -> dict[str, Any]:
    return results.read(FILE)


class BentKernel(InteractiveFigure):
    """Eigenvalues of the Jacobian of F(y) = s((K - kappa K^T) y) by a slider from kappa = -1 to 1, and growth.

    Left, all eigenvalues, where they stand at kappa = 0, and the numerical range on the real axis. Right, the norm of
    exp(t J) over time t, which is the most that any small change can have grown, that of one random change, and
    exp(t max Re lambda). Eigenvalues are precomputed by ``revode.analysis``; the page computes the growth.

    Args:
        **traits: ``bend``, kappa, from -1 to 1 and rounded to a step of the slider; ``kernel``, "random", "chain" or
            "trained", that of a layer of midpoint-26; ``activation``, "linear" or "tanh"; ``title``.

    Source: Haber and Ruthotto 2017 (arXiv 1705.03341) for antisymmetric kernels; Trefethen and Embree 2005, Spectra
    and Pseudospectra, chapter 14, for growth that eigenvalues do not show.
    """

    bend = t.Float(0.0, min=-1.0, max=1.0).tag(sync=True)
    kernel = t.Enum(["random", "chain", "trained"], "random").tag(sync=True)
    activation = t.Enum(["linear", "tanh"], "linear").tag(sync=True)
    title = t.Unicode("What does an antisymmetric kernel do to the eigenvalues?").tag(sync=True)
    spec = t.Dict({}).tag(sync=True)

    def __init__(self, **traits):
        kernels = _record()["final"]["kernels"]
        super().__init__(spec={"per_unit": PER_UNIT, "time": TIME, "points": POINTS, "kernels": kernels}, **traits)
