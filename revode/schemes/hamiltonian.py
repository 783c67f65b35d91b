"""Hamiltonian network: symplectic Euler (Verlet) on a separable Hamiltonian system."""

from __future__ import annotations

from torch import nn

from ..shear import Shear, State
from ._base import Halves


class Hamiltonian(Halves):
    r"""Y += h K1^T s(K1 Z + b1);  Z -= h K2^T s(K2 Y + b2).

    The Verlet discretisation of Y' = f(Z), Z' = -g(Y), where Z is updated with the new Y. A block holds the two
    functions f = K1^T s(K1 . + b1) and g = K2^T s(K2 . + b2). State: the halves (Y, Z) of the
    channels, or with split="checkerboard" of the pixels (:class:`revode.schemes.Halves`).

    Order 1 if Y and Z are read at the same time. Order 2 if they are read staggered, Z half a step behind Y: begin
    with half a step of Z (:meth:`half_kick`). Stable for h * omega <= 2.

    Source: Chang et al. 2018 (arXiv 1709.03698), Hamiltonian reversible block and its inverse.
    """

    name = "hamiltonian"
    fields = 2
    order = 1
    order_staggered = 2
    stability_limit = 2.0
    source = "Chang et al. 2018 (arXiv 1709.03698), two-layer Hamiltonian network with Verlet"

    def shears(self, block: nn.ModuleList, j: int) -> tuple[Shear, ...]:
        f, g = block
        return Shear(0, 1, f, self.h), Shear(1, 0, g, -self.h)

    def half_kick(self, state: State, block: nn.ModuleList, sign: float = 1.0) -> State:
        """Z -= sign * (h/2) g(Y): moves Z by half a step, from collocated to staggered times (sign -1: back)."""
        y, z = state
        return y, z - sign * 0.5 * self.h * block[1](y)
