"""Block diagrams say what the schemes do: each is read back from its SVG and compared with the code."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET

import pytest
import torch
from torch import nn

import revode
from revode import SCHEMES, Shear, diagrams, shear

SVG = "{http://www.w3.org/2000/svg}"
BLOCKS = [(name, inverse) for name in diagrams.ENDS for inverse in (False, True)]
DRAWINGS = {
    "shear": lambda: diagrams.shear().drawings[0],
    **{f"{n} {i}": lambda n=n, i=i: diagrams.block(n, inverse=i) for n, i in BLOCKS},
    **{n: lambda n=n: diagrams.network(n) for n in ("hamiltonian-74", "revnet-38", "resnet-1202", "midpoint-stl10")},
}


@pytest.fixture(params=DRAWINGS, scope="module")
def drawing(request):
    return DRAWINGS[request.param]()


def test_every_scheme_has_a_diagram():
    assert set(diagrams.ENDS) == set(diagrams.BOXES) == set(diagrams.TITLES) == set(diagrams.CAPTIONS) == set(SCHEMES)


def test_title_and_description_are_there_and_tied_to_the_picture(drawing):
    svg = ET.fromstring(drawing.svg)
    title, desc = svg.find(f"{SVG}title"), svg.find(f"{SVG}desc")
    assert svg.attrib["role"] == "img"
    assert svg.attrib["aria-labelledby"] == title.attrib["id"]
    assert svg.attrib["aria-describedby"] == desc.attrib["id"]
    assert title.text
    assert len(desc.text) > 40
    assert drawing.alt == f"{title.text}. {desc.text}"


def test_ink_is_the_pages(drawing):
    without = re.sub(r"var\(--rv-\w+, #[0-9a-f]{6}\)", "", drawing.svg)
    assert re.findall(r"#[0-9a-fA-F]{3,6}\b", without) == []
    assert "currentColor" in without
    assert "<style" not in drawing.svg


def test_nothing_is_drawn_outside(drawing):
    svg = ET.fromstring(drawing.svg)
    width, height = map(float, svg.attrib["viewBox"].split()[2:])
    for e in svg.iter():
        for name, end in (("x", width), ("cx", width), ("y", height), ("cy", height)):
            assert 0 <= float(e.attrib.get(name, 0)) <= end
        if e.tag == f"{SVG}rect":
            assert float(e.attrib["x"]) + float(e.attrib["width"]) <= width


def test_no_two_diagrams_share_an_id():
    ids = [set(re.findall(r' id="([^"]+)"', diagrams.block("hamiltonian").svg)) for _ in range(2)]
    assert all(ids)
    assert not ids[0] & ids[1]


def drawn(name: str, inverse: bool) -> list[tuple[float, ...]]:
    """Target, source and scale; a fourth number where the part is multiplied: before the sum, undone after it."""
    groups = ET.fromstring(diagrams.block(name, inverse).svg).iter(f"{SVG}g")
    keys = [f"data-{k}" for k in ("target", "source", "scale", "c")]
    return [tuple(float(g.attrib[k]) for k in keys if k in g.attrib) for g in groups]


@pytest.mark.parametrize("name", [n for n, s in SCHEMES.items() if s.reversible])
def test_what_is_drawn_computes_what_the_scheme_computes(name):
    """The numbers in the SVG, taken as shears, give the scheme's own steps, and the inverse's numbers undo them."""
    torch.manual_seed(0)
    scheme = SCHEMES[name](1.0)
    f = nn.ModuleList(nn.Linear(3, 3) for _ in range(scheme.fields)).double()
    state = tuple(torch.randn(2, 5, 3, dtype=torch.float64))
    steps = (1, 2) if name == "midpoint" else (1,)
    modules = [s.g for j in steps for s in scheme.shears(f, j)]

    def shears(inverse):
        return [
            Shear(int(t), int(s), g, scale * (c[0] if c and inverse else 1), *c)
            for (t, s, scale, *c), g in zip(drawn(name, inverse), modules)
        ]

    expected = state
    for j in steps:
        expected = scheme.step(expected, f, j)
    there = shear.forward(shears(False), state)
    back = shear.forward(shears(True)[::-1], there)
    torch.testing.assert_close(there, expected, rtol=0, atol=1e-15 if name == "momentum" else 0)  # 1 - c is rounded
    torch.testing.assert_close(back, state)


@pytest.mark.parametrize(("name", "inverse"), BLOCKS)
def test_a_minus_is_drawn_where_something_is_subtracted(name, inverse):
    """A node's cross has two strokes for plus and one for minus; the words say the same."""
    svg = ET.fromstring(diagrams.block(name, inverse).svg)
    for group in svg.iter(f"{SVG}g"):
        (cross,) = [p for p in group.iter(f"{SVG}path") if re.fullmatch(r"M[\d. ]+h11(M[\d. ]+v11)?", p.attrib["d"])]
        assert ("v11" in cross.attrib["d"]) == (float(group.attrib["data-scale"]) > 0)
    words = svg.find(f"{SVG}desc").text
    signs = [scale > 0 for _, _, scale, *_ in drawn(name, inverse)]
    if name != "euler" or not inverse:
        assert (words.count("is added to"), words.count("is subtracted from")) == (sum(signs), len(signs) - sum(signs))


def test_eulers_step_is_drawn_as_what_it_is():
    assert drawn("euler", False) == [(0, 0, 1)]
    assert "not known yet" in diagrams.block("euler", inverse=True).alt


def test_momentum_is_multiplied_by_c_and_divided_by_it():
    there, back = diagrams.block_and_inverse("momentum").drawings
    assert "v is multiplied by c; then (1 − c) times f(x_j) is added to v; then h times v is added to x." in there.alt
    assert "(1 − c) times f(x_j) is subtracted from v; then v is divided by c." in back.alt


def test_midpoint_is_drawn_with_both_places():
    assert drawn("midpoint", False) == [(0, 1, 2), (1, 0, 2)]


@pytest.mark.parametrize("name", ["hamiltonian-74", "revnet-38", "leapfrog-62"])
def test_network_has_a_bar_for_each_block(name):
    svg = diagrams.network(name).svg
    with torch.device("meta"):
        net = revode.build(name)
    bars = ET.fromstring(svg).findall(f".//{SVG}rect")
    strided = sum(type(t).__name__ != "Downsample" for t in net.transitions)
    assert len(bars) == 1 + sum(len(stage.blocks) for stage in net.stages) + strided
    assert sum("stroke-dasharray" in b.attrib for b in bars) == 1 + strided


def test_a_network_that_cannot_be_undone_is_all_dashed():
    bars = ET.fromstring(diagrams.network("resnet-32").svg).findall(f".//{SVG}rect")
    assert all("stroke-dasharray" in b.attrib for b in bars)


def test_side_by_side():
    pair = diagrams.block_and_inverse("leapfrog")
    assert [d.alt.split(".")[0] for d in pair.drawings] == ["Leapfrog block", "Leapfrog block, undone"]
    assert pair._repr_html_().count("<svg") == 2
    assert diagrams.CAPTIONS["leapfrog"] in pair._repr_html_()
    assert [d.alt.split(".")[0] for d in diagrams.networks("revnet-38", "resnet-32").drawings] == [
        "revnet-38",
        "resnet-32",
    ]


def test_source_is_the_code_without_docstrings():
    text = diagrams.source(revode.Leapfrog.shears, shear.inverse)
    assert text.startswith("def shears(self, block: nn.ModuleList, j: int)")
    assert "    return Shear(1, 0, f, -kick), Shear(0, 1, None, self.h)\n\ndef inverse(" in text
    assert '"""' not in text
    assert "for s in reversed(shears):" in text


@pytest.mark.parametrize("draw", [diagrams.block, diagrams.block_and_inverse, diagrams.network])
def test_unknown_names_are_refused(draw):
    with pytest.raises(ValueError, match="name = 'nothing' must be one of"):
        draw("nothing")


def test_networks_of_torchvision_are_refused():
    with pytest.raises(ValueError, match="'torchvision-resnet-18' is built of torchvision's blocks"):
        diagrams.network("torchvision-resnet-18")
