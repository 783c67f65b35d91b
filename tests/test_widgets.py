"""Widget classes: a small state that JSON can carry, answers as the package computes them, Colab's old ipywidgets."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import traitlets

from revode import stability, widgets
from revode.errors import CheckpointError
from revode.fields import AntisymmetricField
from revode.networks import Network
from revode.stability import PROBLEMS, STABILITY_LIMIT
from revode.widgets import StepSizeExplorer

MEANINGFUL = [(s, p) for s in STABILITY_LIMIT for p in PROBLEMS if not stability.why_not(s, p)]


@pytest.fixture(scope="module")
def layer() -> stability.Layer:
    kernel = torch.randn(6, 6, generator=torch.Generator().manual_seed(0))
    state = torch.randn(1, 6, generator=torch.Generator().manual_seed(1))
    return stability.layer_data(lambda y: torch.tanh(y @ (kernel - kernel.T).T), state, "a test")


def ask(widget, **question) -> dict:
    """What the widget answers to a message of the page."""
    widget._answer(widget, {"kind": "recompute", **question}, [])
    return widget.exact


def state_of(widget) -> dict:
    """The state that goes into a page, without the code."""
    return {k: v for k, v in widget.get_state().items() if k not in ("_esm", "_css") and not hasattr(v, "model_id")}


@pytest.mark.parametrize("name", widgets.__all__)
def test_state_is_small_and_plain_json(name):
    text = json.dumps(state_of(getattr(widgets, name)()), allow_nan=False)
    assert len(text) < 100_000


@pytest.mark.parametrize("name", widgets.__all__)
def test_module_fetches_nothing_and_renders(name):
    code = getattr(widgets, name)()._esm
    assert "export default { render }" in code
    assert "import " not in code.replace("no imports", "")
    assert "http" not in code.replace("http://www.w3.org/2000/svg", "")


def test_state_with_a_layer_is_small(layer):
    assert len(json.dumps(state_of(StepSizeExplorer(layer=layer)), allow_nan=False)) < 100_000


def test_what_has_no_meaning_comes_with_its_reason(layer):
    widget = StepSizeExplorer(layer=layer)
    problems = {p["name"]: p for p in widget.spec["problems"]} | {"layer": widget.layer["problem"]}
    for name, problem in problems.items():
        for scheme in STABILITY_LIMIT:
            offered = (scheme, name) in MEANINGFUL or (name == "layer" and scheme in ("euler", "midpoint"))
            assert offered == (problem["why"][scheme] == "")
    assert problems["spiral"]["critical"]["euler"] == pytest.approx(0.2)
    assert problems["centre"]["critical"] == STABILITY_LIMIT


def test_no_layer_no_offer():
    assert StepSizeExplorer(layer=None).layer == {}


@pytest.mark.parametrize(("scheme", "problem"), MEANINGFUL)
def test_a_kernel_answers_with_what_the_package_computes(scheme, problem):
    answer = ask(StepSizeExplorer(), scheme=scheme, problem=problem, h=0.37)
    want = stability.trajectory(scheme, problem, 0.37, 100, device=answer["device"])
    np.testing.assert_array_equal(stability.unpack(answer["states"], "<f8").reshape(-1, 2), want)
    np.testing.assert_array_equal(stability.unpack(answer["sizes"], "<f8"), PROBLEMS[problem].size(want))
    assert (answer["scheme"], answer["problem"], answer["h"]) == (scheme, problem, 0.37)


def test_a_kernel_recomputes_the_layer_at_any_step_size(layer):
    h = float(layer.h[4] * 1.01)  # between two of the precomputed ones
    answer = ask(StepSizeExplorer(layer=layer), scheme="midpoint", problem="layer", h=h)
    plane, norm = layer.follow("midpoint", h)
    np.testing.assert_allclose(stability.unpack(answer["states"], "<f8").reshape(-1, 2), plane)
    np.testing.assert_allclose(stability.unpack(answer["sizes"], "<f8"), norm)


@pytest.mark.parametrize(
    "question",
    [
        {"scheme": "hamiltonian", "problem": "spiral", "h": 0.1},
        {"scheme": "heun", "problem": "centre", "h": 0.1},
        {"scheme": "euler", "problem": "layer", "h": 0.1},
        {"scheme": "euler", "problem": "centre", "h": "nan"},
        {"scheme": "euler", "problem": "centre"},
        {"scheme": "euler", "problem": "centre", "h": 0.1, "kind": "other"},
    ],
)
def test_a_question_without_a_meaning_gets_no_answer(question):
    assert ask(StepSizeExplorer(layer=None), **question) == {}


def test_a_choice_that_is_not_there_is_refused():
    with pytest.raises(traitlets.TraitError, match="must be one of"):
        StepSizeExplorer(problem="sink")
    with pytest.raises(traitlets.TraitError):
        StepSizeExplorer(scheme="heun")


# --- Colab has ipywidgets 7.7.1 -------------------------------------------------------------------------------

COLABS = ["ipywidgets==7.7.1", "ipython_genutils==0.2.0"]


@pytest.fixture(scope="session")
def colabs_ipywidgets() -> Path:
    """A folder with Colab's ipywidgets, kept in the environment so that later runs need no network."""
    folder = Path(sys.prefix) / "share" / "revode-tests" / COLABS[0]
    if not folder.exists():
        folder.parent.mkdir(parents=True, exist_ok=True)
        part = folder.with_name(f"{folder.name}.{os.getpid()}.part")
        pip = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target", str(part), *COLABS]
        done = subprocess.run(pip, capture_output=True, text=True)
        if done.returncode:
            shutil.rmtree(part, ignore_errors=True)
            pytest.fail(f"{COLABS[0]}, Colab's version, could not be fetched; the first run needs the network", False)
        try:
            part.rename(folder)
        except OSError:  # another worker was faster
            shutil.rmtree(part, ignore_errors=True)
    return folder


def test_widgets_work_with_colabs_ipywidgets(colabs_ipywidgets, root):
    code = """
import ipywidgets, json
assert ipywidgets.__version__ == "7.7.1", ipywidgets.__version__
from revode import widgets
for name in widgets.__all__:
    widget = getattr(widgets, name)()
    state = widget.get_state()
    assert state["_model_module"] == "anywidget" and state["_view_name"] == "AnyView", name
    json.dumps({k: v for k, v in state.items() if isinstance(v, (str, int, float, list, dict))}, allow_nan=False)
    assert widget._esm and widget._css, name
    if hasattr(widget, "_repr_mimebundle_"):
        bundle = widget._repr_mimebundle_()
        print(name, sorted(bundle[0] if isinstance(bundle, tuple) else bundle))
    else:  # older versions of anywidget leave it to ipywidgets
        ipywidgets.widgets.widget.display = lambda data, raw: print(name, sorted(data))
        widget._ipython_display_()
"""
    path = os.pathsep.join([str(colabs_ipywidgets), str(root)])
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code],
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": path},
    )
    assert done.returncode == 0, done.stderr
    shown = [line.split()[0] for line in done.stdout.splitlines() if "application/vnd.jupyter.widget-view+json" in line]
    assert shown == widgets.__all__


# --- the bundled layer of a trained network -------------------------------------------------------------------


def test_a_layer_is_taken_from_a_network_with_the_state_it_gets(tmp_path, monkeypatch):
    from revode.widgets import step_size, trained_layer

    torch.manual_seed(0)
    network = Network("midpoint", units=[2, 2], widths=[4, 6], h=0.5)
    monkeypatch.setattr(trained_layer, "load_trained", lambda name: network)
    layer = trained_layer.make("small", size=8)
    assert layer.origin["h"] == 0.5
    assert layer.h.max() > 0.5, "the network's own step size is within reach"
    assert np.abs(layer.h - layer.critical).min() < 1e-12, "the critical one is on the grid"
    # a fresh network has no scales in its normalization that could bend the spectrum
    assert (layer.eigenvalues.real == 0).all()
    assert 0 <= layer.real_part < 1e-7, "measured, by a solver that knows nothing of the structure"

    field, state, h = trained_layer.take(network, size=8)
    assert state.shape == (1, 6, 4, 4)
    assert (h, field) == (0.5, [m for m in network.modules() if isinstance(m, AntisymmetricField)][-1])

    monkeypatch.setattr(step_size, "LAYER_FILE", tmp_path / "layer.json")
    monkeypatch.setattr(step_size, "best_device", lambda: "cpu")
    assert step_size.bundled_layer() is None
    layer.save(tmp_path / "layer.json")
    widget = StepSizeExplorer(problem="layer", scheme="midpoint")
    assert widget.layer["problem"]["marks"] == [{"h": 0.5, "text": "the network’s own"}]
    answer = ask(widget, scheme="midpoint", problem="layer", h=float(layer.h[3]))
    np.testing.assert_allclose(stability.unpack(answer["sizes"], "<f8"), layer.norm[1, 3], rtol=1e-9)

    def gone(name):
        raise CheckpointError("no such weights")

    monkeypatch.setattr(trained_layer, "load_trained", gone)
    assert ask(StepSizeExplorer(), scheme="midpoint", problem="layer", h=0.1) == {}


def test_a_network_without_an_antisymmetric_layer_is_refused():
    from revode.widgets import trained_layer

    with pytest.raises(ValueError, match="take a midpoint network"):
        trained_layer.take(Network("leapfrog", units=[1], widths=[4], h=0.5), size=8)
