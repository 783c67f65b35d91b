"""The wheel carries what the chapters need, versions and addresses agree, and the make tools say what is wrong."""

from __future__ import annotations

import hashlib
import json
import os
import re
import socket
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parent.parent
BUNDLED = ["sample", "results", "weights"]


def text(name: str) -> str:
    return (ROOT / name).read_text("utf-8")


def run(*command, **kwargs) -> subprocess.CompletedProcess:
    return subprocess.run([str(c) for c in command], capture_output=True, text=True, timeout=120, **kwargs)


def python(folder: Path, *arguments, cwd: Path) -> subprocess.CompletedProcess:
    """Python that finds revode in the folder, not in the checkout and not in the environment."""
    return run(sys.executable, *arguments, cwd=cwd, env=os.environ | {"PYTHONPATH": str(folder)})


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    pip = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-index", "--no-build-isolation"]
    built = run(*pip, "-w", folder, ROOT)
    assert built.returncode == 0, built.stderr
    return next(folder.glob("revode-*.whl"))


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory) -> Path:
    """A folder with the wheel's content, as pip lays it out."""
    folder = tmp_path_factory.mktemp("installed")
    pip = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--no-index", "--target", folder, wheel]
    done = run(*pip)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture(scope="module")
def facts(installed, tmp_path_factory) -> dict:
    """What the installed package says of itself, right after `import revode`."""
    code = "import json, sys, revode; loaded = sorted(sys.modules); import revode.paths as p; "
    code += "print(json.dumps([revode.__version__, loaded, str(p.bundled())]))"
    done = python(installed, "-c", code, cwd=tmp_path_factory.mktemp("elsewhere"))
    assert done.returncode == 0, done.stderr
    return dict(zip(("version", "loaded", "data"), json.loads(done.stdout)))


def files(folder: Path) -> dict[str, Path]:
    return {p.relative_to(folder).as_posix(): p for p in folder.rglob("*") if p.is_file()}


@pytest.mark.parametrize("part", BUNDLED)
def test_wheel_carries_the_sample_the_results_and_the_weights(wheel, part):
    here = files(ROOT / "data" / part)
    assert here
    with zipfile.ZipFile(wheel) as archive:
        inside = {n for n in archive.namelist() if n.startswith(f"revode/_data/{part}/")}
        assert inside == {f"revode/_data/{part}/{name}" for name in here}
        for name, path in here.items():
            assert archive.read(f"revode/_data/{part}/{name}") == path.read_bytes()


def test_weights_match_their_checksums():
    folder = ROOT / "data" / "weights"
    listed = dict(reversed(line.split(maxsplit=1)) for line in text("data/weights/SHA256SUMS").splitlines())
    listed = {name.lstrip("*"): digest for name, digest in listed.items()}
    assert set(listed) == set(files(folder)) - {"SHA256SUMS"}
    for name, digest in listed.items():
        assert hashlib.sha256((folder / name).read_bytes()).hexdigest() == digest


def test_result_files_are_readable_and_name_their_run():
    for path in files(ROOT / "data" / "results").values():
        if path.suffix == ".json":
            json.loads(path.read_text("utf-8"))


def test_wheel_carries_the_package_and_nothing_else(wheel):
    source = {f"revode/{name}" for name in files(ROOT / "revode") if "__pycache__" not in name}
    with zipfile.ZipFile(wheel) as archive:
        inside = set(archive.namelist())
    own = {n for n in inside if ".dist-info/" not in n and not n.startswith("revode/_data/")}
    assert own == source
    assert {Path(n).suffix for n in own} >= {".py", ".js", ".css"}
    assert any(n.endswith("licenses/LICENSE") for n in inside)
    assert wheel.stat().st_size < 20e6


def test_installed_package_finds_its_data_in_itself(facts, installed):
    assert facts["data"] == str(installed / "revode" / "_data")


def test_command_and_module_are_the_same_program(installed, tmp_path):
    (points,) = installed.glob("revode-*.dist-info/entry_points.txt")
    assert "revode = revode.cli:main" in points.read_text("utf-8")
    module = python(installed, "-m", "revode", "--help", cwd=tmp_path)
    command = python(installed, installed / "bin" / "revode", "--help", cwd=tmp_path)
    assert module.returncode == command.returncode == 0, module.stderr + command.stderr
    assert "train" in module.stdout
    assert module.stdout.replace("python -m revode", "revode") == command.stdout


def test_import_is_light(facts):
    """Plots, widgets and data sets are loaded by those who ask for them."""
    assert "torch" in facts["loaded"]
    assert not {"matplotlib", "ipywidgets", "anywidget", "torchvision"} & set(facts["loaded"])


def test_versions_agree(facts, installed):
    version = facts["version"]
    assert re.fullmatch(r"\d+\.\d+\.\d+", version)
    assert list(installed.glob(f"revode-{version}.dist-info"))
    assert yaml.safe_load(text("CITATION.cff"))["version"] == version
    assert re.search(rf"^## \[?{re.escape(version)}\b", text("CHANGELOG.md"), re.MULTILINE)


def test_one_repository_is_named_everywhere():
    url = yaml.safe_load(text("_config.yml"))["repository"]["url"]
    owner, name = url.removeprefix("https://github.com/").split("/")
    project = tomllib.loads(text("pyproject.toml"))["project"]
    assert all(address.startswith(url) for address in project["urls"].values())
    assert yaml.safe_load(text("CITATION.cff"))["repository-code"] == url
    named = re.findall(rf"github(?:\.com|usercontent\.com)/([\w.-]+/{name})\b", text("README.md"))
    named += re.findall(rf"([\w.-]+)\.github\.io/{name}\b", text("README.md"))
    assert set(named) <= {f"{owner}/{name}", owner}


def test_pins_lie_within_the_ranges():
    packaging = pytest.importorskip("packaging.requirements", reason="packaging comes with pytest")
    pins = [packaging.Requirement(line.split("#")[0]) for line in text("requirements.txt").splitlines() if "==" in line]
    exact = {p.name.lower(): str(p.specifier).removeprefix("==") for p in pins}
    project = tomllib.loads(text("pyproject.toml"))["project"]
    for line in project["dependencies"] + project["optional-dependencies"]["book"]:
        wanted = packaging.Requirement(line)
        assert wanted.specifier.contains(exact[wanted.name.lower()]), line


def project_files() -> list[Path]:
    listed = run("git", "-C", ROOT, "ls-files", "-z", "--cached", "--others", "--exclude-standard")
    if listed.returncode == 0:
        return [ROOT / name for name in listed.stdout.split("\0") if name and (ROOT / name).is_file()]
    folders = ["revode", "tests", "book", "benchmarks", ".ci"]  # an unpacked sdist
    return [p for f in folders for p in files(ROOT / f).values() if "__pycache__" not in p.parts]


def test_no_file_names_a_folder_of_somebodys_machine():
    homes = "|".join(["work", "root", "home", "Users", "opt"])
    pattern = re.compile(rf"(?<![\w.~}}/-])/({homes})/\w|\.\./shared\b|file:///\w".encode())
    found = [
        f"{path.relative_to(ROOT)}: {match[0].decode()}"
        for path in project_files()
        if path != Path(__file__) and path.suffix not in {".npz", ".png", ".safetensors", ".woff2"}
        for match in [pattern.search(path.read_bytes())]
        if match
    ]
    assert found == []


# ---- what make says when it cannot go on --------------------------------------------------------------------------


def tool(name: str, *arguments, **env) -> subprocess.CompletedProcess:
    return run(sys.executable, ROOT / ".ci" / name, *arguments, env=os.environ | env)


def assert_one_sentence(done: subprocess.CompletedProcess, *words: str) -> None:
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1, done.stderr
    assert all(word in done.stderr for word in words), done.stderr


def test_this_machine_passes_the_preflight(tmp_path):
    assert tool("preflight.py", "python").returncode == 0
    assert tool("preflight.py", "disk", tmp_path / "not" / "yet", REVODE_NEED_GB="0.001").returncode == 0


def test_old_python_is_refused_in_one_sentence():
    code = "import sys, runpy; sys.version_info = (3, 10, 4); sys.argv = sys.argv[1:]; "
    code += "runpy.run_path(sys.argv[0], run_name='__main__')"
    done = run(sys.executable, "-c", code, ROOT / ".ci" / "preflight.py", "python")
    assert_one_sentence(done, "3.11", "3.10.4", "PYTHON=")


def test_short_disk_is_refused_in_one_sentence(tmp_path):
    done = tool("preflight.py", "disk", tmp_path / "venv", REVODE_NEED_GB="1e9")
    assert_one_sentence(done, "1000000000 GB", str(tmp_path), "VENV=")


def test_taken_port_is_refused_in_one_sentence(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert_one_sentence(tool("serve.py", tmp_path, str(port)), str(port), "PORT=")
    assert_one_sentence(tool("serve.py", tmp_path, "none"), "PORT=none")


def test_chromium_that_does_not_start_is_refused_in_one_sentence(tmp_path):
    done = tool("chromium.py", CHROMIUM=str(tmp_path / "no-such-browser"))
    assert_one_sentence(done, "no-such-browser", "CHROMIUM")


def test_lowest_versions_come_from_the_ranges():
    ranges = tool("requirements.py", "package").stdout.splitlines()
    lowest = tool("requirements.py", "--lowest", "package").stdout.splitlines()
    assert len(ranges) == len(lowest) >= 6
    assert "torch>=2.6" in ranges
    assert "torch==2.6" in lowest


def test_make_help_lists_every_documented_target():
    done = run("make", "-s", "-C", ROOT, "help")
    assert done.returncode == 0, done.stderr
    for target in ["book", "serve", "test", "test-oldest", "lint", "format", "bench", "clean"]:
        assert f"make {target} " in done.stdout
