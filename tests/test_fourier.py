"""Fourier symbols against dense periodic operators, and what zero padding changes."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from revode.analysis import fourier
from revode.errors import DenseSizeError, SpectrumError
from revode.fields import AntisymmetricField, SymmetricField
from tests.helpers import paired

D = torch.float64


def kernel(out: int = 3, inp: int = 3) -> torch.Tensor:
    return torch.randn(out, inp, 3, 3, dtype=D)


def periodic(w: torch.Tensor, height: int, width: int) -> np.ndarray:
    """The matrix of a convolution with periodic padding, by torch's own circular padding."""
    n = w.shape[1] * height * width
    basis = torch.eye(n, dtype=D).reshape(n, w.shape[1], height, width)
    return F.conv2d(F.pad(basis, (1, 1, 1, 1), mode="circular"), w).reshape(n, -1).T.numpy()


SIZES = [(4, 4), (5, 4), (4, 5), (3, 7), (1, 4), (2, 2), (1, 1)]


@pytest.mark.parametrize("size", SIZES)
def test_all_eigenvalues_are_those_of_the_dense_periodic_operator(size):
    w, slope = kernel(), torch.tensor([0.3, 1.0, 0.0], dtype=D)
    k = periodic(w, *size)
    d = np.diag(slope.numpy().repeat(size[0] * size[1]))
    dense = {"convolution": k, "antisymmetric": d @ (k - k.T), "symmetric": k.T @ d @ k}
    for form, matrix in dense.items():
        found = fourier.spectrum(w, size, form, 1.0 if form == "convolution" else slope)
        assert paired(found, np.linalg.eigvals(matrix)) < 1e-6  # the zero slope makes 0 a defective eigenvalue
        assert (np.diff(np.abs(found)) <= 1e-12).all()
    plain = fourier.spectrum(w, size)
    assert paired(plain, np.linalg.eigvals(k - k.T)) < 1e-12
    assert paired(fourier.spectrum(w, size, slope=0.5), plain / 2) < 1e-12


def test_kernel_that_is_not_square():
    w = kernel(2, 3)
    k = periodic(w, 4, 5)
    assert paired(fourier.spectrum(w, (4, 5), "symmetric"), np.linalg.eigvalsh(k.T @ k)) < 1e-10
    for form in ("convolution", "antisymmetric"):
        with pytest.raises(SpectrumError, match=r"3 channels to 2.*symmetric"):
            fourier.spectrum(w, 4, form)


@pytest.mark.parametrize("size", [(4, 4), (3, 5)])
@pytest.mark.parametrize("outs", [(3, 3), (2, 4)])
def test_hamiltonian_spectrum_is_that_of_the_dense_pair(size, outs):
    w1, w2 = kernel(outs[0]), kernel(outs[1])
    slope = torch.rand(outs[0], dtype=D) + 0.1
    k1, k2 = periodic(w1, *size), periodic(w2, *size)
    f = k1.T @ np.diag(slope.numpy().repeat(size[0] * size[1])) @ k1
    zero = np.zeros_like(f)
    pair = np.block([[zero, f], [-0.7 * k2.T @ k2, zero]])
    found = fourier.hamiltonian_spectrum(w1, w2, size, slope, 0.7)
    dense = np.linalg.eigvals(pair)
    tolerance = 1e-9 if outs == (3, 3) else 1e-5  # singular F: Jordan blocks at 0 scatter
    assert paired(found, dense) < tolerance
    assert (found.real == 0).all()


def test_symbol_is_the_discrete_fourier_transform_of_the_kernel():
    w = kernel(2, 3)
    padded = torch.zeros(2, 3, 6, 5, dtype=D)
    for a in range(3):
        for b in range(3):
            padded[:, :, -(a - 1) % 6, -(b - 1) % 5] = w[:, :, a, b]
    want = torch.fft.fft2(padded).permute(2, 3, 0, 1)
    torch.testing.assert_close(fourier.symbol(w, (6, 5)), want, rtol=1e-12, atol=1e-12)


def test_operators_with_zero_padding_are_the_linear_parts_of_the_fields():
    x = torch.randn(2, 4, 5, 6, dtype=D)
    for form, kind in (("antisymmetric", AntisymmetricField), ("symmetric", SymmetricField)):
        f = kind(4, "identity", "none").double().requires_grad_(False)
        torch.testing.assert_close(fourier.operator(f.weight, form)(x), f(x))


# --- zero padding -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["antisymmetric", "symmetric"])
def test_zero_padding_moves_eigenvalues_less_at_a_larger_size_and_never_beyond_the_symbol(form):
    w, moved = kernel(), []
    limit = np.abs(fourier.spectrum(w, 96, form)).max()  # over a fine grid of theta
    for size in (4, 8, 12):
        with_period, with_zeros = fourier.padding(w, size, form)
        assert len(with_period) == len(with_zeros) == 3 * size * size
        assert np.abs(with_zeros).max() < 1.001 * limit
        moved.append(size * np.abs(with_period - with_zeros).mean() / limit)
    assert min(moved) > 0.1  # the two are not the same,
    assert max(moved) < 1.2 * min(moved)  # and differ by the share of the border, O(1 / size)


def test_zero_padding_can_change_everything_for_a_nonsymmetric_kernel():
    w = torch.zeros(1, 1, 3, 3, dtype=D)
    w[0, 0, 1, 2] = 1  # a shift by one pixel
    with_period, with_zeros = fourier.padding(w, 5, "convolution")
    np.testing.assert_allclose(np.abs(with_period), 1)
    assert np.abs(with_zeros).max() == 0


def test_padding_is_refused_where_the_dense_matrix_would_not_fit():
    with pytest.raises(DenseSizeError, match="1048576, 1048576"):
        fourier.padding(kernel(1, 1), 1024)


def test_slopes_that_vary_in_space_are_another_spectrum():
    """What the module's text warns of: one frozen slope for each channel is not the layer's Jacobian."""
    w, slope = kernel(), torch.rand(3 * 16, dtype=D)
    k = periodic(w, 4, 4)
    varying = np.linalg.eigvals(np.diag(slope.numpy()) @ (k - k.T))
    frozen = fourier.spectrum(w, 4, slope=slope.reshape(3, 16).mean(1))
    assert paired(frozen, varying) > 0.05 * np.abs(varying).max()


@pytest.mark.parametrize("slope", [-0.1, torch.nan, torch.ones(2), torch.ones(3, 4)])
def test_slope_that_cannot_be_is_refused(slope):
    for form in ("antisymmetric", "symmetric"):
        with pytest.raises(SpectrumError, match="for each of 3 channels, 0 or more"):
            fourier.spectrum(kernel(), 4, form, slope)


def test_bad_questions_are_refused():
    w = kernel()
    for size in (0, (4, 0), (4, 4, 4), 2.5):
        with pytest.raises(SpectrumError, match="size"):
            fourier.spectrum(w, size)
    with pytest.raises(SpectrumError, match=r"\(3, 3\); it must be \(C_out, C_in, 3, 3\)"):
        fourier.symbol(w[:, :, 0, 0], 4)
    with pytest.raises(SpectrumError, match="1 weights that are not finite"):
        fourier.symbol(w.index_fill(0, torch.tensor(0), 0).where(w != w.max(), torch.nan), 4)
    with pytest.raises(ValueError, match="form = 'skew' must be one of"):
        fourier.spectrum(w, 4, "skew")
    with pytest.raises(SpectrumError, match="must be 1 for form='convolution'"):
        fourier.spectrum(w, 4, "convolution", 0.5)
    with pytest.raises(SpectrumError, match="take 3 and 2 channels"):
        fourier.hamiltonian_spectrum(w, kernel(3, 2), 4)
