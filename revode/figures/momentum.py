"""Momentum networks: paths over depth, rings, linear maps, learning to optimise."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from statistics import mean

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..experiments import crossing, linear_maps, rings
from ..experiments.toys import states
from .drawing import COLORS, INK, LINE, SOFT, Drawing, Table, axes, beside, line, show, styled, table
from .dynamics import observed_order

CLASSES = (COLORS["euler"], COLORS["midpoint"])


def _name(c: float) -> str:
    return "ResNet, c = 0" if c == 0 else f"momentum, c = {c:g}"


def _array(x: Tensor) -> NDArray:
    return x.detach().numpy()


@styled
def crossing_paths(record: Mapping, momenta: Sequence[float] = (0.0, 0.9, 0.99), step: int | None = None) -> Drawing:
    """Where inputs from -1 to 1 go over the depth, one drawing for each c; the wanted output beside the end.

    Args:
        record: Result file "crossing".
        momenta: The momenta.
        step: After how many steps of training; None: at the end.
    """
    x = crossing.grid(9)
    panels = []
    for c in momenta:
        network = crossing.kept(record, c, step)
        way = _array(states(network, x))[:, :, 0]
        figure, ax = axes(1, 1, (2.5, 2.7))
        color = COLORS["momentum" if c else "euler"]
        ax.plot(way, color=color, linewidth=1.2)
        ax.plot([len(way) - 1] * len(x), _array(crossing.target(x))[:, 0], "o", color=INK, markersize=3.5,
                markerfacecolor="none")  # fmt: skip
        low, high = min(-1.1, way.min()), max(1.1, way.max())
        ax.set(xlabel="block j", title=_name(c), ylim=(1.05 * low, 1.05 * high), xticks=[0, 5, 10, 15])
        ends = "; ".join(f"{a:.2f} to {b:.2f}" for a, b in zip(way[0][::4], way[-1][::4]))
        panels.append(show(figure, f"{_name(c)}: paths of {len(x)} inputs over {len(way) - 1} blocks. {ends}."))
    return beside(*panels, caption="Paths of nine inputs x over depth. Circles: the wanted outputs −x³.")


@styled
def over_momentum(lines: Sequence[Mapping], nested: Sequence[Mapping]) -> Drawing:
    """Error on x -> -x^3 and accuracy on the rings over c, a dot for each seed and a line through the means.

    Args:
        lines: Result files of "crossing", one for each seed.
        nested: Result files of "rings".
    """
    panels = []
    for records, key, title, label in (
        (lines, "mse", "x to −x³: squared error", "mean squared error"),
        (nested, "accuracy", "rings: accuracy", "accuracy"),
    ):
        figure, ax = axes(1, 1, (3.6, 2.9))
        momenta = [row["c"] for row in records[0]["final"]["momenta"]]
        values = np.array([[row[key] for row in r["final"]["momenta"]] for r in records])
        at = np.arange(len(momenta))
        line(ax, at, values.mean(0), "momentum", linestyle="-", label="mean")
        for v in values:
            ax.plot(at, v, "o", color=INK, markersize=3.5, markerfacecolor="none")
        if key == "mse":
            ax.axhline(1 / 7, color=SOFT, linewidth=0.9, linestyle=(0, (4, 3)))
            ax.annotate(
                "output 0: 1/7", (at[-1], 1 / 7), xytext=(0, 4), textcoords="offset points", ha="right", fontsize=9
            )
            ax.set(yscale="log")
        else:
            ax.axhline(0.5, color=SOFT, linewidth=0.9, linestyle=(0, (4, 3)))
            ax.set(ylim=(0.45, 1.02))
        ax.set(xlabel="momentum c; 0 is the ResNet", title=title, xticks=at, xticklabels=[f"{c:g}" for c in momenta])
        said = ", ".join(f"c = {c:g}: {m:.3g}" for c, m in zip(momenta, values.mean(0)))
        panels.append(show(figure, f"{label.capitalize()} over c, mean of {len(records)} seeds. {said}."))
    return beside(*panels, caption=f"Circles: one seed each, {len(lines)} and {len(nested)} of them. Line: their mean.")


@styled
def rings_over_depth(
    record: Mapping, c: float, depths: Sequence[int] = (0, 8, 15), count: int = 60, step: int | None = None
) -> Drawing:
    """Points of the four rings at some depths, and the classifier's line at the last.

    Args:
        record: Result file "rings".
        c: The momentum.
        depths: After how many blocks.
        count: Points of each ring.
        step: After how many steps of training; None: at the end.
    """
    network = rings.kept(record, c, step)
    x, labels = rings.points(count, seed=7)
    with torch.no_grad():
        way = _array(states(network.stage, x))
        right = rings.accuracy(network, x, labels)
    w, b = _array(network.head.weight), _array(network.head.bias)
    normal, offset = w[1] - w[0], b[1] - b[0]
    panels = []
    for j in depths:
        figure, ax = axes(1, 1, (2.1, 2.2))
        z = way[j]
        for k, color in enumerate(CLASSES):
            ax.scatter(*z[_array(labels) == k].T, s=5, color=color)
        centre, reach = (z.max(0) + z.min(0)) / 2, 0.55 * np.ptp(z, axis=0).max() + 1e-9
        ax.set(xlim=(centre[0] - reach, centre[0] + reach), ylim=(centre[1] - reach, centre[1] + reach), aspect="equal")
        ax.set(title=f"block {j}", xticks=[], yticks=[])
        ax.spines[:].set_visible(True)
        ax.spines[:].set_color(LINE)
        words = f"{_name(c)}: points after {j} blocks."
        if j == max(depths):
            near = -offset * normal / (normal @ normal)
            along = np.array([-normal[1], normal[0]]) / np.linalg.norm(normal)
            ends = near + np.outer([-50 * reach, 50 * reach], along) + along * (along @ centre)
            ax.plot(*ends.T, color=INK, linewidth=1)
            words += f" The classifier's line has {right:.0%} of them on the right side."
        panels.append(show(figure, words))
    return beside(*panels, caption=f"{_name(c)}: {4 * count} points on their way; {right:.0%} end on the right side.")


@styled
def linear_gain(momenta: Sequence[float] = (0.0, 0.5, 0.9, 0.99), depth: int = linear_maps.DEPTH) -> Drawing:
    """The factor by which a linear network multiplies a number, over the slope of its residual function.

    Args:
        momenta: The momenta c.
        depth: Number of blocks.
    """
    figure, ax = axes(1, 1, (5.2, 3.0))
    slope = np.linspace(-2, 0.1, 500)
    said = []
    for c, dashes in zip(momenta, ("-", (0, (1, 1)), (0, (5, 2)), "-")):
        values = linear_maps.gain(slope, c, depth)
        color = COLORS["momentum" if c else "euler"]
        ax.plot(slope, values, color=color, linestyle=dashes, label=_name(c), linewidth=1.8 if c != 0.99 else 1.1)
        said.append(f"{_name(c)}: {values[slope >= -1].min():.2g}")
    ax.axhline(0, color=SOFT, linewidth=0.8, zorder=0)
    ax.axvline(-1, color=SOFT, linewidth=0.8, linestyle=(0, (1, 2)), zorder=0)
    ax.set(xlabel="slope β of f(x) = βx", title=f"factor after {depth} blocks", ylim=(-1.1, 1.6), xlim=(-2, 0.1))
    ax.legend(loc="upper left", fontsize=9)
    return show(
        figure,
        f"The factor over the slope from −2 to 0.1. Its least value for slopes from −1 on: {'; '.join(said)}.",
        "Below 0 the network reverses the sign of its input. Dotted upright line: a residual function as large as its "
        "input; to its right the ResNet reverses nothing.",
    )


def linear_table(record: Mapping) -> Table:
    """The best errors of linear networks in each kind of run, beside the least one that the determinant allows.

    Args:
        record: Result file "linear-maps".
    """
    final = record["final"]
    found = {}
    for row in final["rows"]:
        if row["bounded"]:
            rule = f"c = {row['c']:g}" if row["c"] else "ResNet"
            kind = f"{rule}, {'tied' if row['shared'] else 'untied'}"
            found.setdefault(row["target"], {})[kind] = float(min(row["errors"]))
    kinds = list(dict.fromkeys(k for errors in found.values() for k in errors))
    kinds.sort(key=lambda k: "untied" in k)
    rows = [
        (target, float(final["least_errors"][target]), *(errors[k] for k in kinds)) for target, errors in found.items()
    ]
    trials = len(final["rows"][0]["errors"])
    return table(
        ("map", "least with det > 0", *kinds),
        rows,
        f"Relative distance from a positive multiple of the map, best of {trials} starts; norm of B below "
        f"{final['bound']:g}.",
    )


@styled
def orders(errors: Mapping[str, Sequence[float]]) -> Drawing:
    """Errors over the step size on logarithmic axes, with the observed order.

    Args:
        errors: "h" and errors by name, as ``revode.experiments.linear_maps.second_order`` gives them.
    """
    figure, ax = axes(1, 1, (5.0, 3.0))
    h = np.asarray(errors["h"])
    names = {
        "momentum": ("momentum", "momentum, 1 − c = h/μ", "o"),
        "leapfrog": ("leapfrog", "leapfrog", "s"),
        "fixed c": ("euler", "momentum, fixed c", "^"),
    }
    said = []
    for key, (scheme, label, marker) in names.items():
        order = observed_order(h, errors[key], last=2)  # of the finest two
        line(ax, h, errors[key], scheme, label=f"{label}: order {order:.2f}", marker=marker, markersize=4)
        said.append(f"{label}: {order:.2f}")
    ax.set(xscale="log", yscale="log", xlabel="step size h", title="error at a fixed time")
    ax.set(xticks=h, xticklabels=[f"{v:g}" for v in h])
    ax.minorticks_off()
    ax.legend(fontsize=9)
    return show(figure, f"Errors fall with h. Orders between the two finest: {'; '.join(said)}.")


_RULES = {
    "ISTA": {"color": SOFT, "linestyle": (0, (1, 1.5)), "marker": "v"},
    "FISTA": {"color": SOFT, "linestyle": (0, (5, 2)), "marker": "^"},
    "ResNet": {"color": COLORS["euler"], "linestyle": "-", "marker": "o"},
    "momentum 0.5": {"color": COLORS["momentum"], "linestyle": "-", "marker": "s"},
    "momentum 0.9": {"color": COLORS["momentum"], "linestyle": (0, (4, 1.5, 1, 1.5)), "marker": "D"},
    "RevNet": {"color": COLORS["revnet"], "linestyle": "-", "marker": "x"},
}


@styled
def learned_solvers(records: Sequence[Mapping]) -> Drawing:
    """Gap to the minimum of the Lasso over depth: trained networks, and untrained ones with ISTA's weights.

    Args:
        records: Result files "lista", one for each seed.
    """
    finals = [r["final"] for r in records]
    depths = [row["depth"] for row in finals[0]["depths"]]
    trained, left = axes(1, 1, (3.6, 3.6))
    said = []
    for name, style in _RULES.items():
        gaps = np.array([[row[name] for row in f["depths"]] for f in finals])
        left.plot(depths, gaps.mean(0), markersize=4, label=name, **style)
        left.fill_between(depths, gaps.min(0), gaps.max(0), color=style["color"], alpha=0.13, linewidth=0)
        said.append(f"{name} {gaps.mean(0)[-1]:.2g}")
    left.set(xscale="log", yscale="log", xlabel="evaluations of a residual function", title="trained at each depth")
    left.set(xticks=depths, xticklabels=depths)
    left.minorticks_off()
    near, right = axes(1, 1, (3.6, 3.6))
    held = []
    for name in (n for n in _RULES if n in finals[0]["held"]):
        steps = [k for k, _ in finals[0]["held"][name]]
        off = np.array([[v for _, v in f["held"][name]] for f in finals])
        shown = np.where(off.mean(0) < 10, off.mean(0), np.nan)
        right.plot(steps, shown, label=name, **(_RULES[name] | {"marker": ""}))
        held.append(f"{name} {off.mean(0)[-1]:.1e}")
    right.set(yscale="log", xlabel="evaluations of a residual function", title="steps of ISTA near the solution")
    left.legend(loc="upper center", bbox_to_anchor=(0.45, -0.18), fontsize=9, ncols=2)
    right.legend(loc="upper center", bbox_to_anchor=(0.45, -0.18), fontsize=9, ncols=2)
    return beside(
        show(trained, f"Gap to the minimum over depth. At {depths[-1]}: {', '.join(said)}."),
        show(near, f"Distance to the solution over the steps; at the end: {', '.join(held)}."),
        caption=f"Left: gap of the objective, mean and range of {len(records)} seeds. Right: relative distance to the "
        "solution, from a thousandth, untrained; beyond 10 nothing is drawn.",
    )


def turned(record: Mapping) -> Table:
    """The residual networks that were started with steps that turn the line around.

    Args:
        record: Result file "crossing-turning".
    """
    rows = [
        (f"{row['depth']} blocks", float(row["start"]), float(row["mse"]), float(row["least_slope"]))
        for row in record["final"]["depths"]
    ]
    return table(
        ("depth", "error at the start", "error when trained", "least slope of a step"),
        rows,
        "ResNets started with decreasing steps: mean squared error of −x³.",
    )


def seeds_table(records: Mapping[str, Sequence[Mapping]], momenta: Sequence[float], key: str, caption: str) -> Table:
    """Mean, least and largest value over seeds, a row for each c of each group of records.

    Args:
        records: By a name, which may be empty, result files of "crossing" or "rings".
        momenta: Which c, where the records have it.
        key: "mse" or "accuracy".
        caption: What the table shows.
    """
    rows = []
    for name, group in records.items():
        for c in momenta:
            rule = f"c = {c:g}" if c else "ResNet"
            values = [row[key] for r in group for row in r["final"]["momenta"] if math.isclose(row["c"], c)]
            if values:
                rows.append(
                    (f"{name}: {rule}" if name else rule, len(values), float(mean(values)), min(values), max(values))
                )
    return table(("network", "seeds", "mean", "least", "largest"), rows, caption)
