"""What an experiment is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from ..models import Source


class Measured(NamedTuple):
    """What the function of a run returns; plain numbers, strings, lists and dictionaries, as JSON has them.

    Attributes:
        final: The last numbers.
        curve: What was measured on the way, in order.
    """

    final: dict
    curve: Sequence[dict] = ()


@dataclass(frozen=True)
class Run:
    """One result file, and what makes it.

    Attributes:
        name: Of the result file, without ".json".
        make: "train" (:func:`revode.train.fit`), or "module:function" with a module of :mod:`revode.experiments`. The
            function takes ``seed`` and the settings as keyword arguments, and returns :class:`Measured`. It takes less
            than an hour on one core, so that a run that was cut off may begin again. Or a command line,
            "revode ..." or "python ...", with "{folder}" and "{file}" for where its result goes.
        settings: Keyword arguments of the function, or of :class:`revode.train.TrainConfig`.
        seed: Of everything random.
        cpu_minutes: On one core of a present server, measured or estimated; None where it is of no use there.
        gpu_minutes: On one GPU of the H200's class, estimated; None where a CPU will do.
    """

    name: str
    make: str
    settings: Mapping[str, Any] = field(default_factory=dict, hash=False)
    seed: int = 0
    cpu_minutes: float | None = None
    gpu_minutes: float | None = None


@dataclass(frozen=True)
class Experiment:
    """Runs that answer one question of a paper.

    Attributes:
        name: As in ``revode reproduce NAME``.
        title: What is asked, in a few words.
        claims: Numbers of the claims it bears on, as in :mod:`revode.experiments.claims`.
        source: Paper, and the status of its numbers (:data:`revode.models.STATUS`).
        runs: What is measured, in the order of importance.
        needs: What is missing here for an experiment that is listed without runs; empty for all others.
        gpu_minutes: Estimated cost of such an experiment on one GPU of the H200's class.
    """

    name: str
    title: str
    claims: tuple[int, ...]
    source: Source
    runs: tuple[Run, ...]
    needs: str = ""
    gpu_minutes: float | None = None
