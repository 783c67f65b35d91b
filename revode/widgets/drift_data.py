"""Make the data of the drift explorer: ``python -m revode.widgets.drift_data``, some minutes on one core.

Round trips through random networks (:func:`revode.analysis.drift.random_stage`) to many depths, for every scheme, step
size and precision, the prediction, and what exact arithmetic returns; written beside the widget with their origin.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from .. import results, stability
from ..analysis import drift
from ..checkpoint import write_atomic
from ..stage import Stage
from .drift import DATA_FILE, SCHEMES

#: Numbers of blocks, eight to a factor of ten.
DEPTHS = tuple(sorted({round(10 ** (k / 8)) for k in range(25)}))
#: Depths at which exact arithmetic is looked at.
EXACT_DEPTHS = (1, 10, 100, 1000)
#: Step sizes; the critical ones of the schemes come among them.
STEPS = (0.01, 0.02, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5, 0.7, 1.4)
#: Factors c of the momentum rule, which has no step size.
FACTORS = (0.5, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99, 0.999)
WIDTH, BATCH, SEED = 64, 16, 0

#: An error as int16: thousandths of its decimal logarithm, and codes for what has none.
QUANTUM, LARGEST, ZERO, OVERFLOW = 1e-3, 32_000, -32_768, 32_767


def quantised(values: ArrayLike) -> NDArray[np.int16]:
    """Positive numbers as thousandths of their decimal logarithm; 0, and what is not finite, as codes."""
    values = np.asarray(values, dtype=float)
    with np.errstate(divide="ignore", invalid="ignore"):
        codes = np.clip(np.rint(np.log10(values) / QUANTUM), -LARGEST, LARGEST)
    return np.select([values == 0, ~np.isfinite(values)], [ZERO, OVERFLOW], codes).astype(np.int16)


def restored(codes: ArrayLike) -> NDArray[np.float64]:
    """The numbers that :func:`quantised` was given, to 0.12 %; inf for what was not finite or beyond 10^32."""
    codes = np.asarray(codes, dtype=float)
    return np.select([codes == ZERO, codes >= LARGEST], [0.0, np.inf], 10.0 ** (np.minimum(codes, LARGEST) * QUANTUM))


def first_overflow(stage: Stage, x: torch.Tensor, trip: drift.RoundTrip, dtype: torch.dtype) -> int:
    """The smallest depth whose round trip overflows, between the depths of a trip; 0 if none does."""
    lost = [d for d, e in zip(trip.depths, trip.error) if not np.isfinite(e)]
    if not lost:
        return 0
    high = lost[0]
    low = max([d for d in trip.depths if d < high], default=0)
    while high - low > 1:
        middle = (low + high) // 2
        if np.isfinite(drift.round_trip(stage, x, [middle], dtype).error[0]):
            low = middle
        else:
            high = middle
    return high


def set_parameter(stage: Stage, value: float) -> None:
    """The step size of a stage; the factor c of a momentum network."""
    if isinstance(stage.scheme, drift.Momentum):
        stage.scheme.c = value
    else:
        stage.h = value


def make(
    depths: Sequence[int] = DEPTHS,
    steps: Sequence[float] = STEPS,
    factors: Sequence[float] = FACTORS,
    exact_depths: Sequence[int] = EXACT_DEPTHS,
    *,
    width: int = WIDTH,
    batch: int = BATCH,
    seed: int = SEED,
) -> dict[str, Any]:
    """All that the figure draws, ready for JSON.

    Args:
        depths: Numbers of blocks.
        steps: Step sizes; the critical ones, rounded down to two decimals, are added.
        factors: Factors c of the momentum rule.
        exact_depths: Numbers of blocks for exact arithmetic, in which the branches are float32.
        width: Number of entries of an input.
        batch: Number of inputs.
        seed: Of the weights and the inputs.

    Returns:
        "depths", "exact_depths", "dtypes" with their unit roundoff, "quantum" and the codes, "schemes", each with its
        parameter ("h" or "c"), "values" and "limit" (0.0 where no step size is stable), and in base64 "measured"
        (values, dtypes, depths), "predicted" (values, depths) in units of u, "exact" (values, exact depths), "overflow"
        (values, dtypes): the first depth that overflows, or 0.
    """
    x = drift.random_input(batch, width, seed)
    first = dict.fromkeys(SCHEMES, steps[0]) | {"momentum": factors[0]}
    stages = {name: drift.random_stage(name, max(depths), h, width=width, seed=seed) for name, h in first.items()}
    limits = {n: np.floor(100 * drift.critical_step(s, x[:1])) / 100 for n, s in stages.items() if n != "momentum"}
    steps = sorted({*steps, *(float(limit) for limit in limits.values() if limit)})
    schemes = []
    for name, stage in stages.items():
        values = list(factors) if name == "momentum" else steps
        measured, predicted, exact, overflow = [], [], [], []
        for value in values:
            set_parameter(stage, value)
            trips = [drift.round_trip(stage, x, depths, dtype) for dtype in drift.DTYPES]
            measured.append([t.error for t in trips])
            overflow.append([first_overflow(stage, x, t, dtype) for t, dtype in zip(trips, drift.DTYPES)])
            u = drift.unit_roundoff(torch.float64)
            predicted.append(np.divide(drift.predicted(stage, x, depths, torch.float64), u))
            exact.append(drift.round_trip(stage, x, exact_depths, arithmetic="exact").error)
        schemes.append(
            {
                "name": name,
                "parameter": "c" if name == "momentum" else "h",
                "values": values,
                "limit": float(limits.get(name, 0.0)),
                "measured": stability.pack(quantised(measured), "<i2"),
                "predicted": stability.pack(quantised(predicted), "<i2"),
                "exact": stability.pack(quantised(exact), "<i2"),
                "overflow": stability.pack(overflow, "<i2"),
            }
        )
    return {
        "depths": list(depths),
        "exact_depths": list(exact_depths),
        "dtypes": [{"name": str(d).removeprefix("torch."), "u": drift.unit_roundoff(d)} for d in drift.DTYPES],
        "quantum": QUANTUM,
        "codes": {"largest": LARGEST, "zero": ZERO, "overflow": OVERFLOW},
        "schemes": schemes,
        "setting": {"width": width, "batch": batch, "seed": seed},
    }


if __name__ == "__main__":
    torch.set_num_threads(1)
    began = time.process_time()
    data = make()
    data["origin"] = results.evidence() | {"cpu_seconds": round(time.process_time() - began, 1)}
    write_atomic(DATA_FILE, json.dumps(data, allow_nan=False).encode() + b"\n")
    print(f"{DATA_FILE}: {DATA_FILE.stat().st_size:,} bytes in {data['origin']['cpu_seconds']:.0f} CPU seconds")
