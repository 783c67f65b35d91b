"""Experiments of the papers: each has a name, runs that can be repeated, and what they show.

An :class:`Experiment` names its :class:`Run` objects; a run makes one result file, ``data/results/NAME.json``. Its
numbers come from ``revode.train`` or from a function of a module of this package, which computes and returns; files,
evidence and resumption are the business of :mod:`revode.experiments.run`.
"""

from ._base import Experiment, Measured, Run

__all__ = ["Experiment", "Measured", "Run"]
