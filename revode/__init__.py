"""Reversible, ODE-inspired residual networks for PyTorch."""

from importlib import import_module

from . import fields
from ._version import __version__
from .models import MODELS, ModelSpec, Recipe, build, count_parameters
from .networks import Network, StableStep, stable_step
from .schemes import SCHEMES, Euler, Hamiltonian, Leapfrog, Midpoint, Momentum, RevNet, Scheme
from .shear import Shear
from .stage import Stage

#: Loaded when first asked for: they bring torchvision, widgets or plotting with them.
_LAZY = {"data": "data", "TrainConfig": "train", "fit": "train", "load_trained": "weights"}
_LAZY |= dict.fromkeys(("load_checkpoint", "to_momentum"), "convert")


def __getattr__(name: str):
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = import_module(f".{_LAZY[name]}", __name__)
    return module if name == _LAZY[name] else getattr(module, name)


__all__ = [
    "Euler",
    "Hamiltonian",
    "Leapfrog",
    "MODELS",
    "Midpoint",
    "Momentum",
    "ModelSpec",
    "Network",
    "Recipe",
    "RevNet",
    "SCHEMES",
    "Scheme",
    "Shear",
    "StableStep",
    "Stage",
    "TrainConfig",
    "build",
    "count_parameters",
    "data",
    "fields",
    "fit",
    "load_checkpoint",
    "load_trained",
    "stable_step",
    "to_momentum",
    "__version__",
]
