"""Time, memory and agreement of the cases."""

from __future__ import annotations

import gc
import json
import os
import statistics
import subprocess
import sys
import time
import warnings
from pathlib import Path

import torch
from torch import Tensor, nn

from revode.memory import peak_bytes

from .cases import FAMILIES, STORED_LAST, Unavailable

#: glibc keeps freed memory, as a GPU's allocator does: or each step would fault its pages in again.
KEEP = {
    "MALLOC_MMAP_THRESHOLD_": str(2**32),
    "MALLOC_TRIM_THRESHOLD_": str(2**40),
    "MALLOC_TOP_PAD_": str(2**26),
}
#: Each larger tensor has pages of its own, which go back when it is freed: the resident set is what lives.
OWN_PAGES = {"MALLOC_MMAP_THRESHOLD_": str(2**16), "MALLOC_MMAP_MAX_": str(2**24), "MALLOC_TRIM_THRESHOLD_": str(2**16)}

LAYOUTS = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}


class Problem:
    """The networks of one family, all on the same residual functions, and one input.

    Args:
        family: Name in ``FAMILIES``.
        cases: Names of its cases; those whose package is missing are left out and noted in ``missing``.
        blocks: Depth.
        channels: Of the joined state: a residual function has half of it.
        size: Height and width.
        batch: Images.
        layout: Name in ``LAYOUTS``.
        device: Where to run.
    """

    def __init__(self, family, cases, blocks, *, channels, size, batch, layout="contiguous", device="cpu"):
        chosen, self.device = FAMILIES[family], torch.device(device)
        self.functions = nn.ModuleList(chosen.residual_functions(blocks, channels))
        self.functions.to(self.device, memory_format=LAYOUTS[layout])
        generator = torch.Generator().manual_seed(1)
        shape = (batch, chosen.input_channels(channels), size, size)
        self.x, self.weights = (
            torch.randn(shape, generator=generator).to(self.device, memory_format=LAYOUTS[layout]) for _ in range(2)
        )
        self.networks: dict[str, nn.Module] = {}
        self.missing: dict[str, str] = {}
        for case in cases:
            try:
                self.networks[case] = chosen.cases[case](list(self.functions))
            except Unavailable as error:
                self.missing[case] = str(error)

    def clear(self) -> None:
        for p in self.functions.parameters():
            p.grad = None

    def step(self, case: str) -> None:
        """Forward and backward pass of one training step; the input needs a gradient, as behind a first layer."""
        x = self.x.clone().requires_grad_()
        (self.networks[case](x * 1.0) * self.weights).sum().backward()

    def gradients(self, case: str) -> list[Tensor]:
        self.clear()
        self.step(case)
        found = [p.grad for p in self.functions.parameters()]
        self.clear()
        return found

    def seconds(self, call) -> float:
        """As :func:`seconds`, on the device of the problem."""
        return seconds(call, self.device)


def seconds(call, device: torch.device) -> float:
    """Process CPU time of a call on the CPU (other processes do not count), wall-clock time on a GPU."""
    if device.type == "cpu":
        begin = time.process_time()
        call()
        return time.process_time() - begin
    torch.cuda.synchronize(device)
    begin = time.perf_counter()
    call()
    torch.cuda.synchronize(device)
    return time.perf_counter() - begin


def quietly(call):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of other packages, about their own deprecations
        return call()


def interleaved(seconds: dict, rounds: int) -> dict[str, dict]:
    """Medians over rounds in which every case runs once; ratios are taken to "plain" within each round.

    Args:
        seconds: Case to a function that returns the seconds of one step; "plain" is among them.
        rounds: How often.
    """
    ratios, times = ({case: [] for case in seconds} for _ in range(2))
    for _ in range(rounds):
        taken = {case: call() for case, call in seconds.items()}
        for case, t in taken.items():
            times[case].append(t)
            ratios[case].append(t / taken["plain"])
    return {
        case: {
            "ratio": statistics.median(ratios[case]),
            "low": min(ratios[case]),
            "high": max(ratios[case]),
            "seconds": statistics.median(times[case]),
        }
        for case in seconds
    }


def times(family: str, cases, blocks: int, rounds: int, **shape) -> tuple[list[dict], dict[str, str]]:
    """Rows of an interleaved run, and the cases that are missing.

    Besides the cases there are "plain again", which shows the noise, and "one more forward", the arithmetic limit of
    any method that evaluates everything a second time.
    """
    problem = quietly(lambda: Problem(family, cases, blocks, **shape))
    expected, agreement = problem.gradients("plain"), {}
    for case in problem.networks:
        found = quietly(lambda case=case: problem.gradients(case))
        agreement[case] = max(((f - e).norm() / e.norm()).item() for f, e in zip(found, expected))

    def timed(case):
        def call() -> float:
            problem.clear()
            return problem.seconds(lambda: problem.step(case))

        return call

    def forward() -> float:
        with torch.no_grad():
            return problem.seconds(lambda: problem.networks["plain"](problem.x))

    calls = {case: timed(case) for case in problem.networks} | {
        "plain again": timed("plain"),
        "one more forward": forward,
    }
    found = quietly(lambda: interleaved(calls, rounds))
    more = found["one more forward"]
    for key in ("ratio", "low", "high"):
        more[key] += 1
    more["seconds"] += found["plain"]["seconds"]
    common = {"family": family, "blocks": blocks, "layout": shape.get("layout", "contiguous"), "rounds": rounds}
    rows = [common | {"case": case, "gradient_difference": agreement.get(case)} | row for case, row in found.items()]
    return rows, problem.missing


# --- memory --------------------------------------------------------------------------------------------------------


def memory(family: str, case: str, blocks: int, **shape) -> dict:
    """Memory of one training step in a fresh process, in bytes: exact peak of tensors, and growth of the resident set.

    Both contain the gradients of the parameters, whose size stands beside them. Where the process fails, "error" says
    how.
    """
    request = {"family": family, "case": case, "blocks": blocks, **shape}
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.measure", json.dumps(request)],
        env=os.environ | (OWN_PAGES if sys.platform == "linux" else {}),
        capture_output=True,
        text=True,
    )
    row = {"family": family, "case": case, "blocks": blocks}
    if done.returncode != 0:
        return row | {"error": (done.stderr.strip().splitlines() or [f"exit status {done.returncode}"])[-1][:200]}
    return row | json.loads(done.stdout.splitlines()[-1])


def _memory_here(family: str, case: str, blocks: int, **shape) -> dict:
    torch.set_num_threads(1)
    Problem(family, [case], 2, **shape).step(case)  # libraries and kernels are loaded
    problem = Problem(family, [case], blocks, **shape)
    gc.collect()
    resident = None
    if problem.device.type == "cpu" and _reset_peak():
        before = _status("VmRSS")
        problem.step(case)
        resident = _status("VmHWM") - before
    else:
        problem.step(case)
    problem.clear()
    gc.collect()
    return {
        "peak": peak_bytes(lambda: problem.step(case), problem.device),
        "resident": resident,
        "parameter_gradients": sum(p.nbytes for p in problem.functions.parameters()),
    }


def _reset_peak() -> bool:
    """Let the kernel forget the peak of the resident set; False where there is no such kernel."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return False
    return True


def _status(key: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(key + ":"):
            return int(line.split()[1]) * 1024
    raise KeyError(key)


# --- torch.compile -------------------------------------------------------------------------------------------------


#: What is compiled: all activations stored, none, and half of those of the usual depth.
COMPILED = ("plain", "revode", "revode last 16 stored")


def compiled(family: str, cases, blocks: int, rounds: int, **shape) -> list[dict]:
    """A whole network, stem to head, as one compiled graph, beside the same network without compilation."""
    cases = [c for c in COMPILED if c in cases and blocks > STORED_LAST.get(c, 0)]
    problem = Problem(family, cases, blocks, **shape)
    channels, layout = FAMILIES[family].input_channels(shape["channels"]), LAYOUTS[shape.get("layout", "contiguous")]
    images = torch.randn(shape["batch"], 3, shape["size"], shape["size"]).to(problem.device, memory_format=layout)
    stem, head = nn.Conv2d(3, channels, 3, padding=1), nn.Linear(channels, 10)
    networks = {}
    for case, middle in problem.networks.items():
        whole = nn.Sequential(stem, middle, nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), head)
        whole.to(problem.device, memory_format=layout)
        networks[case] = whole
        networks[f"{case} compiled"] = torch.compile(whole, fullgraph=True)

    def step(case: str) -> None:
        networks[case](images).square().sum().backward()

    def timed(case):
        def call() -> float:
            problem.clear()
            return problem.seconds(lambda: step(case))

        return call

    building, peaks = {}, {}
    for case in networks:
        begin = time.perf_counter()
        step(case)
        building[case] = time.perf_counter() - begin
        timed(case)()
        problem.clear()
        peaks[case] = peak_bytes(lambda case=case: step(case), problem.device)
    found = interleaved({case: timed(case) for case in networks} | {"plain again": timed("plain")}, rounds)
    common = {"family": family, "blocks": blocks, "layout": shape.get("layout", "contiguous"), "rounds": rounds}
    return [
        common | {"case": case, "first_step_seconds": building.get(case), "peak": peaks.get(case)} | row
        for case, row in found.items()
    ]


if __name__ == "__main__":
    print(json.dumps(quietly(lambda: _memory_here(**json.loads(sys.argv[1])))))
