"""Reversible and not stable: the linear RevNet, claims and what was measured, and design choices side by side."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from .. import stability
from ..analysis.drift import CLAIMS, RoundTrip, reproduce
from .drawing import COLORS, DASHES, INK, LINE, SOFT, Drawing, Table, axes, beside, line, show, styled, table

#: Beyond these, a growth or an error is drawn on the strip at the top.
MOST_GROWTH, MOST_ERROR = 1e9, 10.0


@styled
def coupling_window(reach: float = 3.0, rates: Sequence[float] = (1.5, 2.618, 5.0)) -> Drawing:
    """The linear RevNet Y += alpha Z, Z += beta Y in the plane of its slopes: where it is stable, and how it grows.

    Args:
        reach: The axes go from -reach to reach.
        rates: Growths per layer whose curves are drawn.
    """
    figure, ax = axes(1, 1, (4.9, 4.4))
    slope = np.geomspace(0.02, reach, 300)
    for sign in (1, -1):
        edge = np.minimum(4 / slope, 2 * reach)
        ax.fill_between(sign * slope, 0, -sign * edge, color=COLORS["hamiltonian"], alpha=0.25, linewidth=0)
        ax.plot(sign * slope, -sign * 4 / slope, color=COLORS["hamiltonian"])
        for rate, dashes in zip(rates, ("-", (0, (5, 2)), (0, (1, 1.5)))):
            for product in (rate + 1 / rate - 2, -(rate + 1 / rate) - 2):  # r + 1/r = 2 + alpha beta, r either sign
                ax.plot(sign * slope, sign * product / slope, color=COLORS["revnet"], linewidth=1.3, linestyle=dashes)
            place = np.sqrt(rate + 1 / rate - 2)
            if sign > 0 and place < reach:
                ax.annotate(f"{rate:g}", (place, place), xytext=(3, 3), textcoords="offset points", fontsize=9,
                            color=COLORS["revnet"])  # fmt: skip
    ax.plot([-reach, reach], [reach, -reach], color=INK, linewidth=1, linestyle=(0, (4, 3)))
    ax.annotate("β = −α", (-0.45 * reach, 0.45 * reach), xytext=(4, 5), textcoords="offset points", fontsize=9)
    ax.plot([1], [1], "o", color=INK, markersize=5)
    ax.axhline(0, color=LINE, linewidth=0.8, zorder=0)
    ax.axvline(0, color=LINE, linewidth=0.8, zorder=0)
    ax.set(xlim=(-reach, reach), ylim=(-reach, reach), aspect="equal", xlabel="slope α of the first branch",
           ylabel="slope β of the second branch", title="linear RevNet")  # fmt: skip
    return show(
        figure,
        "The plane of the slopes α and β. The stable part lies in the two quadrants where their signs differ, between "
        "the axes and the hyperbolas αβ = −4. Where the signs are equal, growth per layer rises with αβ: "
        f"{abs(stability.coupling_roots(1, 1)[0]):.3f} at the dot α = β = 1.",
        "Filled: no mode grows, −4 ≤ αβ ≤ 0. Lines outside: equal growth per layer of the faster mode, as written. "
        "Dot: α = β = 1. Broken line: slopes of opposite sign, as the signs of a Hamiltonian block give them.",
    )


def claims(numbers: Sequence[int], caption: str, record: Mapping | None = None) -> Table:
    """Claims, with the measured numbers beside the expected ones; a value that is not finite is an overflow.

    Args:
        numbers: Which claims of :data:`revode.analysis.drift.CLAIMS`.
        caption: What the table shows.
        record: The result file of ``revode claims``; None measures here.

    Raises:
        ValueError: if there is no claim of a number.
    """
    if missing := set(numbers) - {c.number for c in CLAIMS}:
        raise ValueError(f"numbers = {list(numbers)}: there is no claim {sorted(missing)}")
    rows = reproduce([c for c in CLAIMS if c.number in numbers]) if record is None else record["final"]["claims"]
    cells = []
    for row in rows:
        if row["number"] in numbers:
            bound, measured = row["relation"] != "=", row["measured"]
            expected = f"{row['relation']} {row['expected']:.4g}" if bound else f"{row['expected']:.4g}"
            finite = measured is not None and math.isfinite(measured)
            cells.append(
                (
                    f"{row['number']}: {row['quantity']}",
                    expected,
                    f"{measured:.4g}" if finite else "overflow",
                    "bound" if bound else f"{row['within']:g}",
                    "yes" if row["holds"] else "NO",
                )
            )
    return table(("claim", "expected", "measured", "within a factor", "reproduced"), cells, caption)


@styled
def growth_and_error(trips: Mapping[str, RoundTrip], colors: Sequence[str] | None = None) -> Drawing:
    """Growth of the norm, and the error of the round trip, over the number of layers: two drawings on logarithmic axes.

    Args:
        trips: By a name, :func:`revode.analysis.drift.round_trip` to several depths; at most five.
        colors: Names of schemes whose colours and dashes the lines have; None: the schemes in order.
    """
    colors = list(COLORS) if colors is None else colors
    panels = []
    for title, most, word in (
        ("growth of the norm", MOST_GROWTH, "growth"),
        ("error of the way back", MOST_ERROR, "error"),
    ):
        figure, ax = axes(1, 1, (3.6, 3.5))
        said, top = [], most * 10**0.5
        for (name, trip), color in zip(trips.items(), colors):
            values = np.asarray(getattr(trip, word), float)
            lost = ~(values <= most)
            shown = np.where(lost, top, np.where(values > 0, values, np.nan))  # 0 has no place on the axis
            line(ax, trip.depths, shown, color, label=name, marker="o", markersize=3.5)
            said.append(f"{name} {'beyond the range' if lost[-1] else f'{values[-1]:.1e}'}")
        beyond = any(not np.max(np.asarray(getattr(t, word), float)) <= most for t in trips.values())
        if beyond:
            ax.axhline(top, color=SOFT, linewidth=0.8, linestyle=(0, (1, 3)), zorder=0)
            ax.annotate("beyond" if word == "growth" else "lost", (0, top), xycoords=("axes fraction", "data"),
                        xytext=(4, 4), textcoords="offset points", fontsize=9, color=SOFT)  # fmt: skip
        ax.set(xscale="log", yscale="log", xlabel="layers", title=title)
        if beyond:
            ax.set_ylim(top=top * 30)
        ax.legend(loc="upper center", bbox_to_anchor=(0.45, -0.2), fontsize=9, handlelength=3.2)
        depth = next(iter(trips.values())).depths[-1]
        panels.append(show(figure, f"{title.capitalize()} over depth. At {depth} layers: {', '.join(said)}."))
    return beside(
        *panels,
        caption="Left: norm of the state over that of the input. Right: relative 2-norm error of the recovered input, "
        "float32. Both axes are logarithmic.",
    )


def _table(columns: Mapping[str, str | Callable[[Mapping], object]], rows: Sequence[Mapping], caption: str) -> Table:
    """Chosen entries of dictionaries; a number that is not finite is an overflow."""

    def cell(row: Mapping, key) -> object:
        value = key(row) if callable(key) else row[key]
        return "overflow" if isinstance(value, float) and not math.isfinite(value) else value

    return table(list(columns), [[cell(row, key) for key in columns.values()] for row in rows], caption)


def design_choices(rows: Mapping[str, Mapping], caption: str) -> Table:
    """What :func:`revode.analysis.choices.measure` says, by the name of the choice."""
    columns = {
        "choice": "choice",
        "largest |Re λ| / |λ|": "off_axis",
        "largest |λ|": "radius",
        "largest root |r|": lambda row: f"{row['root']:.4f}",
        "growth of the norm": "growth",
        "error of the way back": "error",
    }
    return _table(columns, [{"choice": name} | dict(row) for name, row in rows.items()], caption)


def damping_measured(rows: Sequence[Mapping], caption: str) -> Table:
    """Rows of :func:`revode.analysis.choices.damping` as a table."""
    columns = {
        "γ": "gamma",
        "Euler: largest stable h": "euler_step",
        "|r|": lambda row: f"{row['euler_root']:.4f}",
        "growth": "euler_growth",
        "midpoint: largest stable h": "midpoint_step",
        "|r| ": lambda row: f"{row['midpoint_root']:.4f}",
        "growth ": "midpoint_growth",
    }
    return _table(columns, rows, caption)


@styled
def damping_roots(h_omega: float = 0.3, most: float = 0.6) -> Drawing:
    """Largest root of Euler and midpoint on lambda = -gamma + i omega, over the damping.

    Args:
        h_omega: h times the frequency omega.
        most: Largest h gamma.
    """
    figure, ax = axes(1, 1, (5.2, 3.0))
    damped = np.linspace(0, most, 300)
    growth = {s: stability.growth(s, -damped + 1j * h_omega) for s in ("euler", "midpoint")}
    for scheme, values in growth.items():
        line(ax, damped, values, scheme)
    ax.axhline(1, color=INK, linewidth=0.8, linestyle=DASHES["revnet"])
    ax.set(xlabel="damping hγ", title=f"largest root |r| at hω = {h_omega:g}", xlim=(0, most))
    ax.legend(loc="best", fontsize=9)
    least = damped[growth["euler"] <= 1]
    return show(
        figure,
        f"Largest root over the damping. Euler falls from {growth['euler'][0]:.3f} below 1 at hγ = {least[0]:.3f}. "
        f"Midpoint is 1 without damping and {growth['midpoint'][-1]:.3f} at hγ = {most:g}.",
        "Above the dotted line a small change grows. Damping helps Euler and hurts midpoint.",
    )


def splits(rows: Sequence[Mapping], caption: str) -> Table:
    """Rows of :func:`revode.analysis.choices.compare_splits` as a table."""
    columns = {
        "split": lambda row: f"{row['scheme']}, {row['split']}",
        "weights of a block": "weights",
        "largest |λ|": "radius",
        "largest |Re λ| / |λ|": "off_axis",
        "growth": "growth",
        "error of the way back": "error",
        "loss before": "loss",
        "and after": "trained",
    }
    return _table(columns, rows, caption)


def gradient_ways(rows: Sequence[Mapping], caption: str) -> Table:
    """Losses and kept bytes of :func:`revode.analysis.continuous.compare`; its times need a quiet machine."""
    columns = {
        "way to the gradient": "way",
        "loss": lambda row: f"{row['loss']:.12f}",
        "kept for the backward pass, bytes": "saved_bytes",
    }
    return _table(columns, rows, caption)
