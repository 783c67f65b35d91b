"""All experiments: those of the modules of this package, and those that are listed because they have not been run."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache

from ..fields import choose
from ._base import Experiment, Run
from .checks import Records, finished

#: Modules of this package that hold no experiments.
_OTHERS = frozenset({"_base", "checks", "claims", "command", "cost", "registry", "reproduce", "rules", "run"})


@cache
def experiments() -> dict[str, Experiment]:
    """Every experiment by its name: the ``EXPERIMENTS`` of the modules of :mod:`revode.experiments`.

    Raises:
        ValueError: two experiments, or two runs, have one name.
    """
    package = __package__
    names = sorted(m.name for m in pkgutil.iter_modules(importlib.import_module(package).__path__))
    found: dict[str, Experiment] = {}
    runs: set[str] = set()
    for name in names:
        if name in _OTHERS:
            continue
        for experiment in getattr(importlib.import_module(f".{name}", package), "EXPERIMENTS", ()):
            if experiment.name in found:
                raise ValueError(f"two experiments are called {experiment.name!r}; one of them is in {name}")
            if twice := runs & {run.name for run in experiment.runs}:
                raise ValueError(f"{experiment.name}: runs with names that are taken: {', '.join(sorted(twice))}")
            runs |= {run.name for run in experiment.runs}
            found[experiment.name] = experiment
    return dict(sorted(found.items(), key=lambda item: (min(item[1].claims, default=99), item[0])))


def find(name: str) -> Experiment:
    """The experiment of this name.

    Raises:
        ValueError: there is none; the names are listed.
    """
    choose("name", name, experiments())
    return experiments()[name]


@dataclass(frozen=True)
class Status:
    """What the result files say about an experiment.

    Attributes:
        experiment: The experiment.
        there: Names of its finished results.
        missing: Its other runs.
    """

    experiment: Experiment
    there: tuple[str, ...]
    missing: tuple[Run, ...]

    @property
    def words(self) -> str:
        """ "finished", "3 of 18 runs", or "not yet run"."""
        total = len(self.there) + len(self.missing)
        if not self.there:
            return "not yet run"
        return "finished" if not self.missing else f"{len(self.there)} of {total} runs"

    @property
    def wait(self) -> str:
        """How long what is missing would take, and on what; empty if nothing is missing."""
        if self.experiment.gpu_minutes:
            return f"about {hours(self.experiment.gpu_minutes)} on one H200, estimated"
        cpu = [run.cpu_minutes for run in self.missing if run.cpu_minutes is not None]
        gpu = [run.gpu_minutes or 0.0 for run in self.missing if run.cpu_minutes is None]
        parts = [f"about {hours(sum(cpu))} on one CPU core"] if cpu else []
        parts += [f"about {hours(sum(gpu))} on one H200, estimated"] if gpu else []
        return " and ".join(parts)


def status(experiment: Experiment, records: Records | None = None) -> Status:
    """Which runs of an experiment have a finished result.

    Args:
        experiment: The experiment.
        records: Finished results by name; by default the bundled ones.
    """
    records = finished() if records is None else records
    there = tuple(run.name for run in experiment.runs if run.name in records)
    return Status(experiment, there, tuple(run for run in experiment.runs if run.name not in records))


def of_claim(number: int) -> list[Experiment]:
    """The experiments that bear on a claim."""
    return [e for e in experiments().values() if number in e.claims]


def hours(minutes: float) -> str:
    """A duration in words: "40 s", "12 min", "3.4 h", "2.1 days"."""
    for unit, size, next_ in (("s", 1 / 60, 1.5), ("min", 1, 100), ("h", 60, 48 * 60), ("days", 1440, float("inf"))):
        if minutes < next_:
            value = minutes / size
            return f"{value:.0f} {unit}" if value >= 10 or unit in ("s", "min") else f"{value:.1f} {unit}"
    raise AssertionError


def total(runs: Iterable[Run], kind: str) -> float | None:
    """Minutes of all runs together on "cpu" or "gpu"; None where no run has a number."""
    values = [v for run in runs if (v := getattr(run, f"{kind}_minutes")) is not None]
    return sum(values) if values else None
