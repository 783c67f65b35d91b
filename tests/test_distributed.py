"""DistributedDataParallel on two gloo processes on the CPU."""

from __future__ import annotations

import os
import socket

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import nn
from torch.nn.parallel import DistributedDataParallel

import revode

from .helpers import images, relative, stage, stored_copy

#: Scheme, and whether its branches have batch normalization.
CASES = (
    ("hamiltonian", False), ("midpoint", False), ("momentum", False), ("hamiltonian", True), ("leapfrog", True),
)  # fmt: skip


def network(name, norm):
    torch.manual_seed(1)
    middle = stage(name, blocks=3, norm=norm)
    if name == "momentum":
        middle.scheme = revode.Momentum(0.1, learn=True)
    return nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), middle, nn.Conv2d(8, 1, 1)).double()


def batch():
    torch.manual_seed(2)
    return images(8, 3, dtype=torch.float64)


def loss(y):
    return y.square().mean()


def worker(rank, port, results):
    torch.set_num_threads(1)
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    dist.init_process_group("gloo", rank=rank, world_size=2)
    for name, norm in CASES:
        net = DistributedDataParallel(network(name, norm))
        loss(net(batch()[rank * 4 : rank * 4 + 4])).backward()
        if rank == 0:
            results.put([p.grad.numpy() for p in net.parameters()])
        dist.barrier()
        del net
    dist.destroy_process_group()


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


@pytest.fixture(scope="module")
def two_processes():
    """The gradients of each case from two processes, which are started once: importing torch takes them longest."""
    context = mp.get_context("spawn")
    results = context.SimpleQueue()
    spawned = mp.start_processes(worker, (free_port(), results), nprocs=2, join=False)
    found = {case: [torch.from_numpy(g) for g in results.get()] for case in CASES}
    while not spawned.join():
        pass
    return found


@pytest.mark.parametrize("name", [name for name, norm in CASES if not norm])
def test_without_batch_norm_as_one_process_on_the_joined_batch(two_processes, name):
    net = stored_copy(network(name, norm=False))
    loss(net(batch())).backward()
    found = two_processes[name, False]
    assert max(relative(g, p.grad) for g, p in zip(found, net.parameters(), strict=True)) < 1e-12


@pytest.mark.parametrize("name", [name for name, norm in CASES if norm])
def test_with_batch_norm_the_mean_of_the_two_processes_gradients(two_processes, name):
    mean = None
    for half in batch().chunk(2):
        net = stored_copy(network(name, norm=True))
        loss(net(half)).backward()
        grads = [p.grad / 2 for p in net.parameters()]
        mean = grads if mean is None else [a + b for a, b in zip(mean, grads)]
    found = two_processes[name, True]
    assert max(relative(g, m) for g, m in zip(found, mean, strict=True)) < 1e-12
