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
    "full-h1": ("leapfrog", "8-8-8 throughout, h = 1"),  # before "full", which its name holds too
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
    ax.set(xlim=(-0.35, first + 0.02), ylim=(0.85 - levels, 0.85))
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
        records: Results of ``revode.experiments.multilevel.measure_times``.
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


def planned_or_done(experiment: Experiment) -> Table:
    """One row for each kind of training of an experiment: error and time, or how long it will take.

    Args:
        experiment: Its runs; the results are the bundled ones.
    """
    there = set(results.names())
    kinds: dict[str, list[Run]] = {}
    for run in experiment.runs:
        if run.make == "train":
            kinds.setdefault(run.name.rpartition("-seed")[0], []).append(run)
    rows = []
    for runs in kinds.values():
        done = [results.load(run.name) for run in runs if run.name in there]
        minutes = statistics.mean([r["wall_seconds"] / 60 for r in done] or [run.cpu_minutes or 0 for run in runs])
        error = [100 * (1 - r["final"]["test_accuracy"]) for r in done]
        spread = f" (from {min(error):.1f} to {max(error):.1f})" if len(error) > 1 else ""
        said = f"{statistics.mean(error):.1f} %{spread}" if done else "not yet run"
        time = f"{minutes:.0f} min" if done else f"about {minutes:.0f} min each"
        rows.append((_words(runs[0]), f"{len(done)} of {len(runs)}", said, time))
    return table(
        ("blocks", "runs", "test error", "time on one core"),
        rows,
        "Trainings on 10,000 images of CIFAR-10, tested on all 10,000 test images.",
    )


def _words(run: Run) -> str:
    """Network, blocks and step of a run."""
    s = run.settings
    units, levels = s["units"], len(s["milestones"]) if s["refine"] != "off" else 0
    blocks = ["-".join(str(n * 2**k) for n in units) for k in range(levels + 1)]
    by = {"copy": " by copies", "linear": ", linear"}.get(s["refine"], "")
    network = {"resnet-50": "ResNet", "hamiltonian-74": "Hamiltonian"}.get(s["model"], s["model"])
    return f"{network} {' to '.join((blocks[0], blocks[-1])[: 1 + (levels > 0)])}{by}, h = {s['h'] / 2**levels:g}"


@styled
def error_over_cost(records: Iterable[Mapping]) -> Drawing:
    """Test error on the way, over the steps and over the blocks computed, of trainings with and without doubling.

    Args:
        records: Results of trainings of one network, finished or not.
    """
    records = list(records)
    if not records:
        return table(("trainings",), [("none has been run yet",)], "Test error over steps and over cost.")
    full = max(sum(p["blocks"] for p in r["curve"]) for r in records)
    panels = []
    for title, xlabel in (("by steps", "share of the steps"), ("by cost", "blocks computed, full run = 1")):
        figure, ax = axes(1, 1, (3.5, 3.2))
        said: dict[str, list[float]] = {}
        for r in records:
            kind = next(k for k in KINDS if f"-{k}-" in r["name"])
            style, words = KINDS[kind]
            error = [100 * (1 - p["test_accuracy"]) for p in r["curve"]]
            steps = [p["step"] / r["settings"]["steps"] for p in r["curve"]]
            cost = np.cumsum([p["blocks"] for p in r["curve"]]) / full
            label = "_" if words in said else words
            said.setdefault(words, []).append(error[-1])
            line(ax, steps if title == "by steps" else cost, error, style, label=label, linewidth=1.1)
        ax.set(xlabel=xlabel, ylabel="test error, %", title=title, ylim=(None, 118), yticks=range(0, 101, 20))
        ax.set_ylim(bottom=max(min(100 * (1 - p["test_accuracy"]) for r in records for p in r["curve"]) - 4, 0))
        if title == "by steps":
            for m in records[0]["settings"]["milestones"]:
                ax.axvline(m / records[0]["settings"]["steps"], color=LINE, zorder=0)
        else:
            ax.legend(fontsize=8, loc="upper right")  # above all lines
        ends = "; ".join(f"{words} {statistics.mean(v):.1f} %" for words, v in said.items())
        panels.append(show(figure, f"Test error {title}. At the end, mean over seeds: {ends}."))
    return beside(
        *panels,
        caption="The same trainings over steps and over cost. Upright lines: the rate begins again, and the blocks may "
        "double. Errors on the way are those of 1,000 test images.",
    )


def _decades(ax) -> None:
    """Round numbers on a logarithmic ordinate that spans little."""
    low, high = ax.get_ylim()
    low, high = low / 1.5, high * 1.5
    ticks = [v * 10.0**k for k in range(-3, 4) for v in (1, 2, 5) if low <= v * 10.0**k <= high]
    ax.set_yticks(ticks, [f"{v:g}" for v in ticks])
    ax.set_yticks([], minor=True)
    ax.set_ylim(low, high)


@styled
def residual_norms(*records: Mapping) -> Drawing:
    """What each block adds: relative to the state before it, over its place, and the mean over the number of blocks.

    Args:
        *records: Results of ``revode.experiments.multilevel.measure_norms``.
    """
    rows = [row for record in records for row in record["curve"]]
    (left_figure, left), (right_figure, right) = (axes(1, 1, (3.5, 3.0)) for _ in range(2))
    said = []
    for row in rows:
        trained = row["network"] is not None
        values = [r["relative"] for r in row["rows"]]
        at = (np.arange(len(values)) + 0.5) / len(values)
        style = "hamiltonian" if trained else "euler"
        line(left, at, values, style, marker="." if trained else "", linewidth=1.6 if trained else 0.9, label="_")
        right.plot(row["blocks"], row["mean"], "o" if trained else "s", color=COLORS[style], markersize=5)
        said.append(f"{row['network'] or 'untrained'} with {row['blocks']} blocks {row['mean']:.3g}")
    left.set(xlabel="place in the network", ylabel="added / state", yscale="log", title="each block")
    right.set(xlabel="blocks", ylabel="mean norm of what is added", xscale="log", yscale="log", title="mean")
    depths = sorted({row["blocks"] for row in rows})
    right.set_xticks(depths, [str(n) for n in depths])
    right.set_xticks([], minor=True)
    for ax in (left, right):
        _decades(ax)
    return beside(
        show(left_figure, "What each block adds relative to the state, over its place in the network."),
        show(right_figure, f"Mean norm of what a block adds: {'; '.join(said)}."),
        caption="Green dots: trained. Orange: untrained networks of the same widths. Right: the mean over all blocks "
        "of the root mean square of an entry.",
    )


@styled
def swiss_roll_runs(records: Iterable[Mapping]) -> Drawing:
    """Validation accuracy over the depth for each network, from a coarse start and from a cold one; growth of features.

    Args:
        records: Results of ``revode.experiments.multilevel.measure_swiss_roll``.
    """
    records = list(records)
    if not records:
        return table(("runs",), [("none has been made yet",)], "The Swiss roll, from a coarse start and a cold one.")
    networks = [n for n in NETWORKS if any(r["settings"]["network"] == n for r in records)]
    panels = [_swiss_accuracy([r for r in records if r["settings"]["network"] == n], n) for n in networks]
    figure, ax = axes(1, 1, (4.6, 2.4))
    said = []
    for n in networks:
        ends = []
        for r in (r for r in records if r["settings"]["network"] == n):
            trained, _, _ = _swiss_levels(r)
            ends.append(trained[-1]["growth"])
            first = len(ends) == 1
            values = [p["growth"] for p in trained]
            line(ax, [p["layers"] for p in trained], values, NETWORKS[n], label=n if first else "_", marker=".")
        said.append(f"{n} {statistics.mean(ends):.3g}")
    ax.set(title="norm of features / norm of points", yscale="log")
    _decades(ax)
    _layers(ax, trained)
    ax.legend(fontsize=8, loc="center left", bbox_to_anchor=(1.0, 0.5))
    alt = f"Norm of the last features over that of the points; with most layers, mean over seeds: {'; '.join(said)}."
    return beside(
        *panels,
        show(figure, alt),
        caption="The Swiss roll, a line for each seed. Dots: after the training at a depth. Rings: just doubled, "
        "before it. Crosses: the deepest network from a cold start, with as many evaluations of layers as all levels.",
    )


def _swiss_levels(record: Mapping) -> tuple[list[dict], list[dict], dict]:
    """Points after the training at each depth, points just doubled, and the last one from a cold start."""
    points = {s: [p for p in record["curve"] if p["start"] == s] for s in ("multilevel", "cold")}
    doubled = [p for p in points["multilevel"] if not p["evaluations"]]
    return [p for p in points["multilevel"] if p["evaluations"]], doubled, points["cold"][-1]


def _swiss_accuracy(records: Sequence[Mapping], network: str) -> Drawing:
    figure, ax = axes(1, 1, (2.5, 2.4))
    color, ends, cold_ends = COLORS[NETWORKS[network]], [], []
    for r in records:
        trained, doubled, cold = _swiss_levels(r)
        x, y = ([p[k] for p in trained] for k in ("layers", "validation_accuracy"))
        line(ax, x, [100 * v for v in y], NETWORKS[network], label="_", marker=".")
        x, y = ([p[k] for p in doubled] for k in ("layers", "validation_accuracy"))
        ax.plot(x, [100 * v for v in y], "o", color=color, markersize=3.5, fillstyle="none", markeredgewidth=0.8)
        ax.plot(cold["layers"], 100 * cold["validation_accuracy"], "x", color=color, markersize=6)
        ends.append(100 * trained[-1]["validation_accuracy"])
        cold_ends.append(100 * cold["validation_accuracy"])
    ax.set(title=f"{network}: right, %", ylim=(40, 103))
    _layers(ax, trained)
    told = (f"{statistics.mean(v):.3g} (from {min(v):.3g} to {max(v):.3g})" for v in (ends, cold_ends))
    alt = "{}: validation accuracy in per cent with most layers, doubled {}, cold {}."
    return show(figure, alt.format(network, *told))


def _layers(ax, points: Sequence[Mapping]) -> None:
    """A logarithmic abscissa of the depths of these points."""
    depths = [p["layers"] for p in points]
    ax.set(xscale="log", xlabel="layers")
    ax.set_xticks(depths, [str(n) if k % 2 == 0 else "" for k, n in enumerate(depths)])
    ax.set_xticks([], minor=True)


@styled
def plane_features(panels: Mapping[str, Tensor], classes: Tensor, caption: str) -> Drawing:
    """Points in the plane, by class, in panels side by side.

    Args:
        panels: By a title, features (N, 2 or more), of which two are drawn.
        classes: Number of the class of each point, 0 or 1.
        caption: Text under them.
    """
    drawn = []
    for title, x in panels.items():
        figure, ax = axes(1, 1, (2.6, 2.6))
        for value, style, marker in ((0, "midpoint", "."), (1, "euler", "x")):
            points = x[classes == value].detach().numpy()
            ax.plot(points[:, 0], points[:, 1], marker, color=COLORS[style], markersize=3, linestyle="none")
        ax.set(title=title, aspect="equal")
        ax.set_xticks([])
        ax.set_yticks([])
        drawn.append(show(figure, f"{title}: {len(x)} points of two classes in the plane."))
    return beside(*drawn, caption=caption)
