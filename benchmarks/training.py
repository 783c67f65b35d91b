"""``python -m benchmarks.training``: a training step, eager and with the switch ``fast``, and the recipe's minutes.

The steps are those of :func:`revode.train.fit`: batch, loss with its regularisation, gradient, optimizer. All cases run
in one process, one after the other in each round, and ratios are taken within rounds.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from pathlib import Path

import torch

from revode import results, train
from revode.models import MODELS
from revode.train.run import Run, _machine

from .measure import interleaved, quietly, seconds

ROOT = Path(__file__).resolve().parent.parent

#: Settings of each case. "plain again" shows the noise; "bf16" is eager execution with half precision inside g.
CASES = {
    "plain": {},
    "plain again": {},
    "bf16": {"amp": "bf16"},
    "fast": {"fast": True},
    "fast, stored": {"fast": True, "memory": "stored"},
}
NO_GPU = "torch sees no CUDA device here, so there is no GPU row; `--device cpu` measures the same cases on the CPU."


def arguments(argv=None) -> argparse.Namespace:
    """The parsed command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.training", description=__doc__)
    parser.add_argument(
        "--model", choices=MODELS, default="hamiltonian-74", metavar="NAME", help="(default: %(default)s)"
    )
    parser.add_argument("--data", default="sample", help="image set; it does not matter for the time (default: sample)")
    parser.add_argument("--batch", type=int, help="images (default: the recipe's)")
    parser.add_argument("--cases", type=lambda text: text.split(","), default=list(CASES), help="beside plain")
    parser.add_argument("--rounds", type=int, default=15, help="(default: %(default)s)")
    parser.add_argument("--steps", type=int, help="steps of a case in a round (default: 20, on the CPU 1)")
    parser.add_argument("--warm-up", type=int, default=3, help="steps before the first round (default: %(default)s)")
    parser.add_argument("--device", default="cuda", help="cuda or cpu (default: cuda)")
    parser.add_argument("--out", type=Path, help="result file (default: data/results/training-time-cuda.json, on the "
                        "CPU none)")  # fmt: skip
    args = parser.parse_args(argv)
    args.cases = ["plain", *(c for c in args.cases if c != "plain")]
    if unknown := set(args.cases) - set(CASES):
        parser.error(f"--cases: {', '.join(sorted(unknown))} must be of: {', '.join(CASES)}")
    if args.out is None and args.device != "cpu":
        args.out = ROOT / "data" / "results" / "training-time-cuda.json"
    return args


def measure(args: argparse.Namespace, folder: str) -> list[dict]:
    """A row for each case: ratio to plain with its range, seconds of a step, loss of the first step, settings."""
    count = args.steps or (1 if args.device == "cpu" else 20)
    calls, runs, first = {}, {}, {}
    for case in args.cases:
        config = train.TrainConfig(
            args.model, data=args.data, batch=args.batch, device=args.device, out=os.path.join(folder, case),
            threads=torch.get_num_threads(), **CASES[case],
        )  # fmt: skip
        with _machine(config):
            run = runs[case] = Run(config, quiet=True, callback=None)
            run.start()
            lines = quietly(lambda run=run: [run.train_step() for _ in range(max(args.warm_up, 1))])
        first[case] = lines[0]["loss"]

        def timed(run=run, config=config) -> float:
            with _machine(config):
                return seconds(lambda: [run.train_step() for _ in range(count)], run.device) / count

        calls[case] = timed
    found = quietly(lambda: interleaved(calls, args.rounds))
    recipe = MODELS[args.model].recipe
    return [
        {
            "case": case,
            **row,
            "images_per_second": runs[case].config.batch / row["seconds"],
            "full_minutes": recipe.steps * recipe.batch_size / runs[case].config.batch * row["seconds"] / 60,
            "first_loss": first[case],
            "amp": runs[case].config.amp,
            "compile": runs[case].config.compile,
            "memory": runs[case].network.memory,
        }
        for case, row in found.items()
    ]


def markdown(rows: list[dict], model: str) -> str:
    """The rows as a table, and what they mean for the full recipe."""
    recipe = MODELS[model].recipe
    lines = [
        "| case | precision in g | activations | time / plain (range) | ms a step | images/s | full recipe, min |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for r in rows:
        lines.append(
            f"| {r['case']} | {r['amp'] if r['amp'] != 'off' else 'float32'} | {r['memory']} | {r['ratio']:.2f} "
            f"({r['low']:.2f} to {r['high']:.2f}) | {1000 * r['seconds']:.1f} | {r['images_per_second']:.0f} | "
            f"{r['full_minutes']:.1f} |"
        )
    size = f"{recipe.steps:,} steps of {recipe.batch_size} images"
    lines.append(f"\nFull recipe of {model}: {size}, computed from images/s, without evaluation.")
    return "\n".join(lines)


def main(args: argparse.Namespace) -> int:
    """Measure and print; the exit status."""
    if args.device != "cpu" and not torch.cuda.is_available():
        print(NO_GPU)
        return 0
    began, load = results.begin(args.device), os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as folder:
        rows = measure(args, folder)
    print(markdown(rows, args.model))
    print(f"load of the machine at the beginning: {load:.1f}", file=sys.stderr)
    if args.out:
        settings = {"model": args.model, "rounds": args.rounds, "steps": args.steps, "load": load}
        results.write(
            args.out, results.record(args.out.stem, "benchmark", {"rows": rows}, began=began, settings=settings)
        )
    return 0


if __name__ == "__main__":
    parsed = arguments()
    if parsed.device == "cpu":
        torch.set_num_threads(1)
    raise SystemExit(main(parsed))
