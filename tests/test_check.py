"""``revode check`` passes on a sound engine and fails on each broken one, in the line that names the fault."""

from __future__ import annotations

import argparse
import functools
import math

import pytest
import torch

from revode import check, fields, shear, stage

SMALL = (4, 8)


@pytest.fixture(autouse=True)
def _small(monkeypatch):
    """Few blocks, images of half the size, and one round for the time, which nothing is said of."""
    monkeypatch.setattr(check, "DEPTHS", SMALL)
    full = check.images
    monkeypatch.setattr(check, "images", lambda name, batch, size: full(name, batch, size // 2))
    monkeypatch.setattr(check.time_ratio, "__defaults__", (1,))


def failed(rows) -> set[str]:
    return {r.quantity for r in rows if r.ok is False}


def run(scheme="hamiltonian", **kwargs):
    return check.run("cpu", [scheme], compiled=False, **kwargs)


def arguments(*words: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    check.add_arguments(parser)
    return parser.parse_args(words)


@pytest.mark.parametrize("scheme", check.FIELDS)
def test_every_scheme_passes_and_all_is_measured(scheme):
    rows = run(scheme)
    assert {r.quantity for r in rows} == set(check._QUANTITIES)
    assert {r.quantity for r in rows if r.ok is None} == {
        "gradient, float32 from stored",
        "memory, stored",
        "memory, reversible",
        "time",
    }
    assert failed(rows) == set()


# --- broken engines ------------------------------------------------------------------------------------------------


def test_an_inverse_that_is_a_little_off_fails(monkeypatch):
    right = shear.subtract
    monkeypatch.setattr(shear, "subtract", lambda s, a, v: right(s, a, v * 1.01))
    trips = {"round trip, float32", "round trip, float64", "round trip, exact"}
    assert failed(run()) >= trips | {"gradient, float64", "recompute"}


def test_a_gradient_that_loses_a_term_fails(monkeypatch):
    def wrong(shears, state, kwargs, *, memory, scale):
        out = shear.forward(shears, state, kwargs)
        return out if memory == "stored" else tuple(p + 0.01 * (p.detach() - p) for p in out)

    monkeypatch.setattr(stage, "propagate", wrong)
    assert failed(run()) >= {"gradient, float64", "gradient, float32", "memory"}


def test_a_gradient_that_is_not_finite_fails(monkeypatch):
    right = shear.subtract
    monkeypatch.setattr(shear, "subtract", lambda s, a, v: right(s, a, v * math.nan))
    assert failed(run()) >= {"gradient, float64", "round trip, float64"}


def test_memory_that_grows_fails(monkeypatch):
    monkeypatch.setattr(stage, "propagate", lambda shears, state, kwargs, **_: shear.forward(shears, state, kwargs))
    assert failed(run()) == {"memory"}


def test_a_second_evaluation_that_differs_in_the_last_bits_fails(monkeypatch):
    right, calls = fields.SymmetricField.forward, []

    def drifting(self, y):
        calls.append(1)
        return right(self, y) * (1 + 1e-6 * (len(calls) % 2))

    monkeypatch.setattr(fields.SymmetricField, "forward", drifting)
    assert "recompute" in failed(run())


def test_the_command_tells_a_failure_by_its_exit_status(monkeypatch, capsys):
    monkeypatch.setattr(check, "FIELDS", {"leapfrog": fields.SymmetricField})
    monkeypatch.setattr(check.run, "__defaults__", (None, ("leapfrog",)))
    monkeypatch.setattr(check, "compiler", lambda: None)
    assert check.main(arguments("--device", "cpu")) == 0
    out = capsys.readouterr().out
    assert "All passes." in out
    assert "PASS" in out
    assert "FAIL" not in out
    assert f"activations stored, {SMALL[0]} → {SMALL[1]} blocks" in out
    assert "euler: a plain residual network, not reversible" in out
    assert "skipped: no C++ compiler" in out
    assert torch.__version__ in out

    right = shear.subtract
    monkeypatch.setattr(shear, "subtract", lambda s, a, v: right(s, a, v * 1.01))
    assert check.main(arguments("--device", "cpu")) == 1
    out = capsys.readouterr().out
    assert "FAIL" in out
    assert "!" in out


def test_time_never_fails(monkeypatch):
    seconds = iter(range(1, 100))
    monkeypatch.setattr(check, "_seconds", lambda *_: 10.0 ** next(seconds))
    rows = run("leapfrog")
    assert failed(rows) == set()
    assert next(r for r in rows if r.quantity == "time").limit is None


def test_what_was_not_measured_does_not_pass():
    assert check.Row("leapfrog", "memory", math.nan, 0.1, "").ok is False
    assert check.Row("leapfrog", "time", 9.0, None, "").ok is None


# --- torch.compile -------------------------------------------------------------------------------------------------


def test_one_graph(monkeypatch):
    """Without generating code, which test_compile.py does."""
    torch._dynamo.reset()
    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend="aot_eager"))
    monkeypatch.setattr(check, "compiler", lambda: "g++")
    ((quantity, value, limit, text),) = check._compiled("hamiltonian", torch.device("cpu"))
    assert quantity == "torch.compile"
    if check.TRACEABLE:
        assert value < limit
        assert "one graph" in text
    else:
        assert limit is None
        assert "2.10" in text


def test_a_compilation_that_fails_fails(monkeypatch):
    def broken(*_, **__):
        raise RuntimeError("graph break in the middle\nand more")

    monkeypatch.setattr(torch, "compile", broken)
    monkeypatch.setattr(check, "compiler", lambda: "g++")
    monkeypatch.setattr(check, "TRACEABLE", True)
    row = check.Row("leapfrog", *next(check._compiled("leapfrog", torch.device("cpu"))))
    assert row.ok is False
    assert row.text == "RuntimeError: graph break in the middle"
    assert "FAIL" in check.table([row])


# --- at the door ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scheme", ["euler", "verlet"])
def test_a_scheme_that_cannot_be_checked_is_refused(scheme):
    with pytest.raises(ValueError, match=f"{scheme}.*hamiltonian, midpoint"):
        run(scheme)


def test_a_device_that_cannot_be_measured_is_refused(monkeypatch):
    with pytest.raises(ValueError, match="'meta' must be 'cpu' or 'cuda'"):
        check.run("meta")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ValueError, match="no CUDA device"):
        check.run("cuda")
