"""The linear RevNet on a pad: two slopes, two roots, growth forward and backward."""

from __future__ import annotations

import traitlets as t

from .base import InteractiveFigure

LAYERS = 60
START = (1.0, 0.3)
REACH, UNIT = 3.0, 0.05


class RevNetPad(InteractiveFigure):
    """The linear RevNet Y <- Y + alpha Z, Z <- Z + beta Y with its slopes on a pad.

    Shows the stable part -4 <= alpha beta <= 0 of the plane, the two roots of a layer against the unit circle, and
    the norm over 60 layers, forward and by the inverse, from (Y, Z) = (1, 0.3). The page computes all of it.

    Args:
        **traits: ``alpha`` and ``beta``, from -3 to 3, and ``title`` to begin with.

    Source: Chang et al. 2018 (arXiv 1709.03698), the example of a RevNet that is unstable.
    """

    alpha = t.Float(1.0, min=-REACH, max=REACH).tag(sync=True)
    beta = t.Float(1.0, min=-REACH, max=REACH).tag(sync=True)
    title = t.Unicode("When is a linear RevNet stable?").tag(sync=True)
    spec = t.Dict({}).tag(sync=True)

    def __init__(self, **traits):
        super().__init__(spec={"layers": LAYERS, "start": START, "reach": REACH, "unit": UNIT}, **traits)
