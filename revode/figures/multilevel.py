"""Drawings of multilevel training: doubled blocks, the schedule and what it saves, residuals, the Swiss roll."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from matplotlib.patches import Rectangle
from torch import Tensor

from .. import results
from ..experiments import Experiment, Run
from ..train import TrainConfig
from .drawing import COLORS, LINE, SOFT, Drawing, Table, axes, beside, line, show, styled, table

#: Colour and words of each kind of run.
KINDS = {
    "copy": ("hamiltonian", "doubled, copies"),
    "linear": ("midpoint", "doubled, linear"),
    "full": ("euler", "8-8-8 throughout"),
    "shallow": ("revnet", "2-2-2 throughout"),
}
NETWORKS = {"hamiltonian": "hamiltonian", "antisymmetric": "midpoint", "resnet": "euler"}


@styled
def doubled_blocks(first: int = 3, levels: int = 3, interpolation: str = "copy") -> Drawing:
    """Blocks over the time of one unit, at each level, with the number of the first level's block each stems from."""
    from ..multilevel import _places

    figure, ax = axes(1, 1, (7.2, 0.75 * levels + 0.5))
    names, said = [str(j + 1) for j in range(first)], []
    for level in range(levels):
        if level:
            places = _places(_Row(names), interpolation == "linear")
            names = [_joined([names[i] for i in place.parents]) for place in places]
        h = first / len(names)
        for j, name in enumerate(names):
            new = level and j % 2
            box = Rectangle((j * h, -level), h, 0.7, facecolor=COLORS["hamiltonian"] if new else "none")
            box.set(edgecolor=SOFT, alpha=0.25 if new else 1.0, linewidth=0.8)
            ax.add_patch(box)
            ax.text((j + 0.5) * h, 0.35 - level, name, ha="center", va="center", fontsize=10 if level < 2 else 8)
        ax.text(-0.06, 0.35 - level, f"h{f' / {2**level}' if level else ''}", ha="right", va="center")
        said.append(" ".join(names))
    ax.set(xlim=(-0.35, first + 0.02), ylim=(0.05 - levels, 0.85))
    ax.set_xticks(range(first + 1), ["0", *(f"{j} h" if j > 1 else "h" for j in range(1, first + 1))])
    ax.set_yticks([])
    ax.spines["left"].set_visible(False)
    ax.set_xlabel("time in the unit")
    return show(
        figure,
        f"Blocks of one unit at {levels} levels, each named by the block it stems from: {'; '.join(said)}.",
        "Each row is one level. A box is a block with the time it covers, and the number of the first level's block "
        "that its weights are from. Shaded blocks are new at that level.",
    )


class _Row:
    """Names in the place of blocks."""

    def __init__(self, names: Sequence[str]):
        self.blocks = [(name, j) for j, name in enumerate(names)]


def _joined(names: Sequence[str]) -> str:
    return names[0] if len(set(names)) == 1 else "½ (" + " + ".join(names) + ")"


@styled
def cosine_cycles(config: TrainConfig) -> Drawing:
    """The learning rate over the run, and the number of blocks.

    Args:
        config: Settings with defaults filled in (:meth:`revode.TrainConfig.resolved`).
    """
    figure, (above, below) = axes(2, 1, (7.2, 3.2), sharex=True, height_ratios=(2, 1))
    steps = np.arange(config.steps + 1)[:: max(config.steps // 800, 1)]
    steps = steps[steps < config.steps]
    share = steps / config.steps
    line(above, share, [config.lr_at(int(s)) for s in steps], "hamiltonian", label="_")
    above.set(ylabel="learning rate", ylim=(0, 1.05 * config.lr))
    blocks = [sum(config.units) * 2 ** sum(int(s) >= m for m in config.milestones) for s in steps]
    below.step(share, blocks, where="post", color=COLORS["hamiltonian"], linestyle="-")
    below.set(xlabel="share of the steps", ylabel="blocks", ylim=(0, 1.15 * max(blocks)))
    for m in config.milestones:
        for ax in (above, below):
            ax.axvline(m / config.steps, color=LINE, zorder=0)
    count = len(config.milestones) + 1
    return show(
        figure,
        f"The rate falls {count} times from {config.lr:g} to {config.lr_min:g} as a cosine; with each new fall the "
        f"blocks double, from {min(blocks)} to {max(blocks)}.",
        "Learning rate and number of blocks. The area under the lower line is the cost.",
    )


def time_saved(records: Iterable[Mapping]) -> Table:
    """Seconds of a step at each level, and the share of time that the schedule saves, counted and by them.

    Args:
        records: Results of :func:`revode.experiments.multilevel.measure_times`.
    """
    rows = []
    for record in records:
        f = record["final"]
        seconds = ", ".join(f"{level['seconds']:.2f}" for level in record["curve"])
        saved = (f"{100 * f[key]:.1f} %" for key in ("saved", "saved_counted"))
        rows.append((record["settings"]["model"], seconds, *saved))
    columns = ("network", "seconds a step at 2-2-2, 4-4-4, 8-8-8", "saved by these times", "saved by counting blocks")
    return table(
        columns,
        rows,
        "What the schedule of 60, 50 and 50 epochs saves of the time of 160 epochs with 8-8-8 blocks.",
    )


def planned_or_done(experiment: Experiment, names: Iterable[str] = ()) -> Table:
    """One row for each training of an experiment: error and time, or that it has not been run.

    Args:
        experiment: Its runs.
        names: Results that are there; none given: the bundled ones.
    """
    there = set(names or results.names())
    rows = []
    for run in experiment.runs:
        if run.make != "train":
            continue
        if run.name in there:
            record = results.load(run.name)
            error = f"{100 * (1 - record['final']['test_accuracy']):.2f} %"
            rows.append((run.name, _blocks(run), error, f"{record['wall_seconds'] / 60:.1f} min"))
        else:
            rows.append((run.name, _blocks(run), "not yet run", f"about {run.cpu_minutes:.0f} min on one core"))
    return table(
        ("run", "blocks", "test error", "time"), rows, "Trainings on 10,000 images of CIFAR-10, tested on all 10,000."
    )


def _blocks(run: Run) -> str:
    units = run.settings["units"]
    levels = len(run.settings["milestones"]) if run.settings["refine"] != "off" else 0
    last = "-".join(str(n * 2**levels) for n in units)
    return f"{'-'.join(map(str, units))} to {last}" if levels else last


@styled
def error_over_cost(records: Iterable[Mapping]) -> Drawing:
    """Test error on the way, against the blocks computed so far, of trainings with and without doubling.

    Args:
        records: Results of trainings of one network, finished or not.
    """
    records = list(records)
    if not records:
        return table(("trainings",), [("none has been run yet",)], "Test error over steps and over cost.")
    figure, (left, right) = axes(1, 2, (7.2, 3.3), sharey=True)
    said: dict[str, list[float]] = {}
    full = max(sum(p["blocks"] for p in r["curve"]) for r in records)
    for r in records:
        kind = next(k for k in KINDS if f"-{k}-" in r["name"])
        style, words = KINDS[kind]
        error = [100 * (1 - p["test_accuracy"]) for p in r["curve"]]
        cost = np.cumsum([p["blocks"] for p in r["curve"]]) / full
        steps = [p["step"] / r["settings"]["steps"] for p in r["curve"]]
        label = words if kind not in said else "_"
        said.setdefault(kind, []).append(100 * (1 - r["final"].get("test_accuracy", np.nan)))
        line(left, steps, error, style, label=label, linewidth=1.1)
        line(right, cost, error, style, label=label, linewidth=1.1)
    for m in records[0]["settings"]["milestones"]:
        left.axvline(m / records[0]["settings"]["steps"], color=LINE, zorder=0)
    left.set(xlabel="share of the steps", ylabel="test error, %", title="by steps")
    right.set(xlabel="blocks computed, full run = 1", title="by cost")
    right.legend(fontsize=8.5)
    ends = {KINDS[k][1]: (statistics.mean(v), max(v) - min(v)) for k, v in said.items()}
    text = "; ".join(f"{name} {mean:.1f} % (spread {spread:.1f})" for name, (mean, spread) in ends.items())
    return show(
        figure,
        f"Test error over steps and over cost. At the end: {text}.",
        "The same trainings over steps and over cost. Upright lines: the rate begins again, and the blocks may double.",
    )


@styled
def residual_norms(record: Mapping) -> Drawing:
    """What each block adds, relative to the state before it, over its place in the network.

    Args:
        record: Result of :func:`revode.experiments.multilevel.measure_norms`.
    """
    figure, (left, right) = axes(1, 2, (7.2, 3.0))
    said = []
    for row in record["curve"]:
        trained = row["network"] is not None
        values = [r["relative"] for r in row["rows"]]
        at = (np.arange(len(values)) + 0.5) / len(values)
        style = "hamiltonian" if trained else "euler"
        name = row["network"] or f"{row['blocks']} blocks, untrained"
        line(left, at, values, style, marker="." if trained else "", linewidth=1.6 if trained else 0.9, label="_")
        right.plot(row["blocks"], row["mean"], "o" if trained else "s", color=COLORS[style], markersize=5)
        said.append(f"{name}: {row['mean']:.3g}")
    left.set(xlabel="place in the network", ylabel="added, relative to the state", yscale="log")
    right.set(xlabel="blocks", ylabel="mean norm of what is added", xscale="log", yscale="log")
    return show(
        figure,
        f"Size of what a block adds. Means: {'; '.join(said)}.",
        "Left: each block, trained (dots) and untrained. Right: the mean over all blocks of the root mean square of an "
        "entry; squares are untrained networks of the same widths.",
    )


@styled
def swiss_roll_runs(records: Iterable[Mapping]) -> Drawing:
    """Validation accuracy and growth of features over cost, from a coarse start and from a cold one.

    Args:
        records: Results of :func:`revode.experiments.multilevel.measure_swiss_roll`.
    """
    records = list(records)
    if not records:
        return table(("runs",), [("none has been made yet",)], "The Swiss roll, from a coarse start and a cold one.")
    figure, (left, right) = axes(1, 2, (7.2, 3.2))
    said: dict[tuple[str, str], list[float]] = {}
    for r in records:
        network = r["settings"]["network"]
        for start, dash in (("multilevel", "-"), ("cold", (0, (2, 1.5)))):
            points = [p for p in r["curve"] if p["start"] == start and p["evaluations"]]
            cost = [p["cost"] for p in points]
            label = f"{network}, {start}" if (network, start) not in said else "_"
            said.setdefault((network, start), []).append(100 * points[-1]["validation_accuracy"])
            options = {"color": COLORS[NETWORKS[network]], "linestyle": dash, "linewidth": 1.1, "label": label}
            left.plot(cost, [100 * p["validation_accuracy"] for p in points], **options)
            right.plot(cost, [p["growth"] for p in points], **options)
    left.set(xlabel="layers evaluated", ylabel="validation accuracy, %", xscale="log")
    right.set(xlabel="layers evaluated", ylabel="norm of features / norm of points", xscale="log", yscale="log")
    left.legend(fontsize=7.5)
    text = "; ".join(f"{n}, {s} {statistics.mean(v):.1f} %" for (n, s), v in said.items())
    return show(
        figure,
        f"Validation accuracy at the end, mean over seeds: {text}.",
        "Solid: from 16 layers on, doubled. Dashed: the deepest network from a cold start, at the same cost.",
    )


@styled
def plane_features(panels: Mapping[str, tuple[Tensor, Tensor]], caption: str) -> Drawing:
    """Points in the plane, by class, in panels side by side.

    Args:
        panels: By a title, features (N, 2 or more), of which two are drawn, and classes (N).
        caption: Text under them.
    """
    drawn = []
    for title, (x, y) in panels.items():
        figure, ax = axes(1, 1, (2.6, 2.6))
        for value, style, marker in ((0, "midpoint", "."), (1, "euler", "x")):
            points = x[y == value].detach().numpy()
            ax.plot(points[:, 0], points[:, 1], marker, color=COLORS[style], markersize=3, linestyle="none")
        ax.set(title=title, aspect="equal")
        ax.set_xticks([])
        ax.set_yticks([])
        drawn.append(show(figure, f"{title}: {len(x)} points of two classes in the plane."))
    return beside(*drawn, caption=caption)
