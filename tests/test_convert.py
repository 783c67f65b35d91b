"""Residual networks of torchvision in momentum form: the same names, c = 0 the same outputs, the same gradients."""

from __future__ import annotations

import copy
import io

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from revode import backward, data
from revode.convert import MomentumLayer, load_checkpoint, to_momentum
from revode.errors import CheckpointError, ConversionError
from revode.memory import saved_bytes

from .helpers import gradients, relative, worst

models = pytest.importorskip("torchvision.models")
resnet = models.resnet
D = torch.float64


def small(layers=(1, 2, 1, 3), block="BasicBlock", classes: int = 5) -> nn.Module:
    """A network of torchvision with few channels inside its bottlenecks."""
    options = {} if block == "BasicBlock" else {"groups": 4, "width_per_group": 4}
    torch.manual_seed(0)
    return resnet.ResNet(getattr(resnet, block), list(layers), num_classes=classes, **options)


@pytest.fixture(autouse=True)
def _weights_are_drawn_once(monkeypatch):
    """Convolutions draw theirs, and networks of torchvision draw them again, which takes most of the time."""
    monkeypatch.setattr(nn.init, "kaiming_normal_", lambda w, **_: w)


def stored(model: nn.Module) -> nn.Module:
    model = copy.deepcopy(model)
    for m in model.modules():
        if isinstance(m, MomentumLayer):
            m.memory = "stored"
    return model


def images(n: int = 2, size: int = 32, dtype=D) -> torch.Tensor:
    return torch.randn(n, 3, size, size, dtype=dtype)


# --- the same network ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["resnet18", "resnet34", "resnet50", "resnet101", "resnet152", "resnext50_32x4d"])
def test_c_0_is_the_original(name):
    model = getattr(models, name)(num_classes=5).double().eval()
    x, form = images(1), to_momentum(model, c=0.0)
    assert list(form.state_dict()) == list(model.state_dict())
    with torch.no_grad():
        y = model(x)
        assert (form(x) - y).abs().max() < 1e-6 * y.abs().max()
    reversible = sum(len(m.stage.blocks) for m in form.modules() if isinstance(m, MomentumLayer))
    blocks = sum(isinstance(m, (resnet.BasicBlock, resnet.Bottleneck)) for m in model.modules())
    assert reversible == blocks - (3 if name in ("resnet18", "resnet34") else 4)


@pytest.mark.parametrize("training", [True, False])
def test_c_0_has_the_originals_gradients_and_statistics(training):
    model = small(block="Bottleneck").double().train(training)
    form, x = to_momentum(model, c=0.0), images()
    assert all(m.training == training for m in form.modules())
    assert worst(gradients(form, x), gradients(model, x)) < 1e-10
    for (n, a), b in zip(form.named_buffers(), model.buffers(), strict=True):
        torch.testing.assert_close(a, b, msg=n)


def test_the_rule_is_that_of_the_paper():
    """A row by hand: v <- c v + (1 - c) (block(x) - x), x <- x + v behind the block that changes the shape."""
    model, x = small().double().eval(), images(dtype=D)
    for start in ("rest", "field"):
        row, y = to_momentum(model, 0.8, start).layer4, torch.randn(2, 256, 2, 2, dtype=D)
        expected, v = model.layer4[0](y), 0
        for j, block in enumerate((model.layer4[1], model.layer4[2])):
            change = block(expected) - expected
            v = change if j == 0 and start == "field" else 0.8 * v + 0.2 * change
            expected = expected + v
        torch.testing.assert_close(row(y), expected)
        assert (len(row), len(row.stage.blocks), row[-1].conv1.weight.shape[0]) == (3, 2, 512)
    assert to_momentum(model)(x).shape == (2, 5)


# --- reversible as stored ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [{"start": "field", "c": 0.5}, {"learn_c": "layer"}, {"learn_c": "shared"}])
def test_gradients_do_not_depend_on_the_memory_mode(options):
    form, x = to_momentum(small(block="Bottleneck"), **options).double(), images()
    plain = stored(form)
    assert worst(gradients(form, x), gradients(plain, x)) < 1e-9
    for (n, a), b in zip(form.named_buffers(), plain.buffers(), strict=True):
        torch.testing.assert_close(a, b, msg=n)


def test_exact_arithmetic():
    form, x = to_momentum(small(block="Bottleneck"), arithmetic="exact").double(), images()
    assert worst(gradients(form, x), gradients(stored(form), x)) < 1e-9


def test_memory_of_a_long_row_does_not_grow():
    x = images(8, 32, torch.float32)

    def saved(blocks, memory):
        torch.manual_seed(0)
        form = to_momentum(small((blocks, 1, 1, 1)), c=0.99, memory=memory)
        return saved_bytes(lambda: form(x), form.parameters())

    low, high = saved(3, "reversible"), saved(12, "reversible")
    assert high - low < 0.01 * (saved(12, "stored") - saved(3, "stored"))


def test_original_is_left_alone():
    model, x = small(), images(dtype=torch.float32)
    before = {n: t.clone() for n, t in model.state_dict().items()}
    form = to_momentum(model)
    form(x).sum().backward()
    assert all(torch.equal(before[n], t) for n, t in model.state_dict().items())
    assert all(p.grad is None for p in model.parameters())


# --- a module like any other ---------------------------------------------------------------------------------------


def test_copies_files_and_types():
    form, x = to_momentum(small(), learn_c="layer"), images(dtype=torch.float32)
    form(x).sum().backward()
    form.eval()
    y, file = form(x), io.BytesIO()
    torch.save(form, file)
    file.seek(0)
    for other in (copy.deepcopy(form), torch.load(file, weights_only=False)):
        assert torch.equal(other(x), y)
        with torch.no_grad():
            other.layer1[0].conv1.weight.zero_()
        assert not torch.equal(other(x), y)  # the reversible blocks are the copy's own
    assert torch.equal(form(x), y)
    assert to_momentum(small()).double()(images()).dtype == D
    assert to_momentum(small()).bfloat16()(images(dtype=torch.bfloat16)).dtype == torch.bfloat16
    assert len({id(p) for p in form.parameters()}) == len(list(form.parameters()))
    assert "learned)" in repr(form)


def test_a_network_inside_another_model():
    segmentation = pytest.importorskip("torchvision.models.segmentation")
    model = segmentation.fcn_resnet50(weights=None, weights_backbone=None, num_classes=3).double().eval()
    form, x = to_momentum(model, c=0.0), images(1, 32)
    with torch.no_grad():
        torch.testing.assert_close(form(x)["out"], model(x)["out"])
    assert list(form.state_dict()) == list(model.state_dict())
    assert sum(isinstance(m, MomentumLayer) for m in form.modules()) == 4


def test_functional_call_and_torch_func():
    form, x = to_momentum(small((2, 1, 1, 1))).double().eval(), images(1)
    params = {n: p.detach() for n, p in form.named_parameters()}
    backward._warned.clear()
    with pytest.warns(UserWarning, match="falls back"):
        found = torch.func.grad(lambda p: torch.func.functional_call(form, p, (x,)).square().sum())(params)
    form(x).square().sum().backward()
    assert max(relative(found[n], p.grad) for n, p in form.named_parameters()) < 1e-10


@pytest.mark.parametrize("make", [lambda: nn.Linear(3, 3), models.squeezenet1_1, lambda: small((1,) * 4, "Bottleneck")])
def test_what_cannot_be_converted_is_named(make):
    model = make()
    with pytest.raises(ConversionError, match=rf"^{type(model).__name__} has no row .* revode.Stage"):
        to_momentum(model)


def test_refused():
    with pytest.raises(ConversionError, match="momentum network already"):
        to_momentum(to_momentum(small()))
    model = small()
    model.layer1 = nn.Sequential(model.layer1[0], model.layer2[0])
    with pytest.raises(ConversionError, match="in 'layer1' a block changes the shape"):
        to_momentum(model)
    with pytest.raises(ValueError, match="must lie between 0 and 1"):
        to_momentum(small(), c=1.0)
    with pytest.raises(ValueError, match="learn_c = 'yes'"):
        to_momentum(small(), learn_c="yes")
    with pytest.raises(ValueError, match="c has 2 values"):
        to_momentum(small(), c=[0.9, 0.8])


# --- fine-tuning ---------------------------------------------------------------------------------------------------


def test_fine_tuning_from_a_file(tmp_path):
    """The way of the docstring: weights of a network of other classes, written under DistributedDataParallel."""
    torch.manual_seed(1)
    pretrained = models.resnet18(num_classes=7)
    file = tmp_path / "resnet18.pth"
    torch.save({"state_dict": {f"module.{n}": t for n, t in pretrained.state_dict().items()}, "epoch": 3}, file)
    form = to_momentum(models.resnet18(num_classes=2), learn_c="shared")
    kept = load_checkpoint(form, file)
    assert set(kept) == {"fc.weight", "fc.bias", *(f"layer{k}.scheme.r" for k in (1, 2, 3, 4))}
    for n, t in pretrained.state_dict().items():
        assert n.startswith("fc.") or torch.equal(form.state_dict()[n], t)
    train = data.load("sample", "train")
    batch = (train.labels < 2).nonzero().flatten()[:12]
    x, y = train.images[batch].float() / 255 - 0.5, train.labels[batch]
    optimizer, losses = torch.optim.SGD(form.parameters(), lr=0.01, momentum=0.9), []
    for _ in range(6):
        optimizer.zero_grad()
        loss = F.cross_entropy(form(x), y)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]


def test_a_file_of_the_same_network_is_loaded_whole(tmp_path):
    file = tmp_path / "a.pth"
    torch.save(small().state_dict(), file)
    form = to_momentum(small())
    nn.init.zeros_(form.fc.weight)
    assert load_checkpoint(form, file) == []
    assert torch.equal(form.fc.weight, small().fc.weight)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (lambda: small((1, 1, 1, 1)).state_dict(), r"not in the file: layer2\.1\.bn1\.bias, .*\(30\)"),
        (lambda: small((2, 2, 1, 3)).state_dict(), r"only in the file: layer1\.1\.bn1\.bias"),
        (lambda: {**small().state_dict(), "conv1.weight": torch.zeros(2)}, r"of another shape: conv1\.weight \(1\)"),
        (lambda: [1, 2], "holds no state_dict"),
        (lambda: {"a": 1}, "holds no state_dict"),
        (small, "no file of weights that can be read safely"),
    ],
)
def test_files_that_do_not_fit_are_refused(tmp_path, content, says):
    file = tmp_path / "weights.pth"
    torch.save(content(), file)
    form = to_momentum(small())
    before = {n: t.clone() for n, t in form.state_dict().items()}
    with pytest.raises(CheckpointError, match=says):
        load_checkpoint(form, file)
    assert all(torch.equal(before[n], t) for n, t in form.state_dict().items())


def test_no_file(tmp_path):
    with pytest.raises(CheckpointError, match="cannot be read"):
        load_checkpoint(small(), tmp_path / "none.pth")
    (tmp_path / "text.pth").write_text("hello")
    with pytest.raises(CheckpointError, match="safely"):
        load_checkpoint(small(), tmp_path / "text.pth")
