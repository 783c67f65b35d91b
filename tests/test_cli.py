"""The command: help, versions, and errors of one line."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

import revode
from revode import cli

from .training import tiny

__all__ = ["tiny"]


def run(*argv: str) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, "-m", "revode", *argv], capture_output=True, text=True, timeout=120)


def test_as_a_module():
    done = run("models", "resnet-33")
    assert (done.returncode, done.stdout) == (2, "")
    assert "resnet-33" in done.stderr
    assert "Traceback" not in done.stderr


def test_version(capsys):
    with pytest.raises(SystemExit) as end:
        cli.main(["--version"])
    assert end.value.code == 0
    assert capsys.readouterr().out == f"revode {revode.__version__}\n"


def test_help_names_every_command(capsys):
    with pytest.raises(SystemExit) as end:
        cli.main(["--help"])
    assert end.value.code == 0
    out = capsys.readouterr().out
    assert all(re.search(rf"^ {{4}}{name}\s", out, re.MULTILINE) for name in cli.COMMANDS)


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_help_of_each_command(name, capsys):
    with pytest.raises(SystemExit) as end:
        cli.main([name, "--help"])
    assert end.value.code == 0
    out = capsys.readouterr().out
    assert out.startswith(f"usage: revode {name}")
    assert cli.COMMANDS[name][1][1:20] in " ".join(out.split())


def test_help_of_train_tells_every_setting(capsys):
    with pytest.raises(SystemExit):
        cli.main(["train", "--help"])
    out = " ".join(capsys.readouterr().out.split())
    for words in ("--smoothness X Factor of the network's smoothness", "--resume", "--no-compile", "Momentum of SGD"):
        assert words in out, words


@pytest.mark.parametrize("argv", [[], ["fly"], ["train"], ["train", "x", "--steps", "many"], ["data", "mnist"]])
def test_usage_errors(argv, capsys):
    with pytest.raises(SystemExit) as end:
        cli.main(argv)
    assert end.value.code == 2
    assert "usage: revode" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        (["train", "resnet-33"], "model = 'resnet-33' must be one of"),
        (["train", "tiny", "--data", "sample", "--batch", "999"], "batch = 999 must be at most 260"),
        (["train", "tiny", "--data", "sample", "--device", "cuda:99"], "device = 'cuda:99'"),
        (["train", "tiny", "--data", "sample", "--subset", "999"], "n must be at most 260"),
        (["train", "tiny", "--data-root", "/nowhere"], "REVODE_DATA"),
        (["export", "/nowhere", "a"], "/nowhere/result.json cannot be read"),
        (["spectra", "resnet-33"], "there are no trained weights 'resnet-33'"),
        (["results", "/nowhere.json"], "/nowhere.json cannot be read"),
    ],
)
def test_an_error_is_one_line_and_status_2(argv, says, capsys, tiny):
    assert cli.main(argv) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("revode: error: ")
    assert err.count("\n") == 1
    assert says in err


def test_an_error_of_several_lines_becomes_one(capsys, monkeypatch):
    def fail(args):
        raise ValueError("one\n  two")

    monkeypatch.setattr("revode.results.main", fail)
    assert cli.main(["results"]) == 2
    assert capsys.readouterr().err == "revode: error: one two\n"


def test_an_error_of_our_own_making_is_not_hidden(monkeypatch):
    def fail(args):
        raise AssertionError

    monkeypatch.setattr("revode.results.main", fail)
    with pytest.raises(AssertionError):
        cli.main(["results"])


def test_models(capsys):
    assert cli.main(["models"]) == 0
    out = capsys.readouterr().out
    assert all(name in out for name in ("hamiltonian-74", "resnet-1202", "leapfrog-stl10"))


def test_ctrl_c_is_130(capsys, monkeypatch):
    def fail(args):
        raise KeyboardInterrupt

    monkeypatch.setattr("revode.results.main", fail)
    assert cli.main(["results"]) == 130
    assert capsys.readouterr().err == "revode: stopped\n"


def test_a_reader_that_has_seen_enough(root):
    done = subprocess.run(
        ["sh", "-c", f"{sys.executable} -m revode models | true"], capture_output=True, text=True, timeout=120
    )
    assert "Traceback" not in done.stderr
    assert "BrokenPipe" not in done.stderr
