"""The drift of a round trip and the growth of the inverse map, side by side.

A rounding error is about u times the state it is made in, and the inverse carries it back to the input. So with a
state that grows like exp(s j) over depth and an inverse that grows like exp(mu j), the error of a round trip grows
like exp((s + mu) j). Where the state stays of one size it follows the inverse alone. A network of ReLU layers without
biases is homogeneous, x -> J(x) x, and its state grows like any other change: s is near the largest exponent.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .drift import random_input, random_stage, round_trip
from .lyapunov import exponents, inverse_growth, joined, layers


def rates(name: str, h: float, depths: Sequence[int], *, width: int = 16, batch: int = 8, seed: int = 0) -> dict:
    """Rates per layer of a small random network: forward, inverse, state and round trip.

    Args:
        name: As for :func:`revode.analysis.drift.random_stage`.
        h: Step size; for momentum its factor c.
        depths: At least two numbers of layers; the slopes of state and error are fitted to them.
        width: Number of entries of the input.
        batch: Number of inputs.
        seed: Of the weights and the inputs.

    Returns:
        "name", "h"; "forward", the largest exponent; "smallest", minus the smallest one; "inverse", the largest of
        the inverse map; "state" and "measured", slopes of the logarithms of the state's norm and of the relative
        error of a float32 round trip; "predicted", "inverse" plus "state".

    Raises:
        ValueError: for an unknown name, or fewer than two depths.
    """
    if len(depths) < 2:
        raise ValueError(f"depths = {list(depths)} must be two or more numbers of layers, for a slope")
    stage, x = random_stage(name, max(depths), h, width=width, seed=seed), random_input(batch, width, seed)
    state = joined(stage, x)
    full, inverse = exponents(layers(stage), state), inverse_growth(stage, state)
    trip = round_trip(stage, x, depths)
    grown, error = (float(np.polyfit(trip.depths, np.log(v), 1)[0]) for v in (trip.growth, trip.error))
    return {
        "name": name,
        "h": h,
        "forward": float(full.mean[0]),
        "smallest": float(-full.mean[-1]),
        "inverse": float(inverse.mean[0]),
        "state": grown,
        "predicted": float(inverse.mean[0]) + grown,
        "measured": error,
    }
