"""Result files that runs could have left."""

from __future__ import annotations

from pathlib import Path

from revode import results

EVIDENCE = {
    "revode": "0.1.0",
    "commit": "0123456789abcdef",
    "date": "2026-11-21T00:00:00+00:00",
    "torch": "2.6.0",
    "hardware": {"cpu": "Some CPU", "cores": 2, "threads": 1, "gpu": None},
    "python": "3.11.0",
    "uncommitted_changes": False,
}


def training(folder: Path, name: str, accuracy: float, *, settings: dict, status: str = "finished", **more) -> None:
    """Write the result of a training run of four evaluations; ``more`` goes to "final"."""
    steps, seed = settings["steps"], settings.get("seed", 0)
    curve = [
        {
            "step": k * steps // 4, "epoch": float(k), "lr": 0.1, "train_loss": 2.4 - 0.5 * k,
            "train_accuracy": 0.2 * k, "test_loss": 1.0, "test_accuracy": accuracy * k / 4, "test_images": 2000,
            "images_per_second": 50.0, "seconds": 10.0 * k,
        }
        for k in range(1, 5)
    ]  # fmt: skip
    final = {"step": steps}
    if status == "finished":
        final |= {"test_accuracy": accuracy, "test_images": 10_000, "train_loss": 0.4, "train_accuracy": 0.9} | more
    usual = {"subset": None, "batch": 100, "milestones": [steps // 2], "memory": "reversible", "amp": "off"}
    write(folder, name, "training", final, usual | settings, seed=seed, status=status, curve=curve)


def write(folder: Path, name: str, kind: str, final: dict, settings: dict, *, seed=0, status="finished", curve=()):
    """Write a result file."""
    record = {"name": name, "kind": kind, "status": status, "seed": seed, "settings": settings, "wall_seconds": 600.0}
    results.write(folder / f"{name}.json", record | {"evidence": EVIDENCE, "curve": list(curve), "final": final})
