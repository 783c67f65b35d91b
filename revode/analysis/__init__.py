"""Spectra of layers and networks: of the Jacobian by its products, of convolutions by their Fourier symbols."""

from .fourier import hamiltonian_spectrum, padding, spectrum
from .spectra import Jacobian, density, eigenvalues, extreme, numerical_range, singular_values

__all__ = [
    "Jacobian",
    "density",
    "eigenvalues",
    "extreme",
    "hamiltonian_spectrum",
    "numerical_range",
    "padding",
    "singular_values",
    "spectrum",
]
