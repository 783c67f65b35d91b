"""Lists and small networks that several test files share: a new scheme is tested by adding one line here."""

from __future__ import annotations

import copy
import re

import numpy as np
import torch
from torch import Tensor, nn

import revode

REVERSIBLE = ["hamiltonian", "midpoint", "leapfrog", "revnet", "momentum"]
ALL = [*REVERSIBLE, "euler"]


class Branch(nn.Module):
    """conv - [norm] - activation - [dropout] - conv, a branch as a user would write it."""

    def __init__(self, channels: int, *, norm: bool = True, act: type[nn.Module] = nn.ReLU, dropout: float = 0.0):
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1, bias=not norm)
        self.norm = nn.BatchNorm2d(channels) if norm else nn.Identity()
        self.act = act()
        self.drop = nn.Dropout(dropout)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv2(self.drop(self.act(self.norm(self.conv1(x)))))


def stage(name: str = "hamiltonian", blocks: int = 4, channels: int = 8, h: float = 0.1, make=Branch, **kwargs):
    """A stage of the named scheme on ``channels`` channels; keyword arguments go to the branches."""
    memory = kwargs.pop("memory", "reversible")
    store_last = kwargs.pop("store_last", 0)
    scheme = revode.SCHEMES[name](h)
    width = channels // scheme.fields if name in ("hamiltonian", "revnet") else channels
    made = [[make(width, **kwargs) for _ in range(scheme.fields)] for _ in range(blocks)]
    return revode.Stage(scheme, made, memory=memory, store_last=store_last)


def images(n: int = 4, channels: int = 8, size: int = 8, dtype: torch.dtype = torch.float32) -> Tensor:
    """Random images of shape (n, channels, size, size)."""
    return torch.randn(n, channels, size, size, dtype=dtype)


def stored_copy(module: nn.Module) -> nn.Module:
    """The same module with ordinary backpropagation."""
    module = copy.deepcopy(module)
    for m in module.modules():
        if isinstance(m, revode.Stage):
            m.memory = "stored"
    return module


def relative(a: Tensor, b: Tensor) -> float:
    """Relative 2-norm of a - b."""
    return ((a.double() - b.double()).norm() / b.double().norm().clamp_min(1e-300)).item()


def gradients(module: nn.Module, x: Tensor, weights: Tensor | None = None, **kwargs) -> dict[str, Tensor]:
    """Output, and gradients of <weights, output> with respect to the input and every parameter; one backward."""
    x = x.detach().clone().requires_grad_()
    module.zero_grad(set_to_none=True)
    y = module(x, **kwargs)
    generator = torch.Generator().manual_seed(7)
    w = torch.randn(y.shape, generator=generator, dtype=torch.float64).to(y.dtype) if weights is None else weights
    (y * w).sum().backward()
    return {"output": y.detach(), "input": x.grad, **{n: p.grad for n, p in module.named_parameters()}}


def worst(found: dict[str, Tensor], expected: dict[str, Tensor]) -> float:
    """Largest relative error over the tensors; None must meet None."""
    assert found.keys() == expected.keys()
    for name in found:
        assert (found[name] is None) == (expected[name] is None), name
    return max(relative(found[n], expected[n]) for n in found if found[n] is not None)


def paired(a, b) -> float:
    """Largest distance when the numbers of two equally long lists are paired off, each with the nearest one left."""
    left, worst = list(b), 0.0
    assert len(a) == len(left)
    for x in a:
        i = min(range(len(left)), key=lambda i: abs(left[i] - x))
        worst = max(worst, abs(left.pop(i) - x))
    return worst


def corners(path: str) -> np.ndarray:
    """Where each straight stroke of a drawing's SVG path, of relative moves, ends: (n, 2), by a reader of its own."""
    at, points = np.zeros(2), []
    for letter, numbers in re.findall(r"([mlhv])([^mlhv]*)", path):
        v = np.array(re.findall(r"-?(?:\d+\.?\d*|\.\d+)", numbers), float)
        moves = v.reshape(-1, 2) if letter in "ml" else np.outer(v, [letter == "h", letter == "v"])
        for move in moves:
            at = at + move
            points.append(at)
    return np.array(points)
