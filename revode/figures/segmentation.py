"""Segmentation of composed scenes: pictures, and tables of the runs of :mod:`revode.experiments.segmentation`."""

from __future__ import annotations

import numpy as np

from .. import results
from ..experiments import segmentation as experiment
from .drawing import LABELS, Film, Table, film, table
from .memory import MIB
from .training import judged

#: Colour of each label in a picture of a mask, the ground first; Okabe and Ito's.
COLOURS = ((70, 78, 88), (213, 94, 0), (0, 158, 115), (240, 228, 66), (86, 180, 233))
COLOUR_NAMES = ("grey", "red", "green", "yellow", "blue")
NETWORKS = {"euler": "plain", "hamiltonian": "Hamiltonian"}


def _records() -> dict[str, list[dict]]:
    """The finished results of the experiment, by scheme."""
    (found,) = experiment.EXPERIMENTS
    there, out = set(results.names("experiment")), {}
    for run in found.runs:
        of = out.setdefault(run.settings["scheme"], [])
        if run.name in there and (record := results.load(run.name))["status"] == "finished":
            of.append(record)
    return out


def _name(scheme: str) -> str:
    return NETWORKS.get(scheme) or LABELS[scheme]


def _spread(values: list[float], unit: str = "") -> str:
    if not values:
        return "not yet run"
    text = f"{np.mean(values):.1f}"
    return (f"{text} ± {np.std(values, ddof=1):.1f}" if len(values) > 1 else text) + unit


def _coloured(mask) -> np.ndarray:
    return np.moveaxis(np.array(COLOURS)[np.asarray(mask)], -1, 0)


def composed_scenes(scenes, masks, classes) -> Film:
    """Scenes, and under each its exact mask.

    Args:
        scenes: uint8 of shape (n, 3, size, size), from :meth:`revode.data.compose.Scenes.batch`.
        masks: int64 of shape (n, size, size), likewise.
        classes: Name of each label, the ground first; at most five.
    """
    return film(
        {"scene": list(scenes), "mask": [_coloured(m) for m in masks]},
        [f"scene {k + 1}" for k in range(len(scenes))],
        f"Colours of the mask: {_key(classes)}.",
        low=0,
        high=255,
    )


def _key(classes) -> str:
    return ", ".join(f"{colour} {name}" for colour, name in zip(COLOUR_NAMES, classes))


def segmented_scenes(seed: int = 1) -> Film:
    """Scenes of test images that no run was trained on, their masks, and what the trained networks of a seed found.

    Args:
        seed: Of the runs.
    """
    scenes, masks = experiment.shown()
    rows = {"scene": list(scenes), "mask": [_coloured(m) for m in masks]}
    classes = ("ground", *experiment.CLASSES)
    for scheme, records in _records().items():
        for record in records:
            if record["seed"] == seed:
                found = [
                    np.array(list(map(int, digits))).reshape(masks.shape[1:]) for digits in record["final"]["shown"]
                ]
                rows[f"found by the {_name(scheme)} network"] = [_coloured(m) for m in found]
    caption = (
        f"Scenes of test images, their masks, and what networks found after training (seed {seed}): {_key(classes)}."
    )
    return film(rows, [f"scene {k + 1}" for k in range(len(scenes))], caption, low=0, high=255)


def segmentation_iou() -> Table:
    """Intersection over union of each class, mean and standard deviation over the finished seeds, in percent."""
    classes = ("ground", *experiment.CLASSES)
    rows, trivial, scenes = [], {}, None
    for scheme, records in _records().items():
        finals = [r["final"] for r in records]
        each = [f"{100 * np.mean([f['iou'][k] for f in finals]):.1f}" if finals else "–" for k in range(len(classes))]
        accuracy = _spread([100 * f["accuracy"] for f in finals]) if finals else "–"
        name = f"{_name(scheme)}, {len(finals)} seed{'s' * (len(finals) != 1)}"
        rows.append((name, _spread([100 * f["miou"] for f in finals]), accuracy, *each))
        for f, r in zip(finals, records):
            trivial, scenes = f, r["settings"]
    for name, label in (("ground", "ground everywhere"), ("colour", "by colour alone")):
        if trivial:
            mean = f"{100 * trivial['trivial_miou'][name]:.1f}"
            accuracy = f"{100 * trivial['trivial_accuracy']:.1f}" if name == "ground" else "–"
            rows.append((label, mean, accuracy, *["–"] * len(classes)))
    steps = f" after {scenes['steps']:,} steps" if scenes else ""
    return table(
        ("network", "mean IoU", "pixels right", *classes),
        rows,
        f"Intersection over union on scenes of test images{steps}, in percent: mean ± standard deviation between seeds "
        "(n − 1). Mean IoU is over the classes and the ground; the last row gives each pixel the most frequent class "
        "for its colour.",
    )


def segmentation_memory() -> Table:
    """Activations that a training step keeps, counted from saved tensors, at two depths; seconds of training."""
    rows, shape = [], ""
    for scheme, records in _records().items():
        if not records:
            rows.append((_name(scheme), "–", "–", "–", "–", "not yet run"))
        for record in records[:1]:
            final = record["final"]
            shape = f" of {final['batch']} scenes"
            seconds = [r["final"]["cpu_seconds"] for r in records]
            for memory in sorted(final["memory"][0].keys() - {"units"}):
                first, deeper = (f"{m[memory] / MIB:.1f}" for m in final["memory"])
                rows.append(
                    (
                        _name(scheme),
                        {"stored": "stored", "reversible": "rebuilt"}[memory],
                        f"{final['parameters']:,}",
                        first,
                        deeper,
                        f"{np.mean(seconds):.0f}" if memory == record["final"]["trained"] else "–",
                    )
                )
    depths = [r["final"]["memory"] for found in _records().values() for r in found][:1]
    names = [f"MiB, {sum(m['units']) + sum(m['units'][:-1])} blocks" for m in depths[0]] if depths else ["MiB", "MiB"]
    return table(
        ("network", "activations", "parameters", *names, "CPU seconds"),
        rows,
        f"What autograd keeps of a forward pass{shape}, counted from saved tensors. CPU seconds are of the whole "
        "training, mean over the seeds.",
    )


def compare_segmentation(first: str = "momentum", second: str = "euler") -> str:
    """A sentence: the difference of two networks' mean IoU, with its standard error over seeds."""
    found = _records()
    a, b = ([100 * r["final"]["miou"] for r in found[scheme]] for scheme in (first, second))
    return judged(f"{_name(first)} against {_name(second)}, mean IoU", a, b)
