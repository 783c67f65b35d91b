"""``python -m benchmarks``: measure, print tables in Markdown, and write a result file."""

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path

from .measure import KEEP

ROOT = Path(__file__).resolve().parent.parent


def arguments(argv=None) -> argparse.Namespace:
    """The parsed command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    numbers = lambda text: [int(n) for n in text.split(",") if n]  # noqa: E731
    names = lambda text: [n.strip() for n in text.split(",") if n.strip()]  # noqa: E731
    parser.add_argument("--quick", action="store_true", help="8 blocks, few rounds, nothing written (a minute or two)")
    parser.add_argument("--blocks", type=numbers, default=[8, 32, 128], help="depths (default: 8,32,128)")
    parser.add_argument("--deep", type=numbers, default=[256, 512, 1024],
                        help="more depths, memory only: plain to 256, checkpoints to 512, and revode")  # fmt: skip
    parser.add_argument("--families", type=names, help="rules, see benchmarks/cases.py (default: all)")
    parser.add_argument("--cases", type=names, help="cases beside plain (default: all)")
    parser.add_argument("--add", action="store_true",
                        help="keep the times of the cases that are not named; the named ones are timed beside plain "
                        "steps of their own")  # fmt: skip
    parser.add_argument("--parts", type=names, default=["time", "memory", "compiled"], help="default: all three")
    parser.add_argument("--layouts", type=names, default=["contiguous", "channels_last"])
    parser.add_argument("--compiled-blocks", type=int, default=32, help="depth of the compiled network (default: 32)")
    parser.add_argument("--rounds", type=int, help="rounds of the interleaved run (default: by depth, 3 to 9)")
    parser.add_argument("--channels", type=int, default=64, help="of the joined state (default: 64)")
    parser.add_argument("--size", type=int, default=32, help="height and width (default: 32)")
    parser.add_argument("--batch", type=int, default=32, help="images (default: 32)")
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--out", type=Path, help="result file (default: data/results/benchmark-DEVICE.json)")
    args = parser.parse_args(argv)
    if args.quick:
        args.blocks, args.deep, args.compiled_blocks, args.rounds = [8], [], 4, args.rounds or 3
    elif args.out is None:
        args.out = ROOT / "data" / "results" / f"benchmark-{args.device}.json"
    return args


def processor(evidence: dict) -> str:
    """What rows were measured on."""
    return evidence["hardware"]["gpu"] or evidence["hardware"]["cpu"]


def main(args: argparse.Namespace) -> int:
    """Measure and print; returns the exit status."""
    import torch

    from revode import results

    from . import measure, report
    from .cases import FAMILIES, STORED_LAST

    torch.set_num_threads(1)
    families = args.families or list(FAMILIES)
    if unknown := set(families) - set(FAMILIES):
        raise SystemExit(f"--families: {', '.join(sorted(unknown))} must be of: {', '.join(FAMILIES)}")
    if unknown := set(args.cases or ()) - {case for f in FAMILIES.values() for case in f.cases}:
        raise SystemExit(f"--cases: {', '.join(sorted(unknown))}: there are no such cases, see benchmarks/cases.py")
    if args.add and not args.cases:
        raise SystemExit("--add needs --cases, the cases whose times are added")
    if args.device == "cuda" and not torch.cuda.is_available():
        raise SystemExit("--device cuda: torch sees no CUDA device here")
    shape = {"channels": args.channels, "size": args.size, "batch": args.batch, "device": args.device}

    def chosen(family: str) -> set[str]:
        return {"plain"} | {c for c in FAMILIES[family].cases if args.cases is None or c in args.cases}

    begin, load = time.perf_counter(), os.getloadavg()[0]
    found: dict = {"time": [], "memory": [], "compiled": [], "missing": {}, "parts": {}}
    if args.out and args.out.exists():  # what is not measured now is kept
        found = results.read(args.out)["final"]
        for part, about in found["parts"].items():
            for row in found[part]:  # what is measured now may be on another machine
                row.setdefault("hardware", processor(about))
    for part in args.parts:
        found["parts"][part] = {"load": load, "status": "unfinished"} | results.evidence(args.device)

    def put(part: str, rows: list[dict]) -> None:
        """Rows take the place of those of the same run: times are compared only within one interleaved run.

        An added row is of another run than its neighbours, and says what the plain step took in its own.
        """
        key = ("family", "blocks", "case") if part == "memory" else ("family", "blocks", "layout")
        if args.add and part == "time":
            key = ("family", "blocks", "layout", "case")
            plain = next(r["seconds"] for r in rows if r["case"] == "plain")
            rows = [r | {"plain_seconds": plain} for r in rows if r["case"] in args.cases]
        new = {tuple(r[k] for k in key) for r in rows}
        about = found["parts"][part]
        rows = [r | {"commit": about["commit"], "hardware": processor(about)} for r in rows]
        found[part] = [r for r in found[part] if tuple(r[k] for k in key) not in new] + rows
        names = [*(c for f in FAMILIES.values() for c in f.cases), "plain again", "one more forward"]
        if args.add and part == "time":
            runs = list(dict.fromkeys(tuple(r[k] for k in key[:-1]) for r in found[part]))
            found[part].sort(key=lambda r: (runs.index(tuple(r[k] for k in key[:-1])), names.index(r["case"])))
        if part == "memory":
            order = list(FAMILIES)
            found[part].sort(key=lambda r: (order.index(r["family"]), names.index(r["case"]), r["blocks"]))
        keep()

    def record(status: str) -> dict:
        return {
            "name": args.out.stem if args.out else "benchmark",
            "kind": "benchmark",
            "status": status,
            "settings": shape | {"dtype": "float32", "blocks": args.blocks, "threads": torch.get_num_threads(),
                                 "allocator": KEEP if args.device == "cpu" else {}},
            "seed": 0,
            "wall_seconds": time.perf_counter() - begin,
            "evidence": results.evidence(args.device),
            "curve": [],
            "final": found,
        }  # fmt: skip

    def keep(status: str = "unfinished") -> None:
        if args.out:
            args.out.parent.mkdir(parents=True, exist_ok=True)
            results.write(args.out, record(status))

    def say(text: str) -> None:
        print(f"[{time.perf_counter() - begin:6.0f} s] {text}", file=sys.stderr, flush=True)

    for family in families:
        cases = [c for c in FAMILIES[family].cases if c in chosen(family)]
        if "time" in args.parts:
            for blocks in args.blocks:
                for layout in args.layouts:
                    if layout != "contiguous" and blocks > 32 and family != "revnet":
                        continue
                    rounds = args.rounds or {8: 9, 32: 5}.get(blocks, 3)
                    say(f"time: {family}, {blocks} blocks, {layout}")
                    now = [c for c in cases if blocks > STORED_LAST.get(c, 0)]
                    rows, missing = measure.times(family, now, blocks, rounds, layout=layout, **shape)
                    found["missing"] |= missing
                    put("time", rows)
        if "memory" in args.parts:
            for case in cases:
                if case in found["missing"] or (args.add and case not in args.cases):
                    continue
                deep = {"plain": 256, "revode": 2**20, "checkpoint per branch": 512}.get(case, 0)
                for blocks in [*args.blocks, *(n for n in args.deep if n <= deep and family == "revnet")]:
                    if blocks <= STORED_LAST.get(case, 0):
                        continue
                    say(f"memory: {family}, {blocks} blocks, {case}")
                    put("memory", [measure.memory(family, case, blocks, **shape)])
    if "compiled" in args.parts:
        for layout in args.layouts:
            say(f"torch.compile: revnet, {args.compiled_blocks} blocks, {layout}")
            try:
                put(
                    "compiled",
                    measure.compiled(
                        "revnet", chosen("revnet"), args.compiled_blocks, args.rounds or 5, layout=layout, **shape
                    ),
                )
            except Exception as error:  # no compiler, or one that fails: the rest stands
                found["missing"]["torch.compile"] = f"{type(error).__name__}: {str(error).splitlines()[0][:200]}"
            keep()
    for part in args.parts:
        found["parts"][part]["status"] = "finished"
    keep("finished")
    print(report.markdown(record("finished")))
    return 0


if __name__ == "__main__":
    args = arguments()
    if sys.platform == "linux" and args.device == "cpu" and any(os.environ.get(k) != v for k, v in KEEP.items()):
        # The C library reads these when a process starts.
        os.execve(sys.executable, [sys.executable, "-m", "benchmarks", *sys.argv[1:]],
                  os.environ | KEEP | {"OMP_NUM_THREADS": "1"})  # fmt: skip
    raise SystemExit(main(args))
