"""The papers' protocols, networks and numbers by data set, and what a run of each would cost."""

from __future__ import annotations

import math

from ..data.sets import TITLES
from ..experiments import registry
from ..experiments.checks import Records, finished
from ..experiments.cost import GPU
from ..models import MODELS, Source
from ..models import table as counted
from .drawing import Table, table

_RODRIGO = "leaderboard “Are we there yet?”"

#: Accuracies of others on STL-10, in per cent, with the status of the number. That the first three are rows of the
#: table of Chang et al. 2018 is recalled.
STL10_OTHERS = (
    ("SWWAE", 74.33, Source("V", f"Zhao et al. 2015; {_RODRIGO}")),
    ("convolutional clustering", 74.10, Source("V", f"Dundar et al. 2015; {_RODRIGO}")),
    ("target coding", 73.15, Source("V", f"Yang et al. 2015; {_RODRIGO}")),
    ("Hamiltonian: from where weights are saved", 79.7, Source("code", "re-implementation of Bohn et al. 2021")),
)


def network_sources(model: str) -> Table:
    """What is known of a named network and its training, each with status and source.

    Args:
        model: Name in :data:`revode.models.MODELS`.
    """
    spec = MODELS[model]
    recipe = spec.recipe
    values = {
        "units": "-".join(map(str, spec.units)),
        "widths": "-".join(map(str, spec.widths)),
        "h": f"{spec.h:g}",
        "accuracy": ", ".join(f"{v:g} %" for v in spec.accuracy.values()),
    }
    rows = [
        (name, value, spec.sources[name].status, spec.sources[name].text) for name, value in values.items() if value
    ]
    more = {
        "batch_size": f"{recipe.batch_size}",
        "steps": f"{recipe.steps:,} ({recipe.epochs:g} epochs)",
        "lr": f"{recipe.lr:g}",
        "milestones": ", ".join(f"{m:,}" for m in recipe.milestones),
        "weight_decay": f"{recipe.weight_decay:g}",
        "smoothness": f"{recipe.smoothness:g}",
    }
    rows += [(n.replace("_", " "), v, recipe.sources[n].status, recipe.sources[n].text) for n, v in more.items()]
    return table(
        ("number", "value", "status", "where it comes from"),
        rows,
        f"{model}. Status: V, read in a source; code, read in code of the authors or their group; unverified, "
        "recalled, no source at hand shows it.",
    )


def parameters_by_classes() -> Table:
    """Parameters for 10 and for 100 classes, counted, beside the paper's numbers."""
    rows = []
    names = list(dict.fromkeys(run.settings["model"] for run in registry.find("cifar100-table").runs))
    for ten, hundred in zip(counted(10, names=names), counted(100, names=names), strict=True):
        paper = " / ".join(f"{row['paper_parameters']}M" for row in (ten, hundred))
        more = hundred["parameters"] - ten["parameters"]
        rows.append(
            (ten["name"], ten["parameters"], hundred["parameters"], more, f"{paper} ({ten['parameters_status']})")
        )
    return table(
        ("network", "10 classes", "100 classes", "more", "paper, 10 / 100"),
        rows,
        "Parameters counted here, and as the paper prints them, in millions; “unverified” is recalled.",
    )


def protocol_cost(data: str, records: Records | None = None) -> Table:
    """Steps of the paper's full protocol for each network of a data set, how far it has been run, and its cost.

    Args:
        data: "cifar10", "cifar100" or "stl10".
        records: Finished results by name; by default the bundled ones.
    """
    records = finished() if records is None else records
    experiment, rows = registry.find(f"{data}-table"), []
    for model in dict.fromkeys(run.settings["model"] for run in experiment.runs):
        runs = [run for run in experiment.runs if run.settings["model"] == model]
        there = [records[run.name] for run in runs if run.name in records]
        recipe = MODELS[model].recipe
        status = f"{len(there)} of {len(runs)} seeds" if there else "not yet run"
        took = registry.hours(sum(r["wall_seconds"] for r in there) / len(there) / 60) if there else "–"
        cost = registry.hours(max(run.gpu_minutes or 0.0 for run in runs))
        rows.append((model, f"{recipe.steps:,} × {recipe.batch_size}", status, took, cost))
    left = registry.total(registry.status(experiment, records).missing, "gpu")
    rest = f" What is missing would take {registry.hours(left)} in all." if left else ""
    return table(
        ("network", "steps × batch", "status", "a seed took", f"a seed on one {GPU}, estimated"),
        rows,
        "The paper's full protocol, three seeds each. Estimates are from counted work, without compilation, right to a "
        f"factor of two or three.{rest}",
    )


def reduced_runs(data: str, records: Records | None = None) -> Table:
    """The runs at a reduced budget on a data set, with their results or what they would take.

    Args:
        data: "cifar10" or "cifar100".
        records: Finished results by name; by default the bundled ones.
    """
    records = finished() if records is None else records
    rows, runs = [], registry.find(f"{data}-reduced").runs
    for run in runs:
        r = records.get(run.name)
        model = run.settings["model"] + ", exact" * (run.settings.get("arithmetic") == "exact")
        if r is None:
            cost = registry.hours(run.cpu_minutes or math.nan) if run.cpu_minutes else "no cost known"
            rows.append((model, run.seed, f"not yet run: about {cost} on a core", "–", "–", "–"))
            continue
        final = r["final"]
        rows.append(
            (model, run.seed, f"{100 * final['test_accuracy']:.2f} % of {final['test_images']:,}",
             f"{100 * r['curve'][-1]['train_accuracy']:.2f} %", registry.hours(r["wall_seconds"] / 60),
             (r["evidence"]["commit"] or "–")[:9])
        )  # fmt: skip
    settings = runs[0].settings
    return table(
        ("network", "seed", "test accuracy", "training accuracy", "took", "commit"),
        rows,
        f"{TITLES[data]}, reduced budget: {settings['subset']:,} images, {settings['steps']:,} steps, all cuts of the "
        "rate. No number of a paper stands for this. Training accuracy is over the last steps, with augmentation.",
    )


def stl10_others() -> Table:
    """Accuracies of others on STL-10 with the status of each number."""
    own = [run.settings["model"] for run in registry.find("stl10-table").runs]
    later = [(n, spec.accuracy["stl10"], spec.sources["accuracy"]) for n, spec in MODELS.items()
             if "stl10" in spec.accuracy and n not in own]  # fmt: skip
    rows = [(name, f"{value:.2f}", source.status, source.text) for name, value, source in (*STL10_OTHERS, *later)]
    return table(
        ("method", "accuracy, %", "status", "where it comes from"),
        rows,
        "Accuracies on the official 8,000 test images of STL-10. That the first three stand in the paper's table is "
        "unverified; the numbers themselves were read. The fourth is no result, but a line of code.",
    )
