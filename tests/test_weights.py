"""Trained weights in float16: what goes in comes out, and damage is seen."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
import torch

import revode
from revode import cli, data, paths, results, train, weights
from revode.errors import CheckpointError

from .training import tiny

__all__ = ["tiny"]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The package's data, in an empty folder."""
    monkeypatch.setattr(paths, "bundled", lambda: tmp_path / "data")
    return tmp_path / "data" / "weights"


@pytest.fixture
def network(tiny):
    network = revode.build("tiny", seed=0, h=0.7, memory="stored")
    with torch.no_grad():
        network(torch.randn(8, 3, 32, 32))  # running statistics that are not 0 and 1
    return network.eval()


def test_round_trip(folder, network):
    assert weights.export(network, "a", {"result": "b"}) == folder / "a.npz"
    found = weights.load_trained("a")
    assert (found.h, found.memory, found.training, found.meta) == (0.7, "reversible", False, {"result": "b"})
    assert found.state_dict().keys() == network.state_dict().keys()
    for name, t in found.state_dict().items():
        expected = network.state_dict()[name]
        assert t.dtype == expected.dtype
        assert torch.equal(t, expected.half().float() if t.is_floating_point() else expected), name
    x = data.normalize(data.load("sample", "test").images, *data.load("sample", "train").mean_std())
    with torch.no_grad():
        a, b = network(x), found(x)
    assert 0 < (a - b).norm() / a.norm() < 2e-3  # rounding to 11 bits


@pytest.mark.parametrize("memory", ["reversible", "stored"])
def test_memory_modes(folder, network, memory):
    weights.export(network, "a")
    assert weights.load_trained("a", memory=memory).memory == memory
    with pytest.raises(ValueError, match="memory = 'none' must be one of"):
        weights.load_trained("a", memory="none")


def test_numbers_too_large_for_float16_stay(folder, network):
    network.norm.running_var[0] = 1e6
    weights.export(network, "a")
    assert weights.load_trained("a").norm.running_var[0] == 1e6


@pytest.mark.parametrize("name", ["hamiltonian-74", "midpoint-26", "leapfrog-26", "resnet-32"])
def test_files_are_smaller_than_a_megabyte(folder, name):
    assert weights.export(revode.build(name, seed=0), name).stat().st_size < 1_000_000


def test_the_same_weights_make_the_same_file(folder, network):
    first = weights.export(network, "a").read_bytes()
    assert weights.export(network, "a").read_bytes() == first


def listed(folder: Path) -> dict[str, str]:
    return {n: d for d, n in (line.split("  ") for line in (folder / weights.SUMS).read_text().splitlines())}


def test_the_list_of_checksums_has_exactly_the_other_files(folder, network):
    for name in ("b", "a"):
        weights.export(network, name)
    assert list(listed(folder)) == ["a.npz", "b.npz"]
    assert weights.names() == ["a", "b"]
    for name, digest in listed(folder).items():
        assert digest == hashlib.sha256((folder / name).read_bytes()).hexdigest()
    network.fc.bias.data += 1
    weights.export(network, "a")  # other weights of the same name
    assert weights.load_trained("a").fc.bias[0] == network.fc.bias[0].half()
    (folder / "a.npz").unlink()
    weights.export(network, "c")
    assert list(listed(folder)) == ["b.npz", "c.npz"]


def test_a_damaged_file_is_seen_also_after_another_export(folder, network):
    path = weights.export(network, "a")
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    for _ in range(2):
        with pytest.raises(CheckpointError, match=r"a\.npz is damaged \(its checksum"):
            weights.load_trained("a")
        weights.export(network, "b")


def test_without_the_list_of_checksums(folder, network):
    weights.export(network, "a")
    (folder / weights.SUMS).unlink()
    with pytest.raises(CheckpointError, match="SHA256SUMS cannot be read"):
        weights.load_trained("a")


def relist(folder: Path) -> None:
    digest = hashlib.sha256((folder / "a.npz").read_bytes()).hexdigest()
    (folder / weights.SUMS).write_text(f"{digest}  a.npz\n")


def test_files_that_hold_something_else(folder, network):
    path = weights.export(network, "a")
    path.write_bytes(b"PK nothing of the kind")
    relist(folder)
    with pytest.raises(CheckpointError, match="holds no weights of revode"):
        weights.load_trained("a")
    for about in ({"settings": {"name": "resnet-33"}, "meta": {}}, {"settings": network.settings, "meta": {}}):
        np.savez(path, __about__=np.frombuffer(json.dumps(about).encode(), np.uint8))
        relist(folder)
        with pytest.raises(CheckpointError, match="does not fit its network"):
            weights.load_trained("a")


@pytest.mark.parametrize("name", ["hamiltonian-73", "../weights/a", ""])
def test_an_unknown_name_lists_the_choices(folder, network, name):
    with pytest.raises(CheckpointError, match="there are: none"):
        weights.load_trained(name)
    weights.export(network, "a")
    with pytest.raises(CheckpointError, match=r"there are no trained weights .*; there are: a"):
        weights.load_trained(name)


def test_refused_exports(folder, network):
    with pytest.raises(ValueError, match=r"name = '\.\./a'"):
        weights.export(network, "../a")
    network.fc.weight.data[0, 0] = float("nan")
    with pytest.raises(ValueError, match=r"'fc\.weight' is not finite"):
        weights.export(network, "a")
    with pytest.raises(ValueError, match="no name"):
        weights.export(revode.Network("midpoint", (1,), (4,)), "a")
    assert not folder.exists()


def test_export_of_a_run(folder, tiny, capsys):
    c = tiny(limit_seconds=0.0)
    train.fit(c, quiet=True)
    with pytest.raises(CheckpointError, match=r"is unfinished, at step 1.*--resume"):
        weights.main(cli.parser("export").parse_args(["export", c.out, "mine"]))
    record = train.fit(tiny(), quiet=True, resume=True)
    assert cli.main(["export", c.out, "mine"]) == 0
    assert "mine.npz" in capsys.readouterr().out
    network = revode.load_trained("mine")
    assert results.load("mine") == record | {"name": "mine"}
    assert network.meta["test_accuracy"] == record["final"]["test_accuracy"]
    assert network.meta["mean"] == pytest.approx(data.load("sample", "train").mean_std()[0])
    for name, t in train.load_network(c.out).state_dict().items():
        torch.testing.assert_close(network.state_dict()[name], t, rtol=1e-3, atol=1e-6)


def test_export_of_the_result_alone(folder, tiny, capsys):
    record = train.fit(tiny(), quiet=True)
    assert cli.main(["export", tiny().out, "second", "--result-only"]) == 0
    assert capsys.readouterr().out.strip().endswith("second.json")
    assert results.load("second") == record | {"name": "second"}
    assert not folder.exists()


def test_all_bundled_weights_load_and_are_listed():
    where = weights.folder()
    if where.exists():
        assert set(listed(where)) == {p.name for p in where.iterdir()} - {weights.SUMS}
        for name in weights.names():
            assert weights.load_trained(name).meta["result"] in results.names()
