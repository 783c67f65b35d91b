"""The data of the bent kernel: against closed forms and numpy's solvers, as the file has it and as it is made."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
import traitlets
from torch.nn.functional import conv2d

from revode import results
from revode.fields import AntisymmetricField
from revode.stability import unpack
from revode.weights import load_trained
from revode.widgets import BentKernel
from revode.widgets.bent_kernel import FILE
from revode.widgets.bent_kernel_data import (
    ACTIVE,
    BENDS,
    NETWORK,
    PLACE,
    chain,
    jacobian,
    kernels,
    measured,
    scaled,
    trained_kernel,
    unpacked,
)

from .helpers import paired

NAMES = ("random", "chain", "trained")
each = pytest.mark.parametrize("name", NAMES)
both = pytest.mark.parametrize("activation", ACTIVE)


def of(name: str) -> dict:
    """One kernel of the file."""
    return next(k for k in results.read(FILE)["final"]["kernels"] if k["name"] == name)


def kernel(name: str) -> np.ndarray:
    return unpacked(of(name))


def spectra(name: str, activation: str) -> tuple[np.ndarray, np.ndarray, float]:
    """Eigenvalues (kappa, n), bounds (kappa, 4) and quantum of the file."""
    data = of(name)["spectra"][activation]
    parts = unpack(data["eigenvalues"], "<i2").reshape(len(BENDS), -1, 2) * data["quantum"]
    return parts[..., 0] + 1j * parts[..., 1], unpack(data["bounds"], "<f4").reshape(-1, 4), data["quantum"]


@each
@both
def test_eigenvalues_and_strip_are_those_of_numpys_solvers(name, activation):
    k, (lam, bounds, quantum) = kernel(name), spectra(name, activation)
    y = unpack(of(name)["state"], "<f4")
    for i in (0, 7, 20, 27, 33, 40):
        bent = k - BENDS[i] * k.T
        j = bent if activation == "linear" else (1 - np.tanh(bent @ y) ** 2)[:, None] * bent
        want, low_high = np.linalg.eigvals(j), np.linalg.eigvalsh((j + j.T) / 2)[[0, -1]]
        assert paired(lam[i], want) < 2 * quantum
        rightmost, off, *strip = bounds[i]
        assert rightmost == pytest.approx(want.real.max(), abs=1e-6)
        assert off == pytest.approx(np.abs(want.real).max() / np.abs(want).max(), rel=1e-5, abs=1e-12)
        assert strip == pytest.approx(low_high, abs=1e-6)


def test_eigenvalues_of_the_chain_are_the_closed_form_of_a_tridiagonal_toeplitz_matrix():
    k, (lam, _, quantum) = kernel("chain"), spectra("chain", "linear")
    n, hands, forgets = len(k), k[1, 0], -k[0, 0]
    waves = 2 * np.cos(np.arange(1, n + 1) * np.pi / (n + 1))
    for i, bend in enumerate(BENDS):
        want = -forgets * (1 - bend) + hands * waves * np.sqrt(complex(-bend))
        assert paired(lam[i], want) < quantum, "the solver balances the matrix, which is far from normal"


@each
@both
def test_antisymmetric_is_on_the_axis_and_symmetric_is_real(name, activation):
    lam, bounds, _ = spectra(name, activation)
    assert (lam[-1].real == 0).all()
    assert bounds[-1, 1] < 1e-14
    assert (lam[0].imag == 0).all()
    strip = bounds[-1, 2:]
    assert (np.abs(strip).max() < 1e-14) == (activation == "linear"), "diag(s') (K - K^T) is not skew itself"


@each
def test_strip_of_the_linear_field_shrinks_like_one_minus_kappa_and_holds_all_eigenvalues(name):
    lam, bounds, quantum = spectra(name, "linear")
    general = bounds[len(BENDS) // 2, 2:]
    np.testing.assert_allclose(bounds[:, 2:], np.outer(1 - BENDS, general), atol=1e-6)
    assert (lam.real.min(axis=1) >= bounds[:, 2] - 2 * quantum).all()
    assert (lam.real.max(axis=1) <= bounds[:, 3] + 2 * quantum).all()


@each
@both
def test_at_the_end_of_the_way_stands_the_field_of_the_package(name, activation):
    k, data = kernel(name), of(name)
    f = AntisymmetricField(len(k), ACTIVE[activation], "none", dense=True).double()
    with torch.no_grad():
        f.weight.copy_(torch.from_numpy(k))
    state = torch.from_numpy(unpack(data["state"], "<f4"))[None]
    want = torch.func.jacrev(lambda y: f(y[None])[0])(state[0]).detach()
    torch.testing.assert_close(jacobian(k, 1.0, activation).dense(), want, rtol=1e-12, atol=1e-14)


@each
def test_kernels_are_scaled_to_the_largest_frequency(name):
    k = kernel(name)
    assert np.abs(np.linalg.eigvals(k - k.T)).max() == pytest.approx(1, abs=1e-6)
    assert np.linalg.norm(unpack(of(name)["change"], "<f4")) == pytest.approx(1, abs=1e-6)
    assert scaled(5 * k) == pytest.approx(k, abs=1e-6)


def test_trained_kernel_is_what_the_convolution_does_to_a_constant_state():
    network = load_trained(NETWORK).double()
    unit, block = PLACE
    got = trained_kernel(network, unit, block)
    channels = torch.randn(network.widths[unit], dtype=torch.float64)
    weight = network.stages[unit].blocks[block][0].weight.detach()
    seen = conv2d(channels[None, :, None, None].expand(1, -1, 3, 3), weight)[0, :, 0, 0]
    np.testing.assert_allclose(got @ channels.numpy(), seen.numpy(), atol=1e-12)
    np.testing.assert_allclose(kernel("trained"), scaled(got), rtol=1e-12)


def test_chain_decays_by_its_eigenvalues_and_grows_by_its_strip():
    """The lesson of the figure: at kappa = 0 one defective negative eigenvalue, and a strip that ends to the right."""
    lam, bounds, _ = spectra("chain", "linear")
    middle = len(BENDS) // 2
    assert np.ptp(lam[middle]) == 0
    assert bounds[middle, 0] < -0.2
    assert bounds[middle, 3] > 0.1
    assert (np.diag(chain()) == np.diag(chain())[0]).all()


def test_file_is_of_the_kernels_that_are_made_and_says_where():
    kept = results.read(FILE)
    assert kept["evidence"]["commit"]
    assert kept["evidence"]["uncommitted_changes"] is False
    assert kept["settings"]["bends"] == BENDS.tolist()
    assert (kept["settings"]["network"], kept["settings"]["place"]) == (NETWORK, list(PLACE))
    for old, new in zip(kept["final"]["kernels"], kernels(load_trained(NETWORK)), strict=True):
        assert {key: old[key] for key in new} == new
    # all of it is as numpy finds it, see above; one of it is made again as it was
    again, data = measured(kernel("chain"), "linear"), of("chain")["spectra"]["linear"]
    assert again["quantum"] == pytest.approx(data["quantum"], rel=1e-9)
    a, b = (unpack(d["eigenvalues"], "<i2").reshape(len(BENDS), -1, 2) @ [1, 1j] for d in (data, again))
    assert max(paired(x, y) for x, y in zip(a, b)) < 2, "the last bits are the machine's"


def test_state_of_the_figure_is_below_its_limit_and_names_are_checked():
    widget = BentKernel()
    assert len(json.dumps(widget.spec)) < 60_000
    for wrong in ({"kernel": "other"}, {"activation": "relu"}, {"bend": 1.5}):
        with pytest.raises(traitlets.TraitError, match=next(iter(wrong))):
            BentKernel(**wrong)
