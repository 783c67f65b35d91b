"""Few labels: accuracy against the number of training images, from whichever result files are there."""

from __future__ import annotations

import math
from statistics import fmean, stdev
from typing import NamedTuple

from .. import models
from ..experiments import Run, registry
from ..experiments import few_labels as few
from ..experiments.checks import finished, interval
from ..experiments.cost import GPU
from ..models import MODELS
from .drawing import COLORS, LINE, SOFT, Drawing, Table, axes, beside, line, show, styled, table

#: Names of the data sets, and on what all runs are tested.
_SETS = {
    "cifar10": ("CIFAR-10", "10,000 official test images"),
    "stl10-subset": ("STL-10", "1,600 held-out training images, no official test"),
}
_TITLES = {"hamiltonian": "Hamiltonian", "resnet": "ResNet"}


class FewLabels(NamedTuple):
    """What is known at one number of training images.

    Attributes:
        images: Number of training images.
        accuracy: Test accuracy in per cent by network ("hamiltonian", "resnet") and seed.
        training: Training accuracy over the last steps in per cent, likewise.
        missing: Runs of the plan without a finished result.
        planned: Number of runs of the plan.
    """

    images: int
    accuracy: dict[str, dict[int, float]]
    training: dict[str, dict[int, float]]
    missing: tuple[Run, ...]
    planned: int

    @property
    def gains(self) -> dict[int, float]:
        """Hamiltonian minus ResNet in points, for each seed that both have: they saw the same images."""
        a, b = (self.accuracy[n] for n in few.PAPER)
        return {seed: a[seed] - b[seed] for seed in sorted(a.keys() & b.keys())}


def few_labels_results(data: str = "cifar10") -> list[FewLabels]:
    """The plan for a CPU and what the bundled files say of it, one entry for each number of images.

    Args:
        data: "cifar10" or "stl10-subset".

    Raises:
        ValueError: for another data set.
    """
    if data not in _SETS:
        raise ValueError(f"data = {data!r} must be one of {', '.join(_SETS)}")
    sizes = few.CIFAR10_CPU_SIZES if data == "cifar10" else few.STL10_CPU_SIZES
    records, out = finished(), []
    for images in sizes:
        runs = few.runs(data, (images,), few.PAPER)
        accuracy: dict[str, dict[int, float]] = {n: {} for n in few.PAPER}
        training: dict[str, dict[int, float]] = {n: {} for n in few.PAPER}
        for network in few.PAPER:
            for seed in few.SEEDS:
                record = records.get(few.name(network, data, images, seed))
                if record:
                    accuracy[network][seed] = 100 * record["final"]["test_accuracy"]
                    training[network][seed] = 100 * record["curve"][-1]["train_accuracy"]
        missing = tuple(run for run in runs if run.name not in records)
        out.append(FewLabels(images, accuracy, training, missing, len(runs)))
    return out


def _mean(values: dict[int, float]) -> str:
    """Mean, and from two seeds on the standard deviation between them, with the number of seeds."""
    if not values:
        return "not yet run"
    numbers = list(values.values())
    spread = f" ± {stdev(numbers):.2f}" if len(numbers) > 1 else ""
    return f"{fmean(numbers):.2f}{spread} % (n = {len(numbers)})"


def _signed(value: float) -> str:
    return f"{value:+.2f}".replace("-", "−")


def _told(gains: dict[int, float]) -> tuple[str, str]:
    """A mean gain with its interval in words, and what follows from it."""
    if not gains:
        return "not yet run", "not yet decided"
    mean, half = interval(list(gains.values()))
    n = f"n = {len(gains)}"
    if math.isinf(half):
        return f"{_signed(mean)} ({n}: no interval)", "not yet decided"
    verdict = "Hamiltonian above" if mean > half else "ResNet above" if mean < -half else "undecided"
    return f"{_signed(mean)} ± {half:.2f} ({n})", verdict


@styled
def few_labels_curve(data: str = "cifar10") -> Drawing:
    """Test accuracy of both networks against the number of training images, and the gain seed by seed.

    Args:
        data: "cifar10" or "stl10-subset".
    """
    points = few_labels_results(data)
    (left_figure, left), (right_figure, right) = (axes(1, 1, (3.6, 3.2)) for _ in range(2))
    words = {n: [] for n in few.PAPER}
    for network, scheme, shift in zip(few.PAPER, ("hamiltonian", "euler"), (0.97, 1.03)):
        there = [p for p in points if p.accuracy[network]]
        for p in there:
            values = list(p.accuracy[network].values())
            left.plot([shift * p.images] * len(values), values, "o", color=COLORS[scheme], markersize=4.5, alpha=0.55)
            words[network].append(f"{_mean(p.accuracy[network])} at {p.images:,}")
        if there:
            means = [fmean(p.accuracy[network].values()) for p in there]
            line(left, [shift * p.images for p in there], means, scheme, label=_TITLES[network], marker="_")
            _bars(left, [shift * p.images for p in there], [list(p.accuracy[network].values()) for p in there], scheme)
    gaps = []
    for p in points:
        gains = list(p.gains.values())
        right.plot([p.images] * len(gains), gains, "o", color=COLORS["hamiltonian"], markersize=4, alpha=0.7)
        if gains:
            right.plot([p.images], [fmean(gains)], "_", color=COLORS["hamiltonian"], markersize=14)
            _bars(right, [p.images], [gains], "hamiltonian")
        gaps.append(f"{_told(p.gains)[0]} at {p.images:,}")
    right.axhline(0, color=LINE, zorder=0)
    for ax, values in (
        (left, [v for p in points for n in few.PAPER for v in p.accuracy[n].values()]),
        (right, [v for p in points for v in p.gains.values()]),
    ):
        ax.set_xscale("log")
        ax.set_xticks([p.images for p in points], [f"{p.images:,}" for p in points])
        ax.minorticks_off()
        ax.set(xlabel="training images", xlim=(0.75 * points[0].images, 1.33 * points[-1].images))
        if values:
            room = max(4.0, 0.6 * (max(values) - min(values)))
            low, high = min(values) - room, max(values) + room
            ax.set_ylim(low if ax is left else min(low, -1.0), high if ax is left else max(high, 1.0))
        else:
            ax.set_yticks([])
            ax.text(0.5, 0.5, "not yet run", transform=ax.transAxes, ha="center", color=SOFT)
    left.set_title("test accuracy, %")
    right.set_title("Hamiltonian − ResNet, points")
    if any(words.values()):
        left.legend(loc="upper left")
    name, tested = _SETS[data]
    told = ". ".join(f"{_TITLES[n]}: {', '.join(w) or 'not yet run'}" for n, w in words.items())
    return beside(
        show(left_figure, f"{name}, test accuracy over the number of training images. {told}."),
        show(right_figure, f"{name}, Hamiltonian minus ResNet in points: {', '.join(gaps)}."),
        caption=f"{name}, tested on {tested}. A dot is one seed, which both networks share; bars: 95 % interval of the "
        "mean by Student's t, from two seeds on, cut at the frame.",
    )


def _bars(ax, x: list[float], groups: list[list[float]], scheme: str) -> None:
    for at, values in zip(x, groups):
        mean, half = interval(values)
        if math.isfinite(half):
            ax.plot([at, at], [mean - half, mean + half], color=COLORS[scheme], linewidth=1.1, alpha=0.8)


def few_labels_table(data: str = "cifar10") -> Table:
    """Accuracies of both networks, the gain with its interval, and what follows at each number of images.

    Args:
        data: "cifar10" or "stl10-subset".
    """
    rows = []
    for p in few_labels_results(data):
        gain, verdict = _told(p.gains)
        fits = [f"{fmean(p.training[n].values()):.0f}" if p.training[n] else "–" for n in few.PAPER]
        minutes = registry.total(p.missing, "cpu") or 0
        left = f"{len(p.missing)} of {p.planned} ({registry.hours(minutes)})" if p.missing else "none"
        accuracy = [_mean(p.accuracy[n]) for n in few.PAPER]
        rows.append((f"{p.images:,}", *accuracy, gain, verdict, " / ".join(fits), left))
    name, tested = _SETS[data]
    return table(
        ("images", "Hamiltonian", "ResNet", "gain, points", "at this size", "training %, H / R", "runs missing"),
        rows,
        f"{name}, tested on {tested}. Accuracies: mean ± standard deviation over seeds. Gain: mean of the differences "
        "of one seed's two networks ± half of its 95 % interval by Student's t; a network is “above” where that "
        "interval does not hold 0. Training accuracy is with augmentation, over the last steps. In "
        "brackets, what the missing runs would take on one core, estimated.",
    )


def few_labels_verdict(data: str = "cifar10") -> str:
    """The verdict on the paper's claim, as far as the files go, by the rule that is printed with it.

    Args:
        data: "cifar10" or "stl10-subset".
    """
    points, name = few_labels_results(data), _SETS[data][0]
    at = {v: [f"{p.images:,}" for p in points if _told(p.gains)[1] == v] for v in ("Hamiltonian above", "ResNet above")}
    open_at = [f"{p.images:,}" for p in points if _told(p.gains)[1] not in at]
    done = sum(p.planned - len(p.missing) for p in points)
    lines = [f"{name}: {done} of {sum(p.planned for p in points)} runs are finished."]
    for what, where in (*at.items(), ("not decided", open_at)):
        lines.append(f"  {what} at {', '.join(where) if where else 'no size'}")
    whole = [seed for seed in few.SEEDS if all(seed in p.gains for p in points)]
    means = {seed: fmean(p.gains[seed] for p in points) for seed in whole}
    gain = _told(means)[0] if means else "no seed has all sizes yet"
    lines.append(f"  gain averaged over the sizes, one number a seed: {gain}")
    if at["ResNet above"]:
        verdict = "contradicted under this protocol"
    elif not open_at:
        verdict = "holds under this protocol, at the sizes run"
    else:
        verdict = "neither shown nor contradicted yet"
    lines.append(f"“Hamiltonian always above ResNet”: {verdict}.")
    lines.append("Rule: contradicted if ResNet is above at one size,")
    lines.append("      holds if Hamiltonian is above at every size.")
    return "\n".join(lines)


def few_labels_protocol(data: str = "cifar10") -> Table:
    """What the paper did, as far as it is known, beside what is done here.

    Args:
        data: "cifar10" or "stl10-subset".
    """
    from ..train import TrainConfig  # brings torchvision with it

    run = few.runs(data, (few_labels_results(data)[0].images,), few.PAPER)[0]
    record = finished().get(run.name)
    settings = dict(run.settings)
    settings["amp"] = record["settings"]["amp"] if record else settings.get("amp", "off")
    settings["steps"] = record["settings"]["steps"] if record else settings["steps"]
    ours = TrainConfig(**settings, seed=run.seed, device="cpu").resolved(settings["subset"])
    spec = MODELS["hamiltonian-few"]
    status = {k: s.status for k, s in spec.sources.items()}
    counts = {n: models.table(names=[few.NETWORKS[n]])[0]["parameters"] for n in few.PAPER}
    sizes = ", ".join(f"{p.images:,}" for p in few_labels_results(data))
    cifar = data == "cifar10"
    recipe = spec.recipe
    paper_steps = f"{recipe.steps:,}, the recipe of the full set"
    precision = {"off": "float32", "bf16": "increments in bfloat16, state in float32"}.get(ours.amp, ours.amp)
    rows = [
        ("units of blocks", "-".join(map(str, spec.units)), status["units"], "same"),
        ("channels", "-".join(map(str, spec.widths)), status["widths"], "same, for both networks"),
        ("parameters", "not known", "–", f"Hamiltonian {counts['hamiltonian']:,}, ResNet {counts['resnet']:,}"),
        ("training images", "500 to 20,000 of CIFAR-10" if cifar else "5 % to 70 % of the training set",
         "unverified" if cifar else "code", sizes + ("" if cifar else " of the 1,000 of the first official fold")),
        ("tested on", "all test images", "V" if cifar else "unverified", _SETS[data][1]),
        ("steps", paper_steps, status["recipe"], f"{ours.steps:,} at every size"),
        ("batch", recipe.batch_size, status["recipe"], ours.batch),
        ("rate, cuts", f"{recipe.lr:g}, cut at epochs {', '.join(f'{e:g}' for e in recipe.milestone_epochs)}",
         status["recipe"], f"{ours.lr:g}, cut after steps {', '.join(f'{m:,}' for m in ours.milestones)}"),
        ("precision", "float32", "unverified", precision),
        ("running statistics", "of training", "unverified",
         f"estimated anew from {ours.statistics} batches" if ours.statistics else "of training"),
        ("repetitions", "not known", "–", f"{len(few.SEEDS)} seeds: images, weights and order"),
    ]  # fmt: skip
    return table(
        ("setting", "paper", "status", "here"),
        rows,
        f"Few labels on {_SETS[data][0]}. Status: V, read in a source; code, read in the authors' code; unverified, "
        "recalled, no source at hand shows it.",
    )


def few_labels_precision() -> Table:
    """The same trainings with increments in float32 and in bfloat16: accuracies, and their difference in points."""
    records, rows = finished(), []
    for network, images, seed in few.BFLOAT16:
        names = [few.name(network, "cifar10", images, seed, kind=kind) for kind in ("", "bf16")]
        found = [100 * records[n]["final"]["test_accuracy"] if n in records else None for n in names]
        told = ["not yet run" if a is None else f"{a:.2f} %" for a in found]
        difference = "–" if None in found else _signed(found[1] - found[0])
        rows.append((_TITLES[network], f"{images:,}", seed, *told, difference))
    return table(
        ("network", "images", "seed", "float32", "bfloat16", "difference, points"),
        rows,
        "CIFAR-10: one training each, equal but for the precision of the increments; the state is in float32 in both.",
    )


def few_labels_cost() -> Table:
    """What has been run of each of the experiments with few labels, and what the rest would take."""
    records, rows = finished(), []
    for e in few.EXPERIMENTS:
        found = registry.status(e, records)
        took = [records[n]["wall_seconds"] / 60 for n in found.there]
        rest = [
            f"{registry.hours(minutes)} on {where}"
            for kind, where in (("cpu", "one CPU core"), ("gpu", f"one {GPU}"))
            if (minutes := registry.total(found.missing, kind)) is not None
        ]
        rows.append((e.name, found.words, registry.hours(fmean(took)) if took else "–", " or ".join(rest) or "–"))
    return table(
        ("experiment", "status", "a run took", "what is missing would take"),
        rows,
        "A run took: mean, wall-clock, with evaluation and whatever else the machine did. What is missing: "
        "estimated; on a GPU from counted work, right to a factor of two or three.",
    )
