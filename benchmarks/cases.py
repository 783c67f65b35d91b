"""The networks that are compared, and the ways to train them.

A *family* is a rule on a row of residual functions; a *case* is one way to run it. All cases of a family share the
same residual functions, so they compute the same output and the same gradient, which the benchmark checks.
"""

from __future__ import annotations

import importlib
import math
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint, checkpoint_sequential

import revode
from revode import fields
from revode.backward import propagate
from revode.shear import Shear

GAMMA = 0.9  # of the momentum rule
#: Cases that keep the activations of the last k blocks: a step costs (4 - k/N)/3 of a stored one instead of 4/3, by
#: the count of evaluations, for k blocks of memory at any depth N > k.
STORED_LAST = {f"revode last {k} stored": k for k in (4, 12, 16)}


class Unavailable(Exception):
    """A package that a case needs is not installed, or does not run here."""


# --- plain autograd, written out: what every case is compared with -----------------------------------------------


class Coupling(nn.Module):
    """Y += h f(Z); Z += s h g(Y), with s = 1 (RevNet) or -1 (Hamiltonian); how a function is called is a parameter."""

    def __init__(self, functions: Sequence[nn.Module], h: float = 1.0, sign: float = 1.0, call: Callable | None = None):
        super().__init__()
        self.functions, self.h, self.sign = nn.ModuleList(functions), h, sign
        self.call = call or (lambda f, x: f(x))

    def forward(self, x: Tensor) -> Tensor:
        y, z = x.chunk(2, 1)
        for f, g in zip(self.functions[::2], self.functions[1::2]):
            y = torch.add(y, self.call(f, z), alpha=self.h)
            z = torch.add(z, self.call(g, y), alpha=self.sign * self.h)
        return torch.cat([y, z], 1)


class Midpoint(nn.Module):
    """Y_{j+1} = Y_{j-1} + 2 h F(Y_j)."""

    def __init__(self, functions: Sequence[nn.Module], h: float, call: Callable | None = None):
        super().__init__()
        self.functions, self.h = nn.ModuleList(functions), h
        self.call = call or (lambda f, x: f(x))

    def forward(self, x: Tensor) -> Tensor:
        old, y = x, x
        for j, f in enumerate(self.functions):
            old, y = y, torch.add(old, self.call(f, y), alpha=self.h if j == 0 else 2 * self.h)
        return y


class Leapfrog(nn.Module):
    """V -= h f(Y); Y += h V."""

    def __init__(self, functions: Sequence[nn.Module], h: float, call: Callable | None = None):
        super().__init__()
        self.functions, self.h = nn.ModuleList(functions), h
        self.call = call or (lambda f, x: f(x))

    def forward(self, x: Tensor) -> Tensor:
        y, v = x, torch.zeros_like(x)
        for f in self.functions:
            v = torch.sub(v, self.call(f, y), alpha=self.h)
            y = torch.add(y, v, alpha=self.h)
        return y


class Momentum(nn.Module):
    """v = gamma v + (1 - gamma) f(x); x += v."""

    def __init__(self, functions: Sequence[nn.Module], call: Callable | None = None):
        super().__init__()
        self.functions = nn.ModuleList(functions)
        self.call = call or (lambda f, x: f(x))

    def forward(self, x: Tensor) -> Tensor:
        v = torch.zeros_like(x)
        for f in self.functions:
            v = torch.add(GAMMA * v, self.call(f, x), alpha=1 - GAMMA)
            x = x + v
        return x


# --- revode --------------------------------------------------------------------------------------------------------


class RevodeMomentum(nn.Module):
    """The momentum rule as shears with c = gamma, snapshots and all."""

    def __init__(self, functions: Sequence[nn.Module]):
        super().__init__()
        self.functions = nn.ModuleList(functions)

    def forward(self, x: Tensor) -> Tensor:
        steps = [s for f in self.functions for s in (Shear(1, 0, f, 1 - GAMMA, GAMMA), Shear(0, 1, None))]
        return propagate(steps, (x, torch.zeros_like(x)))[0]


def _stage(scheme: revode.Scheme, **options) -> Callable[..., nn.Module]:
    def make(functions: Sequence[nn.Module], **kwargs) -> nn.Module:
        n = scheme.fields
        return revode.Stage(scheme, [functions[i : i + n] for i in range(0, len(functions), n)], **options, **kwargs)

    return make


def _reversible(scheme: revode.Scheme) -> dict[str, Callable[..., nn.Module]]:
    """The cases of a reversible stage, by name."""
    return {
        "revode": _stage(scheme),
        **{case: _stage(scheme, store_last=k) for case, k in STORED_LAST.items()},
        "revode exact": _stage(scheme, arithmetic="exact"),
    }


# --- checkpointing -------------------------------------------------------------------------------------------------


def _checkpointed(f: nn.Module, x: Tensor) -> Tensor:
    return checkpoint(f, x, use_reentrant=False)


class CouplingBlock(nn.Module):
    """One block of :class:`Coupling` on the joined state."""

    def __init__(self, f: nn.Module, g: nn.Module):
        super().__init__()
        self.f, self.g = f, g

    def forward(self, x: Tensor) -> Tensor:
        y, z = x.chunk(2, 1)
        y = y + self.f(z)
        return torch.cat([y, z + self.g(y)], 1)


class CheckpointedBlocks(nn.Module):
    """Every block a checkpoint (segments = 0), or about that many segments of blocks."""

    def __init__(self, functions: Sequence[nn.Module], segments: int = 0):
        super().__init__()
        self.blocks = nn.Sequential(*(CouplingBlock(f, g) for f, g in zip(functions[::2], functions[1::2])))
        self.segments = segments

    def forward(self, x: Tensor) -> Tensor:
        if self.segments:
            return checkpoint_sequential(self.blocks, self.segments, x, use_reentrant=False)
        for block in self.blocks:
            x = _checkpointed(block, x)
        return x


# --- other packages ------------------------------------------------------------------------------------------------


def _package(name: str):
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return importlib.import_module(name)
    except ImportError as error:
        raise Unavailable(f"{name} is not installed ({error}); see benchmarks/requirements.txt") from error


def _memcnn(functions: Sequence[nn.Module]) -> nn.Module:
    memcnn = _package("memcnn")
    return nn.Sequential(
        *(
            memcnn.InvertibleModuleWrapper(fn=memcnn.AdditiveCoupling(Fm=f, Gm=g))
            for f, g in zip(functions[::2], functions[1::2])
        )
    )


def _revtorch(functions: Sequence[nn.Module]) -> nn.Module:
    revtorch = _package("revtorch")
    blocks = [revtorch.ReversibleBlock(f, g) for f, g in zip(functions[::2], functions[1::2])]
    return revtorch.ReversibleSequence(nn.ModuleList(blocks))


def _revlib(functions: Sequence[nn.Module]) -> nn.Module:
    return _package("revlib").ReversibleSequential(*functions)


def _momentumnet(functions: Sequence[nn.Module]) -> nn.Module:
    return _package("momentumnet").MomentumNet(list(functions), gamma=GAMMA, use_backprop=False)


# --- the table -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Family:
    """A rule, its residual functions, and the cases that run it.

    Attributes:
        title: In words.
        functions: Residual functions of one block.
        parts: The input has ``parts`` times the channels of a residual function.
        make: One residual function on that many channels.
        cases: Name to what makes the network from the functions; the first is plain autograd.
    """

    title: str
    functions: int
    parts: int
    make: Callable[[int], nn.Module]
    cases: dict[str, Callable[[Sequence[nn.Module]], nn.Module]] = field(repr=False)

    def network(self, case: str, blocks: int, channels: int, seed: int = 0) -> nn.Module:
        """The network of a case on an input of ``channels`` channels, on a joined state of two halves.

        Raises:
            Unavailable: if the case needs a package that is not there.
        """
        return self.cases[case](self.residual_functions(blocks, channels, seed))

    def residual_functions(self, blocks: int, channels: int, seed: int = 0) -> list[nn.Module]:
        """The functions that all cases share, drawn from the seed."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return [self.make(channels // 2) for _ in range(blocks * self.functions)]

    def input_channels(self, channels: int) -> int:
        """Channels of the input, where a residual function has half of ``channels``."""
        return channels // 2 * self.parts


H = 0.1  # step size where the rule needs a small one to be stable

_FREE = {"functions": 2, "parts": 2, "make": lambda c: fields.BranchField(c, activate=False)}
_SYMMETRIC = lambda norm: lambda c: fields.SymmetricField(c, normalization=norm)  # noqa: E731


def _hamiltonian(normalization: str, h: float, title: str) -> Family:
    return Family(
        title, 2, 2, _SYMMETRIC(normalization),
        {
            "plain": lambda f: Coupling(f, h, -1.0),
            **_reversible(revode.Hamiltonian(h)),
            "checkpoint per branch": lambda f: Coupling(f, h, -1.0, _checkpointed),
        },
    )  # fmt: skip


FAMILIES: dict[str, Family] = {
    "revnet": Family(
        title="RevNet coupling, branch conv-BN-ReLU-conv",
        **_FREE,
        cases={
            "plain": Coupling,
            **_reversible(revode.RevNet(1.0)),
            "checkpoint per branch": lambda f: Coupling(f, call=_checkpointed),
            "checkpoint per block": CheckpointedBlocks,
            "checkpoint sequential": lambda f: CheckpointedBlocks(f, max(2, round(math.sqrt(len(f) / 2)))),
            "memcnn": _memcnn,
            "revtorch": _revtorch,
            "revlib": _revlib,
        },
    ),
    "hamiltonian": _hamiltonian("none", H, "Hamiltonian, f = K^T s(K y + b)"),
    "hamiltonian-bn": _hamiltonian("batch", H, "Hamiltonian, f = K^T s(BN(K BN(y)))"),
    "midpoint": Family(
        "midpoint, F = s((K - K^T) y + b)", 1, 1, lambda c: fields.AntisymmetricField(c, normalization="none"),
        {"plain": lambda f: Midpoint(f, H), "revode": _stage(revode.Midpoint(H)),
         "checkpoint per branch": lambda f: Midpoint(f, H, _checkpointed)},
    ),
    "leapfrog": Family(
        "leapfrog, f = K^T s(K y + b)", 1, 1, _SYMMETRIC("none"),
        {"plain": lambda f: Leapfrog(f, H), "revode": _stage(revode.Leapfrog(H)),
         "checkpoint per branch": lambda f: Leapfrog(f, H, _checkpointed)},
    ),
    "momentum": Family(
        f"momentum rule, gamma = {GAMMA:g}, branch conv-BN-ReLU-conv", 2, 1, _FREE["make"],
        {"plain": Momentum, "revode": RevodeMomentum, "checkpoint per branch": lambda f: Momentum(f, _checkpointed),
         "momentumnet": _momentumnet},
    ),
}  # fmt: skip
