"""The chapters are committed without outputs, open in Colab as they are, and have exercises that fold."""

from __future__ import annotations

import re
import sys
import tomllib
import types
from importlib import metadata
from pathlib import Path

import nbformat
import pytest
import yaml
from IPython.core.interactiveshell import InteractiveShell
from traitlets.config import Config

ROOT = Path(__file__).resolve().parent.parent
NOTEBOOKS = sorted((ROOT / "book").glob("*.ipynb"))
REPOSITORY = yaml.safe_load((ROOT / "_config.yml").read_text("utf-8"))["repository"]

# What Colab has already; whatever else revode depends on, the first cell must install.
COLAB = {"torch", "torchvision", "numpy", "scipy", "matplotlib", "ipywidgets", "tqdm", "safetensors"}

FIRST_CELL = f"""\
# In Colab only: install the package (Colab's own torch is kept)
import sys

if "google.colab" in sys.modules:
    %pip install -q anywidget
    %pip install -q --no-deps "git+{REPOSITORY["url"]}@{REPOSITORY["branch"]}"
"""

chapters = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


def cells(path: Path, kind: str = "code") -> list:
    return [c for c in nbformat.read(path, as_version=4).cells if c.cell_type == kind]


def test_there_are_five_chapters_and_each_is_in_the_table_of_contents():
    assert len(NOTEBOOKS) >= 5
    contents = (ROOT / "_toc.yml").read_text("utf-8")
    assert [p.name for p in NOTEBOOKS if f"book/{p.stem}" not in contents] == []


@chapters
def test_notebook_is_clean(path):
    notebook = nbformat.read(path, as_version=nbformat.NO_CONVERT)
    nbformat.validate(notebook)  # also refuses ids that are missing or used twice
    assert (notebook.nbformat, notebook.nbformat_minor) >= (4, 5)
    assert notebook.metadata.kernelspec.name == "python3"
    assert set(notebook.metadata) <= {"kernelspec", "language_info", "accelerator", "colab"}
    assert len({c.id for c in notebook.cells}) == len(notebook.cells)
    for cell in notebook.cells:
        assert set(cell.metadata) <= {"tags", "cellView", "mystnb"}, f"cell {cell.id}: unexpected metadata"
        if cell.cell_type == "code":
            assert cell.outputs == [], f"cell {cell.id}: run `make format`"
            assert cell.execution_count is None, f"cell {cell.id}: run `make format`"


@chapters
def test_first_cell_is_colabs_and_names_the_repository_of_the_config(path):
    first = cells(path)[0]
    assert first.source.strip() == FIRST_CELL.strip()
    assert "hide-cell" in first.metadata.tags


def run_cell(source: str) -> list[str]:
    """Run a cell in a fresh IPython and return the lines given to %pip, which is not run."""
    shell = InteractiveShell(config=Config({"HistoryManager": {"enabled": False}}))
    asked: list[str] = []
    shell.register_magic_function(asked.append, "line", "pip")
    shell.run_cell(source).raise_error()
    return asked


def needs(name: str, seen: set[str]) -> set[str]:
    """Names of all that pip would install with a package, extras aside."""
    if name not in seen:
        seen.add(name)
        for line in metadata.requires(name) or []:
            if "extra ==" not in line:
                try:
                    needs(re.split(r"[^\w.-]", line)[0].lower().replace("_", "-"), seen)
                except metadata.PackageNotFoundError:
                    continue  # for another platform or Python
    return seen


@chapters
def test_first_cell_in_colab_installs_revode_and_leaves_torch_alone(path, monkeypatch):
    google = types.ModuleType("google")
    google.colab = types.ModuleType("google.colab")
    monkeypatch.setitem(sys.modules, "google", google)
    monkeypatch.setitem(sys.modules, "google.colab", google.colab)

    asked = [line.split() for line in run_cell(cells(path)[0].source)]

    assert asked
    assert all(words[0] == "install" for words in asked)
    assert not {"-U", "--upgrade", "--force-reinstall"} & {w for words in asked for w in words}
    packages = {" ".join(words): [w.strip("\"'") for w in words[1:] if not w.startswith("-")] for words in asked}
    installed = {p for names in packages.values() for p in names}
    assert f"git+{REPOSITORY['url']}@{REPOSITORY['branch']}" in installed

    pulled: set[str] = set()
    for line, names in packages.items():
        if "--no-deps" not in line:
            for name in names:
                needs(name, pulled)
    assert not {"torch", "torchvision", "numpy"} & pulled
    # ... and nothing that revode needs is forgotten
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    wanted = {re.split(r"[^\w.-]", line)[0] for line in project["dependencies"]}
    assert wanted - COLAB <= installed


@chapters
def test_first_cell_elsewhere_installs_nothing(path, monkeypatch):
    monkeypatch.delitem(sys.modules, "google.colab", raising=False)
    assert run_cell(cells(path)[0].source) == []


@chapters
def test_exercises_have_solutions_that_fold_in_the_book_and_in_colab(path):
    exercises = [c for c in cells(path, "markdown") if re.search(r"^#+ .*Exercise", c.source, re.MULTILINE)]
    solutions = [c for c in cells(path) if c.source.startswith("# @title Solution")]
    assert exercises, "a chapter has exercises"
    assert solutions, "... and their solutions"
    for cell in cells(path):
        is_solution = cell in solutions
        assert is_solution == ("hide-input" in cell.metadata.get("tags", [])), f"cell {cell.id}"
        assert is_solution == (cell.metadata.get("cellView") == "form"), f"cell {cell.id}"
