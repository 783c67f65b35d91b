"""Reversible, ODE-inspired residual networks for PyTorch."""

from . import fields
from ._version import __version__
from .models import MODELS, ModelSpec, Recipe, build, count_parameters
from .networks import Network, StableStep, stable_step
from .schemes import SCHEMES, Euler, Hamiltonian, Leapfrog, Midpoint, RevNet, Scheme
from .shear import Shear
from .stage import Stage

__all__ = [
    "Euler",
    "Hamiltonian",
    "Leapfrog",
    "MODELS",
    "Midpoint",
    "ModelSpec",
    "Network",
    "Recipe",
    "RevNet",
    "SCHEMES",
    "Scheme",
    "Shear",
    "StableStep",
    "Stage",
    "build",
    "count_parameters",
    "fields",
    "stable_step",
    "__version__",
]
