"""``revode experiments``: every experiment with its status and cost, or every claim with its verdict."""

from __future__ import annotations

import argparse
import json
import math
from dataclasses import asdict
from pathlib import Path

from .. import results
from .checks import Records, finished
from .claims import counts, judgements
from .registry import experiments, hours, of_claim, status, total


def collected(folder: Path | None) -> Records:
    """The bundled results, and those in a folder, which come first.

    Raises:
        CheckpointError: a file in the folder is no result.
    """
    own = [] if folder is None else [results.read(f) for f in sorted(folder.glob("*.json"))]
    return finished() | finished(own)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of ``revode experiments``."""
    parser.add_argument("--claims", action="store_true", help="the papers' claims, each with its verdict")
    parser.add_argument("--folder", type=Path, help="results of your own that count as well, for example runs")
    parser.add_argument("--json", action="store_true", help="print JSON, with every run, check and source")


def main(args: argparse.Namespace) -> int:
    """Print the table; the exit status."""
    records = collected(args.folder)
    if args.json:
        print(json.dumps(_claims_json(records) if args.claims else _json(records), indent=1, ensure_ascii=False))
    else:
        print(_claims_text(records) if args.claims else _text(records))
    return 0


def _text(records: Records) -> str:
    lines = []
    for e in experiments().values():
        found = status(e, records)
        cpu, gpu = total(e.runs, "cpu"), e.gpu_minutes or total(e.runs, "gpu")
        cost = [f"{hours(cpu)} CPU"] if cpu is not None else []
        cost += [f"{hours(gpu)} GPU"] if gpu is not None else []
        claims = ", ".join(map(str, e.claims)) or "-"
        lines += [
            f"{e.name}: {found.words}",
            f"    {e.title}",
            f"    claims {claims}; {len(e.runs)} run{'s' * (len(e.runs) != 1)}; {' or '.join(cost) or 'no cost known'}"
            + (f"; needs {e.needs}" if e.needs else ""),
        ]
    return "\n".join(lines) + "\n\n" + LEGEND


LEGEND = """\
Costs are of all runs together: CPU on one core, measured or estimated; GPU on one H200, estimated from counted work.
`revode reproduce NAME` makes or goes on with the runs of an experiment; --claims lists the papers' claims."""


def _claims_text(records: Records) -> str:
    lines, judged = [], judgements(records)
    for j in judged:
        c = j.claim
        lines += [
            f"{c.number:2d}  {c.setup}: {c.quantity}",
            f"    expected: {c.expected} ({', '.join(c.status)})",
            f"    {j.verdict}",
        ]
        for k in j.checks:
            mark = " " if k.holds is None else "+" if k.holds else "-"
            rule = f" ({k.rule})" if k.rule else ""
            lines.append(f"      {mark} {k.quantity}: {k.measured}{rule}")
    lines += ["", "; ".join(f"{v}: {n}" for v, n in counts(judged).items())]
    return "\n".join(lines)


def _json(records: Records) -> list[dict]:
    out = []
    for e in experiments().values():
        found = status(e, records)
        row = asdict(e) | {"source": e.source._asdict(), "status": found.words, "wait": found.wait}
        row["runs"] = [{**asdict(r), "settings": dict(r.settings), "finished": r.name in records} for r in e.runs]
        out.append(row)
    return out


def _claims_json(records: Records) -> list[dict]:
    out = []
    for j in judgements(records):
        claim = {k: getattr(j.claim, k) for k in
                 ("number", "topic", "setup", "quantity", "expected", "status", "source")}  # fmt: skip
        numbers = [[v if math.isfinite(v) else None for v in c.values] for c in j.checks]  # JSON has no others
        checks = [asdict(c) | {"values": v, "measured": c.measured} for c, v in zip(j.checks, numbers, strict=True)]
        claim["experiments"] = [e.name for e in of_claim(j.claim.number)]
        out.append(claim | {"verdict": j.verdict, "files": j.files, "checks": checks})
    return out
