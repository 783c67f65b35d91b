r"""Spectra of convolutions from their Fourier symbols: all eigenvalues at once.

Under periodic padding a convolution K with kernel W maps the wave x(p) = a exp(i theta . p) on an H x W grid to
(S(theta) a) exp(i theta . p) with the symbol S(theta) = sum_t W_t exp(i theta . t), a C x C matrix; t runs over the
nine offsets of a 3x3 kernel. So K falls apart into one small matrix for each of the H W frequencies
theta = 2 pi (j / H, k / W), and so does whatever is made of K, K^T and matrices that act on channels alone. As the
kernel is real, S(-theta) is the complex conjugate of S(theta), and half of the frequencies are enough.

**What this is not.** It is never the spectrum of a nonlinear layer. The Jacobian of a layer at a state has the slopes
sigma'(K y + b), which differ from pixel to pixel, while here the slope is one number for each channel: a layer frozen
at a constant slope, for instance where sigma is the identity. With slopes at most 1, sigma' = 1 bounds the Jacobian's
norm; its eigenvalues are taken from the Jacobian itself, by :mod:`revode.analysis.spectra`.

**Zero padding.** The layers of this package pad by zeros, which cuts the convolution on the infinite grid out to
H x W pixels. So with zero padding no eigenvalue of the Hermitian (K - K^T) / i lies outside the range that its symbol
has over all real theta, and none of K^T K above it. Sorted eigenvalues move by O(1 / size) on average, the share of
the pixels at the border. Those of the nonsymmetric K can move by any amount: a shift has all its eigenvalues on the
unit circle with periodic padding, and at 0 with zeros. :func:`padding` computes both at a small size.

Sources: Sedghi, Gupta and Long 2019 (arXiv 1805.10408) for the singular values of convolutions by Fourier symbols;
Boettcher and Silbermann 1999, Introduction to Large Truncated Toeplitz Matrices, for zero padding.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from numpy.typing import NDArray
from torch import Tensor

from ..errors import SpectrumError
from ..fields import Convolution, choose
from .spectra import Jacobian, eigenvalues

#: The linear operators that a spectrum can be asked of, with D = diag(slope).
FORMS = ("convolution", "antisymmetric", "symmetric")

Size = int | tuple[int, int]
Slope = float | Tensor


def symbol(kernel: Tensor, size: Size) -> Tensor:
    """The symbols S(theta) of a convolution on a periodic grid.

    Args:
        kernel: (C_out, C_in, 3, 3), finite; the convolution is that of ``revode.fields.Convolution``.
        size: Pixels, H = W or (H, W).

    Returns:
        complex128 of shape (H, W, C_out, C_in), for theta = 2 pi (j / H, k / W).

    Raises:
        SpectrumError: for another shape of the kernel, weights that are not finite, or a size below 1.
    """
    height, width = _grid(size)
    return _symbol(kernel, height, width, width)


def _symbol(kernel: Tensor, height: int, width: int, columns: int) -> Tensor:
    """The first ``columns`` columns of frequencies."""
    if kernel.dim() != 4 or kernel.shape[2:] != (3, 3):
        raise SpectrumError(f"kernel has shape {tuple(kernel.shape)}; it must be (C_out, C_in, 3, 3)")
    if not kernel.isfinite().all():
        raise SpectrumError(f"kernel has {int((~kernel.isfinite()).sum())} weights that are not finite")
    w = kernel.detach().to(torch.complex128)
    rows = _waves(height, height, w.device)
    return torch.einsum("ha,wb,oiab->hwoi", rows, _waves(width, columns, w.device), w)


def _waves(size: int, count: int, device) -> Tensor:
    """exp(i theta t) for the first frequencies of a grid and the offsets t = -1, 0, 1."""
    theta = torch.arange(count, device=device, dtype=torch.float64) * (2 * math.pi / size)
    return torch.exp(1j * theta[:, None] * torch.tensor([-1.0, 0.0, 1.0], device=device, dtype=torch.float64))


def _grid(size: Size) -> tuple[int, int]:
    pair = tuple(size) if isinstance(size, tuple | list) else (size, size)
    if len(pair) != 2 or any(not isinstance(s, int) or s < 1 for s in pair):
        raise SpectrumError(f"size = {size!r} must be a whole number of pixels, 1 or more, or two of them")
    return pair


def _square(kernel: Tensor) -> None:
    if kernel.shape[0] != kernel.shape[1]:
        raise SpectrumError(
            f"kernel maps {kernel.shape[1]} channels to {kernel.shape[0]}, so the convolution has no eigenvalues; "
            "take form='symmetric', of K^T K"
        )


def _root(slope: Slope, channels: int, kernel: Tensor) -> Tensor:
    """D^(1/2) as a factor of the rows, of shape (channels, 1)."""
    slope = torch.as_tensor(slope, dtype=torch.float64, device=kernel.device).detach()
    if slope.dim() > 1 or slope.numel() not in (1, channels) or not (slope.isfinite() & (slope >= 0)).all():
        raise SpectrumError(
            f"slope = {slope.tolist()} must be one finite number, or one for each of {channels} channels, 0 or more: "
            "activations do not decrease, and the same slope holds at every pixel"
        )
    return slope.sqrt().expand(channels)[:, None].to(torch.complex128)


def _everywhere(half: Tensor, width: int) -> NDArray:
    """All eigenvalues, largest modulus first, from those (H, W // 2 + 1, ...) of half of the frequencies."""
    values = torch.cat([half.flatten(), half[:, 1 : (width + 1) // 2].conj().flatten()])
    return values[torch.argsort(-values.abs(), stable=True)].cpu().numpy()


def spectrum(kernel: Tensor, size: Size, form: str = "antisymmetric", slope: Slope = 1.0) -> NDArray:
    """All eigenvalues of a linear layer under periodic padding.

    Args:
        kernel: W of K, (C, C, 3, 3); for "symmetric" (C_out, C, 3, 3).
        size: Pixels, H = W or (H, W).
        form: "convolution", K; "antisymmetric", D (K - K^T); "symmetric", K^T D K, with D = diag(slope).
        slope: The constant slope sigma', 0 or more: one number, or one for each row of K. Only 1 for "convolution".

    Returns:
        H * W * C numbers, the largest modulus first: complex, imaginary for "antisymmetric"; real for "symmetric".
        D (K - K^T) and D^(1/2) (K - K^T) D^(1/2) have the same eigenvalues, and the second is skew; so here they are
        imaginary by construction, by the theorem. Whether a computed Jacobian obeys it is measured elsewhere.

    Raises:
        SpectrumError: for a kernel, size or slope that cannot be.
        ValueError: for an unknown form.
    """
    choose("form", form, FORMS)
    height, width = _grid(size)
    s = _symbol(kernel, height, width, width // 2 + 1)
    if form == "symmetric":
        return _everywhere(torch.linalg.eigvalsh(_gram(_root(slope, kernel.shape[0], kernel) * s)), width)
    _square(kernel)
    root = _root(slope, kernel.shape[0], kernel)
    if form == "antisymmetric":
        frequencies = torch.linalg.eigvalsh(root * (s - s.mH) * root.mT / 1j)
        # S(-theta) = conj S(theta) turns i omega into -i omega
        return _everywhere(1j * frequencies, width)
    if not (root == 1).all():
        raise SpectrumError(f"slope = {slope!r} must be 1 for form='convolution', which has no activation")
    return _everywhere(torch.linalg.eigvals(s), width)


def _gram(s: Tensor) -> Tensor:
    return s.mH @ s


def hamiltonian_spectrum(
    kernel1: Tensor, kernel2: Tensor, size: Size, slope1: Slope = 1.0, slope2: Slope = 1.0
) -> NDArray:
    r"""All eigenvalues of a linear Hamiltonian layer [[0, F], [-G, 0]] under periodic padding.

    F = K1^T D1 K1 and G = K2^T D2 K2 act on half of the channels each. The eigenvalues are +-i omega with
    omega^2 = eig(F G), which are the squares of the singular values of D1^(1/2) K1 K2^T D2^(1/2).

    Args:
        kernel1: (C_out, C, 3, 3) of K1.
        kernel2: The same of K2, with as many input channels.
        size: Pixels, H = W or (H, W).
        slope1: As for :func:`spectrum`.
        slope2: Likewise.

    Returns:
        2 * H * W * C imaginary numbers, the largest modulus first.

    Raises:
        SpectrumError: for a kernel, size or slope that cannot be.
    """
    height, width = _grid(size)
    a, b = (
        _root(slope, kernel.shape[0], kernel) * _symbol(kernel, height, width, width // 2 + 1)
        for kernel, slope in ((kernel1, slope1), (kernel2, slope2))
    )
    if a.shape[-1] != b.shape[-1]:
        raise SpectrumError(f"kernel1 and kernel2 take {a.shape[-1]} and {b.shape[-1]} channels; they must be as many")
    channels = a.shape[-1]
    omega = torch.linalg.svdvals(a @ b.mH)[..., :channels]
    omega = torch.nn.functional.pad(omega, (0, channels - omega.shape[-1]))  # F G has the rank of the smaller one
    return _everywhere(torch.cat([1j * omega, -1j * omega], dim=-1), width)


def operator(kernel: Tensor, form: str = "antisymmetric", slope: Slope = 1.0) -> Callable[[Tensor], Tensor]:
    """The linear layer of :func:`spectrum` with zero padding, as a function of images (N, C, H, W)."""
    choose("form", form, FORMS)
    w, k = kernel.detach(), Convolution
    d = _root(slope, kernel.shape[0], kernel).real.square().to(w)[:, :, None]
    if form == "symmetric":
        return lambda x: k.adjoint(d * k.apply(x, w), w)
    return lambda x: d * k.apply(x, w if form == "convolution" else k.antisymmetric(w))


def padding(kernel: Tensor, size: Size, form: str = "antisymmetric", slope: Slope = 1.0) -> tuple[NDArray, NDArray]:
    """The eigenvalues of a linear layer with periodic and with zero padding, the second from the dense matrix.

    Args and raises: as :func:`spectrum`, at a size whose dense matrix fits the memory.

    Returns:
        Two arrays of H * W * C numbers; sorted by the real part for "symmetric" and by the imaginary part for
        "antisymmetric", so that the two can be compared one by one.

    Raises:
        DenseSizeError: if the dense matrix would not fit.
    """
    x = torch.zeros(1, kernel.shape[1], *_grid(size), dtype=torch.float64, device=kernel.device)
    zero = eigenvalues(Jacobian(operator(kernel.double(), form, slope), x))
    periodic = spectrum(kernel, size, form, slope)
    key = {"symmetric": lambda v: v.real, "antisymmetric": lambda v: v.imag, "convolution": abs}[form]
    return tuple(v[key(v).argsort(kind="stable")] for v in (periodic, zero))
