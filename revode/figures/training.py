"""Runs and their result files: protocol, curves, tables; and where the papers' numbers come from."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from .. import augment, results
from ..models import MODELS, STATUS
from .drawing import COLORS, INK, LINE, SOFT, Drawing, Film, Table, axes, beside, film, line, show, styled, table

# --- training -----------------------------------------------------------------------------------------------

#: Settings that all runs of the book's shortened training share; the rest is each network's recipe.
PROTOCOL = {"data": "cifar10", "subset": 10_000, "subset_seed": 0, "steps": 2_000, "batch": 100}
#: Networks and seeds of these runs.
PLANNED = {"hamiltonian-74": (0, 1, 2), "resnet-32": (0, 1, 2), "leapfrog-26": (0,), "midpoint-26": (0, 1)}

#: How the papers write the names of their networks.
_FAMILY = {"hamiltonian": "Hamiltonian", "midpoint": "MidPoint", "leapfrog": "Leapfrog"}
_FAMILY |= {"resnet": "ResNet", "revnet": "RevNet"}


def _title(model: str) -> str:
    family, _, rest = model.partition("-")
    return f"{_FAMILY.get(family, family)}-{rest}"


def _percent(value: float) -> str:
    return f"{100 * value:.2f} %"


def in_protocol(record: dict) -> bool:
    """Whether a training result is one of ``PROTOCOL`` in floating point, whatever its network and seed."""
    return _shortened(record) and _arithmetic(record) == "float"


def _of_chapter(record: dict) -> bool:
    """Whether a training result is of a planned network on the plan's data set, with any number of images and steps."""
    settings = record["settings"]
    return settings["model"] in PLANNED and settings["data"] == PROTOCOL["data"] and _usual(settings)


def _shortened(record: dict) -> bool:
    settings = record["settings"]
    return record["kind"] == "training" and PROTOCOL.items() <= settings.items() and _usual(settings)


def _usual(settings: dict) -> bool:
    """Whether a run changes nothing else: other experiments do, though they share the protocol."""
    recipe = MODELS[settings["model"]].recipe
    usual = {"smoothness": recipe.smoothness, "image_size": None, "init": None, "refine": "off"}
    return all(settings.get(name, value) == value for name, value in usual.items())


def _arithmetic(record: dict) -> str:
    return record["settings"].get("arithmetic", "float")  # files from before there was a choice have none


def planned_results() -> list[tuple[str, int, dict | None]]:
    """The runs of ``PLANNED``: network, seed, and the bundled result if there is one, a finished one first."""
    there: dict[tuple[str, int], dict] = {}
    for record in filter(in_protocol, results.everything("training")):
        key = record["settings"]["model"], record["seed"]
        if key not in there or record["status"] == "finished":
            there[key] = record
    return [(model, seed, there.get((model, seed))) for model, seeds in PLANNED.items() for seed in seeds]


def augmented_images(images, draws: int = 6, seed: int = 0, pad: int = 4) -> Film:
    """Images as a network is given them in consecutive epochs: padded by zeros, cropped and mirrored at random.

    Args:
        images: A :class:`revode.data.ImageSet`, one row each.
        draws: Number of draws.
        seed: Of the first draw.
        pad: Pixels of padding on each side.
    """
    columns = [np.pad(images.images.cpu().numpy(), ((0, 0), (0, 0), (pad, pad), (pad, pad)))]
    columns += [augment.random_crop_flip(images.images, pad, seed + k).cpu().numpy() for k in range(draws)]
    labels = images.labels.tolist()
    return film(
        {f"{images.classes[k]} ({i})": [column[i] for column in columns] for i, k in enumerate(labels)},
        ["padded", *(f"draw {k + 1}" for k in range(draws))],
        f"Left, the image with {pad} black pixels around it; then {draws} draws, each a window of the old size at a "
        "random place, mirrored with probability 1/2.",
        low=0,
        high=255,
    )


@styled
def loss_per_step(runs: dict, scheme: str = "midpoint") -> Drawing:
    """Training loss of each step of some runs, and how far it is from the first run's.

    Args:
        runs: Label to the folder of the run; the others are compared with the first one.
        scheme: Whose colour is taken for the first.
    """
    logs = {label: _log(folder) for label, folder in runs.items()}
    first, *others = logs
    (losses, left), (distances, right) = (axes(1, 1, (3.6, 2.9)) for _ in range(2))
    step = np.array([entry["step"] for entry in logs[first]])
    loss = {label: np.array([entry["loss"] for entry in entries]) for label, entries in logs.items()}
    line(left, step, loss[first], scheme, linestyle="-", label=first)
    styles = (("o", 7, INK), ("x", 4, SOFT), ("+", 6, SOFT))
    worst = []
    for other, (marker, size, color) in zip(others, styles):
        mark = {"color": color, "marker": marker, "markersize": size, "linestyle": "none", "markerfacecolor": "none"}
        left.plot(step, loss[other], label=other, **mark)
        gap = np.abs(loss[other] - loss[first])
        right.plot(step[gap > 0], gap[gap > 0], label=other, **mark)
        exact = ", ".join(str(k) for k in step[gap == 0])
        worst.append(
            f"{other} from {first} by at most {gap.max():.2g}" + (f", not at all in step {exact}" if exact else "")
        )
    rate = np.array([entry["lr"] for entry in logs[first]])
    for k in np.flatnonzero(rate[1:] != rate[:-1]):
        left.axvline(step[k] + 0.5, color=LINE, zorder=0)
    left.set(xlabel="step", title="training loss", ylim=(0, None))
    left.legend()
    right.set(xlabel="step", title=f"distance from {first}", xlim=left.get_xlim())
    if any((loss[o] != loss[first]).any() for o in others):
        right.set(yscale="log")
        right.legend()
    return beside(
        show(losses, f"Training loss over {step[-1]} steps, from {loss[first][0]:.3g} to {loss[first][-1]:.3g}."),
        show(distances, f"The losses differ: {'; '.join(worst) or 'one run only'}."),
        caption="Training loss, grey where the rate is cut; and the absolute difference of the losses: where they are "
        "equal bit for bit, nothing is drawn.",
    )


def _log(folder: str | Path) -> list[dict]:
    """The lines that :func:`revode.fit` writes for each step."""
    return [json.loads(text) for text in (Path(folder) / "log.jsonl").read_text("utf-8").splitlines()]


def protocol(model: str = "hamiltonian-74") -> Table:
    """The paper's recipe beside the shortened one of ``PROTOCOL``.

    Args:
        model: Name in :data:`revode.models.MODELS`.
    """
    from ..train import TrainConfig  # brings torchvision with it

    recipe = MODELS[model].recipe
    ours = TrainConfig(model, **PROTOCOL, device="cpu").resolved(PROTOCOL["subset"])
    status = {name: source.status for name, source in recipe.sources.items()}
    cuts = ", ".join(f"{m:,}" for m in recipe.milestones)
    epochs = ", ".join(f"{m:g}" for m in recipe.milestone_epochs)
    per_epoch = PROTOCOL["subset"] // ours.batch
    smooth = "not in the gradient of the released code: see below" if recipe.smoothness else "0 for ResNet and RevNet"
    spec = MODELS[model]
    rows = [
        ("step size h", spec.h, spec.sources["h"].status, spec.h, "same: batch normalization rescales each layer"),
        ("training images", f"{recipe.train_images:,}", status["train_images"],
         f"{PROTOCOL['subset']:,}, the same number of each class", "two CPU cores; fixed by a seed"),
        ("batch", recipe.batch_size, status["batch_size"], ours.batch, "same"),
        ("steps", f"{recipe.steps:,} ({recipe.epochs:g} epochs)", status["steps"],
         f"{ours.steps:,} ({ours.steps / per_epoch:g} epochs)", f"{recipe.steps / ours.steps:g} times fewer: time"),
        ("rate at the start", recipe.lr, status["lr"], ours.lr, "same"),
        (f"rate times {recipe.lr_factor:g} after step", f"{cuts} (epochs {epochs})", status["milestones"],
         ", ".join(f"{m:,}" for m in ours.milestones), "the same fractions of the run"),
        ("momentum", recipe.momentum, status["momentum"], ours.momentum, "same"),
        ("weight decay", f"{recipe.weight_decay:g}", status["weight_decay"], f"{ours.weight_decay:g}",
         "kernels and last matrix only, as in the code"),
        ("weight smoothness", f"{recipe.smoothness:g}", status["smoothness"], f"{ours.smoothness:g}", smooth),
        ("padding before the crop", "2 pixels; the text says 4", "code, V", "4 pixels", "the text, and custom since"),
        ("what is subtracted", "mean image of training and test images", "code, V", "mean of each channel, and divided "
         "by its deviation; training images alone", "the test set stays unseen"),
        ("tested on", "10,000 test images", "V", f"10,000 at the end, {ours.eval_images:,} on the way", "time"),
    ]  # fmt: skip
    return table(
        ("setting", "paper", "status", "here", "why"),
        rows,
        f"{_title(model)} on CIFAR-10. Status: V, read in a source; code, read in the authors' code; unverified, "
        "recalled, no source at hand shows it.",
    )


def planned_runs() -> Table:
    """Each run of ``PLANNED`` with its status, and any other result of its networks on its data set."""
    runs = planned_results()
    of_plan = [record["name"] for *_, record in runs if record]
    rows = [_run_row(model, seed, record) for model, seed, record in runs]
    rows += [
        _run_row(r["settings"]["model"], r["seed"], r, other=not in_protocol(r))
        for r in results.everything("training")
        if r["name"] not in of_plan and _of_chapter(r)
    ]
    done = sum(bool(r) and r["status"] == "finished" for *_, r in runs)
    return table(
        ("network", "seed", "activations", "status", "test accuracy", "minutes", "commit", "date"),
        rows,
        f"{done} of {len(runs)} planned runs are finished. Minutes are wall-clock time, with evaluation and "
        "whatever else the machine did. Activations are rebuilt in the backward pass, or stored, by which the gradient "
        "is the same up to rounding, in less time; ResNet has no other way. Accuracies of unfinished runs are on fewer "
        "images and prove nothing yet. "
        "A + marks a commit with changes that were not committed.",
    )


def _run_row(model: str, seed: int, record: dict | None, other: bool = False) -> tuple:
    title = _title(model)
    if record is None:
        return (title, seed, "–", "not run yet", "–", "–", "–", "–")
    settings, evidence = record["settings"], record["evidence"]
    if other:
        images = f"{settings['subset']:,} images" if settings["subset"] else "all images"
        title += f" ({settings['data']}, {images}, {settings['steps']:,} steps)"
    status = record["status"]
    if status != "finished":
        status += f" at step {record['final']['step']:,} of {settings['steps']:,}"
    curve = record["curve"]
    accuracy = f"{_percent(curve[-1]['test_accuracy'])} of {curve[-1]['test_images']:,}" if curve else "–"
    minutes, date = f"{record['wall_seconds'] / 60:.0f}", evidence["date"][:10]
    commit = (evidence["commit"] or "–")[:9] + "+" * bool(evidence.get("uncommitted_changes"))
    return title, seed, _activations(record), status, accuracy, minutes, commit, date


def _activations(record: dict) -> str:
    settings = record["settings"]
    if settings["memory"] == "stored" or settings["model"].startswith("resnet"):
        return "stored"
    return "rebuilt" if _arithmetic(record) == "float" else "rebuilt, exact"


def _hardware(record: dict) -> str:
    hardware = record["evidence"]["hardware"]
    return hardware["gpu"] or f"{hardware['cpu']}, {hardware['threads']} thread{'s' * (hardware['threads'] != 1)}"


def _finished() -> dict[str, list[dict]]:
    """Finished runs of the plan, by network."""
    found: dict[str, list[dict]] = {model: [] for model in PLANNED}
    for model, _, record in planned_results():
        if record and record["status"] == "finished":
            found[model].append(record)
    return found


def accuracy_summary() -> Table:
    """Mean and standard deviation over the finished seeds of each planned network, beside the paper's full run."""
    rows, longer = [], {MODELS[model].recipe.steps / PROTOCOL["steps"] for model in PLANNED}
    for model, records in _finished().items():
        values = [record["final"]["test_accuracy"] for record in records]
        spec = MODELS[model]
        mean = "–" if not values else _percent(np.mean(values))
        if len(values) > 1:
            mean = f"{100 * np.mean(values):.2f} ± {100 * np.std(values, ddof=1):.2f} %"
        train = f"{100 * np.mean([r['curve'][-1]['train_accuracy'] for r in records]):.2f} %" if records else "–"
        paper = f"{spec.accuracy['cifar10']} % ({spec.sources['accuracy'].status})"
        errors = [r["final"]["inverse_error"] for r in records if r["final"].get("inverse_error") is not None]
        back = "not reversible" if model.startswith("resnet") else f"{max(errors):.1e}" if errors else "–"
        rows.append((_title(model), f"{len(values)} of {len(PLANNED[model])}", mean, train, back, paper))
    return table(
        (
            "network",
            "finished seeds",
            "test accuracy",
            "training accuracy",
            "error of the way back",
            "paper, full recipe (status)",
        ),
        rows,
        "Mean over the finished seeds; ± is the standard deviation between seeds (n − 1), given from two seeds on. "
        "Training accuracy is over the last steps, with augmentation. The way back: largest relative error of a "
        "trained stage's input, rebuilt from its output. The last column is another protocol: all images, "
        f"{'/'.join(f'{k:g}' for k in sorted(longer))} times the steps.",
    )


def compare_networks(first: str = "hamiltonian-74", second: str = "resnet-32") -> str:
    """A sentence: the difference of two networks' mean test accuracies, with its standard error over seeds."""
    a, b = ([100 * r["final"]["test_accuracy"] for r in _finished()[model]] for model in (first, second))
    return judged(f"{_title(first)} against {_title(second)}", a, b)


def judged(names: str, a: list[float], b: list[float]) -> str:
    """A sentence: the difference of the means of two lists of percentages, one for each seed, and its standard error.

    Args:
        names: What is compared.
        a: Of the first one.
        b: Of the second one.
    """
    if min(len(a), len(b)) < 2:
        return f"{names}:\n{len(a)} and {len(b)} finished runs; a difference can be judged from two seeds each on."
    difference = np.mean(a) - np.mean(b)
    error = np.sqrt(np.var(a, ddof=1) / len(a) + np.var(b, ddof=1) / len(b))
    verdict = "more than" if abs(difference) > 2 * error else "within"
    return (
        f"{names}:\n{difference:+.2f} points, standard error {error:.2f} ({len(a)} and {len(b)} seeds); "
        f"{verdict} two standard errors."
    )


def exact_training(model: str = "hamiltonian-74") -> Table:
    """Runs of one network in exact arithmetic beside the finished ones in floating point, and a verdict.

    Args:
        model: A network of ``PLANNED``.
    """
    exact = [r for r in results.everything("training") if _shortened(r) and r["settings"]["model"] == model]
    exact = [r for r in exact if _arithmetic(r) == "exact"]
    floats = _finished()[model]
    rows = []
    for record in floats + exact:
        final, error = record["final"], record["final"].get("inverse_error")
        status = record["status"]
        if status != "finished":
            status += f" at step {final['step']:,}"
        rows.append(
            (
                "exact" if record in exact else "float32",
                record["seed"],
                status,
                _percent(final["test_accuracy"]) if "test_accuracy" in final else "–",
                f"{final['train_loss']:.3f}" if "train_loss" in final else "–",
                "–" if error is None else f"{error:.1e}" if error else "0",
            )
        )
    values = [100 * r["final"]["test_accuracy"] for r in floats]
    done = [100 * r["final"]["test_accuracy"] for r in exact if r["status"] == "finished"]
    verdict = "The run in exact arithmetic is not finished."
    if done and len(values) > 1:
        away = np.mean(done) - np.mean(values)
        where = "above" if max(done) > max(values) else "below" if min(done) < min(values) else "inside"
        verdict = (
            f"Exact arithmetic lies {where} the range of the seeds in float32 "
            f"({min(values):.2f} to {max(values):.2f} %), {away:+.2f} points from their mean, "
            f"where one standard deviation between seeds is {np.std(values, ddof=1):.2f}."
        )
    return table(
        ("arithmetic", "seed", "status", "test accuracy", "training loss", "error of the way back"),
        rows,
        f"{_title(model)}, the shortened training of chapter 5, on all test images. {verdict}",
    )


@styled
def training_curves() -> Drawing:
    """Training loss and test accuracy over the steps of all results of the plan, finished or not."""
    (losses, left), (accuracies, right) = (axes(1, 1, (3.6, 3.2)) for _ in range(2))
    words, titles = [], set()
    runs = [(model, seed, record) for model, seed, record in planned_results() if record and record["curve"]]
    for model, seed, record in runs:
        step, loss, accuracy = (
            np.array([p[key] for p in record["curve"]]) for key in ("step", "train_loss", "test_accuracy")
        )
        finished = record["status"] == "finished"
        label = None if model in titles else _title(model)
        titles.add(model)
        style = {"linewidth": 1.5, "alpha": 1 if seed == 0 else 0.6}
        line(left, step, loss, MODELS[model].scheme, label=label, **style)
        line(right, step, 100 * accuracy, MODELS[model].scheme, label=label, **style)
        right.plot(
            step[-1], 100 * accuracy[-1], "o", color=COLORS[MODELS[model].scheme], markersize=5,
            markerfacecolor=COLORS[MODELS[model].scheme] if finished else "none",
        )  # fmt: skip
        end = "" if finished else f", {record['status']} at step {step[-1]:,}"
        words.append(f"{_title(model)} seed {seed} {_percent(accuracy[-1])}{end}")
    if runs:
        for milestone in runs[0][2]["settings"]["milestones"]:
            left.axvline(milestone, color=LINE, zorder=0)
            right.axvline(milestone, color=LINE, zorder=0)
        left.legend(loc="upper right")
        right.legend(loc="lower right")
    else:
        for ax in (left, right):
            ax.text(0.5, 0.5, "no result file yet", transform=ax.transAxes, ha="center", color=SOFT)
    steps = PROTOCOL["steps"]
    left.set(xlabel="step", title="training loss", xlim=(0, steps * 1.03))
    right.set(xlabel="step", title="test accuracy, %", xlim=(0, steps * 1.03))
    return beside(
        show(losses, f"Training loss over the steps of {len(runs)} of {len(planned_results())} planned runs."),
        show(accuracies, f"Last test accuracies: {'; '.join(words) or 'none, there is no result file yet'}."),
        caption="One line a seed, the first one strong. Grey: where the rate is cut. Full dot: finished, on all test "
        "images; open dot: the last evaluation of a run that is not.",
    )


def training_time() -> Table:
    """Speed and minutes from result files: of the shortened run, and what the paper's full recipe would take."""
    rows, gpu = [], False
    for record in filter(_of_chapter, results.everything("training")):
        if not record["curve"] or (record["status"] != "finished" and not in_protocol(record)):
            continue
        gpu |= bool(record["evidence"]["hardware"]["gpu"])
        settings = record["settings"]
        recipe = MODELS[settings["model"]].recipe
        timed = [p["images_per_second"] for p in record["curve"] if p["images_per_second"] is not None]
        speed = float(np.median(timed)) if timed else float("nan")
        finished = record["status"] == "finished"
        minutes = f"{record['wall_seconds'] / 60:.0f}" if finished else "– (unfinished)"
        hours = recipe.steps * recipe.batch_size / speed / 3600
        run = f"{_title(settings['model'])}, seed {record['seed']}, {_activations(record)}"
        rows.append((run, _hardware(record), f"{speed:.0f}", f"{settings['steps']:,}", minutes, f"{hours:.0f}"))
    if not rows:
        rows.append(("CPU", "not measured yet", "–", "–", "–", "–"))
    if not gpu:
        rows.append(("GPU", "not measured: no result file from a GPU yet", "–", "–", "–", "–"))
    return table(
        ("run, activations", "hardware", "images/s", "steps", "minutes", "hours, full recipe (calc)"),
        rows,
        "Images/s is the median over the run, without evaluation; minutes are wall-clock with it. Both hold for the "
        "machine and whatever else it did. Hours of the full recipe are computed from images/s.",
    )


# --- where numbers come from ----------------------------------------------------------------------------------


def numbers_with_status(status: str) -> Table:
    """The papers' numbers in :data:`revode.models.MODELS` that have this status, and what they rest on.

    Args:
        status: One of :data:`revode.models.STATUS`.

    Raises:
        ValueError: for another status.
    """
    if status not in STATUS:
        raise ValueError(f"status = {status!r} must be one of {STATUS}")
    names: dict[tuple[str, str], list[str]] = {}
    for spec in MODELS.values():
        for number, source in spec.sources.items():
            if source.status == status:
                names.setdefault((number, source.text), []).append(spec.name)
    rows = [(number.replace("_", " "), ", ".join(of), text) for (number, text), of in names.items()]
    return table(("number", "of", "where it comes from"), rows, f"Numbers of the papers with the status “{status}”.")
