"""The papers' claims, tables and experiments with what the result files say about them."""

from __future__ import annotations

import html
import math
from collections.abc import Iterable, Sequence
from statistics import fmean, stdev

from ..data.sets import TITLES
from ..experiments import claims, registry
from ..experiments.checks import Check, Records, finished, seeds
from ..fields import choose
from ..models import MODELS
from .drawing import COLORS, LINE, Drawing, Table, axes, show, styled, table

#: A second cue beside the word.
_MARKS = {"reproduced": "●", "partly": "◐", "not reproduced": "✕", "not yet run": "○"}
_HOLDS = {True: "✓", False: "✕", None: "–"}


class Folded(Drawing):
    """Lines one below the other, each to be opened for more: what a table of many words would be on a phone.

    Attributes:
        lines: Of each its text, its last word or words, and the HTML that it hides.
    """

    def __init__(self, lines: Sequence[tuple[str, str, str]], caption: str):
        super().__init__("", "; ".join(f"{text}: {word}" for text, word, _ in lines), caption)
        self.lines = tuple(lines)

    def _repr_html_(self) -> str:
        items = "".join(
            f"<details><summary>{html.escape(text)} <strong>{html.escape(word)}</strong></summary>{more}</details>"
            for text, word, more in self.lines
        )
        return f'<figure class="rv-figure">{items}<figcaption>{html.escape(self.caption)}</figcaption></figure>'


def _line(judgement: claims.Judgement) -> tuple[str, str, str]:
    c = judgement.claim
    checks = "".join(f'<li style="margin: 0.2rem 0">{_check(k)}</li>' for k in judgement.checks)
    files = ", ".join(f"<code>{html.escape(f)}</code>" for f in _short(judgement.files)) or "computed now, or none yet"
    runs = ", ".join(f"<code>revode reproduce {e.name}</code>" for e in registry.of_claim(c.number)) or "none yet"
    more = (
        f"<p>{html.escape(c.quantity[0].upper() + c.quantity[1:])}. Claimed: {html.escape(c.expected)} "
        f"(status: {', '.join(c.status)}; {html.escape(c.source)}).</p>"
        f'<ul style="list-style: none; padding: 0; margin: 0.5rem 0; font-size: 0.9rem">{checks}</ul>'
        f'<p style="font-size: 0.85rem">Results: {files}. Run: {runs}.</p>'
    )
    return f"{c.number}. {c.setup}", f"{_MARKS[judgement.verdict]} {judgement.verdict}", more


def _check(check: Check) -> str:
    """A mark, what was measured, and what was wanted."""
    mark = _HOLDS[check.holds] if check.counts else "beside:"
    rule = f" ({'wanted: ' * check.counts}{check.rule})" if check.rule else ""
    return f"{mark} {html.escape(check.quantity)}: <strong>{html.escape(check.measured)}</strong>{html.escape(rule)}"


def _short(names: Sequence[str], limit: int = 6) -> list[str]:
    """The first names, and how many more there are."""
    return [*names[:limit]] + ([f"and {len(names) - limit} more"] if len(names) > limit else [])


def claims_of(topic: str, records: Records | None = None) -> Folded:
    """The claims of one topic, each with its verdict, its checks and its files.

    Args:
        topic: One of :data:`revode.experiments.claims.TOPICS`.
        records: Finished results by name; by default the bundled ones.

    Raises:
        ValueError: there is no such topic.
    """
    choose("topic", topic, claims.TOPICS)
    records = finished() if records is None else records
    found = [claims.judge(c, records) for c in claims.CLAIMS if c.topic == topic]
    return Folded(
        [_line(j) for j in found],
        f"{topic}: {_counted(found)}. Open a line for what was measured, and by which rule it was judged: ✓ holds, "
        "✕ does not, – has no number yet; what stands beside a claim does not count.",
    )


def _counted(judged: Iterable[claims.Judgement]) -> str:
    """How many have which verdict, in words."""
    return ", ".join(f"{_MARKS[v]} {n} {v}" for v, n in claims.counts(judged).items() if n)


def verdicts(records: Records | None = None) -> Table:
    """How many claims of each topic have which verdict."""
    judged = claims.judgements(records)
    rows = [(topic, _counted([j for j in judged if j.claim.topic == topic])) for topic in claims.TOPICS]
    rows.append(("all", _counted(judged)))
    return table(("topic", "claims"), rows, f"Verdicts on the {len(judged)} claims, computed from the result files.")


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
    rows = []
    for run in registry.find(f"{data}-table").runs:
        if run.seed:
            continue
        model = run.settings["model"]
        spec = MODELS[model]
        values = [records[n]["final"]["test_accuracy"] for n in seeds(f"{model}-{data}") if n in records]
        here = (
            _percent(values) if values else f"not yet run; {registry.hours(run.gpu_minutes)} a seed"
        )  # long enough to be wrapped
        paper = f"{spec.accuracy[data]:.{1 if data == 'stl10' else 2}f}"  # as printed
        status = spec.sources["accuracy"].status
        rows.append((model, paper + ("?" if status == "unverified" else f" {status}"), here))
    return table(
        ("network", "paper", "here"),
        rows,
        f"{TITLES[data]}: test accuracy in per cent, ours as mean ± standard deviation over seeds. Status of the "
        "paper's number: V, read in a source; ?, unverified, recalled. Times are estimates for one H200.",
    )


def _percent(values: Sequence[float]) -> str:
    values = [100 * v for v in values]
    if len(values) == 1:
        return f"{values[0]:.2f}"
    return f"{fmean(values):.2f} ± {stdev(values):.2f}"


def all_experiments(records: Records | None = None) -> Folded:
    """Every experiment: what it asks, how far it is, what it took or would take."""
    records = finished() if records is None else records
    lines = []
    for e in registry.experiments().values():
        found = registry.status(e, records)
        took = [records[n] for n in found.there]
        words = [f"Claims {', '.join(map(str, e.claims))}" if e.claims else "No claim of the list"]
        words.append(f"{e.source.text} (status: {e.source.status})")
        if took:
            spent = registry.hours(sum(r["wall_seconds"] for r in took) / 60)
            words.append(f"The results took {spent} on {', '.join(_hardware(took))}")
        if found.missing or e.needs:
            words.append(f"What is missing would take {found.wait or 'a time that nobody has estimated'}")
        if e.needs:
            words.append(f"It needs {e.needs}")
        files = ", ".join(f"<code>{html.escape(n)}</code>" for n in _short(found.there)) or "none"
        command = f"Run: <code>revode reproduce {html.escape(e.name)}</code>. " if e.runs else ""
        more = f"<p>{html.escape('. '.join(words))}. {command}Results: {files}.</p>"
        mark = "reproduced" if not found.missing and took else "partly" if took else "not yet run"
        lines.append((e.title, f"{_MARKS[mark]} {found.words}", more))
    return Folded(lines, "All experiments. Times of results are wall-clock times; the others are estimates.")


def _hardware(records: Sequence[dict]) -> list[str]:
    """What results were measured on, each once."""
    found = []
    for record in records:
        h = record["evidence"]["hardware"]
        threads = f"{h['threads']} thread{'s' * (h['threads'] != 1)}"
        found.append(h["gpu"] or f"{h['cpu']}, {threads}")
    return list(dict.fromkeys(found))
