"""Lyapunov exponents: known systems, convergence with depth, trained networks, and the distance of two images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from ..analysis.lyapunov import Lyapunov
from .drawing import COLORS, DASHES, LABELS, LINE, SOFT, Drawing, Table, axes, beside, line, show, styled, table

#: Colour and dashes of the weights of a result, those of a scheme.
_WEIGHTS = {"trained": "hamiltonian", "initial": "euler", "initial, settled": "midpoint"}


def known_exponents(rows: Sequence[dict]) -> Table:
    """Published and measured exponents of known systems.

    Args:
        rows: From :func:`revode.analysis.systems.compare`.
    """
    lines = []
    for row in rows:
        small = 0 < abs(row["measured"]) < 1e-3
        measured = f"{row['measured']:.1e}" if small else f"{row['measured']:.4f}"
        met = "yes" if row["holds"] else "NO"
        values = (f"{row['expected']:.4f}", measured, f"{row['error']:.0e}", f"{row['within']:g}", met)
        lines.append((row["system"], row["exponent"], *(v.replace("-", "−") for v in values)))
    columns = ("system", "exponent", "expected", "measured", "standard error", "tolerance", "met")
    return table(columns, lines, "Exponents per step (maps) or per unit of time (flows), published and measured here.")


@styled
def exponents_over_depth(found: Lyapunov, title: str = "", label: str = "layers") -> Drawing:
    """The running exponents over time, means over the inputs with bands of two standard errors.

    Args:
        found: The exponents of two or more inputs.
        title: Over the axes.
        label: Of the time axis.
    """
    figure, ax = axes(1, 1, (7.2, 3.2))
    mean = found.curve.mean(axis=1)
    error = found.curve.std(axis=1, ddof=1) / np.sqrt(found.curve.shape[1])
    ax.axhline(0, color=LINE, zorder=0)
    for values, width in zip(mean.T, error.T):
        ax.plot(found.times, values, color=COLORS["midpoint"], linewidth=1.2)
        ax.fill_between(found.times, values - 2 * width, values + 2 * width, color=COLORS["midpoint"], alpha=0.25, lw=0)
    total = mean.sum(axis=1)
    ax.plot(found.times, total, color=COLORS["euler"], linestyle=DASHES["euler"], label="sum of all")
    ax.set(xlabel=label, ylabel="running exponent", title=title, xscale="log")
    ax.legend(loc="upper right", fontsize=9)
    said = f"{mean.shape[1]} running exponents; the last are from {mean[-1, 0]:.3g} to {mean[-1, -1]:.3g}, "
    return show(
        figure,
        f"{title}: {said}their sum is {total[-1]:.3g}.",
        f"Means over {found.curve.shape[1]} inputs, with bands of two standard errors.",
    )


@styled
def pairing(depths: Sequence[int], mismatch: Mapping[str, Sequence[float]]) -> Drawing:
    """How far exponents are from coming in pairs, over the depth, on logarithmic axes.

    Args:
        depths: Numbers of layers.
        mismatch: By a name, the largest sum of an exponent and its partner at each depth.
    """
    figure, ax = axes(1, 1, (7.2, 3.0))
    said = []
    for (name, values), style in zip(mismatch.items(), COLORS):
        line(ax, depths, values, style, marker="o", markersize=3.5, label=name)
        said.append(f"{name} from {values[0]:.0e} to {values[-1]:.0e}")
    ax.set(xscale="log", yscale="log", xlabel="layers", ylabel="largest |λᵢ + partner|")
    ax.set_ylim(top=3)
    ax.legend(loc="center left", fontsize=9)
    return show(figure, f"Distance from pairs over depth: {'; '.join(said)}.")


def _runs(record: dict, **wanted) -> list[dict]:
    return [r for r in record["final"]["runs"] if all(r[key] == value for key, value in wanted.items())]


@styled
def growth_over_depth(record: dict, h: float) -> Drawing:
    """Leading exponent and mean growth of a network, over depth, for each kind of weights at one step size.

    Args:
        record: Result of ``revode lyapunov``.
        h: One of its step sizes.

    Raises:
        ValueError: if there is no run with this step size.
    """
    runs = _runs(record, h=h)
    if not runs:
        raise ValueError(f"h = {h!r} must be one of {record['settings']['h']}, the step sizes of the result")
    panels = []
    tops = [np.max(r[key]["curve"]) for r in runs for key in ("leading", "random")]
    low = min(0, *(np.min(r["random"]["curve"]) for r in runs))
    for key, title in (("leading", "aligned: the largest exponent"), ("random", "one random change")):
        figure, ax = axes(1, 1, (3.5, 3.0))
        said = []
        for run in runs:
            style, values = _WEIGHTS[run["weights"]], np.array(run[key]["curve"])[:, 0]
            depth = np.arange(1, len(values) + 1)
            line(ax, depth, values, style, marker="o", markersize=3.5, label=run["weights"])
            error = np.array(run[key]["curve_error"], float)[:, 0]
            ax.fill_between(depth, values - 2 * error, values + 2 * error, color=COLORS[style], alpha=0.2, linewidth=0)
            said.append(f"{run['weights']} {values[-1]:.2f}")
        ax.axhline(0, color=LINE, zorder=0)
        ax.set(xlabel="blocks", ylabel="growth rate per block", title=title, ylim=(low - 0.02, 1.08 * max(tops)))
        if key == "random":
            ax.legend(loc="upper right", fontsize=8.5)
        panels.append(show(figure, f"{title}, h = {h:g}, after all blocks: {', '.join(said)}."))
    return beside(
        *panels,
        caption=f"Running exponents at h = {h:g}, means over {record['settings']['images']} test images with bands of "
        "two standard errors. An exponent λ is a growth by exp(λ) per block.",
    )


@styled
def growth_over_step(record: dict) -> Drawing:
    """Growth per block over the step size, for each kind of weights: leading (bold) and of a random change (thin).

    Args:
        record: Result of ``revode lyapunov``.
    """
    figure, ax = axes(1, 1, (7.2, 3.3))
    said = []
    for weights, style in _WEIGHTS.items():
        runs = sorted(_runs(record, weights=weights), key=lambda r: r["h"])
        h = [r["h"] for r in runs]
        for key, options in (("leading", {"marker": "o"}), ("random", {"linewidth": 1, "marker": ".", "alpha": 0.8})):
            rate = np.array([r[key]["mean"][0] for r in runs])
            name = f"{weights}, {'aligned' if key == 'leading' else 'random'}"
            line(ax, h, np.exp(rate), style, markersize=4.5, label=name, **options)
            said.append(f"{name} from {np.exp(rate[0]):.2f} to {np.exp(rate[-1]):.2f}")
    ax.axvline(record["settings"]["trained_h"], color=LINE, zorder=0)
    ax.axhline(1, color=LINE, zorder=0)
    ax.set(xscale="log", yscale="log", xlabel="step size h", ylabel="growth per block")
    ax.set_xticks(h, [f"{v:g}" for v in h])
    ax.set_yticks([1, 2, 3, 5, 10], ["1", "2", "3", "5", "10"])
    ax.minorticks_off()
    ax.legend(loc="upper left", fontsize=8.5)
    return show(
        figure,
        f"Growth per block over h from {h[0]:g} to {h[-1]:g}: {'; '.join(said)}.",
        "exp(λ) of the largest exponent, and of a random change. The upright line is the step size of the training. "
        "Standard errors are smaller than the dots.",
    )


def growth_table(record: dict) -> Table:
    """Growth per block of every run, forward and of the inverse, with aligned tangents and with a random one.

    Args:
        record: Result of ``revode lyapunov``.
    """

    def cell(run: dict, key: str) -> str:
        rate, error = run[key]["mean"][0], run[key]["error"][0]
        return f"{np.exp(rate):.3f}" + (f" ± {np.exp(rate) * error:.3f}" if error is not None else "")

    keys = ("leading", "random", "inverse", "inverse_random")
    rows = [(r["weights"], f"{r['h']:g}", *(cell(r, key) for key in keys)) for r in record["final"]["runs"]]
    columns = ("weights", "h", "largest", "random change", "inverse, largest", "inverse, random")
    n = record["settings"]["images"]
    return table(columns, rows, f"Growth per block, exp(λ), with its standard error over {n} test images.")


@styled
def alignment(record: dict) -> Drawing:
    """The k exponents over the number of passes that align their tangents.

    Args:
        record: Result of ``revode lyapunov``.
    """
    figure, ax = axes(1, 1, (7.2, 2.8))
    passes = [row["passes"] for row in record["final"]["alignment"]]
    values = np.array([row["mean"] for row in record["final"]["alignment"]])
    at = np.arange(len(passes))
    for column in values.T:
        ax.plot(at, column, ".-", color=COLORS["hamiltonian"], linewidth=0.8, markersize=6)
    used = record["settings"]["align"]
    if used in passes:
        ax.axvline(passes.index(used), color=LINE, zorder=0)
    ax.set_xticks(at, [str(p) for p in passes])
    ax.set(xlabel="passes of alignment", ylabel="exponent per block")
    ax.set_ylim(bottom=0)
    return show(
        figure,
        f"{values.shape[1]} exponents: between {values[0].min():.2f} and {values[0].max():.2f} without alignment, "
        f"between {values[-1].min():.2f} and {values[-1].max():.2f} after {passes[-1]} passes.",
        f"The {values.shape[1]} exponents of the trained network for {passes[-1]} passes and fewer. The upright line: "
        f"the {used} passes of the other figures.",
    )


def inverse_and_drift(rows: Sequence[dict]) -> Table:
    """Rates of the forward map, of the inverse and of the drift.

    Args:
        rows: From :func:`revode.analysis.growth.rates`.
    """
    keys = ("forward", "smallest", "inverse", "state", "predicted", "measured")
    lines = []
    for r in rows:
        name = f"{LABELS.get(r['name'], r['name'])}, {'c' if r['name'] == 'momentum' else 'h'} = {r['h']:g}"
        lines.append((name, *(f"{r[k]:.3f}".replace("-", "−") for k in keys)))
    columns = (
        "network",
        "forward λ₁",
        "minus the smallest λ",
        "inverse λ₁",
        "state",
        "inverse + state",
        "error, measured",
    )
    return table(columns, lines, "Rates per layer of small random networks; the state's and the error's are slopes.")


@styled
def distance_over_depth(distances: Mapping[str, Sequence[np.ndarray]]) -> Drawing:
    """Distance of two images layer by layer, relative to that at the entry of the first unit.

    Args:
        distances: By a name, the arrays of :func:`revode.analysis.lyapunov.distances`.
    """
    figure, ax = axes(1, 1, (7.2, 3.3))
    said = []
    for (name, units), style in zip(distances.items(), COLORS):
        first = 0
        for i, norms in enumerate(units):
            at = first + np.arange(len(norms))
            line(
                ax, at, norms / units[0][0], style, marker="o", markersize=3.5, label="_" if i else name, linewidth=1.4
            )
            first = at[-1] + 1
        said.append(f"{name}: {units[0][-1] / units[0][0]:.3g} times after the first unit")
    first, ticks, labels = 0, [], []
    for i, norms in enumerate(next(iter(distances.values()))):
        if i:
            ax.axvline(first - 0.5, color=SOFT, linewidth=0.8, linestyle=(0, (1, 3)))
        ticks += [first, first + len(norms) - 1]
        labels += ["0", str(len(norms) - 1)]
        ax.annotate(
            f"unit {i + 1}", (first, 1), xycoords=("data", "axes fraction"), fontsize=9, color=SOFT, va="bottom"
        )
        first += len(norms)
    ax.axhline(1, color=LINE, zorder=0)
    ax.set_xticks(ticks, labels)
    ax.set(yscale="log", xlabel="blocks of the unit", ylabel="distance / first distance")
    ax.legend(loc="best", fontsize=9)
    return show(figure, f"Distance over depth. {'; '.join(said)}.", "Between the units the states are pooled.")
