"""RevNet: additive coupling of two halves with free residual functions."""

from __future__ import annotations

from torch import nn

from ..shear import Shear
from ._base import Halves


class RevNet(Halves):
    r"""Y += h F(Z);  Z += h G(Y).

    A block holds two free residual functions F and G. State: the halves (Y, Z) of the channels, or with
    split="checkerboard" of the pixels (:class:`revode.schemes.Halves`). Reversible in algebra for any F and G, but not
    stable for any: with F = alpha and G = beta linear the step is stable for -4 <= h^2 alpha beta <= 0 only. Where
    F = f and G = -g it is :class:`revode.schemes.Hamiltonian`.

    Source: Gomez et al. 2017 (arXiv 1707.04585), with h = 1.
    """

    name = "revnet"
    fields = 2
    order = 1
    stability_limit = 2.0
    source = "Gomez et al. 2017 (arXiv 1707.04585), additive coupling, h = 1"

    def shears(self, block: nn.ModuleList, j: int) -> tuple[Shear, ...]:
        f, g = block
        return Shear(0, 1, f, self.h), Shear(1, 0, g, self.h)
