"""Spectra of layers and networks: of the Jacobian by its products, of convolutions by their Fourier symbols."""

from .fourier import hamiltonian_spectrum, padding, spectrum
from .maps import field, states, step, steps, whole
from .spectra import Jacobian, density, eigenvalues, extreme, numerical_range, off_axis, singular_values
from .trained import measure

__all__ = [
    "Jacobian",
    "density",
    "eigenvalues",
    "extreme",
    "field",
    "hamiltonian_spectrum",
    "measure",
    "numerical_range",
    "off_axis",
    "padding",
    "singular_values",
    "spectrum",
    "states",
    "step",
    "steps",
    "whole",
]
