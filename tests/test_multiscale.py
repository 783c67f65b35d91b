"""Kernels at another resolution: the Galerkin map against dense matrices, derivatives, networks, and trainings."""

from __future__ import annotations

import copy
import dataclasses
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from revode import checkpoint, data, multiscale, train
from revode.errors import CheckpointError
from revode.experiments import multiscale as experiment
from revode.experiments import smoothness
from revode.fields import AntisymmetricField, Convolution
from revode.multiscale import PROLONGATIONS, coefficients, galerkin, line_map, prolong, restrict, stencils
from revode.networks import Network

from .training import tiny, weights

__all__ = ["tiny"]

D = torch.float64


def fit_quietly(config, **options):
    return train.fit(config, quiet=True, **options)


def random_kernel(*shape, seed=0):
    return torch.randn(*shape, 3, 3, generator=torch.Generator().manual_seed(seed), dtype=D)


# --- the map against dense matrices, made here by applying each operator to the images of one pixel -------------------


def matrix(operator, n):
    """The matrix of a linear map of images n x n, column by column."""
    return torch.stack([operator(e.reshape(1, 1, n, n)).flatten() for e in torch.eye(n * n, dtype=D)], dim=1)


def circular(kernel):
    return lambda x: F.conv2d(F.pad(x, (1, 1, 1, 1), mode="circular"), kernel[None, None])


def prolonged(x, prolongation, n):
    """P: pixels repeated, or the interpolation of torch between the centres of pixels of the periodic image."""
    if prolongation == "constant":
        return x.repeat_interleave(n, 2).repeat_interleave(n, 3)
    wide = F.interpolate(F.pad(x, (1, 1, 1, 1), mode="circular"), scale_factor=n, mode="bilinear", align_corners=False)
    return wide[..., n:-n, n:-n]


@pytest.mark.parametrize("prolongation", PROLONGATIONS)
@pytest.mark.parametrize("n", [2, 3, 4])
def test_the_coarse_operator_of_a_3x3_kernel_is_3x3_again(prolongation, n):
    kernel, coarse = random_kernel(), 6
    fine = circular(kernel)
    product = matrix(lambda x: F.avg_pool2d(fine(prolonged(x, prolongation, n)), n), coarse)
    expected = matrix(circular(restrict(kernel, prolongation, n)), coarse)
    torch.testing.assert_close(product, expected, rtol=0, atol=1e-14)


def test_with_zero_padding_the_constant_map_is_exact_at_the_border_too():
    kernel = random_kernel()
    padded = lambda k: lambda x: F.conv2d(x, k[None, None], padding=1)  # noqa: E731
    product = matrix(lambda x: F.avg_pool2d(padded(kernel)(prolonged(x, "constant", 2)), 2), 4)
    torch.testing.assert_close(product, matrix(padded(restrict(kernel)), 4), rtol=0, atol=1e-14)


def test_with_zero_padding_the_bilinear_map_is_exact_inside():
    kernel, x = random_kernel(), torch.randn(1, 1, 8, 8, dtype=D)
    fine = F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)
    found = F.avg_pool2d(F.conv2d(fine, kernel[None, None], padding=1), 2)
    coarse = F.conv2d(x, restrict(kernel, "bilinear")[None, None], padding=1)
    torch.testing.assert_close(found[..., 1:-1, 1:-1], coarse[..., 1:-1, 1:-1], rtol=0, atol=1e-14)
    assert (found - coarse).abs().max() > 1e-3


def test_the_matrices_on_a_line_by_hand():
    torch.testing.assert_close(line_map("constant"), torch.tensor([[2, 0, 0], [2, 4, 2], [0, 0, 2]], dtype=D) / 4)
    bilinear = torch.tensor([[4, 1, 0], [4, 6, 4], [0, 1, 4]], dtype=D) / 8
    torch.testing.assert_close(line_map("bilinear"), bilinear)
    n = 5
    constant = torch.tensor([[1, 0, 0], [n - 1, n, n - 1], [0, 0, 1]], dtype=D) / n
    torch.testing.assert_close(line_map("constant", n), constant)


@pytest.mark.parametrize("prolongation", PROLONGATIONS)
@pytest.mark.parametrize("n", [2, 3])
def test_the_map_has_an_inverse(prolongation, n):
    kernel = random_kernel(4, 2)
    torch.testing.assert_close(prolong(restrict(kernel, prolongation, n), prolongation, n), kernel, rtol=0, atol=1e-13)
    torch.testing.assert_close(restrict(prolong(kernel, prolongation, n), prolongation, n), kernel, rtol=0, atol=1e-13)


def test_eigenvalues_and_condition():
    """On a line the sum stays, first differences are halved, second ones are halved or quartered."""
    for prolongation, values in (("constant", (1, 1 / 2, 1 / 2)), ("bilinear", (1, 1 / 2, 1 / 4))):
        found = np.linalg.eigvals(galerkin(prolongation).numpy())
        expected = np.outer(values, values).ravel()
        np.testing.assert_allclose(np.sort(found.real), np.sort(expected), atol=1e-7)  # not all are simple
    assert torch.linalg.cond(galerkin("constant")).item() == pytest.approx(10.15, abs=0.005)
    assert torch.linalg.cond(galerkin("bilinear")).item() == pytest.approx(26.85, abs=0.005)


def test_two_halvings_are_one_quartering_with_the_constant_map_only():
    kernel = random_kernel()
    torch.testing.assert_close(restrict(restrict(kernel)), restrict(kernel, factor=4))
    twice = restrict(restrict(kernel, "bilinear"), "bilinear")
    assert (twice - restrict(kernel, "bilinear", 4)).abs().max() > 1e-3


# --- derivatives ------------------------------------------------------------------------------------------------------


def test_stencils_are_the_derivatives_of_polynomials():
    h = 0.3
    y, x = np.meshgrid(np.array([-h, 0, h]), np.array([-h, 0, h]), indexing="ij")
    orders = [(0, 0), (1, 0), (0, 1), (2, 0), (1, 1), (0, 2), (2, 1), (1, 2), (2, 2)]
    monomials = [x**a * y**b / (math.factorial(a) * math.factorial(b)) for a, b in orders]
    found = np.array([[(s * m).sum() for m in monomials] for s in stencils(h).numpy()])
    # On a line all is exact but [1 2 1] / 4, which gives h^2 / 4 for x^2 / 2.
    line = {(order, power): float(order == power) for order in range(3) for power in range(3)} | {(0, 2): h**2 / 4}
    expected = [[line[a, c] * line[b, d] for c, d in orders] for a, b in orders]
    np.testing.assert_allclose(found, expected, atol=1e-12)


def test_a_kernel_is_the_sum_of_its_stencils():
    kernel = random_kernel(2)
    parts = coefficients(kernel, 0.5)
    torch.testing.assert_close(torch.einsum("ni,ikl->nkl", parts, stencils(0.5)), kernel)
    torch.testing.assert_close(coefficients(kernel[0], 0.5), parts[0])


@pytest.mark.parametrize("n", [2, 3])
def test_second_derivatives_are_too_large_with_the_constant_map_and_right_with_the_bilinear_one(n):
    """Claim 30. Fine pixels have side 1, coarse ones n."""
    orders = dict(zip(multiscale.STENCILS, (0, 0, 0, 1, 0, 1, 1, 1, 2), strict=True))  # second derivatives in it
    for prolongation, wrong in (("constant", n), ("bilinear", 1)):
        found = coefficients(restrict(stencils(1), prolongation, n), n).diagonal()
        expected = [float(wrong**k) for k in orders.values()]
        torch.testing.assert_close(found, torch.tensor(expected, dtype=D), rtol=1e-12, atol=0)


@pytest.mark.parametrize(("prolongation", "factor"), [("constant", 2), ("bilinear", 1)])
def test_second_derivative_of_a_parabola(prolongation, factor):
    """The same seen on an image: the coarse operator on x^2 / 2, sampled at the centres of coarse pixels of side 2."""
    at = torch.arange(8, dtype=D) * 2
    image = (at**2 / 2).expand(8, 8)
    kernel = restrict(stencils(1)[multiscale.STENCILS.index("dxx")], prolongation)
    found = F.conv2d(image[None, None], kernel[None, None])
    torch.testing.assert_close(found, torch.full_like(found, float(factor)))


# --- networks ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("prolongation", PROLONGATIONS)
@pytest.mark.parametrize("move", [restrict, prolong])
def test_moved_kernels_keep_transposes(prolongation, move):
    kernel = random_kernel(4, 4)
    transposed = kernel.flip(2, 3).transpose(0, 1)
    torch.testing.assert_close(
        move(transposed, prolongation), move(kernel, prolongation).flip(2, 3).transpose(0, 1), rtol=0, atol=1e-13
    )
    torch.testing.assert_close(
        move(Convolution.antisymmetric(kernel), prolongation),
        Convolution.antisymmetric(move(kernel, prolongation)),
        rtol=0,
        atol=1e-13,
    )
    field = AntisymmetricField(4, normalization="none").to(D)
    x = torch.randn(1, 4, 4, 4, dtype=D)
    moved = multiscale.coarsen_space(field, prolongation)
    assert (x * moved.linear(x)).sum().abs() < 1e-12


@pytest.mark.parametrize("prolongation", PROLONGATIONS)
def test_no_norm_grows_by_restriction(prolongation):
    for seed in range(20):
        kernel = random_kernel(seed=seed)
        norms = [torch.fft.fft2(k, (64, 64)).abs().max() for k in (kernel, restrict(kernel, prolongation))]
        assert norms[1] <= norms[0] * (1 + 1e-3)  # a grid of frequencies may miss the largest


@pytest.mark.parametrize("scheme", ["hamiltonian", "midpoint", "leapfrog", "revnet", "euler"])
def test_a_network_there_and_back(scheme):
    net = Network(scheme, (2, 2), (4, 8), seed=0).eval()
    net.stem_norm.running_mean += 1
    before = copy.deepcopy(net.state_dict())
    coarse = multiscale.coarsen_space(net, "bilinear")
    assert all(torch.equal(before[k], v) for k, v in net.state_dict().items())  # the given one is left alone
    for name, p in coarse.named_parameters():
        moved = p.dim() == 4
        assert torch.equal(p, before[name]) != moved, name
        if moved:
            torch.testing.assert_close(p.detach(), restrict(before[name], "bilinear"))
    assert coarse.stem_norm.running_mean.eq(1).all()
    back = multiscale.refine_space(coarse, "bilinear").state_dict()
    for name, value in before.items():
        torch.testing.assert_close(back[name], value, rtol=1e-5, atol=1e-6)
    assert torch.isfinite(coarse(torch.randn(2, 3, 4, 4))).all()


def test_a_linear_network_on_piecewise_constant_images():
    """Convolutions, identity activation, no padding at stake: the coarse network is the averaged fine one, twice over
    if the image between is piecewise constant again, which one convolution is tried for."""
    net = nn.Conv2d(3, 5, 3, padding=1).to(D)
    coarse = multiscale.coarsen_space(net)
    x = torch.randn(2, 3, 4, 4, dtype=D)
    fine = net(prolonged(x, "constant", 2))
    torch.testing.assert_close(coarse(x), F.avg_pool2d(fine, 2))


def test_other_kernels():
    net = nn.Sequential(nn.Conv2d(3, 4, 1), nn.Conv2d(4, 2, 3))
    moved = multiscale.refine_space(net)
    assert torch.equal(moved[0].weight, net[0].weight)
    assert not torch.equal(moved[1].weight, net[1].weight)
    with pytest.raises(ValueError, match=r"0.weight has shape \(1, 3, 7, 7\)"):
        multiscale.coarsen_space(nn.Sequential(nn.Conv2d(3, 1, 7)))


def test_what_is_refused():
    with pytest.raises(ValueError, match="prolongation = 'cubic'"):
        galerkin("cubic")
    with pytest.raises(ValueError, match="factor must be a whole number, at least 2"):
        restrict(torch.zeros(3, 3), factor=1)
    with pytest.raises(ValueError, match=r"shape \(3, 5\)"):
        prolong(torch.zeros(3, 5))
    with pytest.raises(ValueError, match="old = 32 and new = 48"):
        multiscale.to_size(nn.Conv2d(1, 1, 3), 32, 48)
    with pytest.raises(ValueError, match="batches are empty"):
        multiscale.estimate_statistics(nn.BatchNorm2d(2), [])


def test_to_size_goes_both_ways():
    net = nn.Conv2d(1, 1, 3, bias=False)
    for new, wanted in (
        (16, restrict(net.weight, "bilinear", 2)),
        (96, prolong(net.weight, "bilinear", 3)),
        (32, net.weight),
    ):
        torch.testing.assert_close(multiscale.to_size(net, 32, new, "bilinear").weight, wanted)


def test_estimated_statistics_are_the_mean_over_the_batches():
    net = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4, momentum=0.01))
    net(torch.randn(8, 3, 4, 4) + 9)  # what is to be forgotten
    net.eval()
    batches = [torch.randn(8, 3, 4, 4) + k for k in range(3)]
    multiscale.estimate_statistics(net, iter(batches))
    with torch.no_grad():
        values = [net[0](x) for x in batches]
    torch.testing.assert_close(net[1].running_mean, torch.stack([v.mean((0, 2, 3)) for v in values]).mean(0))
    torch.testing.assert_close(net[1].running_var, torch.stack([v.var((0, 2, 3)) for v in values]).mean(0))
    assert net[1].momentum == 0.01
    assert not net[1].training


def test_estimated_statistics_in_reversible_memory():
    """Nothing is replayed without gradient: each batch counts once."""
    nets = [Network("hamiltonian", (2, 2), (4, 8), seed=0, memory=memory) for memory in ("reversible", "stored")]
    batches = [torch.randn(4, 3, 8, 8) for _ in range(2)]
    for net in nets:
        multiscale.estimate_statistics(net, batches)
    for (name, a), b in zip(nets[0].named_buffers(), nets[1].buffers(), strict=True):
        torch.testing.assert_close(a, b, msg=name)
        assert "num" not in name or a == 2


# --- images, trainings, experiments -----------------------------------------------------------------------------------


def test_resized_images():
    images = data.load("sample", "test")
    small = images.resized(16)
    mean = images.images.double().reshape(-1, 3, 16, 2, 16, 2).mean((3, 5))
    assert (small.images.double() - mean).abs().max() <= 0.5
    large = small.resized(32).images.double()
    wanted = F.interpolate(small.images.double(), scale_factor=2, mode="bilinear", align_corners=False)
    assert (large - wanted).abs().max() <= 0.5 + 1e-3
    assert images.resized(32) is images
    assert torch.equal(small.labels, images.labels)
    for size in (0, 20, 33):
        with pytest.raises(ValueError, match="size"):
            images.resized(size)


def test_a_training_at_another_resolution_begins_with_moved_kernels(tiny):
    coarse = tiny("coarse", image_size=16, steps=2)
    record = fit_quietly(coarse)
    assert record["name"] == "tiny-sample-16px-2steps-seed0"
    network = train.load_network(coarse.out)
    assert network.meta["size"] == 16
    mean, _ = data.load("sample", "train").resized(16).mean_std()
    assert network.meta["mean"] == pytest.approx(mean)
    for prolongation in (None, "bilinear"):
        fine = tiny(f"fine-{prolongation}", init="coarse", prolongation=prolongation, steps=1, lr=1e-30, weight_decay=0)
        record = fit_quietly(fine)
        assert record["settings"]["init"] == "coarse"
        wanted = network.stem.weight if prolongation is None else prolong(network.stem.weight, prolongation)
        torch.testing.assert_close(weights(fine.out)["stem.weight"], wanted.detach(), rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(weights(fine.out)["fc.weight"], network.fc.weight.detach())
        mean = weights(fine.out)["stem_norm.running_mean"]
        # After two steps the running mean has 2 per cent of the batches' mean; estimated anew it has all of it.
        assert mean.norm() > 5 * network.stem_norm.running_mean.norm()
    assert fit_quietly(fine, resume=True)["status"] == "finished"


def test_a_training_that_begins_with_others_weights_goes_on_with_its_own(tiny):
    fit_quietly(tiny("first", steps=2))
    whole, parts = (tiny(run, init="first", steps=2) for run in ("whole", "parts"))
    fit_quietly(whole)
    assert fit_quietly(dataclasses.replace(parts, limit_seconds=0.0))["status"] == "unfinished"
    fit_quietly(parts, resume=True)
    a, b = weights(whole.out), weights(parts.out)
    assert all(torch.equal(a[k], b[k]) for k in a)


def test_a_checkpoint_from_before_there_were_these_settings_goes_on(tiny):
    c = tiny("old", steps=2, limit_seconds=0.0)
    fit_quietly(c)
    file = f"{c.out}/{train.CHECKPOINT}"
    state = checkpoint.load(file)
    newer = ("image_size", "init", "prolongation", "schedule", "lr_min", "units", "refine", "carry", "fast")
    state["config"] = {k: v for k, v in state["config"].items() if k not in newer}
    checkpoint.save(file, state)
    with pytest.raises(CheckpointError, match="image_size = 16 differs from None"):
        fit_quietly(dataclasses.replace(c, image_size=16), resume=True)
    assert fit_quietly(dataclasses.replace(c, limit_seconds=None), resume=True)["status"] == "finished"


def test_what_a_training_refuses(tiny):
    with pytest.raises(ValueError, match="needs init"):
        tiny(prolongation="constant")
    with pytest.raises(ValueError, match="prolongation = 'cubic'"):
        tiny(prolongation="cubic", init="x")
    with pytest.raises(CheckpointError, match="there are no trained weights 'nowhere'"):
        fit_quietly(tiny(init="nowhere"))
    with pytest.raises(CheckpointError, match="init = 'resnet-32' does not fit tiny"):
        fit_quietly(tiny("other", init="resnet-32"))
    with pytest.raises(ValueError, match="size = 20"):
        fit_quietly(tiny("odd", image_size=20))


def test_the_map_as_an_experiment():
    final = experiment.measure_map(seed=0, n=6).final
    for prolongation, factor in (("constant", 2), ("bilinear", 1)):
        found = final[prolongation]["2"]
        assert max(found["outside_3x3"], found["from_dense"], found["round_trip"], found["flip"]) < 1e-13
        assert found["coefficients"]["dxx"] == pytest.approx(factor)


def test_warm_start_and_transfer_on_the_sample(tiny, monkeypatch):
    monkeypatch.setattr(experiment, "STATISTICS", 20)
    monkeypatch.setattr(experiment, "STARTS", {"scratch": None, "kernels, bilinear": "bilinear"})
    settings = {"model": "tiny", "data": "sample", "batch": 10, "eval_every": 2, "eval_images": 10, "threads": 1}
    final, curve = experiment.measure_warm_start(
        seed=0, coarse_size=16, size=32, coarse_steps=4, steps=2, test_images=20, **settings
    )
    assert list(final["starts"]) == [*experiment.STARTS, experiment.LONGER]
    assert [e["step"] for e in final["starts"].values()] == [2, 2, 3]
    assert {p["start"] for p in curve} == {"coarse", *final["starts"]}
    ways = final["transfer"]
    assert ways["images, averaged"]["kept"] == ways["trained on"]["kept"]
    final, _ = experiment.measure_transfer(seed=0, old=32, new=16, test_images=20, steps=2, **settings)
    assert set(final["transfer"]["agreement"]) == set(PROLONGATIONS)


def test_change_of_kernels():
    net = Network("hamiltonian", (3, 3), (4, 8), seed=0)
    for path, change in zip(net.paths(), net.kernel_change(), strict=True):
        pairs = zip(path[:-1], path[1:], change, strict=True)
        for k, (first, second, found) in enumerate(pairs):
            mean = (first.norm() ** 2 + second.norm() ** 2) / 2
            assert found == pytest.approx(((second - first).norm() / mean.sqrt()).item(), rel=1e-5), k
    with torch.no_grad():
        for path in net.paths():
            for j, k in enumerate(path):
                k.copy_(path[0] * (-1) ** (j == 1))
    assert net.kernel_change() == [pytest.approx([2.0] * (len(path) - 1)) for path in net.paths()]
    fresh = Network("leapfrog", (6,), (32,), seed=0).kernel_change()
    assert smoothness.mean_change(fresh) == pytest.approx(math.sqrt(2), rel=0.05)


def test_bundled_networks_change_less_where_the_loss_asks_for_it():
    final = smoothness.measure_change(seed=0, weights=("hamiltonian-74", "resnet-32"), fresh=1).final
    assert final["hamiltonian-74"]["trained"]["mean"] < 0.9 * final["resnet-32"]["trained"]["mean"]
