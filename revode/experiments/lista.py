"""Learning to optimise: networks that minimise a Lasso problem, 1/2 ||y - D z||^2 + lam ||z||_1, for any y.

A step of ISTA is a residual step z <- z + f(z, y), f(z, y) = S(W z + V y) - z with the soft threshold S: learned, it is
a layer of LISTA. The same function is stepped here by the residual rule, by momentum and by the coupling of RevNet.
The sizes of Sander et al. were not found, so these are our own.

Near a solution the linear theory decides. Momentum shrinks the volume of (z, v) by c^atoms in each step and can draw
every start to the solution. The coupling keeps the volume of its two halves whatever it has learnt: what it draws in
along one direction it pushes out along another, so no solution attracts.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn

from ..models import Source
from ..schemes import RevNet
from ..stage import Stage
from ._base import Experiment, Measured, Run
from .toys import fit, scheme, seeded, states

MEASUREMENTS, ATOMS, PENALTY = 10, 20, 0.1
BATCH = 100
USED, NOISE = 0.2, 0.02  # share of atoms in a signal, standard deviation of the noise on it
#: Rules by name. RevNet's two half steps, h = 1/2, did better in trials than two whole ones and than random starts.
KINDS = {"ResNet": lambda: scheme(0), "momentum 0.5": lambda: scheme(0.5), "momentum 0.9": lambda: scheme(0.9),
         "RevNet": lambda: RevNet(0.5)}  # fmt: skip


def dictionary(seed: int) -> Tensor:
    """D, (measurements, atoms), random columns of norm 1."""
    with seeded(seed):
        return nn.functional.normalize(torch.randn(MEASUREMENTS, ATOMS), dim=0)


def signals(d: Tensor, count: int) -> Tensor:
    """y = D z + noise for random sparse z, (count, measurements)."""
    z = torch.randn(count, ATOMS) * (torch.rand(count, ATOMS) < USED)
    return z @ d.T + NOISE * torch.randn(count, MEASUREMENTS)


def objective(d: Tensor, z: Tensor, y: Tensor) -> Tensor:
    """The Lasso objective of each z, (N,)."""
    return 0.5 * (y - z @ d.T).square().sum(-1) + PENALTY * z.abs().sum(-1)


def soft(u: Tensor, threshold: Tensor | float) -> Tensor:
    """sign(u) max(abs(u) - threshold, 0)."""
    return u.sign() * (u.abs() - threshold).relu()


class Shrink(nn.Module):
    """f(z, y) = S(W z + V y) - z, which begins as the step of ISTA: W = I - D^T D / L, V = D^T / L, threshold lam / L.

    Args:
        d: The dictionary D; L is the square of its largest singular value.

    Shapes: z is (N, atoms), y (N, measurements).
    """

    def __init__(self, d: Tensor):
        super().__init__()
        lipschitz = torch.linalg.matrix_norm(d, 2) ** 2
        self.recurrent = nn.Parameter(torch.eye(d.shape[1], dtype=d.dtype) - d.T @ d / lipschitz)
        self.input = nn.Parameter(d.T / lipschitz)
        self.threshold = nn.Parameter(torch.full_like(d[0], PENALTY) / lipschitz)

    def forward(self, z: Tensor, y: Tensor) -> Tensor:
        return soft(z @ self.recurrent.T + y @ self.input.T, self.threshold) - z


class Solver(nn.Module):
    """A network of a number of residual functions, each its own or all one, that maps y to z.

    Args:
        d: The dictionary.
        kind: One of :data:`KINDS`.
        depth: Number of evaluations of a residual function; a block of RevNet has two.
        shared: One residual function at every place.
    """

    def __init__(self, d: Tensor, kind: str, depth: int, shared: bool = False):
        super().__init__()
        rule = KINDS[kind]()
        self.parts = rule.fields
        one = Shrink(d)
        fields = [one if shared else Shrink(d) for _ in range(depth)]
        blocks = [fields[i : i + rule.fields] for i in range(0, depth, rule.fields)]
        self.stage = Stage(rule, blocks, memory="stored")

    def begin(self, z: Tensor) -> Tensor:
        """The network's input for a first guess z: RevNet gets it in both halves."""
        return torch.cat([z] * self.parts, dim=1)

    def end(self, x: Tensor) -> Tensor:
        """What of the network's output is z: all of it, or the half of RevNet that was changed last."""
        return x[..., -ATOMS:]

    def forward(self, y: Tensor) -> Tensor:
        zero = y.new_zeros(len(y), ATOMS)
        return self.end(self.stage(self.begin(zero), y=y))

    def iterates(self, y: Tensor, z: Tensor, evaluations: int) -> Tensor:
        """z after 0, 1, ... steps from the guess z; RevNet's step has two evaluations."""
        return self.end(states(self.stage, self.begin(z), evaluations // self.parts, y=y))


@torch.no_grad()
def classical(d: Tensor, y: Tensor, steps: int, fast: bool = False) -> Iterator[Tensor]:
    """The iterates of ISTA, or of FISTA where ``fast``, from 0: steps + 1 of them, (N, atoms) each."""
    f = Shrink(d)
    z = ahead = y.new_zeros(len(y), d.shape[1])
    t = 1.0
    yield z
    for _ in range(steps):
        new, following = ahead + f(ahead, y), (1 + (1 + 4 * t * t) ** 0.5) / 2
        z, ahead, t = new, new + (t - 1) / following * (new - z) if fast else new, following
        yield z


def solution(d: Tensor, y: Tensor) -> Tensor:
    """The minimiser in float64, by 5,000 steps of FISTA; (N, atoms)."""
    return deque(classical(d.double(), y.double(), 5000, fast=True), maxlen=1).pop()


def volume_factor(solver: Solver, y: Tensor, z: Tensor) -> float:
    """The factor by which one step at z changes the volume of the whole state, per atom: the root of abs(det).

    Args:
        solver: In float64.
        y: One signal, (1, measurements).
        z: The place, (1, atoms), with velocity 0.
    """
    scheme, block = solver.stage.scheme, solver.stage.blocks[-1]
    start = scheme.start(solver.begin(z))

    def step(flat: Tensor) -> Tensor:
        return torch.cat(scheme.step(tuple(p[None] for p in flat.split(ATOMS)), block, 1, y=y), dim=1)[0]

    jacobian = torch.func.jacrev(step)(torch.cat(start, dim=1)[0])
    return torch.linalg.det(jacobian).abs().item() ** (1 / ATOMS)


def measure_lista(
    *,
    seed: int,
    depths: Sequence[int] = (2, 4, 8, 16),
    steps: int = 300,
    rate: float = 0.01,
    far: int = 128,
) -> Measured:
    """Trains every kind at every depth, weights not shared, and records the gap to the minimum on other signals.

    Returns:
        "depths": the gap by depth, kind and for ISTA and FISTA. "volume": :func:`volume_factor` of the last trained
        step of the deepest networks. Untrained, with ISTA's weights in every step: "steps", the gap over depths up to
        ``far``, and "held", the distance to the solution, relative, of steps that begin a thousandth away from it.
    """
    d = dictionary(seed)
    with seeded(1000 + seed):
        y = signals(d, 500)
    best = solution(d, y)
    least = objective(d.double(), best, y.double())

    def gap(z: Tensor) -> float:
        return (objective(d.double(), z.double(), y.double()) - least).mean().item()

    slow, fast = (list(classical(d, y, max(*depths, far), fast=f)) for f in (False, True))
    rows, volume = [], {}
    for depth in depths:
        rows.append({"depth": depth, "ISTA": gap(slow[depth]), "FISTA": gap(fast[depth])})
        for kind in KINDS:
            solver = trained(d, kind, depth, seed, steps, rate)
            rows[-1][kind] = gap(solver(y))
            if depth == max(depths):
                volume[kind] = volume_factor(solver.double(), y[:1].double(), best[:1])

    d, y = d.double(), y.double()
    nudge = 1e-3 * best.norm() / best.numel() ** 0.5
    along, held = {}, {}
    for kind in KINDS:
        solver = Solver(d, kind, 2, shared=True).requires_grad_(False)
        count = solver.parts
        way, near = (solver.iterates(y, z, far) for z in (torch.zeros_like(best), best + nudge))
        off = (near - best).norm(dim=(1, 2)) / best.norm()
        along[kind] = [[count * k, gap(way[k])] for k in range(0, len(way), 4 // count)]
        held[kind] = [[count * k, off[k].item()] for k in range(0, len(off), 4 // count)]
    for name, way in (("ISTA", slow), ("FISTA", fast)):
        along[name] = [[k, gap(way[k])] for k in range(0, far + 1, 4)]
    final = {"depths": rows, "volume": volume, "steps": along, "held": held, "minimum": least.mean().item()}
    return Measured(final)


def trained(d: Tensor, kind: str, depth: int, seed: int, steps: int, rate: float) -> Solver:
    """A solver trained on the objective of fresh signals in each step."""
    solver = Solver(d, kind, depth)

    def loss() -> Tensor:
        y = signals(d, BATCH)
        return objective(d, solver(y), y).mean()

    with seeded(seed):
        fit(solver, loss, steps=steps, rate=rate)
    return solver.requires_grad_(False)


EXPERIMENTS = (
    Experiment(
        "lista",
        "Learning to optimise: does a network converge to the solution of a Lasso problem?",
        (),
        Source("V", "Sander et al. 2021, abstract; sizes of the problem were not found, these are our own"),
        (
            Run("lista", "lista:measure_lista", {}, 0, 2),
            *(Run(f"lista-seed{s}", "lista:measure_lista", {}, s, 2) for s in (1, 2)),
        ),
    ),
)
