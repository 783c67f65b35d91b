"""Memory and time of training steps, from the benchmark's result file."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

import numpy as np
from matplotlib.ticker import LogLocator, NullLocator, StrMethodFormatter

from .drawing import COLORS, LINE, SOFT, Drawing, Table, axes, line, show, styled, table

#: Colour, dashes and name of each way of keeping activations.
WAYS = {
    "plain": ("euler", "stored"),
    "checkpoint per branch": ("midpoint", "checkpoint per branch"),
    "revode": ("hamiltonian", "reversible"),
}
MIB, GIB = 2**20, 2**30
_LAST = re.compile(r"revode last (\d+) stored")


@styled
def memory_against_depth(blocks: Sequence[int], bytes_of: dict[str, Sequence[float]], title: str = "") -> Drawing:
    """Measured memory over depth, one line a way of keeping activations.

    Args:
        blocks: Depths.
        bytes_of: Name to bytes at these depths. "stored" and "reversible" have colours of their own.
        title: Over the axes.
    """
    colours = {"stored": "euler", "reversible": "hamiltonian"}
    spare = iter(("midpoint", "leapfrog", "revnet"))
    figure, ax = axes(1, 1, (7.2, 2.9))
    words = []
    for name, values in bytes_of.items():
        scheme = colours.get(name) or next(spare)
        mib = np.asarray(values) / MIB
        line(ax, blocks, mib, scheme, marker="o", markersize=4, label=name)
        ax.annotate(name, (blocks[-1], mib[-1]), xytext=(7, 0), textcoords="offset points", va="center")
        words.append(f"{name} from {mib[0]:.1f} MiB at {blocks[0]} blocks to {mib[-1]:.1f} MiB at {blocks[-1]}")
    ax.set(
        xlabel="blocks N", ylabel="MiB", title=title or "Activations of one training step", xlim=(0, 1.22 * blocks[-1])
    )
    ax.set_ylim(bottom=0)
    return show(figure, f"Memory of activations over depth: {'; '.join(words)}.")


def _memory_rows(record: dict, case: str, family: str = "revnet") -> list[dict]:
    """Memory rows of one case, by depth."""
    rows = [r for r in record["final"]["memory"] if (r["family"], r["case"]) == (family, case) and "peak" in r]
    return sorted(rows, key=lambda r: r["blocks"])


def _growth(rows: list[dict]) -> tuple[float, float]:
    """Bytes at depth 0 and per block, of the line through the first and the last depth."""
    first, last = rows[0], rows[-1]
    slope = (last["peak"] - first["peak"]) / (last["blocks"] - first["blocks"])
    return first["peak"] - slope * first["blocks"], slope


def _time_rows(record: dict, layout: str = "contiguous", family: str = "revnet", blocks: int = 32) -> dict[str, dict]:
    rows = record["final"]["time"]
    return {r["case"]: r for r in rows if (r["family"], r["blocks"], r["layout"]) == (family, blocks, layout)}


@styled
def memory_to_24_gib(record: dict) -> Drawing:
    """Peak memory of a training step over depth from a benchmark's result file, up to where stored fills 24 GiB.

    Args:
        record: Result of kind "benchmark". Measured depths are dots; what is extrapolated is dotted and marked so.
    """
    figure, ax = axes(1, 1, (7.2, 3.7))
    curves = {case: rows for case in WAYS if (rows := _memory_rows(record, case))}
    end = max(24 * GIB / _growth(curves["plain"])[1] * 1.08, max(r["blocks"] for r in curves["revode"]))
    words = []
    for case, rows in curves.items():
        scheme, name = WAYS[case]
        base, slope = _growth(rows)
        last = rows[-1]["blocks"]
        n = np.array([0, *(r["blocks"] for r in rows)])
        line(ax, n, (base + slope * n) / GIB, scheme, label=name)
        ax.plot([r["blocks"] for r in rows], [r["peak"] / GIB for r in rows], "o", color=COLORS[scheme], markersize=5)
        if last < end:
            ax.plot([last, end], [(base + slope * m) / GIB for m in (last, end)], color=COLORS[scheme],
                    linestyle=(0, (1, 2.2)), linewidth=1.4)  # fmt: skip
        full = (24 * GIB - base) / slope
        words.append(f"{name}: {slope / MIB:.2f} MiB a block, {rows[-1]['peak'] / GIB:.2f} GiB at {last} blocks")
        if full < end:
            ax.plot([full], [24], marker="X", color=COLORS[scheme], markersize=9, clip_on=False, zorder=5)
            leader = {"arrowstyle": "-", "color": SOFT, "linewidth": 0.8, "shrinkB": 7, "relpos": (1, 1)}
            ax.annotate(f"{name}\nfull at about {full:.0f} blocks", (full, 24), xytext=(full, 13), ha="right", va="top",
                        arrowprops=leader)  # fmt: skip
            words[-1] += f", full at about {full:.0f} (extrapolated)"
        else:
            at = 0.8 * end
            ax.annotate(name, (at, (base + slope * at) / GIB), xytext=(0, 7), textcoords="offset points", ha="center",
                        va="bottom")  # fmt: skip
    ax.axhline(24, color=SOFT, linewidth=1)
    ax.annotate("24 GiB", (0, 24), xytext=(4, 4), textcoords="offset points", color=SOFT)
    ax.set(xlim=(0, end), ylim=(0, 26.5), xlabel="blocks N", ylabel="GiB")
    ax.set_title("Peak memory of a training step, measured (dots) and extrapolated (dotted)")
    s = record["settings"]
    return show(
        figure,
        f"Peak memory of a training step over depth. {'. '.join(words)}.",
        f"RevNet coupling, {s['channels']} channels, {s['size']}×{s['size']}, batch {s['batch']}, {s['dtype']}. Peak "
        "of all tensors that a step allocates, gradients of the parameters among them, in a fresh process each. From "
        f"the result file {record['name']}.",
    )


def _timed_depth(record: dict, blocks: int | None) -> int:
    """The depth asked for, or 32, or the nearest one that was timed."""
    timed = {r["blocks"] for r in record["final"]["time"] if r["family"] == "revnet"}
    return blocks or min(timed, key=lambda n: abs(n - 32))


@styled
def memory_against_time(record: dict, blocks: int | None = None) -> Drawing:
    """What each way of training costs: time ratio over memory, from a benchmark's result file.

    Args:
        record: Result of kind "benchmark".
        blocks: Depth; None takes 32, or the nearest one that was timed.
    """
    blocks = _timed_depth(record, blocks)
    figure, grid = axes(1, 2, (7.4, 3.3), sharey=True)
    words = []
    top = 0.08 + max(r["ratio"] for r in record["final"]["time"] if r["family"] == "revnet" and r["blocks"] == blocks)
    short = {"plain": "stored", "revode": "revode", "checkpoint per branch": "per branch",
             "checkpoint per block": "per block", "checkpoint sequential": "√N"}  # fmt: skip
    for ax, layout in zip(grid, ("contiguous", "channels_last")):
        rows = _time_rows(record, layout, blocks=blocks)
        points = []
        for case, row in rows.items():
            used = [r["peak"] for r in _memory_rows(record, case) if r["blocks"] == blocks]
            if used:
                points.append((used[0] / MIB, row["ratio"], case))
        for mib, ratio, case in points:
            own, check = case == "revode" or _LAST.fullmatch(case), case.startswith("checkpoint")
            colour = COLORS["hamiltonian" if own else "midpoint" if check else "euler" if case == "plain" else "revnet"]
            ax.plot([mib], [ratio], "D" if own else "s" if check else "o", color=colour, markersize=7 if own else 5.5)
            words.append(f"{case}, {layout}: {mib:.0f} MiB, time {ratio:.2f}")
        for mib, ratio, case, dy in _apart([p for p in points if not _LAST.fullmatch(p[2])], 0.055):
            right = mib > 200
            ax.annotate(short.get(case, case), (mib, ratio), xytext=(-7 if right else 7, dy * 60), fontsize=8.5,
                        textcoords="offset points", ha="right" if right else "left", va="center")  # fmt: skip
        for mib, ratio, case in (p for p in points if _LAST.fullmatch(p[2])):  # away from the others' names
            place = {"xytext": (5, 9), "ha": "left"} if mib > 200 else {"xytext": (0, -12), "ha": "center"}
            ax.annotate(_LAST.sub(r"k=\1", case), (mib, ratio), fontsize=8, textcoords="offset points",
                        va="center", **place)  # fmt: skip
        if "one more forward" in rows:
            limit = rows["one more forward"]["ratio"]
            ax.axhline(limit, color=LINE, zorder=0)
            ax.annotate("one more forward", (0.98, limit), xycoords=("axes fraction", "data"), xytext=(0, 3),
                        textcoords="offset points", fontsize=8, color=SOFT, ha="right")  # fmt: skip
        ax.set(xscale="log", xlabel="peak memory, MiB", title=layout, ylim=(0.92, top))
        ax.xaxis.set_major_locator(LogLocator(2))
        ax.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
        ax.xaxis.set_minor_locator(NullLocator())
    grid[0].set_ylabel("time of a step / stored")
    return show(
        figure,
        f"Time over memory at {blocks} blocks. {'; '.join(words)}.",
        f"{blocks} blocks. Diamond: revode; squares: checkpoints (√N: of so many segments); other dots: stored "
        "activations and other reversible packages. Left and down is better."
        + " k: revode with the activations of the last k blocks kept."
        * any(map(_LAST.fullmatch, rows)),
    )


def _apart(points: list[tuple], gap: float) -> list[tuple]:
    """The points with a shift for each label, so that labels of neighbours do not lie over each other."""
    out, last = [], {}
    for mib, ratio, case in sorted(points, key=lambda p: p[1]):
        near = [y for x, y in last.items() if abs(np.log(x / mib)) < 0.9]
        y = max([ratio, *(n + gap for n in near)])
        last[mib] = y
        out.append((mib, ratio, case, (y - ratio) / gap * 0.2))
    return out


def _hardware(record: dict, rows: Iterable[dict]) -> str:
    """What these rows were measured on; each says so itself, unless all of the file were on one machine."""
    machine = record["evidence"]["hardware"]
    return ", ".join(dict.fromkeys(r.get("hardware", machine["gpu"] or machine["cpu"]) for r in rows))


def memory_choices(record: dict, blocks: int | None = None) -> Table:
    """Time ratio, memory and gradient of every case of the RevNet network, from a benchmark's result file.

    Args:
        record: Result of kind "benchmark".
        blocks: Depth of the time ratios; None takes 32, or the nearest one that was timed.
    """
    blocks, rows = _timed_depth(record, blocks), []
    contiguous, last = (_time_rows(record, layout, blocks=blocks) for layout in ("contiguous", "channels_last"))
    for case in contiguous:
        if case == "revode exact":  # told in the chapter on exact arithmetic
            continue
        used = _memory_rows(record, case)
        slope = None
        if len(used) > 1:
            slope = (_growth(used)[1] - (used[-1]["parameter_gradients"] / used[-1]["blocks"])) / MIB
        off = contiguous[case]["gradient_difference"]
        rows.append((
            _LAST.sub(
                r"reversible, last \1 blocks stored",
                {"plain": "stored (plain autograd)", "revode": "reversible (revode)"}.get(case, case),
            ),
            f"{contiguous[case]['ratio']:.2f}",
            f"{last[case]['ratio']:.2f}" if case in last else "–",
            "–" if slope is None else f"{max(slope, 0.0):.2f}",  # less than 0: not all gradients live at the peak
            "–" if off is None else "equal" if off == 0 else f"{off:.0e}",
        ))  # fmt: skip
    load = record["final"]["parts"]["time"]["load"]
    return table(
        ("way", "time", "time, channels_last", "MiB per block", "gradient differs by"),
        rows,
        f"{blocks} blocks: time of a step over that with stored activations, medians of interleaved runs "
        f"({_hardware(record, contiguous.values())}, one thread, load {load:.1f} at the start of the last); "
        "activations per added block; largest relative difference of a parameter's gradient in float32.",
    )


def time_over_depth(record: dict) -> Table:
    """Time ratios of the reversible networks by scheme and depth, from a benchmark's result file."""
    rows = [r for r in record["final"]["time"] if r["layout"] == "contiguous"]
    depths = sorted({r["blocks"] for r in rows})
    names = {"revnet": "RevNet", "hamiltonian": "Hamiltonian", "hamiltonian-bn": "Hamiltonian, batch norm",
             "midpoint": "midpoint", "leapfrog": "leapfrog", "momentum": "momentum, c = 0.9"}  # fmt: skip
    out = []
    for family in dict.fromkeys(r["family"] for r in rows):
        for case, label in (("revode", "reversible"), ("one more forward", "one more forward")):
            found = {r["blocks"]: r["ratio"] for r in rows if (r["family"], r["case"]) == (family, case)}
            values = (f"{found[n]:.2f}" if n in found else "–" for n in depths)
            out.append((f"{names.get(family, family)}, {label}", *values))
    noise = [r for r in rows if r["case"] == "plain again"]
    ends = min(r["ratio"] for r in noise), max(r["ratio"] for r in noise)
    return table(
        ("time of a step / stored", *(f"{n} blocks" for n in depths)),
        out,
        f"Medians of interleaved runs; stored activations against themselves gave {ends[0]:.2f} to {ends[1]:.2f}. "
        '"One more forward": the measured share of the forward pass, added to 1.',
    )


def exact_cost(record: dict) -> Table:
    """Time of a training step in exact arithmetic over that in floating point, from a benchmark's result file."""
    found = {(r["family"], r["layout"], r["blocks"], r["case"]): r["ratio"] for r in record["final"]["time"]}
    names = {"revnet": "RevNet", "hamiltonian": "Hamiltonian", "hamiltonian-bn": "Hamiltonian, batch norm"}
    rows = [
        (names[family], layout, blocks, f"{found[family, layout, blocks, 'revode']:.2f}", f"{ratio:.2f}",
         f"{ratio / found[family, layout, blocks, 'revode'] - 1:+.0%}")
        for (family, layout, blocks, case), ratio in found.items()
        if case == "revode exact"
    ]  # fmt: skip
    timed = [r for r in record["final"]["time"] if r["case"] == "revode exact"]
    return table(
        ("network", "layout", "blocks", "reversible / stored", "exact / stored", "exact over reversible"),
        rows,
        f"Time of a training step: medians of interleaved runs ({_hardware(record, timed)}, one thread).",
    )
