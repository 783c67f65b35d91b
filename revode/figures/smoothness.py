"""How much kernels change from block to block, and what weight smoothness decay does to it."""

from __future__ import annotations

import statistics

import numpy as np

from .. import results
from ..experiments.smoothness import LONGER, PROTOCOL, SEEDS, mean_change
from .drawing import COLORS, INK, SOFT, Drawing, Table, axes, beside, show, styled, table

#: Label to the runs of Hamiltonian-74 that differ in the factor alone, one a seed.
FACTORS = {
    label: tuple(f"smoothness-{kind}-seed{seed}" for seed in SEEDS)
    for label, kind in (("off", "off"), ("paper", "paper"), (f"{LONGER:g} times", "strong"))
}


def runs() -> dict[str, list[dict]]:
    """The finished results for each of :data:`FACTORS`."""
    there = set(results.names())
    found = {label: [results.load(n) for n in names if n in there] for label, names in FACTORS.items()}
    return {label: [r for r in records if r["status"] == "finished"] for label, records in found.items()}


@styled
def kernel_change(name: str = "hamiltonian-74", compare: str = "resnet-32") -> Drawing:
    """Relative change of the kernels from block to block: fresh, trained with the decay, and a network without it.

    Args:
        name: Trained network of the package.
        compare: Another one.
    """
    final = results.load("smoothness-change")["final"]
    drawings = []
    for network in (name, compare):
        figure, ax = axes(1, 1, (3.6, 3.0))
        for kind, color, marker in (("fresh", SOFT, "x"), ("trained", COLORS["hamiltonian"], "o")):
            start = 0
            for k, path in enumerate(final[network][kind]["kernel_change"]):
                x = start + np.arange(len(path))
                label = kind if k == 0 else None
                ax.plot(x, path, color=color, marker=marker, markersize=4, linewidth=1, label=label)
                start += len(path) + 1
        ax.axhline(final["unrelated"], color=INK, linewidth=1, linestyle=(0, (3, 2)))
        ax.set(ylim=(0, 1.6), xticks=[], xlabel="pairs of blocks, kernel by kernel", title=network)
        ax.legend(loc="lower left")
        trained, fresh = final[network]["trained"]["mean"], final[network]["fresh"]["mean"]
        drawings.append(
            show(
                figure,
                f"{network}: mean change {trained:.3f} trained, {statistics.fmean(fresh):.3f} fresh; kernels that have "
                f"nothing in common change by {final['unrelated']:.3f}.",
            )
        )
    return beside(
        *drawings,
        caption="‖K(j+1) − K(j)‖ over the root mean square of the two norms. A line for each kernel of each unit. "
        "Dashed: √2, kernels that have nothing to do with each other.",
    )


def smoothness_effect() -> Table:
    """Runs with and without the decay: change of kernels, training and test accuracy, and the gap between them."""
    rows, found = [], runs()
    gaps = {}
    for label, records in found.items():
        if not records:
            rows.append((label, "–", "not yet run", "–", "–", "–"))
            continue
        finals = [r["final"] for r in records]
        changes = [mean_change(f["kernel_change"]) for f in finals if "kernel_change" in f]
        gaps[label] = [100 * (f["train_accuracy"] - f["test_accuracy"]) for f in finals]
        rows.append(
            (
                f"{label}, r = {records[0]['settings']['smoothness']:g}",
                str(len(records)),
                _mean(changes, 3) if changes else "–",
                _mean([100 * f["train_accuracy"] for f in finals], 2),
                _mean([100 * f["test_accuracy"] for f in finals], 2),
                _mean(gaps[label], 2),
            )
        )
    return table(
        ("factor", "seeds", "mean change of kernels", "training accuracy, %", "test accuracy, %", "gap, points"),
        rows,
        f"Hamiltonian-74, the images of chapter 5 and {PROTOCOL['steps']:,} steps, increments in bfloat16. Mean and "
        "standard deviation over seeds. Training "
        "accuracy is over the last steps, with augmentation. " + " ".join(_verdicts(found)),
    )


def _mean(values: list[float], digits: int) -> str:
    spread = f" ± {statistics.stdev(values):.{digits}f}" if len(values) > 1 else ""
    return f"{statistics.fmean(values):.{digits}f}{spread}"


def _verdicts(found: dict[str, list[dict]]) -> list[str]:
    """The effect on test accuracy and gap of each factor against none, with its standard error."""
    said = []
    for label in list(FACTORS)[1:]:
        pair = found["off"], found[label]
        if min(map(len, pair)) < 2:
            said.append(f"{label} against off: not yet run.")
            continue
        for what, of in (
            ("test accuracy", lambda f: f["test_accuracy"]),
            ("gap", lambda f: f["train_accuracy"] - f["test_accuracy"]),
        ):
            off, on = ([100 * of(r["final"]) for r in records] for records in pair)
            difference = statistics.fmean(on) - statistics.fmean(off)
            error = (statistics.variance(on) / len(on) + statistics.variance(off) / len(off)) ** 0.5
            verdict = "more than" if abs(difference) > 2 * error else "within"
            said.append(f"{label} − off, {what}: {difference:+.2f} ± {error:.2f}, {verdict} two standard errors.")
    return said
