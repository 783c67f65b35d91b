"""How each claim is checked: a function of result files for each, by the rules of :mod:`revode.experiments.checks`.

Every bound stands in the check itself, in words; none depends on what was measured here.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from functools import cache
from itertools import pairwise
from statistics import fmean

from .. import models
from ..analysis import drift
from .checks import Check, Records, above, accuracies, alike, seeds, shown, within

GIB = 2**30


def _there(records: Records, names: Iterable[str]) -> list[str]:
    return [n for n in names if n in records]


def nothing(*waiting: str) -> Callable[[Records], list[Check]]:
    """Checks of what no run of this package measures yet."""
    return lambda _: [Check(what) for what in waiting]


# --- calculations: claims 1 to 8, 23 --------------------------------------------------------------------------


def calculated(number: int) -> Callable[[Records], list[Check]]:
    """The rows of one claim in the result of ``revode claims``."""

    def checks(records: Records) -> list[Check]:
        files = _there(records, ["claims"])
        rows = {r["quantity"]: r["measured"] for f in files for r in records[f]["final"]["claims"]}
        out = []
        for c in (c for c in drift.CLAIMS if c.number == number):
            sign = "" if c.relation == "=" else f"{c.relation} "
            rule = f"{sign}{c.expected:.4g}" + (f", to a factor of {c.within:g}" if c.within >= 2 and not sign else "")
            if c.quantity not in rows:
                out.append(Check(c.quantity, rule))
                continue
            value = math.inf if rows[c.quantity] is None else rows[c.quantity]
            out.append(Check(c.quantity, rule, (value,), c.holds(value), tuple(files), "{:.4g}"))
        return out

    return checks


def spectra(records: Records) -> list[Check]:
    """Claim 5, and beside it the layers of a fresh and of a trained network."""
    out = calculated(5)(records)
    for network in ("hamiltonian-74", "midpoint-26"):
        files = _there(records, [f"spectra-{network}"])
        for key, what in (("none", "fresh, as the equations are printed"), ("trained", "trained, batch normalization")):
            values = [row["off_axis"] for f in files for row in records[f]["final"]["clouds"][key]]
            out.append(shown(f"{network}, {what}", values, files, "not part of the claim", form="{:.2g}", spread=False))
    return out


def jacobian_norm(records: Records) -> list[Check]:
    """Claim 33."""
    files = _there(records, seeds("jacobian-norm"))
    symplectic = [row["smallest"] for f in files for row in records[f]["final"]["symplectic"]]
    euler = [row["largest"] for f in files for row in records[f]["final"]["euler"]]
    many = {"spread": False, "form": "{:.2g}"}
    return [
        within("symplectic: smallest norm over inputs", symplectic, 1, math.inf, files, "1 or more for each", **many),
        within("Euler, dissipative field: largest norm", euler, 0, 1, files, "below 1: it vanishes", **many),
    ]


# --- size, memory, time: claims 9 to 13, 20 -------------------------------------------------------------------

_DEPTHS = {"hamiltonian-74": 74, "hamiltonian-218": 218, "hamiltonian-1202": 1202, "midpoint-26": 26, "midpoint-62": 62}
_DEPTHS |= {"leapfrog-26": 26, "leapfrog-62": 62}
_PARAMETERS = {"hamiltonian-74": "0.432", "hamiltonian-218": "1.691", "hamiltonian-1202": "9.70"}
_PARAMETERS |= {"resnet-1202": "19.42"}


def depth(_: Records) -> list[Check]:
    """Claim 9, counted now."""
    return [
        Check(
            name, str(layers), (float(models.MODELS[name].depth),), models.MODELS[name].depth == layers, form="{:.0f}"
        )
        for name, layers in _DEPTHS.items()
    ]


@cache
def _counts() -> dict[str, float]:
    return {row["name"]: row["parameters"] / 1e6 for row in models.table(names=list(_PARAMETERS))}


def parameters(_: Records) -> list[Check]:
    """Claim 10, counted now: the same to the last printed digit."""
    form = {name: f"{{:.{len(text.partition('.')[2])}f}}" for name, text in _PARAMETERS.items()}
    return [
        Check(name, f"{text}M", (_counts()[name],), form[name].format(_counts()[name]) == text, form="{:.4f}", unit="M")
        for name, text in _PARAMETERS.items()
    ]


def memory_slope(records: Records) -> list[Check]:
    """Claim 11."""
    files = _there(records, ["benchmark-cpu"])
    rows = [r for f in files for r in records[f]["final"]["memory"] if r["family"] == "revnet"]

    def slopes(case: str) -> list[float]:
        """MiB a block between neighbouring depths, without the parameters' gradients, which grow anyway."""
        sizes = sorted((r["blocks"], r["peak"] - r["parameter_gradients"]) for r in rows if r["case"] == case)
        return [(b - a) / (n - m) / 2**20 for (m, a), (n, b) in pairwise(sizes)]

    stored = slopes("plain")
    flat = [s / fmean(stored) for s in slopes("revode")] if stored else []
    straight = max(stored) <= 1.02 * min(stored) if stored else None
    return [
        Check("stored: MiB a block, 8 to 256 blocks", "all alike to 2 %: linear", tuple(stored), straight, tuple(files),
              "{:.2f}", spread=False),
        within("rebuilt: the same, over that of stored", flat, -0.01, 0.01, files, "below 1 %: flat", spread=False,
               form="{:.4f}"),
    ]  # fmt: skip


def time_ratio(records: Records) -> list[Check]:
    """Claim 12."""
    files = _there(records, ["benchmark-cpu"])
    ratios = [r["ratio"] for f in files for r in records[f]["final"]["time"] if r["case"] == "revode"]
    mean = [fmean(ratios)] if ratios else []
    return [
        within("each rule, 8 to 128 blocks", ratios, 1.16, 1.70, files, "1.16 to 1.70, the range of the sources",
               spread=False, form="{:.2f}"),
        within("mean over all", mean, 1.2, 1.47, files, "4/3 to 10 %", form="{:.3f}"),
    ]  # fmt: skip


def gradients(records: Records) -> list[Check]:
    """Claim 13."""
    out = []
    for activation in ("relu", "tanh"):
        files = _there(records, seeds(f"gradient-difference-{activation}"))
        for scheme in ("hamiltonian", "midpoint", "leapfrog", "revnet"):
            values = [records[f]["final"][scheme]["largest"] for f in files]
            out.append(
                within(f"{scheme}, {activation}", values, 0, 3e-7, files, "at most 3e-7 for each seed", spread=False,
                       form="{:.1e}")
            )  # fmt: skip
    return out


def thousand(records: Records) -> list[Check]:
    """Claim 20."""

    def bytes_of(name: str, key: str) -> tuple[list[float], list[str]]:
        files = _there(records, [name])
        return [records[f]["final"][key] / GIB for f in files], files

    gib: dict = {"form": "{:.2f}", "unit": " GiB"}
    out = [
        within(f"batch {batch}, rebuilt: peak", values, 0, 24, files, "fits in 24 GiB", **gib)
        for batch in (32, 320)
        for values, files in [bytes_of(f"thousand-memory-reversible-{batch}", "peak_bytes")]
    ]
    files = _there(records, ["thousand-training"])
    losses = [point["train_loss"] for f in files for point in records[f]["curve"]]
    text = " → ".join(f"{v:.2f}" for v in losses)
    falls = losses[-1] < losses[0] if len(losses) > 1 else None
    out.append(
        Check("training loss over 300 steps of batch 32", "falls", tuple(losses), falls, tuple(files), text=text)
    )
    values, files = accuracies(records, seeds("hamiltonian-1202-cifar10"))
    rule = "above ResNet-1202, 92.07 % (V)"
    what = "accuracy on CIFAR-10, full protocol"
    out.append(within(what, values, 92.07, 100, files, rule, form="{:.2f}", unit=" %"))
    why = "for comparison"
    out.append(shown("batch 32, stored: peak", *bytes_of("thousand-memory-stored-32", "peak_bytes"), why, **gib))
    out.append(
        shown(
            "batch 320, stored: activations, counted", *bytes_of("thousand-memory-counted", "saved_bytes"), why, **gib
        )
    )
    files = _there(records, seeds("thousand-drift"))
    errors = [records[f]["final"]["stages"][0]["error"] for f in files]
    out.append(shown("relative error at the first layer, rebuilt", errors, files, why, form="{:.1e}"))
    return out


# --- accuracy: claims 14 to 18 --------------------------------------------------------------------------------


def _reduced(records: Records, model: str, data: str = "cifar10") -> Check:
    stem = model if data == "cifar10" else f"{data}-{model}"
    values, files = accuracies(records, [stem, f"{stem}-seed1", f"{stem}-seed2"])
    what = f"{model}, 10,000 images, 2,000 steps"
    return shown(what, values, files, "a reduced budget, not the claim's protocol", form="{:.2f}", unit=" %")


def pair(data: str, low: float, high: float) -> Callable[[Records], list[Check]]:
    """Claims 14 and 15: Hamiltonian-74 and ResNet-32 both in a range of per cent, and alike."""

    def checks(records: Records) -> list[Check]:
        both = ("hamiltonian-74", "resnet-32")
        found = [accuracies(records, seeds(f"{model}-{data}")) for model in both]
        out = [
            within(model, values, low, high, files, f"{low:g} to {high:g} %", form="{:.2f}", unit=" %")
            for model, (values, files) in zip(both, found, strict=True)
        ]
        (a, some), (b, more) = found
        out.append(alike("Hamiltonian-74 − ResNet-32, points", a, b, some + more))
        return out + [_reduced(records, model, data) for model in both]

    return checks


def ordering(records: Records) -> list[Check]:
    """Claim 16."""
    out, order = [], ("hamiltonian-74", "leapfrog-26", "midpoint-26")
    for data, label in (("cifar10", "CIFAR-10"), ("cifar100", "CIFAR-100")):
        for first, second in pairwise(order):
            (a, some), (b, more) = (accuracies(records, seeds(f"{m}-{data}")) for m in (first, second))
            out.append(above(f"{label}: {first} − {second}, points", a, b, some + more))
    return out + [_reduced(records, model) for model in order]


def stl10(records: Records) -> list[Check]:
    """Claim 17: not more than a point below the paper."""
    out = []
    for model in ("hamiltonian-stl10", "midpoint-stl10", "leapfrog-stl10"):
        paper = models.MODELS[model].accuracy["stl10"]
        values, files = accuracies(records, seeds(f"{model}-stl10"))
        rule = f"at least {paper:g} − 1 %"
        out.append(within(model, values, paper - 1, 100, files, rule, form="{:.2f}", unit=" %"))
    return out


def few_labels(records: Records) -> list[Check]:
    """Claim 18: pairs of networks that saw the same images; the longer training where there is one."""
    from . import few_labels as few

    def gap(data: str, images: int, **more) -> Check:
        for kind in ("gpu", ""):
            pairs = [[few.name(n, data, images, s, kind=kind) for n in few.PAPER] for s in few.SEEDS]
            pairs = [p for p in pairs if all(n in records for n in p)]
            if pairs:
                break
        files = [n for p in pairs for n in p]
        a, b = (accuracies(records, [p[k] for p in pairs])[0] for k in (0, 1))
        steps = f", {records[files[0]]['settings']['steps']:,} steps" if files else ""
        label = "STL-10 subset" if data.startswith("stl10") else "CIFAR-10"
        return above(f"{label}, {images:,} images{steps}: points", a, b, files, paired=True, **more)

    cifar = [gap("cifar10", n) for n in few.CIFAR10_SIZES]
    return cifar + [gap("stl10-subset", n, counts=False) for n in few.STL10_SIZES]


# --- momentum: claims 21, 22, 24 to 27 ------------------------------------------------------------------------

#: Error of the constant 0 for -x^3 on [-1, 1], the mean of x^6, which no increasing function beats.
CONSTANT = 1 / 7


def _of_momentum(records: Records, names: Iterable[str], key: str, c: float) -> tuple[list[float], list[str]]:
    """Values at one momentum c, and their files, of results that have a row for each."""
    files = _there(records, names)
    return [row[key] for f in files for row in records[f]["final"]["momenta"] if row["c"] == c], files


def crossing(records: Records) -> list[Check]:
    """Claim 21."""
    names = ["crossing", *seeds("crossing", 5)]
    out = [
        within("ResNet: squared error", *_spread(_of_momentum(records, names, "mse", 0.0), CONSTANT / 2, math.inf),
               "at least half of 1/7, that of the constant 0", form="{:.4f}")
    ]  # fmt: skip
    for c in (0.9, 0.95, 0.99):
        found = _of_momentum(records, names, "mse", c)
        out.append(within(f"momentum, c = {c:g}: the same", *_spread(found, 0, CONSTANT / 10), "at most a tenth of 1/7",
                          form="{:.4f}"))  # fmt: skip
    files = _there(records, ["crossing-turning"])
    errors = [row["mse"] for f in files for row in records[f]["final"]["depths"]]
    what = "ResNet, started with large steps that turn the line around"
    return [*out, shown(what, errors, files, "not part of the claim", form="{:.4f}", spread=False)]


def rings(records: Records) -> list[Check]:
    """Claim 22."""
    out = []
    for title, names in (
        ("ResNet", ["rings", *seeds("rings", 5)]),
        ("ResNet, 5,000 steps", ["rings-long", *seeds("rings-long")]),
    ):
        values, files = _of_momentum(records, names, "accuracy", 0.0)
        values = [100 * v for v in values]
        out.append(
            within(title, values, 0, 99, files, "below 99 % for each seed", spread=False, form="{:.1f}", unit=" %")
        )
    for c in (0.9, 0.95, 0.99):
        values, files = _of_momentum(records, ["rings", *seeds("rings", 5)], "accuracy", c)
        values = [100 * v for v in values]
        out.append(within(f"momentum, c = {c:g}", values, 99, 100, files, "99 % or more in the mean", form="{:.1f}",
                          unit=" %"))  # fmt: skip
    return out


def _spread(found: tuple[Sequence[float], Sequence[str]], low: float, high: float) -> tuple:
    """Arguments of :func:`within` in its order."""
    values, files = found
    return values, low, high, files


def _remainders(records: Records) -> tuple[list[str], dict[int, list[dict]]]:
    """The files, and their rows by depth."""
    files = _there(records, ["remainders", *seeds("remainders")])
    rows: dict[int, list[dict]] = {}
    for row in (r for f in files for r in records[f]["final"]["depths"]):
        rows.setdefault(row["depth"], []).append(row)
    return files, rows


def remainders(records: Records) -> list[Check]:
    """Claim 24."""
    files, rows = _remainders(records)
    wrong = [float(r["wrong"]) for at in rows.values() for r in at]
    bits = [r["bits"] for r in rows.get(200, ())]
    deepest = f", up to {max(rows)} layers" if rows else ""
    return [
        within(
            f"entries that are not given back bit for bit{deepest}",
            wrong,
            0,
            0,
            files,
            "0",
            spread=False,
            form="{:.0f}",
        ),
        within("bits an entry at 200 layers, c = 0.9", bits, 28.9, 31.9, files, "30.4 to 5 %", form="{:.1f}"),
    ]


def half_exact(records: Records) -> list[Check]:
    """Claim 25."""
    files, rows = _remainders(records)
    at = [r for r in rows.get(100, ()) if r["float"] and r["x_in_float"]]
    ratio = [r["x_in_float"] / r["float"] for r in at]
    what = "error at depth 100 over that without a buffer"
    return [within(what, ratio, 0.1, 10, files, "of one order: 0.1 to 10")]


def depth_101(records: Records) -> list[Check]:
    """Claim 27: no difference on CIFAR-10, the plain network above on CIFAR-100."""
    out = []
    for data, label in (("cifar10", "CIFAR-10"), ("cifar100", "CIFAR-100")):
        plain, some = accuracies(records, seeds(f"resnet-101-{data}", 10))
        for kind, start in (("momentum-101", "from rest"), ("momentum-101-field", "from f")):
            momentum, more = accuracies(records, seeds(f"{kind}-{data}", 10))
            if data == "cifar10":
                out.append(alike(f"{label}: momentum {start} − ResNet, points", momentum, plain, more + some))
            else:
                out.append(above(f"{label}: ResNet − momentum {start}, points", plain, momentum, some + more))
    return out


def other_c(records: Records) -> list[Check]:
    """Claim 26: short trainings of a small network stand beside it."""
    out = [Check(f"depth 101, c = {a} → {b}, points lost", "2.6" if a == 0 else "1.3") for a, b in ((0, 1), (1, 0))]
    out.append(Check("depth 101, after 20 more epochs, points lost", "near 0"))
    for trained, tested in ((0.0, 0.95), (0.9, 0.0)):
        files = _there(records, seeds(f"other-c-{trained:g}"))
        found = [(records[f]["final"]["accuracy"], r) for f in files for r in records[f]["final"]["tested"]
                 if r["c"] == tested]  # fmt: skip
        for key, what in (("before", "points lost"), ("after", "after further steps, points lost")):
            values = [100 * (accuracy - row[key]) for accuracy, row in found if row[key] is not None]
            title = f"momentum-32, short training, c = {trained:g} → {tested:g}: {what}"
            out.append(shown(title, values, files, "not the claim's protocol", form="{:.2f}"))
    return out


# --- regularisation, multilevel, multiscale: claims 19, 28 to 31 ----------------------------------------------


def smoothness(records: Records) -> list[Check]:
    """Claim 19: runs without the decay, with the papers' factor, and with as much effect as in the papers' long run."""

    def change(files: Sequence[str]) -> list[float]:
        return [fmean(x for path in records[f]["final"]["kernel_change"] for x in path) for f in files]

    names = {key: seeds(f"smoothness-{key}") for key in ("off", "strong")}
    pairs = [p for p in zip(*names.values(), strict=True) if all(n in records for n in p)]
    off, strong = ([p[k] for p in pairs] for k in (0, 1))
    files = off + strong
    (without, _), (decayed, _) = accuracies(records, off), accuracies(records, strong)
    effect = [b - a for a, b in zip(without, decayed, strict=True)]
    paper, some = accuracies(records, seeds("smoothness-paper"))
    points: dict = {"form": "{:.2f}", "unit": " points"}
    percent: dict = {"form": "{:.2f}", "unit": " %"}
    return [
        above(
            "change between neighbouring kernels, without − with decay", change(off), change(strong), files, paired=True
        ),
        within("effect on test accuracy, with − without", effect, -1, 1, files, "at most a point either way", **points),
        shown("test accuracy without decay", without, off, "for comparison", **percent),
        shown("test accuracy with the papers' factor", paper, some, "for comparison", **percent),
        shown(
            "test accuracy with decay as strong as in the papers' long run",
            decayed,
            strong,
            "for comparison",
            **percent,
        ),
    ]


def galerkin(records: Records) -> list[Check]:
    """Claim 30."""
    files = _there(records, ["multiscale-map"])
    found = [records[f]["final"] for f in files]
    outside = [way["2"]["outside_3x3"] for f in found for way in (f["constant"], f["bilinear"])]
    out = [
        within("largest entry outside 3x3", outside, 0, 1e-12, files, "0 but for rounding", spread=False, form="{:.1e}")
    ]
    for key, title, factor in (("constant", "P = 4Rᵀ", 2), ("bilinear", "interpolating P", 1)):
        values = [f[key]["2"]["coefficients"]["dxx"] for f in found]
        what = f"second derivative over the consistent value, {title}"
        out.append(within(what, values, factor - 1e-9, factor + 1e-9, files, str(factor), form="{:.6g}"))
    return out


def _dips(curve: Sequence[dict], refined: Sequence[int]) -> list[float]:
    """Test accuracy of the last point up to each refinement, less that of the first point after it."""
    last = {m: [p["test_accuracy"] for p in curve if p["step"] <= m] for m in refined}
    next_ = {m: [p["test_accuracy"] for p in curve if p["step"] > m] for m in refined}
    return [100 * (last[m][-1] - next_[m][0]) for m in refined if last[m] and next_[m]]


def multilevel(records: Records) -> list[Check]:
    """Claim 28. A dip shows in short trainings too; their errors stand beside the claim."""
    times = _there(records, ["multilevel-times-resnet"])
    saved = [100 * records[f]["final"]["saved"] for f in times]
    out = [
        within("time saved by the paper's schedule, from steps timed in turns", saved, 36, 46, times,
               "41 % to 5 points", form="{:.1f}", unit=" %")
    ]  # fmt: skip
    (refined, some), (full, more) = (
        accuracies(records, seeds(f"multilevel-{kind}-cifar10")) for kind in ("copy", "full")
    )
    half = [(fmean(refined) - fmean(full))] if refined and full else []
    what = "accuracy after 160 epochs, refined − full"
    out.append(within(what, half, -0.5, 100, some + more, "at most half a point below", form="{:+.2f}", unit=" points"))
    copies = _there(records, seeds("multilevel-resnet-copy"))
    dips = [d for f in copies for d in _dips(records[f]["curve"], records[f]["settings"]["milestones"])]
    what = "fall of test accuracy after a refinement, short trainings"
    one = {"spread": False, "form": "{:.1f}", "unit": " points"}
    out.append(within(what, dips, 0.01, 100, copies, "a fall each time", **one))
    for kind, title in (("copy", "refined"), ("full", "full"), ("shallow", "2-2-2 throughout")):
        values, files = accuracies(records, seeds(f"multilevel-resnet-{kind}"))
        what = f"accuracy, short trainings, {title}"
        out.append(shown(what, values, files, "not the claim's protocol", form="{:.2f}", unit=" %"))
    return out


def residual_norms(records: Records) -> list[Check]:
    """Claim 29."""
    out = []
    for key, names in (("trained", seeds("residual-norms-trained")), ("untrained", ["residual-norms"])):
        files = [f for f in _there(records, names) if f"slope_{key}" in records[f]["final"]]
        values = [records[f]["final"][f"slope_{key}"] for f in files]
        if key == "trained":
            rule = "−1 to a quarter"
            out.append(within("trained: slope of log norm against log blocks", values, -1.25, -0.75, files, rule))
        else:
            out.append(shown("untrained: the same", values, files, "for comparison"))
    return out


def swiss_roll(records: Records) -> list[Check]:
    """Claim 31."""
    out = []
    for start, title in (("multilevel", "begun with 16 layers"), ("cold", "begun with 1,024 layers, same work")):
        for network in ("resnet", "antisymmetric", "hamiltonian"):
            files = _there(records, seeds(f"swiss-roll-{network}"))
            values = [100 * records[f]["final"][f"validation_accuracy_{start}"] for f in files]
            more: dict = {"form": "{:.1f}", "unit": " %"}
            if start == "multilevel":
                rule = "99 % or more for each seed"
                out.append(within(f"{network}, {title}", values, 99, 100, files, rule, spread=False, **more))
            else:
                out.append(shown(f"{network}, {title}", values, files, "for comparison", **more))
    return out
