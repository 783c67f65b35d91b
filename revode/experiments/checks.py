"""Checks: numbers from result files against what a claim expects, and the verdict that follows from them.

A check compares numbers, one for each seed, with what is expected; it holds, or does not, or has nothing to compare
yet. :func:`verdict` is the only rule that makes a verdict of checks:

* "not yet run": no check has anything to compare;
* "reproduced": every check has, and holds;
* "not reproduced": none of those that have holds;
* "partly": else, be it that some fail or that some wait.

What is shown beside a claim without deciding it (a run at a reduced budget, for example) is a check that does not
count. Comparisons of two networks ask for the 95 % interval of the mean difference (Student's t), so one seed decides
nothing.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import Any

from .. import results

#: What can be said of a claim.
VERDICTS = ("reproduced", "partly", "not reproduced", "not yet run")

#: Finished results by name.
Records = Mapping[str, dict]


@dataclass(frozen=True)
class Check:
    """One comparison of measured numbers with what is expected.

    Attributes:
        quantity: What is measured.
        rule: What must hold, in words.
        values: One number for each seed or run, or for each case if there are several; empty: not yet run.
        holds: Whether it does; None: nothing to compare yet.
        files: Names of the result files that the numbers are from.
        form: How a number is written.
        unit: What stands behind it, with its space.
        counts: Whether it decides the verdict.
        spread: Whether the values are repetitions, so that their mean and standard deviation say something.
        text: The measured value in words, where it is not a mean or a range.
    """

    quantity: str
    rule: str = ""
    values: tuple[float, ...] = ()
    holds: bool | None = None
    files: tuple[str, ...] = ()
    form: str = "{:.3g}"
    unit: str = ""
    counts: bool = True
    spread: bool = True
    text: str = ""

    @property
    def measured(self) -> str:
        """The values in words: mean and standard deviation over seeds, or the range of several cases."""
        if self.text or not self.values:
            return self.text or "not yet run"
        if not all(map(math.isfinite, self.values)):
            return "overflow"
        write = self.form.format
        if self.spread and len(self.values) > 1:
            return f"{write(fmean(self.values))} ± {write(stdev(self.values))}{self.unit} (n = {len(self.values)})"
        low, high = write(min(self.values)), write(max(self.values))
        return (low if low == high else f"{low} to {high}") + self.unit


def verdict(checks: Iterable[Check]) -> str:
    """One of :data:`VERDICTS`, by the rule of this module."""
    counted = [c.holds for c in checks if c.counts]
    known = [h for h in counted if h is not None]
    if not known:
        return "not yet run"
    if not any(known):
        return "not reproduced"
    return "reproduced" if all(known) and len(known) == len(counted) else "partly"


def finished(records: Iterable[dict] | None = None) -> dict[str, dict]:
    """Finished results by name; by default the bundled ones."""
    records = results.everything() if records is None else records
    return {r["name"]: r for r in records if r["status"] == "finished"}


# --- comparisons --------------------------------------------------------------------------------------------


def interval(a: Sequence[float], b: Sequence[float] | None = None, *, paired: bool = False) -> tuple[float, float]:
    """Mean of a, or mean difference a - b, and half the width of its 95 % interval by Student's t.

    Args:
        a: Two or more repetitions.
        b: Two or more of what a is compared with, Welch's interval.
        paired: a and b belong together one by one.

    Returns:
        Mean and half width; the width is infinite for fewer than two repetitions.
    """
    from scipy.special import stdtrit

    if paired and b is not None:
        a, b = [x - y for x, y in zip(a, b, strict=True)], None
    groups = [list(g) for g in (a, b) if g is not None]
    mean = fmean(groups[0]) - (fmean(groups[1]) if len(groups) > 1 else 0.0)
    if min(map(len, groups)) < 2:
        return mean, math.inf
    parts = [(stdev(g) ** 2 / len(g), len(g) - 1) for g in groups]
    variance = sum(v for v, _ in parts)
    if variance == 0:
        return mean, 0.0
    freedom = variance**2 / sum(v**2 / n for v, n in parts)
    return mean, float(stdtrit(freedom, 0.975)) * math.sqrt(variance)


def within(
    quantity: str, values: Sequence[float], low: float, high: float, files: Sequence[str], rule: str, **more: Any
) -> Check:
    """Whether the mean of repetitions, or with ``spread=False`` every value, lies in [low, high]."""
    found = [fmean(values)] if values and more.get("spread", True) else values
    holds = all(low <= v <= high for v in found) if found else None
    return Check(quantity, rule, tuple(values), holds, tuple(files), **more)


def shown(quantity: str, values: Sequence[float], files: Sequence[str], why: str, **more: Any) -> Check:
    """Numbers that stand beside a claim and decide nothing."""
    return Check(quantity, why, tuple(values), None, tuple(files), counts=False, **more)


def above(quantity: str, a: Sequence[float], b: Sequence[float], files: Sequence[str], **more: Any) -> Check:
    """Whether a is larger than b: the whole 95 % interval of the mean difference lies above 0."""
    return _difference(quantity, "95 % interval above 0", lambda mean, half: mean > half, a, b, files, **more)


def alike(quantity: str, a: Sequence[float], b: Sequence[float], files: Sequence[str], **more: Any) -> Check:
    """Whether a and b differ by no more than chance: the 95 % interval of the mean difference holds 0."""
    return _difference(quantity, "95 % interval holds 0", lambda mean, half: abs(mean) <= half, a, b, files, **more)


def _difference(quantity, rule, holds, a, b, files, *, paired=False, **more: Any) -> Check:
    if not a or not b:
        return Check(quantity, rule, **more)
    mean, half = interval(a, b, paired=paired)
    n = f"{len(a)} pair{'s' * (len(a) != 1)}" if paired else f"n = {len(a)}, {len(b)}"
    known = math.isfinite(half)
    text = f"{mean:+.2f}".replace("-", "−") + (f" ± {half:.2f} ({n})" if known else f" ({n}: no interval)")
    return Check(quantity, rule, (mean,), bool(holds(mean, half)) if known else None, tuple(files), text=text, **more)


def accuracies(records: Records, names: Iterable[str]) -> tuple[list[float], list[str]]:
    """Test accuracies in per cent of the results that are there, and their names."""
    there = [n for n in names if n in records]
    return [100 * records[n]["final"]["test_accuracy"] for n in there], there


def seeds(name: str, count: int = 3) -> list[str]:
    """The names of the runs of one network: NAME-seed0, NAME-seed1, ..."""
    return [f"{name}-seed{s}" for s in range(count)]
