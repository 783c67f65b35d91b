"""Reversible, ODE-inspired residual networks for PyTorch."""

from ._version import __version__
from .schemes import SCHEMES, Euler, Hamiltonian, Leapfrog, Midpoint, RevNet, Scheme
from .shear import Shear
from .stage import Stage

__all__ = ["SCHEMES", "Euler", "Hamiltonian", "Leapfrog", "Midpoint", "RevNet", "Scheme", "Shear", "Stage", "__version__"]
