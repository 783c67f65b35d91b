"""Memory of a training step, counted in bytes of tensors: exact, and the same on every machine."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterable
from pathlib import Path

import torch
from torch import Tensor


def saved_bytes(call: Callable[[], object], exclude: Iterable[Tensor] = ()) -> int:
    """Bytes of the distinct tensors that autograd keeps for the backward pass of ``call``.

    Args:
        call: Runs a forward pass and returns what holds its graph.
        exclude: Tensors not to be counted, such as parameters, which are there anyway.

    Returns:
        Bytes; each storage counts once.
    """
    known = {t.untyped_storage().data_ptr() for t in exclude}
    seen: dict[int, int] = {}

    def pack(t: Tensor) -> Tensor:
        storage = t.untyped_storage()
        if storage.data_ptr() not in known:
            seen[storage.data_ptr()] = storage.nbytes()
        return t

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
        held = call()
    del held
    return sum(seen.values())


def peak_bytes(call: Callable[[], object], device: str | torch.device = "cpu") -> int:
    """Peak of the tensor bytes that ``call`` allocates on the device, above what was there before.

    On a CUDA device the caching allocator counts; on the CPU the profiler's allocator events are summed, so that the
    result depends neither on the C library's allocator nor on what ran before.

    Args:
        call: One training step, for example.
        device: Where the tensors live.

    Returns:
        Bytes.
    """
    device = torch.device(device)
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        before = torch.cuda.memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
        call()
        torch.cuda.synchronize(device)
        return torch.cuda.max_memory_allocated(device) - before
    os.environ.setdefault("KINETO_LOG_LEVEL", "6")  # the profiler would write on stderr that it starts and stops
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
        call()
    events = [e for e in profile.profiler.kineto_results.events() if e.name() == "[memory]"]
    live = peak = 0
    for event in sorted(events, key=lambda e: e.start_ns()):
        live += event.nbytes()
        peak = max(peak, live)
    return peak


#: Where Linux tells the limit of a container, in its two versions.
_LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")


def available_bytes(device: str | torch.device = "cpu") -> int | None:
    """Bytes that can still be allocated on a device; None where the system does not tell.

    On a CUDA device its free memory; on Linux what the kernel counts as available, within the limit of a container;
    on another system with POSIX's sysconf all physical memory, an upper bound.
    """
    device = torch.device(device)
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    found = []
    with contextlib.suppress(OSError):
        lines = Path("/proc/meminfo").read_text().splitlines()
        found += [int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:")]
    for path in _LIMITS:
        with contextlib.suppress(OSError, ValueError):  # "max" where there is no limit
            found.append(int(Path(path).read_text()))
    if not found:
        with contextlib.suppress(AttributeError, ValueError, OSError):  # not on Windows
            found.append(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    return min(found, default=None)
