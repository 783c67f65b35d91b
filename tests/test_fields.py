"""Residual functions: K^T is the adjoint of K, the spectrum is where the schemes need it, BN stands as released."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from revode.fields import AntisymmetricField, BranchField, Convolution, Dense, SymmetricField, init_kernel

D = torch.float64


def pair(operator, channels=5, size=6):
    """Two random inputs of an operator, and a kernel that keeps the shape."""
    shape = (2, channels, size, size) if operator is Convolution else (2, channels)
    return torch.randn(shape, dtype=D), torch.randn(shape, dtype=D), torch.randn_like(
        operator.kernel(channels, channels), dtype=D
    )  # fmt: skip


def jacobian(field, x):
    """Dense matrix of the derivative of field at x, for one sample."""
    n = x.numel()
    return torch.autograd.functional.jacobian(field, x).reshape(n, n)


@pytest.mark.parametrize("operator", [Convolution, Dense])
def test_adjoint(operator):
    x, y, k = pair(operator)
    torch.testing.assert_close((operator.apply(x, k) * y).sum(), (x * operator.adjoint(y, k)).sum(), rtol=1e-12, atol=0)


@pytest.mark.parametrize("operator", [Convolution, Dense])
def test_adjoint_of_a_kernel_that_changes_the_number_of_channels(operator):
    k = torch.randn_like(operator.kernel(3, 5), dtype=D)
    grid = (6, 7) if operator is Convolution else ()
    x, y = torch.randn(2, 5, *grid, dtype=D), torch.randn(2, 3, *grid, dtype=D)
    torch.testing.assert_close((operator.apply(x, k) * y).sum(), (x * operator.adjoint(y, k)).sum(), rtol=1e-12, atol=0)


@pytest.mark.parametrize("operator", [Convolution, Dense])
def test_antisymmetric_is_k_minus_its_adjoint_in_one_operation(operator):
    x, y, k = pair(operator)
    s = operator.antisymmetric(k)
    torch.testing.assert_close(operator.apply(x, s), operator.apply(x, k) - operator.adjoint(x, k))
    torch.testing.assert_close((operator.apply(x, s) * y).sum(), -(x * operator.apply(y, s)).sum(), rtol=1e-12, atol=0)
    torch.testing.assert_close(operator.adjoint(x, s), -operator.apply(x, s))


@pytest.mark.parametrize("dense", [False, True])
@pytest.mark.parametrize("activation", ["relu", "tanh"])
def test_derivative_of_the_symmetric_field_is_symmetric_positive_semidefinite(dense, activation):
    f = SymmetricField(4, activation, "none", dense=dense).to(D)
    torch.nn.init.normal_(f.bias)
    j = jacobian(f, torch.randn(1, 4, dtype=D) if dense else torch.randn(1, 4, 4, 4, dtype=D))
    torch.testing.assert_close(j, j.T)
    assert torch.linalg.eigvalsh(j).min() > -1e-12
    assert j.abs().max() > 1e-3


@pytest.mark.parametrize("dense", [False, True])
def test_derivative_of_the_antisymmetric_field_has_imaginary_eigenvalues(dense):
    f = AntisymmetricField(4, "tanh", "none", dense=dense).to(D)
    torch.nn.init.normal_(f.bias)
    e = torch.linalg.eigvals(jacobian(f, torch.randn(1, 4, dtype=D) if dense else torch.randn(1, 4, 4, 4, dtype=D)))
    assert e.real.abs().max() < 1e-10 * e.abs().max()
    assert e.imag.abs().max() > 1e-2


@pytest.mark.parametrize("dense", [False, True])
@pytest.mark.parametrize("kind", [SymmetricField, AntisymmetricField, BranchField])
def test_linear_is_the_derivative_and_linear_adjoint_its_adjoint(kind, dense):
    f = kind(3, activation="identity", normalization="none", dense=dense).to(D)
    x, y = (torch.randn((1, 3) if dense else (1, 3, 5, 5), dtype=D) for _ in range(2))
    torch.testing.assert_close(f.linear(x), f(x))
    torch.testing.assert_close((f.linear(x) * y).sum(), (x * f.linear_adjoint(y)).sum())


def test_equations_without_normalization():
    y = torch.randn(2, 3, 5, 5, dtype=D)
    f = SymmetricField(3, "tanh", "none").to(D)
    torch.nn.init.normal_(f.bias)
    inner = torch.tanh(F.conv2d(y, f.weight, f.bias, padding=1))
    torch.testing.assert_close(f(y), F.conv_transpose2d(inner, f.weight, padding=1))
    f = AntisymmetricField(3, "tanh", "none").to(D)
    torch.nn.init.normal_(f.bias)
    both = F.conv2d(y, f.weight, padding=1) - F.conv_transpose2d(y, f.weight, padding=1)
    torch.testing.assert_close(f(y), torch.tanh(both + f.bias[:, None, None]))
    f = BranchField(3, 6, 2, "tanh", "none").to(D)
    torch.nn.init.normal_(f.bias)
    inner = torch.tanh(F.conv2d(torch.tanh(y), f.weight, f.bias, 2, 1))
    torch.testing.assert_close(f(y), F.conv2d(inner, f.weight2, f.bias2, padding=1))


def normalized(x):
    """Batch normalization with the released code's eps, by hand."""
    mean, var = x.mean((0, 2, 3), keepdim=True), x.var((0, 2, 3), keepdim=True, correction=0)
    return (x - mean) / (var + 1e-3).sqrt()


@pytest.mark.parametrize("first", [True, False])
def test_batch_normalization_stands_as_in_the_released_code(first):
    y = 3 * torch.randn(4, 3, 5, 5, dtype=D) + 1
    z = normalized(y) if first else y
    f = SymmetricField(3, first_norm=first).to(D)
    inner = torch.relu(normalized(F.conv2d(z, f.weight, padding=1)))
    torch.testing.assert_close(f(y), F.conv_transpose2d(inner, f.weight, padding=1))
    f = AntisymmetricField(3, first_norm=first).to(D)
    both = F.conv2d(z, f.weight, padding=1) - F.conv_transpose2d(z, f.weight, padding=1)
    torch.testing.assert_close(f(y), torch.relu(normalized(both)))
    f = BranchField(3, activate=first).to(D)
    inner = F.conv2d(torch.relu(z) if first else y, f.weight, padding=1)
    torch.testing.assert_close(f(y), F.conv2d(torch.relu(normalized(inner)), f.weight2, padding=1))


def test_parameters_by_normalization():
    def names(f):
        return {n for n, _ in f.named_parameters()}

    norms = {"norm2.weight", "norm2.bias"}
    assert names(SymmetricField(4)) == {"weight", "norm1.weight", "norm1.bias"} | norms
    assert names(SymmetricField(4, first_norm=False)) == {"weight"} | norms
    assert names(SymmetricField(4, normalization="none")) == {"weight", "bias"}
    assert names(AntisymmetricField(4, normalization="none")) == {"weight", "bias"}
    assert names(BranchField(4, normalization="none")) == {"weight", "bias", "weight2", "bias2"}
    assert SymmetricField(4).norm2.momentum == pytest.approx(0.01)


def test_initial_kernels():
    k = torch.empty(64, 64, 3, 3)
    init_kernel(k, 9, torch.Generator().manual_seed(0))
    std = (2 / (9 * 64)) ** 0.5
    assert k.abs().max() <= 2 * std
    # A normal law cut off at two deviations keeps 0.8796 of its deviation.
    assert k.std().item() == pytest.approx(0.8796 * std, rel=0.01)


def test_seed_leaves_the_global_generator_alone_and_repeats():
    f = SymmetricField(4)
    state = torch.get_rng_state()
    f.reset_parameters(torch.Generator().manual_seed(3))
    a = f.weight.detach().clone()
    f.reset_parameters(torch.Generator().manual_seed(3))
    assert torch.equal(a, f.weight)
    assert torch.equal(state, torch.get_rng_state())


@pytest.mark.parametrize("kwargs", [{"activation": "swish"}, {"normalization": "layer"}])
def test_unknown_names_are_refused_with_the_choices(kwargs):
    with pytest.raises(ValueError, match="must be one of") as e:
        SymmetricField(4, **kwargs)
    assert next(iter(kwargs.values())) in str(e.value)


def test_a_stride_on_vectors_is_refused():
    with pytest.raises(ValueError, match="stride = 2"):
        BranchField(4, stride=2, dense=True)


def test_channels_last_is_kept():
    x = torch.randn(2, 8, 6, 6).to(memory_format=torch.channels_last)
    for f in (SymmetricField(8), AntisymmetricField(8), BranchField(8)):
        assert f(x).is_contiguous(memory_format=torch.channels_last)
