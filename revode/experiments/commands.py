"""Measurements that have a command of their own: calculations, spectra, Lyapunov exponents, memory and time."""

from __future__ import annotations

from ..models import Source
from ._base import Experiment, Run

#: Networks with bundled weights.
TRAINED = ("hamiltonian-74", "midpoint-26", "leapfrog-26", "resnet-32")

EXPERIMENTS = (
    Experiment(
        "claims",
        "Growth, roots, spectra and rounding errors of small networks",
        (1, 2, 3, 4, 5, 6, 7, 8, 23),
        Source("calc", "calculated for this project, in part from equations of the papers"),
        (Run("claims", "revode claims --out {file}", cpu_minutes=0.2),),
    ),
    Experiment(
        "spectra",
        "Are eigenvalues of a layer imaginary, before and after training?",
        (5,),
        Source("V", "text of Chang et al. 2018 (arXiv 1709.03698)"),
        tuple(Run(f"spectra-{n}", f"revode spectra {n} --out {{folder}}", cpu_minutes=2.6) for n in TRAINED),
    ),
    Experiment(
        "lyapunov",
        "Lyapunov exponents of a trained network",
        (),
        Source("calc", "no paper: measured for this project"),
        (Run("lyapunov-hamiltonian-74", "revode lyapunov hamiltonian-74 --out {file}", cpu_minutes=11),),
    ),
    Experiment(
        "benchmark",
        "Memory and time of a training step, beside stored activations and other packages",
        (11, 12),
        Source("V", "README of MemCNN, and others; see the claims"),
        (Run("benchmark-cpu", "python -m benchmarks --out {file}", cpu_minutes=120),),
    ),
)
