"""``python -m benchmarks.spectra``: extreme eigenvalues of full layers by products, and beside it the dense way.

A layer of 32 channels on 32 x 32 pixels has a state of 32,768 numbers; its Jacobian would take 8.6 GB in float64.
Computed are its extreme eigenvalues, in float32 and float64. Forming the Jacobian costs one product J^T e_i for each
row; of these a sample is computed, one at a time and many at once, and the time of all rows follows in proportion. The
eigenvalues of the dense matrix, which would take far longer still, are not counted. Times are process CPU times of one
thread.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from pathlib import Path

from .measure import KEEP
from .report import table

#: (type, tolerance, goal in seconds) of the two runs.
GOALS = (("float32", 1e-4, 5.0), ("float64", 1e-8, 20.0))
RATIO = 10.0  # goal: so many times faster than forming the Jacobian row by row
CHUNK = 64  # rows at once, in the other way of forming it


def layers(channels: int, dtype) -> dict:
    """The layers by name: functions of one image of ``channels`` channels, in the form without normalization."""
    import revode
    from revode.analysis import field
    from revode.fields import AntisymmetricField, SymmetricField

    symmetric = [SymmetricField(channels // 2, "tanh", "none").to(dtype) for _ in range(2)]
    return {
        "antisymmetric, tanh": AntisymmetricField(channels, "tanh", "none").to(dtype),
        "antisymmetric, relu": AntisymmetricField(channels, "relu", "none").to(dtype),
        "hamiltonian, tanh": field(revode.Hamiltonian(), symmetric),
    }


def measure(channels: int = 32, size: int = 32, k: int = 20, rows: int = 256, seed: int = 0) -> dict:
    """Extreme eigenvalues of each layer in both types.

    Args:
        channels: Of the state.
        size: Height and width.
        k: Number of eigenvalues.
        rows: Rows of the Jacobian that are computed and timed.
        seed: Of the weights, the state and the solver.

    Returns:
        "settings", and "rows", one for each layer and type.
    """
    import torch

    from revode.analysis import Jacobian, extreme

    found = []
    Jacobian(torch.tanh, torch.ones(2)).apply(torch.ones(2))  # libraries are loaded
    for dtype, tol, goal in GOALS:
        kind = getattr(torch, dtype)
        torch.manual_seed(seed)
        x = torch.randn(1, channels, size, size).to(kind)
        for name, f in layers(channels, kind).items():
            begin = time.process_time()
            J = Jacobian(f, x)
            J.apply(x)
            built = time.process_time()
            spectrum = extreme(J, k, tol=tol, seed=seed)
            done = time.process_time()
            rows = min(rows, x.numel())
            seconds, per_row = done - begin, _seconds_of_a_row(J, rows)
            found.append(
                {
                    "layer": name,
                    "dimension": x.numel(),
                    "dtype": dtype,
                    "tol": tol,
                    "k": k,
                    "seconds": seconds,
                    "seconds_to_linearize": built - begin,
                    "products": spectrum.products,
                    "converged": spectrum.converged,
                    "residuals": spectrum.residuals.tolist(),
                    "radius": spectrum.radius,
                    "off_axis": spectrum.off_axis,
                    "seconds_row_by_row": per_row * x.numel(),
                    "seconds_in_chunks": _seconds_of_a_row_in_chunks(f, x, min(CHUNK, rows)) * x.numel(),
                    "rows_sampled": rows,
                    "ratio": per_row * x.numel() / seconds,
                    "goal_seconds": goal,
                }
            )
    return {
        "settings": {"channels": channels, "size": size, "k": k, "seed": seed, "threads": torch.get_num_threads()},
        "rows": found,
    }


def _seconds_of_a_row(J, rows: int) -> float:
    """Process CPU time of one row J^T e_i, from a sample."""
    import torch

    unit = torch.zeros_like(J.y)
    J.adjoint(unit)  # the graph is made
    begin = time.process_time()
    for i in range(rows):
        unit.view(-1)[i] = 1.0
        J.adjoint(unit)
        unit.view(-1)[i] = 0.0
    return (time.process_time() - begin) / rows


def _seconds_of_a_row_in_chunks(f, x, rows: int) -> float:
    """The same of many rows at once, as torch.func.jacrev computes them."""
    import torch

    y, pullback = torch.func.vjp(f, x)
    units = torch.zeros(rows, *y.shape, dtype=y.dtype)
    units.view(rows, -1)[range(rows), range(rows)] = 1.0
    many = torch.func.vmap(lambda u: pullback(u)[0])
    many(units)
    begin = time.process_time()
    many(units)
    return (time.process_time() - begin) / rows


def markdown(found: dict) -> str:
    """The table, and the goals."""
    head = ["layer", "n", "type", "tol", "k", "CPU s", "of it to linearize", "products", "worst residual",
            "max abs Re / rho", "row by row, s", "ratio", f"{CHUNK} rows at once, s"]  # fmt: skip
    rows = [
        [
            r["layer"], f"{r['dimension']:,}", r["dtype"], f"{r['tol']:.0e}", str(r["k"]), f"{r['seconds']:.2f}",
            f"{r['seconds_to_linearize']:.2f}", str(r["products"]) + " (not converged)" * (not r["converged"]),
            f"{max(r['residuals'], default=float('nan')):.1e}", f"{r['off_axis']:.0e}",
            f"{r['seconds_row_by_row']:.1f}", f"{r['ratio']:.0f}", f"{r['seconds_in_chunks']:.1f}",
        ]
        for r in found["rows"]
    ]  # fmt: skip
    goals = []
    for r in found["rows"]:
        met = r["converged"] and r["seconds"] < r["goal_seconds"] and r["ratio"] >= RATIO
        goals.append([
            f"{r['layer']}, {r['dtype']}", f"{r['seconds']:.2f} s, {r['ratio']:.0f} x",
            f"< {r['goal_seconds']:g} s, ≥ {RATIO:g} x", "met" if met else "**missed**",
        ])  # fmt: skip
    sample = found["rows"][0]["rows_sampled"]
    note = (
        f"Row by row: time of {sample} rows, times the number of all rows over {sample}; not the whole was run. "
        f"{CHUNK} rows at once: likewise from {min(CHUNK, sample)} rows."
    )
    return "\n\n".join([table(head, rows), note, table(["goal", "measured", "bar", ""], goals)])


def main(argv=None) -> dict:
    """Measure, print the tables, and write the numbers if a file is named."""
    import torch

    parser = argparse.ArgumentParser(prog="python -m benchmarks.spectra", description=__doc__)
    parser.add_argument("--channels", type=int, default=32, help="of the state (default: 32)")
    parser.add_argument("--size", type=int, default=32, help="height and width (default: 32)")
    parser.add_argument("-k", type=int, default=20, help="number of eigenvalues (default: 20)")
    parser.add_argument("--rows", type=int, default=256, help="rows that are timed (default: 256)")
    parser.add_argument("--out", type=Path, help="JSON file for the numbers")
    args = parser.parse_args(argv)
    torch.set_num_threads(1)
    found = measure(args.channels, args.size, args.k, args.rows)
    print(markdown(found))
    if args.out:
        args.out.write_text(json.dumps(found, indent=1) + "\n", "utf-8")
    return found


if __name__ == "__main__":
    if sys.platform == "linux" and any(os.environ.get(key) != v for key, v in KEEP.items()):
        # The C library reads these when a process starts.
        os.execve(sys.executable, [sys.executable, "-m", "benchmarks.spectra", *sys.argv[1:]],
                  os.environ | KEEP | {"OMP_NUM_THREADS": "1"})  # fmt: skip
    main()
