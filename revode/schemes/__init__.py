"""One short file per scheme; each is a rule that turns residual functions into shears."""

from ._base import Halves, Scheme
from .euler import Euler
from .hamiltonian import Hamiltonian
from .leapfrog import Leapfrog
from .midpoint import Midpoint
from .momentum import Momentum
from .revnet import RevNet

#: Every scheme by its name.
SCHEMES: dict[str, type[Scheme]] = {s.name: s for s in (Hamiltonian, Midpoint, Leapfrog, RevNet, Momentum, Euler)}

__all__ = ["SCHEMES", "Euler", "Halves", "Hamiltonian", "Leapfrog", "Midpoint", "Momentum", "RevNet", "Scheme"]
