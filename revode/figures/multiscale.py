"""Kernels at two resolutions, and what networks do with them."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

import numpy as np
import torch
from matplotlib.patches import Rectangle

from .. import multiscale, results
from .drawing import COLORS, INK, LINE, SOFT, Drawing, Table, axes, beside, show, styled, table

_POSITIVE, _NEGATIVE = COLORS["midpoint"], COLORS["euler"]

#: How the ways of an experiment are called in a table, in their order.
WAYS = {
    "kernels as they are": "kernels as they are",
    "kernels, constant": "kernels moved, constant P",
    "kernels, bilinear": "kernels moved, bilinear P",
    "images, constant": "images enlarged, pixels repeated",
    "images, bilinear": "images enlarged, interpolated",
    "images, averaged": "images averaged",
}


def _kernel(ax, kernel: np.ndarray, unit: float) -> None:
    """A 3x3 kernel as coloured squares with its numbers: full colour at ``unit``."""
    for (i, j), value in np.ndenumerate(kernel):
        color = _POSITIVE if value > 0 else _NEGATIVE
        strength = 0.75 * min(abs(value) / unit, 1)
        ax.add_patch(Rectangle((j, 2 - i), 1, 1, facecolor=color, alpha=strength, edgecolor="none"))
        ax.add_patch(Rectangle((j, 2 - i), 1, 1, facecolor="none", edgecolor=LINE, linewidth=0.8))
        ax.text(j + 0.5, 2.5 - i, f"{value:.3g}".replace("-", "−"), ha="center", va="center", fontsize=8, color=INK)
    ax.set(xlim=(0, 3), ylim=(0, 3), aspect="equal", xticks=[], yticks=[])
    ax.spines[:].set_visible(False)


@styled
def kernels_at_two_scales(names: Sequence[str] = ("mass", "dx", "dxx")) -> Drawing:
    """Stencils on the fine grid and what they become on a grid of pixels twice as wide, with both prolongations.

    Args:
        names: Of :data:`revode.multiscale.STENCILS`.
    """
    drawings = []
    for name in names:
        fine = multiscale.stencils(1)[multiscale.STENCILS.index(name)]
        shown = {"fine": fine} | {f"coarse, {p} P": multiscale.restrict(fine, p) for p in multiscale.PROLONGATIONS}
        wanted = multiscale.stencils(2)[multiscale.STENCILS.index(name)]
        shown["its coarse stencil"] = wanted
        figure, grid = axes(2, 2, (3.2, 3.5))
        unit = max(k.abs().max().item() for k in shown.values())
        for ax, (title, kernel) in zip(grid.flat, shown.items(), strict=True):
            _kernel(ax, kernel.numpy(), unit)
            ax.set_title(f"{name}, {title}" if title == "fine" else title, fontsize=9)
        moved = {p: multiscale.coefficients(multiscale.restrict(fine, p), 2) for p in multiscale.PROLONGATIONS}
        own = {p: c[multiscale.STENCILS.index(name)].item() for p, c in moved.items()}
        said = ", ".join(f"{value:g} with the {p} P" for p, value in own.items())
        drawings.append(show(figure, f"Kernels of the stencil {name} at two scales; its own coefficient is {said}."))
    return beside(
        *drawings,
        caption="Fine pixels have side 1, coarse ones side 2. Each stencil, its restriction Q A P with either "
        "prolongation, and the stencil of the same derivative on the coarse grid. Blue positive, red negative.",
    )


def stencil_coefficients(factor: int = 2) -> Table:
    """Claim 30 from its result file: what becomes of the coefficient of each stencil on a coarser grid.

    Args:
        factor: Fine pixels for each coarse one, in a line: one of those in the file.
    """
    final = results.load("multiscale-map")["final"]
    found = {p: final[p][str(factor)] for p in multiscale.PROLONGATIONS}
    rows = [(name, *(round(found[p]["coefficients"][name], 9) for p in found)) for name in multiscale.STENCILS]
    rows += [
        (title, *(found[p][key] for p in found))
        for title, key in (
            ("weights outside 3x3", "outside_3x3"),
            ("distance from Q A P by dense matrices", "from_dense"),
            ("error of the round trip", "round_trip"),
            ("condition number of the 9x9 map", "condition"),
            ("norm of the map", "norm"),
            ("norm of its inverse", "norm_of_inverse"),
        )
    ]
    rows = [(title, *(_short(v) for v in values)) for title, *values in rows]
    return table(
        ("stencil", *(f"{p} P" for p in found)),
        rows,
        f"Coefficient of each stencil after restriction to pixels {factor} times as wide, 1 on the fine grid; and the "
        "map as a matrix.",
    )


def _short(value: float) -> str:
    return f"{value:.4g}"


def _percent(values: Sequence[float]) -> str:
    """Mean in percent, with the standard deviation where there are several."""
    values = [100 * v for v in values]
    spread = f" ± {statistics.stdev(values):.1f}" if len(values) > 1 else ""
    return f"{statistics.fmean(values):.1f}{spread}"


def _not_yet(what: str) -> Table:
    said = f"There is no result file yet of {what}: the command revode experiments lists it."
    return table(("status",), [("not yet run",)], said)


def _found(name: str) -> dict | None:
    """A bundled result, if it is there and finished."""
    if name not in results.names():
        return None
    record = results.load(name)
    return record if record["status"] == "finished" else None


def warm_starts() -> list[dict]:
    """The finished results of the warm start, one for each seed."""
    return [r for name in results.names() if name.startswith("multiscale-warm-start") and (r := _found(name))]


def _transfers() -> dict[str, list[dict]]:
    """What :func:`revode.experiments.multiscale.transfer` found, one of them a seed, by network, data and sizes."""
    found: dict[str, list[dict]] = {}
    if bundled := _found("multiscale-bundled"):
        found |= {f"{name}, CIFAR-10, 32 → 16": [ways] for name, ways in bundled["final"].items()}
    if warm := warm_starts():
        s = warm[0]["settings"]
        label = f"{s['model']}, CIFAR-10, {s['coarse_size']} → {s['size']}"
        found[label] = [r["final"]["transfer"] for r in warm]
    for old, new in ((48, 96), (96, 48)):
        if record := _found(f"multiscale-stl10-{old}-to-{new}"):
            label = f"{record['settings']['model']}, STL-10 held out, {old} → {new}"
            found[label] = [record["final"]["transfer"]]
    return found


def transfer_accuracy(statistics: str = "estimated") -> Table:
    """Accuracy of networks at a resolution that they were not trained at, by the ways to bring them there.

    Args:
        statistics: Of batch normalization: "kept" from training or "estimated" at the resolution.
    """
    rows = []
    for title, seeds in _transfers().items():
        row = [title, _percent([s["trained on"]["kept"] for s in seeds])]
        row += [_percent([s[way][statistics] for s in seeds]) if way in seeds[0] else "–" for way in WAYS]
        rows.append(tuple(row))
    if not rows:
        rows = [("not yet run", *("–" for _ in range(len(WAYS) + 1)))]
    return table(
        ("network, sides of the images", "at its own size", *WAYS.values()),
        rows,
        f"Test accuracy in percent, statistics of batch normalization {statistics}. Mean and standard deviation where "
        "there are several seeds. STL-10: the 1,600 held-out images, which is no official test accuracy.",
    )


@styled
def transfer_ways(title: str | None = None) -> Drawing | Table:
    """One line for each way to classify images of another size, with kept and with estimated statistics.

    Args:
        title: One of the rows of :func:`transfer_accuracy`; all if None.
    """
    found = _transfers()
    if not found or (title and title not in found):
        return _not_yet("what networks make of images of another size")
    found = found if title is None else {title: found[title]}
    drawings = []
    for label, seeds in found.items():
        ways = [w for w in WAYS if w in seeds[0]]
        figure, ax = axes(1, 1, (4.6, 1.3 + 0.3 * len(ways)))
        own = statistics.fmean(s["trained on"]["kept"] for s in seeds)
        ax.axvline(100 * own, color=SOFT, linewidth=1, linestyle=(0, (3, 2)))
        ax.axvline(10, color=LINE, linewidth=1)
        words = []
        for i, way in enumerate(ways):
            for kind, marker, fill in (("kept", "o", "none"), ("estimated", "o", _POSITIVE)):
                values = [100 * s[way][kind] for s in seeds]
                ax.plot(values, [-i] * len(values), marker, color=_POSITIVE, markerfacecolor=fill, markersize=6,
                        linestyle="none", label=kind if i == 0 else None)  # fmt: skip
            words.append(f"{WAYS[way]} {_percent([s[way]['estimated'] for s in seeds])} %")
        ax.set(yticks=[-i for i in range(len(ways))], yticklabels=[WAYS[w] for w in ways], xlim=(0, 100))
        ax.set(ylim=(0.5 - len(ways), 0.5), xlabel="test accuracy, %")
        figure.suptitle(label, x=0.01, ha="left", fontsize=10, fontweight="bold", color=INK)
        figure.legend(loc="outside lower right", fontsize=8, ncols=2, frameon=False)
        drawings.append(
            show(figure, f"{label}: {_percent([own])} % at its own size; with estimated statistics {'; '.join(words)}.")
        )
    return beside(
        *drawings,
        caption="Open dots: the running statistics of training. Full dots: estimated at the size that the network is "
        "given. Dashed: the network on images of its own size. Grey: chance.",
    )


#: Colour and dashes of a start.
_STARTS = {
    "scratch": (SOFT, "-"),
    "kernels as they are": (COLORS["hamiltonian"], "-"),
    "kernels, constant": (COLORS["midpoint"], (0, (6, 2))),
    "kernels, bilinear": (COLORS["euler"], (0, (2, 1.5))),
    "scratch, equal cost": (INK, (0, (1, 1))),
}


@styled
def warm_start() -> Drawing | Table:
    """Training loss and test accuracy at the fine resolution against cost, from a coarse network and from scratch."""
    records = warm_starts()
    if not records:
        return _not_yet("the warm start against the cold one")
    s = records[0]["settings"]
    share = (s["coarse_size"] / s["size"]) ** 2
    before = share * s["coarse_steps"]
    (losses, left), (accuracies, right) = (axes(1, 1, (3.6, 3.2)) for _ in range(2))
    words = []
    for start, (color, dashes) in _STARTS.items():
        offset = 0 if start.startswith("scratch") else before
        for k, record in enumerate(records):
            points = [p for p in record["curve"] if p["start"] == start]
            cost = [offset + p["step"] for p in points]
            style = {"color": color, "linestyle": dashes, "linewidth": 1.5, "alpha": 1 if k == 0 else 0.55}
            label = start if k == 0 else None
            left.plot(cost, [p["train_loss"] for p in points], label=label, **style)
            right.plot(cost, [100 * p["test_accuracy"] for p in points], **style)
            end = record["final"]["starts"][start]
            right.plot(cost[-1], 100 * end["estimated_accuracy"], "o", color=color, markersize=4)
        ends = [r["final"]["starts"][start]["estimated_accuracy"] for r in records]
        words.append(f"{start} {_percent(ends)} %")
    left.set(xlabel=f"cost, steps at {s['size']} px", title="training loss", xlim=(0, None))
    right.set(xlabel=f"cost, steps at {s['size']} px", title="test accuracy, %", xlim=(0, None))
    left.legend(fontsize=8)
    return beside(
        show(losses, f"Training loss at {s['size']} pixels against cost for five starts and {len(records)} seeds."),
        show(accuracies, f"Test accuracy at the end, statistics estimated: {'; '.join(words)}."),
        caption=f"Starts from the kernels of {s['coarse_steps']} steps at {s['coarse_size']} px begin at their cost, "
        f"{before:g} steps at {s['size']} pixels, each counted as {share:g}. A line a seed. Dots: all test images, "
        "statistics of batch normalization estimated from the last weights.",
    )


def warm_start_table() -> Table:
    """The ends of the trainings of :func:`warm_start`, and how far they are above scratch at equal cost."""
    records = warm_starts()
    rows, said = [], []
    longer = "scratch, equal cost"
    for start in _STARTS if records else ():
        ends = [r["final"]["starts"][start] for r in records]
        gaps = [
            100 * (e["estimated_accuracy"] - r["final"]["starts"][longer]["estimated_accuracy"])
            for e, r in zip(ends, records, strict=True)
        ]
        gap = "–" if start == longer else f"{statistics.fmean(gaps):+.1f}"
        if start != longer and len(gaps) > 1:
            error = statistics.stdev(gaps) / len(gaps) ** 0.5
            gap += f" ± {error:.1f}"
            where = "above" if statistics.fmean(gaps) > 0 else "below"
            clear = abs(statistics.fmean(gaps)) > 2 * error
            said.append(f"{start} {where if clear else 'as good as'} scratch at equal cost")
        rows.append(
            (
                start,
                ends[0]["step"],
                f"{statistics.fmean(e['train_loss'] for e in ends):.3f}",
                _percent([e["estimated_accuracy"] for e in ends]),
                _percent([e["test_accuracy"] for e in ends]),
                gap,
            )
        )
    rows = rows or [("not yet run", "–", "–", "–", "–", "–")]
    return table(
        ("start", "steps", "training loss", "test accuracy, %", "with the run's own statistics, %", "over equal cost"),
        rows,
        f"Ends of the trainings, {len(records)} seeds: mean and standard deviation. Last column: points above training "
        "from scratch at equal cost, paired by seed, with the standard error"
        + (f"; by twice that: {', '.join(said)}." if said else "."),
    )


@torch.no_grad()
def image_at_two_scales(images, size: int = 16) -> Drawing:
    """Images as they are, averaged to another size, and enlarged again by repetition and by interpolation.

    Args:
        images: A :class:`revode.data.ImageSet`.
        size: Side in pixels of the small images.
    """
    from ..experiments.multiscale import repeated
    from .drawing import film

    small, side = images.resized(size), images.images.shape[-1]
    columns = [images, small, repeated(small, side), small.resized(side)]
    labels = images.labels.tolist()
    rows = {f"{images.classes[k]} ({i})": [c.images[i].numpy() for c in columns] for i, k in enumerate(labels)}
    return film(
        rows,
        [f"{side} px", f"{size} px", "pixels repeated", "interpolated"],
        f"Images of {side} pixels, averaged to {size}, and what either prolongation makes of that.",
        low=0,
        high=255,
    )
