"""A thousand layers: what Hamiltonian-1202 needs in memory, what it drifts, and whether it trains.

Memory is measured in a process of its own: what the operating system counts as resident at its highest, above what the
interpreter with torch and revode takes. Parameters, gradients, the optimizer's momentum and all workspaces are in it.
Beside it stand the bytes of the tensors that autograd keeps, which are the same on every machine.

Source: Chang et al. 2018 (arXiv 1709.03698): 1202 layers on one GPU with batch 32.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import torch
import torch.nn.functional as F

from .. import data
from ..errors import RevodeError
from ..memory import saved_bytes
from ..models import MODELS, Source, build
from ..networks import Network
from ..stage import Stage
from ..train import TrainConfig, sgd
from ._base import Experiment, Measured, Run
from .cost import gpu_minutes

MODEL = "hamiltonian-1202"
BATCH, LARGE_BATCH = 32, 320  # the paper's, and ten times as many
STEPS = 300


# --- memory -------------------------------------------------------------------------------------------------


def measure_memory(
    *,
    seed: int,
    model: str = MODEL,
    batch: int = BATCH,
    memory: str = "reversible",
    steps: int = 2,
    mmap_threshold: int | None = None,
) -> Measured:
    """Peak memory of training steps on random images of 32x32 pixels, in a fresh process on the CPU.

    The first step makes the gradients and the optimizer's momentum, so the second one is the highest.

    Args:
        seed: Of weights and images.
        model: Name of the network.
        batch: Images per step.
        memory: "reversible" or "stored".
        steps: Number of steps.
        mmap_threshold: Bytes from which on the C library (glibc) gives each piece of memory back as soon as it is
            free, instead of keeping it for later; None leaves its own rule, which keeps up to some hundred MiB here.

    Returns:
        "peak_bytes" above "baseline_bytes", "network_bytes" after the network was built, "saved_bytes" that autograd
        keeps, "parameter_bytes", "gradient_bytes", "momentum_bytes", "loss" of each step.

    Raises:
        RevodeError: the process failed or was killed, for example for want of memory, or the system does not tell.
    """
    settings = {"seed": seed, "model": model, "batch": batch, "memory": memory, "steps": steps}
    command = [sys.executable, "-c", f"from {__name__} import _child; _child({settings!r}, {torch.get_num_threads()})"]
    paths = [str(Path(__file__).resolve().parents[2]), os.environ.get("PYTHONPATH", "")]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, paths))}
    if mmap_threshold is not None:
        environment["MALLOC_MMAP_THRESHOLD_"] = str(mmap_threshold)
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise RevodeError(
            f"the process that measures memory ended with status {done.returncode} ({last}); -9 means that it was "
            f"killed, mostly for want of memory: try a batch smaller than {batch}"
        )
    return Measured(json.loads(done.stdout))


def resident_bytes(key: str) -> int:
    """Resident memory of this process: "VmRSS" now, "VmHWM" at its highest.

    Raises:
        RevodeError: on a system without /proc.
    """
    # Not getrusage: what it counts is inherited from the process that started this one.
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError as error:
        raise RevodeError("resident memory is read from /proc/self/status, which this system does not have") from error
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith(f"{key}:"))


def _child(settings: dict, threads: int) -> None:
    """What the fresh process does; prints JSON."""
    torch.set_num_threads(threads)
    baseline = resident_bytes("VmRSS")
    network = build(settings["model"], memory=settings["memory"], seed=settings["seed"]).train()
    built = resident_bytes("VmRSS")
    x, y = _random_images(settings["batch"], settings["seed"])
    config = TrainConfig(settings["model"]).resolved(MODELS[settings["model"]].recipe.train_images)
    optimizer, losses = sgd(network, config), []
    for _ in range(settings["steps"]):
        loss = F.cross_entropy(network(x), y)
        total = loss + config.smoothness * network.smoothness() if config.smoothness else loss
        optimizer.zero_grad(set_to_none=True)
        total.backward()
        optimizer.step()
        losses.append(loss.item())
        del loss, total
    peak = resident_bytes("VmHWM")  # before the count below, which needs as much once more
    momenta = [t for state in optimizer.state.values() for t in state.values() if torch.is_tensor(t)]
    size = lambda tensors: sum(t.numel() * t.element_size() for t in tensors if t is not None)  # noqa: E731
    found = {
        "peak_bytes": peak - baseline,
        "baseline_bytes": baseline,
        "network_bytes": built - baseline,
        "saved_bytes": saved_bytes(lambda: network(x), [x, *network.parameters()]),
        "parameter_bytes": size(network.parameters()),
        "gradient_bytes": size(p.grad for p in network.parameters()),
        "momentum_bytes": size(momenta),
        "loss": losses,
    }
    print(json.dumps(found))


def _random_images(batch: int, seed: int, side: int = 32) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(batch, 3, side, side, generator=generator)
    return x.contiguous(memory_format=torch.channels_last), torch.randint(10, (batch,), generator=generator)


def measure_stored_bytes(
    *, seed: int, model: str = MODEL, batch: int = LARGE_BATCH, counted_batch: int = 4, blocks: tuple[int, ...] = (2, 4)
) -> Measured:
    """Bytes that autograd would keep for stored activations, counted in few blocks and few images.

    Each further block of a unit keeps as much as the one before, and each image as much as the others; what does not
    grow with the images, such as running statistics, is told apart by a second batch of twice the size.

    Args:
        seed: Of weights and images.
        model: Name of a network with equal units.
        batch: Images per step.
        counted_batch: Images that are counted with.
        blocks: Two numbers of blocks in each unit that are counted.

    Returns:
        "saved_bytes" for the model, and "counted", the networks with few blocks.
    """
    spec, (few, more) = MODELS[model], blocks

    def counted(n: int, images: int) -> int:
        network = Network(spec.scheme, (n,) * len(spec.units), spec.widths, h=spec.h, memory="stored", seed=seed)
        x, _ = _random_images(images, seed)
        return saved_bytes(lambda: network(x), [x, *network.parameters()])

    counts = {(n, images): counted(n, images) for n in blocks for images in (counted_batch, 2 * counted_batch)}

    def at(n: int) -> float:
        one, two = counts[n, counted_batch], counts[n, 2 * counted_batch]
        return one + (two - one) / counted_batch * (batch - counted_batch)

    depth = spec.units[0]
    saved = at(few) + (at(more) - at(few)) / (more - few) * (depth - few)
    return Measured(
        {"saved_bytes": saved, "counted_bytes": {f"{n} blocks, {b} images": c for (n, b), c in counts.items()}}
    )


# --- drift --------------------------------------------------------------------------------------------------


@torch.no_grad()
def stage_errors(network: Network, images: torch.Tensor) -> list[dict]:
    """Round trips of a network in training mode: through each stage and back, with the batch's own statistics.

    Args:
        network: In training mode; running statistics change as in a training step.
        images: Normalised images (N, C, H, W).

    Returns:
        For each stage "blocks", "error" (relative 2-norm, of the state at its first layer) and "growth" of the norm.
    """
    rows, kept = [], []

    def trip(stage: Stage, args: tuple[torch.Tensor, ...], _: torch.Tensor) -> None:
        start = stage.scheme.start(args[0])
        end = stage.forward_state(start)
        back = stage.inverse_state(end)
        norm = lambda parts: sum(p.double().square().sum() for p in parts).sqrt().item()  # noqa: E731
        error = norm([a - b for a, b in zip(start, back, strict=True)]) / norm(start)
        rows.append({"blocks": len(stage.blocks), "error": error, "growth": norm(end) / norm(start)})

    try:
        kept += [stage.register_forward_hook(trip) for stage in network.stages]
        network(images)
    finally:
        for hook in kept:
            hook.remove()
    return rows


def measure_drift(*, seed: int, model: str = MODEL, batch: int = BATCH) -> Measured:
    """What rounding does to the first layer of an untrained network, on images of the bundled sample.

    Args:
        seed: Of the weights.
        model: Name of the network.
        batch: Number of images.

    Returns:
        "stages" as of :func:`stage_errors`; "gradient_difference", relative, of the first kernel's gradient from
        rebuilt against that from stored activations, where the errors of all layers have come together; "loss".
    """
    sample = data.load("sample", "train")
    x = data.normalize(sample.images[:batch], *sample.mean_std()).contiguous(memory_format=torch.channels_last)
    y = sample.labels[:batch]
    network = build(model, memory="reversible", seed=seed).train()
    gradients = {}
    for memory in ("reversible", "stored"):
        network.memory = memory
        network.zero_grad()
        loss = F.cross_entropy(network(x), y)
        loss.backward()
        gradients[memory] = network.stem.weight.grad.double().clone()
    rebuilt, stored = gradients.values()
    difference = ((rebuilt - stored).norm() / stored.norm()).item()
    return Measured({"stages": stage_errors(network, x), "gradient_difference": difference, "loss": loss.item()})


# --- the experiment -----------------------------------------------------------------------------------------


def _memory(batch: int, memory: str, minutes: float, end: str = "", mmap_threshold: int | None = 2**17) -> Run:
    settings = {"model": MODEL, "batch": batch, "memory": memory, "mmap_threshold": mmap_threshold}
    return Run(f"thousand-memory-{memory}-{batch}{end}", "thousand:measure_memory", settings, cpu_minutes=minutes)


EXPERIMENTS = (
    Experiment(
        "thousand-memory",
        "Does Hamiltonian-1202 train with batch 32 and 320 where stored activations would not fit?",
        (20,),
        Source("V", "text of Chang et al. 2018 (arXiv 1709.03698): 1202 layers on one GPU"),
        (
            _memory(BATCH, "reversible", 2),
            _memory(BATCH, "stored", 2),
            _memory(BATCH, "reversible", 1, "-allocator", None),
            _memory(LARGE_BATCH, "reversible", 15),
            Run("thousand-memory-counted", "thousand:measure_stored_bytes", {"model": MODEL}, cpu_minutes=0.1),
        ),
    ),
    Experiment(
        "thousand-drift",
        "How far are the activations of the first layer off after 1202 layers and back?",
        (20,),
        Source("calc", "rounding of float32, measured here"),
        tuple(
            Run(f"thousand-drift-seed{seed}", "thousand:measure_drift", {"model": MODEL}, seed, cpu_minutes=2)
            for seed in range(3)
        ),
    ),
    Experiment(
        "thousand-training",
        "Does the loss of Hamiltonian-1202 fall over 300 steps with batch 32?",
        (20,),
        Source("V", "text of Chang et al. 2018 (arXiv 1709.03698): it trains"),
        (
            Run(
                "thousand-training",
                "train",
                {"model": MODEL, "data": "cifar10", "steps": STEPS, "batch": BATCH, "eval_every": 100,
                 "eval_images": 500, "checkpoint_every": 50},
                cpu_minutes=60,
                gpu_minutes=gpu_minutes(MODEL, STEPS, BATCH, 32),
            ),
        ),
    ),
)  # fmt: skip
