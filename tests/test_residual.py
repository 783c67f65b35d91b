"""Networks of torchvision by name: their weights, what training does with them, and what is refused."""

from __future__ import annotations

import pytest
import torch

from revode import train
from revode.errors import CheckpointError
from revode.models import MODELS, build
from revode.multilevel import refine
from revode.networks import Network
from revode.train.diagnosis import first_not_finite

from .helpers import gradients, relative, worst
from .training import same, weights

models = pytest.importorskip("torchvision.models")

LARGE = [n for n in MODELS if n.startswith("torchvision") and not n.endswith("cifar")]
SMALL = {"units": (1, 2, 1, 1), "data": "sample", "batch": 4, "steps": 2, "eval_images": 10, "device": "cpu"}
D = torch.float64


def settings(tmp_path, model: str = "torchvision-momentum-18", run: str = "run", **more) -> train.TrainConfig:
    return train.TrainConfig(model, out=str(tmp_path / run), threads=1, **SMALL | {"image_size": 16} | more)


def small(name: str = "torchvision-momentum-18", units=(1, 3, 1, 2), **more) -> Network:
    return build(name, 5, units=units, seed=0, **more).to(D)


def images(n: int = 2, size: int = 32) -> torch.Tensor:
    return torch.randn(n, 3, size, size, dtype=D, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("name", LARGE)
def test_names_and_shapes_are_those_of_torchvision(name):
    with torch.device("meta"):
        original = getattr(models, f"resnet{MODELS[name].depth}")(num_classes=7)
        network = build(name, 7)
    assert {k: t.shape for k, t in network.state_dict().items()} == {
        k: t.shape for k, t in original.state_dict().items()
    }


def test_the_plain_network_is_torchvisions():
    network = small("torchvision-resnet-50", units=(1, 2, 1, 1))
    original = models.ResNet(models.resnet.Bottleneck, [1, 2, 1, 1], num_classes=5).to(D)
    original.load_state_dict(network.state_dict())
    x = images()
    assert torch.equal(network(x), original(x))
    assert (network.memory, network.arithmetic, network.stages, network.c) == ("stored", "float", [], None)
    assert not network.scheme.reversible


def test_c_0_is_the_plain_network():
    plain, momentum = small("torchvision-resnet-18"), small(c=0.0)
    momentum.load_state_dict(plain.state_dict())
    x = images()
    assert relative(momentum.eval()(x), plain.eval()(x)) < 1e-12


@pytest.mark.parametrize("options", [{}, {"start": "field"}, {"learn_c": "layer"}, {"store_last": 2}])
def test_gradients_do_not_depend_on_the_memory_mode(options):
    network, x = small(**options), images()
    found = {}
    for memory in ("reversible", "stored"):
        network.memory = memory
        assert {s.memory for s in network.stages} == {memory}
        found[memory] = gradients(network, x)
    assert worst(*found.values()) < 1e-10


def test_small_images_are_not_shrunk_by_the_stem():
    for name, side in (("torchvision-momentum-101-cifar", 32), ("torchvision-momentum-101", 8)):
        network, seen = build(name, units=(1, 1, 2, 1), seed=0).eval(), []
        network.layer1.register_forward_hook(lambda _m, args, _out, seen=seen: seen.append(args[0].shape[-1]))
        network(torch.zeros(1, 3, 32, 32))
        assert seen == [side]


def test_last_blocks_are_counted_with_those_that_change_the_shape():
    network = small(units=(2, 3, 3, 2))
    network.store_last = 4  # of the last row both, of the one before two, one of which changes the shape and is stored
    assert [s.store_last for s in network.stages] == [0, 0, 2, 1]
    network.c = 0.5
    assert {s.scheme.c for s in network.stages} == {0.5}


def test_a_seed_gives_the_same_weights_and_leaves_the_generator_alone():
    torch.manual_seed(5)
    a = torch.rand(1)
    torch.manual_seed(5)
    first, b = small(), torch.rand(1)
    assert torch.equal(a, b)
    assert same(first.state_dict(), small().state_dict())
    assert not same(
        first.state_dict(), build("torchvision-momentum-18", 5, units=(1, 3, 1, 2), seed=1).to(D).state_dict()
    )


def test_settings_make_the_same_network():
    network = small(c=0.8, start="field", learn_c="layer", memory="stored")
    again = build(**network.settings).to(D)
    again.load_state_dict(network.state_dict())
    x = images()
    assert torch.equal(network.eval()(x), again.eval()(x))
    assert again.settings == network.settings
    plain = small("torchvision-resnet-18")
    assert build(**plain.settings).settings == plain.settings


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"normalization": "none"}, "normalization = 'none'"),
        ({"activation": "tanh"}, "activation = 'tanh'"),
        ({"h": 0.5}, r"h = 0\.5 must be 1"),
        ({"learn_c": "some"}, "learn"),
        ({"memory": "some"}, "memory = 'some'"),
        ({"store_last": -1}, "store_last = -1"),
    ],
)
def test_refused(options, says):
    with pytest.raises(ValueError, match=says):
        small(**options)


def test_the_step_size_is_1():
    network = small()
    network.h = 1
    with pytest.raises(ValueError, match=r"h = 0\.5 must be 1"):
        network.h = 0.5


def test_plain_networks_have_no_momentum():
    with pytest.raises(ValueError, match="scheme 'euler' has no such option"):
        small("torchvision-resnet-18", c=0.9)


# --- training -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("model", ["torchvision-momentum-18", "torchvision-resnet-18"])
def test_training_resumes_where_it_was(tmp_path, model):
    whole, parts = settings(tmp_path, model, "whole"), settings(tmp_path, model, "parts", limit_seconds=0.0)
    record = train.fit(whole, quiet=True)
    assert ("inverse_error" in record["final"]) == (model == "torchvision-momentum-18")
    assert record["final"].get("inverse_error", 0) < 1e-5
    assert record["final"]["kernel_change"] == []
    assert train.fit(parts, quiet=True)["status"] == "unfinished"
    train.fit(settings(tmp_path, model, "parts"), quiet=True, resume=True)
    assert same(weights(whole.out), weights(parts.out))
    assert train.load_network(whole.out).name == model


def test_fine_tuning_begins_with_the_weights_of_a_file(tmp_path, capsys, monkeypatch):
    original = models.ResNet(models.resnet.BasicBlock, [1, 2, 1, 1], num_classes=1000)
    torch.save({"state_dict": original.state_dict()}, tmp_path / "imagenet.pth")
    monkeypatch.chdir(tmp_path)
    config = settings(tmp_path, run="some/run", steps=1, lr=1e-12, init="imagenet.pth")  # seen from here
    train.fit(config)
    assert "imagenet.pth: all weights but fc.weight, fc.bias, which are new" in capsys.readouterr().err
    found, given = weights(config.out), original.state_dict()
    for name, p in original.named_parameters():
        if not name.startswith("fc."):
            assert torch.allclose(found[name], p, rtol=0, atol=1e-8), name
    assert found["fc.weight"].shape == (10, 512)
    assert not torch.equal(found["bn1.running_mean"], given["bn1.running_mean"])
    beside = settings(tmp_path, run="run", steps=1, lr=1e-12, init="imagenet.pth")  # seen from the folder of runs
    monkeypatch.chdir(tmp_path / "some")
    train.fit(beside, quiet=True)
    assert torch.allclose(weights(beside.out)["conv1.weight"], given["conv1.weight"], rtol=0, atol=1e-8)


def test_a_file_of_another_network_is_refused(tmp_path):
    torch.save(models.resnet34(num_classes=3).state_dict(), tmp_path / "other.pth")
    with pytest.raises(CheckpointError, match="only in the file"):
        train.fit(settings(tmp_path, init="other.pth"), quiet=True)
    with pytest.raises(CheckpointError, match=r"missing\.pth cannot be read"):
        train.fit(settings(tmp_path, run="another", init="missing.pth"), quiet=True)
    with pytest.raises(ValueError, match=r"a file .* does not tell"):
        train.fit(
            train.TrainConfig("hamiltonian-74", data="sample", init="other.pth", prolongation="constant",
                              out=str(tmp_path / "third"), steps=1, batch=2), quiet=True,
        )  # fmt: skip


def test_refinement_wants_steps_in_time():
    with pytest.raises(ValueError, match="model is a TorchvisionNetwork, whose blocks are no steps in time"):
        refine(small())


@pytest.mark.parametrize(
    "option", [{"smoothness": 1e-4}, {"refine": "copy"}, {"prolongation": "constant", "init": "x"}]
)
def test_what_needs_kernels_of_one_shape_is_refused(tmp_path, option):
    with pytest.raises(ValueError, match=f"{next(iter(option))} = .* is not for torchvision-momentum-18"):
        settings(tmp_path, units=(2, 2, 2, 2), **option)


class Spoilt(torch.autograd.Function):
    """The identity, whose gradient is not a number."""

    @staticmethod
    def forward(ctx, x):
        return x.clone()

    @staticmethod
    def backward(ctx, g):
        return torch.full_like(g, torch.nan)


def test_where_a_gradient_is_not_finite_is_found_inside_a_reversible_row():
    network, x = small(), images()
    network.layer2[1].bn2.register_forward_hook(lambda _m, _args, out: Spoilt.apply(out))
    said = first_not_finite(network, lambda: network(x).sum())
    assert said == "the first value that is not finite is the gradient at the output of layer 'layer2.1.conv2'"
    assert network.memory == "reversible"
