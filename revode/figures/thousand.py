"""A thousand layers: memory, drift, gradients and loss, from whichever result files are there."""

from __future__ import annotations

from statistics import fmean, stdev

import numpy as np

from ..experiments import registry, thousand
from ..experiments.checks import Records, finished
from ..models import MODELS
from ..models import table as counted
from ..networks import Network
from .drawing import COLORS, LINE, SOFT, Drawing, Table, axes, beside, line, show, styled, table
from .memory import GIB, MIB

_MODELS = ("hamiltonian-74", "hamiltonian-1202", "resnet-1202")

#: What is measured or counted: result file, its words, the way of keeping activations, batch.
_BARS = (
    ("thousand-memory-reversible-32", "reversible", 32),
    ("thousand-memory-stored-32", "stored", 32),
    ("thousand-memory-reversible-320", "reversible", 320),
    ("thousand-memory-counted", "stored", 320),
)
_KINDS = ("parameter_bytes", "gradient_bytes", "momentum_bytes")
_CARD = 24  # GiB


def _missing(name: str) -> str:
    """ "not yet run", and how long it would take."""
    runs = {run.name: run for e in thousand.EXPERIMENTS for run in e.runs}
    minutes = runs[name].cpu_minutes
    return "not yet run" + ("" if minutes is None else f": about {registry.hours(minutes)} on a core")


def thousand_networks() -> Table:
    """Layers, blocks and parameters of Hamiltonian networks up to 1202 layers, and of ResNet-1202."""
    rows = []
    for row in counted(names=_MODELS):
        spec = MODELS[row["name"]]
        paper = f"{row['paper_parameters']}M ({row['parameters_status']})"
        accuracy = f"{row['paper_accuracy']} % ({row['accuracy_status']})"
        rows.append((row["name"], spec.depth, sum(spec.units), row["parameters"], paper, accuracy))
    return table(
        ("network", "layers", "blocks", "parameters", "paper's count", "paper's accuracy, CIFAR-10"),
        rows,
        "Layers as the papers count them: a kernel and its transpose are two. Parameters counted here. Status of the "
        "paper's numbers: V, read in a source; unverified, recalled.",
    )


@styled
def thousand_memory(records: Records | None = None) -> Drawing:
    """Memory of a training step of Hamiltonian-1202, reversible and stored, with batch 32 and 320.

    Args:
        records: Finished results by name; by default the bundled ones.
    """
    records = finished() if records is None else records
    figure, ax = axes(size=(5.2, 2.7))
    words, labels = [], []
    for k, (name, way, batch) in enumerate(_BARS):
        color = COLORS["hamiltonian" if way == "reversible" else "euler"]
        labels.append(f"{way}, {batch}")
        if name not in records:
            ax.annotate(_missing(name), (0, k), xytext=(4, 0), textcoords="offset points", va="center", color=SOFT)
            words.append(f"{way}, batch {batch}: {_missing(name)}")
            continue
        final = records[name]["final"]
        peak = "peak_bytes" in final
        gib = final["peak_bytes" if peak else "saved_bytes"] / GIB
        style = {"color": color} if peak else {"facecolor": "none", "edgecolor": color, "linestyle": "--"}
        ax.barh(k, gib, height=0.55, **style)
        what = "" if peak else ", activations alone, counted"
        ax.annotate(f"{gib:.2f}{what}", (gib if peak else 0, k), xytext=(5, 0), textcoords="offset points", va="center")
        words.append(f"{way}, batch {batch}{what}: {gib:.2f} GiB")
    ax.axvline(_CARD, color=SOFT, linewidth=1)
    ax.annotate(f"{_CARD} GiB", (_CARD, -0.2), xytext=(-4, 0), textcoords="offset points", color=SOFT, ha="right")
    ax.set_yticks(range(len(_BARS)), labels)
    ax.set(xlabel="GiB", xlim=(0, 30), ylim=(len(_BARS) - 0.5, -0.7))
    ax.set_title("Memory of a training step, batch 32 and 320")
    return show(
        figure,
        f"Memory of a training step of Hamiltonian-1202. {'; '.join(words)}.",
        "Bars: peak of resident memory in a process of its own, above what the interpreter with torch takes; "
        "parameters, gradients, momentum and workspaces are in it. Dashed: bytes of the tensors that "
        "autograd would keep.",
    )


def thousand_memory_table(records: Records | None = None) -> Table:
    """The same in numbers, with what the peak consists of.

    Args:
        records: Finished results by name; by default the bundled ones.
    """
    records = finished() if records is None else records
    rows = []
    runs = thousand.EXPERIMENTS[0].runs
    for run in runs:
        if "batch" not in run.settings:
            continue
        how = f"{run.settings['memory']}, batch {run.settings['batch']}"
        how += "" if run.settings["mmap_threshold"] else ", C library's own rule"
        if run.name not in records:
            rows.append((how, _missing(run.name), "–", "–", "–"))
            continue
        final = records[run.name]["final"]
        three = sum(final[k] for k in _KINDS)
        losses = " → ".join(f"{v:.3f}" for v in final["loss"])
        rows.append(
            (how, f"{final['peak_bytes'] / MIB:,.0f} MiB", f"{three / MIB:,.0f} MiB",
             f"{final['saved_bytes'] / MIB:,.0f} MiB", losses)
        )  # fmt: skip
    return table(
        ("way", "peak", "parameters, gradients, momentum", "kept by autograd", "loss of the steps"),
        rows,
        "Hamiltonian-1202 on random images. Peak above the interpreter's memory. The C library keeps freed memory for "
        "later by a rule of its own; in the other rows it gives pieces from 128 KiB back at once.",
    )


def thousand_drift(records: Records | None = None) -> Table:
    """Error of each stage's first layer after the way there and back, in training mode, before training.

    Args:
        records: Finished results by name; by default the bundled ones.
    """
    records = finished() if records is None else records
    runs = thousand.EXPERIMENTS[1].runs
    found = [records[r.name]["final"] for r in runs if r.name in records]
    rows = []
    for k in range(len(MODELS[thousand.MODEL].units)):
        if not found:
            rows.append((k + 1, _missing(runs[0].name), "–", "–"))
            continue
        stages = [final["stages"][k] for final in found]
        rows.append(
            (
                k + 1,
                stages[0]["blocks"],
                _spread([s["error"] for s in stages]),
                _spread([s["growth"] for s in stages], ".2f"),
            )
        )
    gradient = _spread([final["gradient_difference"] for final in found], ".3f") if found else "not yet run"
    return table(
        ("stage", "blocks", "error of its first state", "growth of the norm"),
        rows,
        f"Hamiltonian-1202 with initial weights, float32, {len(found)} of {len(runs)} seeds: mean ± standard "
        f"deviation. The gradient of the first kernel from rebuilt activations differs from that of stored "
        f"ones by {gradient}, relative.",
    )


def _spread(values: list[float], form: str = ".1e") -> str:
    return f"{fmean(values):{form}}" + (f" ± {stdev(values):{form}}" if len(values) > 1 else "")


@styled
def thousand_loss(records: Records | None = None) -> Drawing:
    """Loss and accuracy of the real run of Hamiltonian-1202 with the paper's batch, on the way through its steps.

    Args:
        records: Results by name, finished or not; by default the bundled ones.
    """
    from .. import results

    name = "thousand-training"
    records = {r["name"]: r for r in results.everything("training")} if records is None else records
    (losses, left), (accuracies, right) = (axes(1, 1, (3.6, 2.7)) for _ in range(2))
    curve = records[name]["curve"] if name in records else []
    if curve:
        step = [p["step"] for p in curve]
        line(left, step, [p["train_loss"] for p in curve], "hamiltonian", marker="o", markersize=4)
        line(right, step, [100 * p["train_accuracy"] for p in curve], "hamiltonian", marker="o", markersize=4,
             label="training")  # fmt: skip
        line(right, step, [100 * p["test_accuracy"] for p in curve], "euler", marker="o", markersize=4, label="test")
        right.legend()
    for ax in (left, right):
        ax.set(xlabel="step", xlim=(0, thousand.STEPS * 1.05))
        if not curve:
            ax.set_yticks([])
            ax.text(0.5, 0.5, _missing(name).replace(": ", ":\n"), transform=ax.transAxes, ha="center", color=SOFT)
    left.set_title("training loss")
    right.set_title("accuracy, %")
    return beside(
        show(losses, f"Training loss of Hamiltonian-1202: {_told(curve, 'train_loss', 1) or _missing(name)}."),
        show(accuracies, f"Test accuracy in per cent: {_told(curve, 'test_accuracy', 100) or _missing(name)}."),
        caption=f"Hamiltonian-1202 on CIFAR-10, batch {thousand.BATCH}. Training loss and accuracy are means over the "
        "steps since the point before; the test is on the first 500 images before the end, on all at the end.",
    )


def _told(curve: list[dict], key: str, factor: float) -> str:
    return ", ".join(f"{factor * p[key]:.3g} at step {p['step']}" for p in curve)


def thousand_verdict(records: Records | None = None) -> str:
    """What the files say of the goals: memory below 0.4 GiB, and a loss that falls.

    Args:
        records: Finished results by name; by default the bundled ones.
    """
    records = finished() if records is None else records
    lines = []
    for name, way, batch in _BARS[:3]:
        if name in records:
            gib = records[name]["final"]["peak_bytes"] / GIB
            fits = "fits" if gib < _CARD else "does not fit"
            lines.append(f"{way}, batch {batch}: {gib:.2f} GiB, {fits} in {_CARD} GiB")
            if (way, batch) == ("reversible", 32):
                lines[-1] += f", {'below' if gib < 0.4 else 'not below'} the goal of 0.4 GiB"
        else:
            lines.append(f"{way}, batch {batch}: {_missing(name)}")
    name = "thousand-training"
    if name in records:
        curve = records[name]["curve"]
        first, last = curve[0]["train_loss"], curve[-1]["train_loss"]
        falls = "falls" if last < first else "does not fall"
        lines.append(f"training, {curve[-1]['step']} steps: loss {first:.2f} → {last:.2f}, {falls}")
    else:
        lines.append(f"training: {_missing(name)}")
    (full,) = [r for e in registry.experiments().values() if e.name == "cifar10-table" for r in e.runs
               if r.name == f"{thousand.MODEL}-cifar10-seed0"]  # fmt: skip
    there = records.get(full.name)
    words = f"{100 * there['final']['test_accuracy']:.2f} %" if there else (
        f"not yet run: about {registry.hours(full.gpu_minutes)} on one H200, estimated"
    )  # fmt: skip
    return "\n".join([*lines, f"the paper's full protocol, one seed: {words}"])


@styled
def gradient_over_depth(network: Network) -> Drawing:
    """Norm of the gradient of each block's first kernel, from the first block of the network to the last.

    Args:
        network: With gradients, after a backward pass.

    Raises:
        ValueError: the network has no gradients.
    """
    stages = [[block[0].kernels()[0].grad for block in stage.blocks] for stage in network.stages]
    if any(g is None for stage in stages for g in stage):
        raise ValueError("network has no gradients: call backward() on a loss first")
    figure, ax = axes(size=(5.8, 2.5))
    start, words = 0, []
    for k, stage in enumerate(stages):
        norms = np.array([g.double().norm().item() for g in stage])
        ax.plot(start + np.arange(len(norms)), norms, ".", color=COLORS["hamiltonian"], markersize=3.5)
        words.append(f"stage {k + 1}: {norms.min():.2g} to {norms.max():.2g}")
        start += len(norms)
        if k < len(stages) - 1:
            ax.axvline(start - 0.5, color=LINE, zorder=0)
    ax.set(yscale="log", xlabel="block", xlim=(-0.01 * start, 1.01 * start))
    ax.set_title("norm of the gradient of each block's first kernel")
    return show(
        figure,
        f"Norm of the gradient of the first kernel over {start} blocks. {'; '.join(words)}.",
        "Grey: where the resolution is halved.",
    )
