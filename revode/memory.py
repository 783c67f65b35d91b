"""Memory of a training step, counted in bytes of tensors: exact, and the same on every machine."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable

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
