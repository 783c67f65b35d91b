"""``revode check``: what this package promises, measured on the reader's own device in about a minute.

For every reversible scheme: the way forth and back, the gradient beside that of stored activations, activation memory
at two depths, the time ratio, and whether the second evaluation of a residual function repeats the first bit for bit.
"""

from __future__ import annotations

import argparse
import copy
import math
import os
import platform
import shutil
import statistics
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from ._version import __version__
from .backward import TRACEABLE, propagate
from .errors import RevodeError
from .fields import AntisymmetricField, BranchField, Field, SymmetricField
from .memory import peak_bytes
from .schemes import SCHEMES
from .shear import Shear
from .stage import Stage

#: The residual function of each scheme, as in the papers' networks.
FIELDS: dict[str, type[Field]] = {
    "hamiltonian": SymmetricField,
    "midpoint": AntisymmetricField,
    "leapfrog": SymmetricField,
    "revnet": BranchField,
    "momentum": BranchField,
}
H = 0.1
#: Blocks; the gradient is compared at the second.
DEPTHS = (8, 32)
#: Channels of a residual function.
CHANNELS = 8

#: Largest values that pass. Rounding errors of one scheme are 1e-7 and 1e-16 an operation, and add up over the blocks.
LIMITS = {
    "round trip, float32": 1e-4,
    "round trip, float64": 1e-12,
    "round trip, exact": 0.0,  # entries that differ in any bit
    "gradient, float64": 1e-10,
    "gradient, float32": 10.0,
    "memory": 0.01,
    "torch.compile": 1e-4,
}


class Row(NamedTuple):
    """One measured number.

    Attributes:
        scheme: Name of the scheme.
        quantity: What was measured.
        value: The number; nan where it was not measured.
        limit: Largest value that passes; None where there is nothing to pass.
        text: The value for a table, or why there is none.
    """

    scheme: str
    quantity: str
    value: float
    limit: float | None
    text: str

    @property
    def ok(self) -> bool | None:
        """Whether the value passes; None where there is no limit, or nothing was measured."""
        if self.limit is None:
            return None
        return self.value <= self.limit  # not for nan


def stage(name: str, blocks: int, seed: int = 0, **kwargs) -> Stage:
    """A stage of a scheme on its own residual functions, with tanh: the kink of ReLU would blur differences."""
    scheme = SCHEMES[name](H)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        made = [[FIELDS[name](CHANNELS, activation="tanh") for _ in range(scheme.fields)] for _ in range(blocks)]
    return Stage(scheme, made, **kwargs)


def images(name: str, batch: int, size: int, seed: int = 1) -> Tensor:
    """A batch that the scheme's stage takes: two parts of :data:`CHANNELS` channels each."""
    split = SCHEMES[name].fields == 2
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(batch, CHANNELS * (1 + split), size, size, generator=generator)


def run(
    device: str | torch.device | None = None,
    schemes: Iterable[str] = tuple(FIELDS),
    *,
    depths: Sequence[int] | None = None,
    compiled: bool = True,
    report: Callable[[str], None] = lambda what: None,
) -> list[Row]:
    """Measure everything.

    Args:
        device: "cpu" or "cuda"; None takes CUDA where there is one.
        schemes: Names of reversible schemes.
        depths: Two numbers of blocks; None takes :data:`DEPTHS`.
        compiled: Try torch.compile, which takes most of the time.
        report: Called with a few words before each part.

    Returns:
        The rows, scheme by scheme.

    Raises:
        ValueError: for another device, or an unknown or irreversible scheme.
    """
    device, depths, schemes = _device(device), depths or DEPTHS, list(schemes)
    rows: list[Row] = []
    for name in schemes:
        if name not in FIELDS:
            raise ValueError(f"scheme {name!r} must be one of the reversible ones: {', '.join(FIELDS)}")
        report(name)
        for part in (_round_trip, _gradients, _memory_and_time, _repeats):
            rows += [Row(name, *r) for r in part(name, device, depths)]
    if compiled:
        report("torch.compile")
        rows += [Row(schemes[0], *r) for r in _compiled(schemes[0], device)]
    return rows


def _device(device: str | torch.device | None) -> torch.device:
    device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    if device.type not in ("cpu", "cuda"):
        raise ValueError(f"device = '{device}' must be 'cpu' or 'cuda': memory and float64 are measured there only")
    if device.type == "cuda" and not torch.cuda.is_available():
        raise ValueError(f"device = '{device}', but torch sees no CUDA device here; use 'cpu'")
    return device


def _relative(a: Tensor, b: Tensor) -> float:
    """Relative 2-norm of a - b; nan if either is not finite."""
    a, b = a.double(), b.double()
    return ((a - b).norm() / b.norm().clamp_min(1e-300)).item()


def _round_trip(name: str, device: torch.device, depths: Sequence[int]):
    for dtype in (torch.float32, torch.float64):
        s = stage(name, depths[1]).to(device, dtype)
        begin = s.scheme.start(images(name, 8, 16).to(device, dtype))
        with torch.no_grad():
            back = s.inverse_state(s.forward_state(begin))
        error = _relative(torch.cat(back), torch.cat(begin))
        quantity = f"round trip, {str(dtype).removeprefix('torch.')}"
        yield quantity, error, LIMITS[quantity], f"{error:.1e}"
    s = stage(name, depths[1], arithmetic="exact").to(device)
    try:
        begin = s.encode(images(name, 8, 16).to(device))
        back = s.inverse_state(s.forward_state(begin))
        differ = float(sum((a.ints != b.ints).sum() for a, b in zip(begin, back)))
    except RevodeError:
        differ = math.nan
    yield "round trip, exact", differ, LIMITS["round trip, exact"], f"{differ:g}"


def _largest(values: Iterable[float]) -> float:
    """The largest; nan if one is nan."""
    values = list(values)
    return math.nan if any(map(math.isnan, values)) else max(values)


def _gradients_of(s: Stage, x: Tensor) -> list[Tensor]:
    x = x.clone().requires_grad_()
    s.zero_grad(set_to_none=True)
    y = s(x)
    weights = torch.randn(y.shape, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    (y * weights.to(y)).sum().backward()
    return [x.grad, *(p.grad for p in s.parameters())]


def _gradients(name: str, device: torch.device, depths: Sequence[int]):
    s, x = stage(name, depths[1]).to(device), images(name, 8, 16).to(device)
    plain = copy.deepcopy(s)
    plain.memory = "stored"
    wide, wide_plain = copy.deepcopy(s).double(), copy.deepcopy(plain).double()
    exact = _gradients_of(wide_plain, x.double())
    error = _largest(map(_relative, _gradients_of(wide, x.double()), exact))
    yield "gradient, float64", error, LIMITS["gradient, float64"], f"{error:.1e}"
    found, stored = _gradients_of(s, x), _gradients_of(plain, x)
    difference = _largest(map(_relative, found, stored))
    yield "gradient, float32 from stored", difference, None, f"{difference:.1e}"
    times = _largest(_relative(f, e) / max(_relative(p, e), 1e-7) for f, p, e in zip(found, stored, exact))
    yield "gradient, float32", times, LIMITS["gradient, float32"], f"{times:.1f}"


def _memory_and_time(name: str, device: torch.device, depths: Sequence[int]):
    x = images(name, 16, 32).to(device)
    peaks = {}
    for memory in ("stored", "reversible"):
        networks = [stage(name, n, memory=memory).to(device) for n in depths]
        low, high = peaks[memory] = [activation_bytes(s, x) for s in networks]
        yield f"memory, {memory}", high, None, f"{_mib(low)} → {_mib(high)}"
    low, high = peaks["reversible"]
    share = (high - low) / max(peaks["stored"][1] - peaks["stored"][0], 1)
    yield "memory", share, LIMITS["memory"], f"{share:.2%}"
    ratio = time_ratio(networks[1], x)
    yield "time", ratio, None, f"{ratio:.2f}"


def _mib(count: float) -> str:
    return f"{count / 2**20:.1f}"


def activation_bytes(s: nn.Module, x: Tensor) -> int:
    """Peak of the bytes that a training step allocates, the gradients of the parameters taken off.

    Args:
        s: A stage or a network.
        x: Its input, on the device where it is to be measured.
    """
    _step(s, x)  # what is allocated once only is there
    s.zero_grad(set_to_none=True)
    peak = peak_bytes(lambda: _step(s, x), x.device)
    s.zero_grad(set_to_none=True)
    return peak - sum(p.nbytes for p in s.parameters())


def time_ratio(s: Stage, x: Tensor, rounds: int = 5) -> float:
    """Time of a training step with rebuilt activations over that with stored ones: median of interleaved rounds.

    Args:
        s: The stage; its memory mode is as before afterwards.
        x: Its input.
        rounds: How many steps of each kind.
    """
    mode, ratios = s.memory, []
    try:
        for _ in range(rounds):
            taken = {}
            for s.memory in ("stored", "reversible"):
                taken[s.memory] = _seconds(s, x)
            ratios.append(taken["reversible"] / taken["stored"])
    finally:
        s.memory = mode
    return statistics.median(ratios)


def _step(s: nn.Module, x: Tensor) -> None:
    s(x).square().mean().backward()


def _seconds(s: nn.Module, x: Tensor) -> float:
    s.zero_grad(set_to_none=True)
    wait = torch.cuda.synchronize if x.is_cuda else lambda: None
    wait()
    begin = time.perf_counter()
    _step(s, x)
    wait()
    return time.perf_counter() - begin


class _Probe(nn.Module):
    """Notes what it is given, and gives it on."""

    def __init__(self):
        super().__init__()
        self.seen: list[Tensor] = []

    def forward(self, x: Tensor) -> Tensor:
        self.seen.append(x.detach().clone())
        return x * 1


def _repeats(name: str, device: torch.device, depths: Sequence[int]):
    """Largest element of g(b) - g(b), evaluated once in the forward and once in the backward pass.

    A part that was 0 before g(b) was added to it is rebuilt as the difference of the two, and a shear before it,
    which read that part, sees it in the backward pass.
    """
    worst = 0.0
    b = images(name, 8, 16)[:, :CHANNELS].to(device)
    for g in stage(name, 2).to(device).modules():
        if isinstance(g, Field):
            probe = _Probe()
            state = torch.zeros_like(b), b.clone().requires_grad_()
            state = propagate([Shear(1, 0, probe), Shear(0, 1, g)], state)
            sum(p.square().sum() for p in state).backward()
            before, after = probe.seen
            worst = _largest((worst, before.abs().max().item(), after.abs().max().item()))
    yield "recompute", worst, 0.0, "bit for bit" if worst == 0 else f"{worst:.0e} off"


def compiler() -> str | None:
    """The C++ compiler that torch.compile calls, or None."""
    if named := os.environ.get("CXX"):
        return shutil.which(named)
    return shutil.which("clang++" if sys.platform == "darwin" else "g++")


def _compiled(name: str, device: torch.device):
    """A small network as one graph; its gradient against stored activations without compilation."""
    limit = LIMITS["torch.compile"]
    if compiler() is None:
        yield "torch.compile", math.nan, None, "skipped: no C++ compiler (install g++, or set CXX)"
        return
    if not TRACEABLE:
        yield "torch.compile", math.nan, None, f"skipped: one graph needs torch 2.10, this is {torch.__version__}"
        return
    s, x = stage(name, 2).to(device), images(name, 8, 16).to(device)
    plain = copy.deepcopy(s)
    plain.memory = "stored"
    try:
        found = _gradients_of(torch.compile(s, fullgraph=True), x)
    except Exception as error:  # of many types, the compiler's own among them
        yield "torch.compile", math.inf, limit, f"{type(error).__name__}: {(str(error).splitlines() or [''])[0][:90]}"
        return
    error = _largest(map(_relative, found, _gradients_of(plain, x)))
    yield "torch.compile", error, limit, f"one graph, gradient {error:.1e} off"


# --- the table -----------------------------------------------------------------------------------------------------

_QUANTITIES = {
    "round trip, float32": ("way back, float32: relative error", "{:.0e}"),
    "round trip, float64": ("way back, float64: relative error", "{:.0e}"),
    "round trip, exact": ("way back, exact: entries that differ in a bit", "{:.0f}"),
    "gradient, float64": ("gradient, float64: worst tensor, off stored", "{:.0e}"),
    "gradient, float32 from stored": ("gradient, float32: worst tensor, off stored", ""),
    "gradient, float32": ("gradient, float32: error / that of stored", "{:.0f}"),
    "memory, stored": ("activations stored, {0} → {1} blocks, MiB", ""),
    "memory, reversible": ("activations reversible, {0} → {1} blocks, MiB", ""),
    "memory": ("growth of memory: reversible / stored", "{:.0%}"),
    "time": ("time of a step: reversible / stored", ""),
    "recompute": ("second evaluation of g repeats the first", "exact"),
}


def table(rows: Sequence[Row], depths: Sequence[int] | None = None) -> str:
    """The rows as text: a line a quantity, a column a scheme, with limits and PASS or FAIL."""
    depths = depths or DEPTHS
    schemes = list(dict.fromkeys(r.scheme for r in rows))
    found = {(r.scheme, r.quantity): r for r in rows}
    lines = [["", *schemes, "limit", ""]]
    for quantity, (label, limit) in _QUANTITIES.items():
        line = [found[s, quantity] for s in schemes if (s, quantity) in found]
        if not line:
            continue
        limited = [r for r in line if r.limit is not None]
        shown = [r.text + ("" if r.ok in (True, None) else " !") for r in line]
        verdict = "" if not limited else "PASS" if all(r.ok for r in limited) else "FAIL"
        lines.append([label.format(*depths), *shown, limit.format(limited[0].limit) if limited else "", verdict])
    widths = [max(map(len, column)) for column in zip(*lines)]
    text = [
        "  ".join(c.ljust(w) if i == 0 else c.rjust(w) for i, (c, w) in enumerate(zip(line, widths))).rstrip()
        for line in lines
    ]
    text.append("euler: a plain residual network, not reversible; its activations are always stored")
    for r in rows:
        if r.quantity == "torch.compile":
            verdict = {True: "PASS", False: "FAIL", None: ""}[r.ok]
            text.append(f"torch.compile, {r.scheme}: {r.text}  {verdict}".rstrip())
    return "\n".join(text)


def versions(device: str | torch.device | None = None) -> str:
    """One line: Python, torch, revode, device and C++ compiler."""
    device = _device(device)
    where = torch.cuda.get_device_name(device) if device.type == "cuda" else f"CPU, {torch.get_num_threads()} threads"
    return (
        f"revode {__version__}, torch {torch.__version__}, Python {platform.python_version()} on {platform.system()}; "
        f"device: {where}; C++ compiler: {compiler() or 'none'}"
    )


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of ``revode check``."""
    parser.add_argument("--device", help="cpu or cuda (default: cuda where there is one)")
    parser.add_argument(
        "--no-compile", action="store_true", help="leave torch.compile out, which takes most of the time"
    )


def main(args: argparse.Namespace) -> int:
    """``revode check``: prints the table.

    Returns:
        0 if all passes, 1 if something fails; the time ratio is shown and never fails.
    """
    print(versions(args.device), flush=True)
    show = sys.stderr.isatty()
    rows = run(
        args.device,
        compiled=not args.no_compile,
        report=lambda what: show and print(f"\r{f'measuring {what} ...':40s}", end="", file=sys.stderr, flush=True),
    )
    if show:
        print(f"\r{'':40s}\r", end="", file=sys.stderr)
    print(table(rows))
    failed = [r for r in rows if r.ok is False]
    if failed:
        print(f"FAIL: {len(failed)} of {sum(r.ok is not None for r in rows)} (marked !)")
        return 1
    print("All passes.")
    return 0


def evaluations(name: str, blocks: int, *, memory: str = "reversible", store_last: int = 0) -> tuple[int, int]:
    """How often residual functions are evaluated in the forward and in the backward pass of one training step."""
    s, calls = stage(name, blocks, memory=memory, store_last=store_last), []
    for field in (f for block in s.blocks for f in block):
        field.register_forward_pre_hook(lambda module, args: calls.append(1))
    y = s(images(name, 1, 4))
    first = len(calls)
    y.sum().backward()
    return first, len(calls) - first
