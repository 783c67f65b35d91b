"""The papers' claims, tables and experiments with what the result files say about them."""

from __future__ import annotations

import html
import math
from collections.abc import Sequence
from statistics import fmean, stdev

from ..experiments import claims, registry
from ..experiments.checks import VERDICTS, Records, finished, seeds
from ..models import MODELS
from .drawing import COLORS, LINE, Drawing, Table, axes, show, styled, table

#: A second cue beside the word.
_MARKS = {"reproduced": "●", "partly": "◐", "not reproduced": "✕", "not yet run": "○"}
_HOLDS = {True: "✓ ", False: "✕ ", None: ""}


class Claims(Drawing):
    """Claims one below the other, each to be opened for its checks. Made by :func:`claims_of`.

    Attributes:
        judgements: What is shown.
    """

    def __init__(self, judgements: Sequence[claims.Judgement], caption: str):
        words = "; ".join(f"claim {j.claim.number}, {j.claim.setup}: {j.verdict}" for j in judgements)
        super().__init__("", words, caption)
        self.judgements = tuple(judgements)

    def _repr_html_(self) -> str:
        items = "".join(_claim(j) for j in self.judgements)
        return f'<figure class="rv-figure">{items}<figcaption>{html.escape(self.caption)}</figcaption></figure>'


def _claim(judgement: claims.Judgement) -> str:
    c = judgement.claim
    rows = [(k.quantity, k.rule or "–", _HOLDS[k.holds] + k.measured) for k in judgement.checks]
    checks = table(("measured", "must be", "here"), rows, f"Claim {c.number}: {c.quantity}. ✓ holds, ✕ does not.")
    files = ", ".join(f"<code>{html.escape(f)}</code>" for f in _short(judgement.files)) or "computed now, or none yet"
    runs = ", ".join(f"<code>revode reproduce {e.name}</code>" for e in registry.of_claim(c.number)) or "none yet"
    return (
        f"<details><summary><strong>{c.number}.</strong> {html.escape(c.setup)}: "
        f"{_MARKS[judgement.verdict]} <strong>{judgement.verdict}</strong></summary>"
        f'<p style="margin: 0.4rem 0">{html.escape(c.quantity[0].upper() + c.quantity[1:])}. '
        f"Claimed: {html.escape(c.expected)} "
        f"(status: {', '.join(c.status)}; {html.escape(c.source)}).</p>{checks._repr_html_()}"
        f'<p style="margin: 0.4rem 0; font-size: 0.85rem">Results: {files}. Run: {runs}.</p></details>'
    )


def _short(names: Sequence[str], limit: int = 6) -> list[str]:
    """The first names, and how many more there are."""
    return [*names[:limit]] + ([f"and {len(names) - limit} more"] if len(names) > limit else [])


def claims_of(name: str, records: Records | None = None) -> Claims:
    """The claims of one topic.

    Args:
        name: One of :data:`revode.experiments.claims.TOPICS`.
        records: Finished results by name; by default the bundled ones.

    Raises:
        ValueError: there is no such topic.
    """
    if name not in claims.TOPICS:
        raise ValueError(f"name = {name!r} must be one of: {', '.join(claims.TOPICS)}")
    records = finished() if records is None else records
    found = [claims.judge(c, records) for c in claims.CLAIMS if c.topic == name]
    numbers = claims.counts(found)
    words = ", ".join(f"{n} {v}" for v, n in numbers.items() if n)
    return Claims(found, f"{name}: {words}. Open a line for what was measured, and by which rule it was judged.")


def verdicts(records: Records | None = None) -> Table:
    """How many claims of each topic have which verdict."""
    judged = claims.judgements(records)
    rows = [(name, *claims.counts(j for j in judged if j.claim.topic == name).values()) for name in claims.TOPICS]
    rows.append(("all", *claims.counts(judged).values()))
    marks = [_MARKS[v] for v in VERDICTS]
    legend = ", ".join(f"{mark} {v}" for v, mark in _MARKS.items())
    return table(("topic", *marks), rows, f"Verdicts on the {len(judged)} claims, computed from the files: {legend}.")


@styled
def agreement(records: Records | None = None) -> Drawing:
    """Measured over expected value for the claims that are single numbers."""
    from ..analysis import drift

    records = finished() if records is None else records
    there = records["claims"]["final"]["claims"] if "claims" in records else []
    measured = {r["quantity"]: r["measured"] for r in there}
    points = [
        (c.number, measured[c.quantity] / c.expected)
        for c in drift.CLAIMS
        if c.relation == "=" and c.expected and measured.get(c.quantity)
    ]
    numbers = sorted({n for n, _ in points})
    figure, ax = axes(size=(7.2, 2.6))
    ax.axvline(1, color=LINE, linewidth=1)
    for n, ratio in points:
        ax.plot(ratio, numbers.index(n), "o", color=COLORS["hamiltonian"], markersize=5, alpha=0.8)
    ax.set(xscale="log", xlim=(0.3, 3.3), xlabel="measured / expected", ylabel="claim")
    ax.set_xticks([0.33, 0.5, 1, 2, 3], ["1/3", "1/2", "1", "2", "3"])
    ax.minorticks_off()
    ax.set_yticks(range(len(numbers)), [str(n) for n in numbers])
    ax.invert_yaxis()
    worst = max((abs(math.log(r)) for _, r in points), default=0.0)
    return show(
        figure,
        f"{len(points)} measured values divided by the expected ones, one row for each of the claims "
        f"{', '.join(map(str, numbers))}. All lie within a factor of {math.exp(worst):.2g} of 1.",
        f"{len(points)} numbers of claims 1 to 8 and 23 beside what was expected. Errors of rounding depend on the "
        "generator that drew the weights, so a factor of 10 is allowed there.",
    )


def paper_accuracies(data: str, records: Records | None = None) -> Table:
    """The papers' accuracies beside ours, for the networks of one data set.

    Args:
        data: "cifar10", "cifar100" or "stl10".
        records: Finished results by name; by default the bundled ones.
    """
    records = finished() if records is None else records
    reduced = {"cifar10": ("", "-seed1", "-seed2")}.get(data, ())
    rows = []
    for run in registry.find(f"{data}-table").runs:
        if run.seed:
            continue
        model = run.settings["model"]
        spec = MODELS[model]
        full = [records[n]["final"]["test_accuracy"] for n in seeds(f"{model}-{data}") if n in records]
        few = [records[model + end]["final"]["test_accuracy"] for end in reduced if model + end in records]
        here = _percent(full) if full else f"not yet run: {registry.hours(run.gpu_minutes)} a seed"
        paper = f"{spec.accuracy[data]:.{1 if data == 'stl10' else 2}f}"  # as printed
        row = (model, f"{paper} ({spec.sources['accuracy'].status})", here)
        rows.append((*row, _percent(few) if few else "–") if reduced else row)
    columns = ("network", "paper, %", "here, %") + (("reduced, %",) if reduced else ())
    note = " Reduced: 10,000 images and 2,000 steps, which no paper's number stands for." if reduced else ""
    return table(
        columns,
        rows,
        "Test accuracy, mean ± standard deviation over seeds. Status of the paper's number: V, read in a source; "
        f"unverified, recalled.{note} Times are estimates for one H200.",
    )


def _percent(values: Sequence[float]) -> str:
    values = [100 * v for v in values]
    if len(values) == 1:
        return f"{values[0]:.2f}"
    return f"{fmean(values):.2f} ± {stdev(values):.2f}"


def all_experiments(records: Records | None = None) -> Table:
    """Every experiment: what it asks, how far it is, what it took or would take."""
    records = finished() if records is None else records
    rows = []
    for e in registry.experiments().values():
        found = registry.status(e, records)
        took = [records[n] for n in found.there]
        words = [found.words]
        if took:
            words.append(f"{registry.hours(sum(r['wall_seconds'] for r in took) / 60)} on {', '.join(_hardware(took))}")
        if found.missing or e.needs:
            words.append(("rest: " if took else "") + (found.wait or "no cost known"))
        if e.needs:
            words.append(f"needs {e.needs}")
        rows.append((e.name, e.title, "; ".join(words)))
    return table(
        ("experiment", "question", "status and cost"),
        rows,
        "All experiments; the command revode reproduce NAME runs one. Times of results are wall-clock times; "
        "the others are estimates.",
    )


def _hardware(records: Sequence[dict]) -> list[str]:
    """What results were measured on, each once."""
    found = []
    for record in records:
        h = record["evidence"]["hardware"]
        threads = f"{h['threads']} thread{'s' * (h['threads'] != 1)}"
        found.append(h["gpu"] or f"{h['cpu']}, {threads}")
    return list(dict.fromkeys(found))
