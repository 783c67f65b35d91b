"""The results chapter shows what the files say."""

from __future__ import annotations

import html

import pytest

from revode import figures, results
from revode.experiments import claims, registry


def test_every_claim_is_shown_once_with_its_verdict():
    page = "".join(figures.claims_of(t)._repr_html_() for t in claims.TOPICS)
    assert page.count("<details") == len(claims.CLAIMS) == page.count("</details>")
    for j in claims.judgements():
        assert html.escape(j.claim.setup) in page
        assert html.escape(j.claim.expected) in page
    with pytest.raises(ValueError, match="must be one of: Equations"):
        figures.claims_of("Weather")


def test_without_files_nothing_is_claimed():
    rows = figures.verdicts({}).rows
    assert rows[-1] == ("all", "● 2 reproduced, ○ 31 not yet run")  # depths and parameters are counted now
    shown = figures.paper_accuracies("cifar10", {})
    assert all(row[2].startswith("not yet run; ") for row in shown.rows)
    assert {word for _, word, _ in figures.all_experiments({}).lines} == {"○ not yet run"}
    assert figures.agreement({}).alt


def test_accuracies_have_their_status_and_their_spread():
    record = results.load("hamiltonian-74")
    names = [f"hamiltonian-74-cifar10-seed{s}" for s in range(3)]
    records = {n: record | {"final": {"test_accuracy": 0.92 + 0.001 * s}} for s, n in enumerate(names)}
    rows = {row[0]: row for row in figures.paper_accuracies("cifar10", records).rows}
    assert rows["hamiltonian-74"] == ("hamiltonian-74", "92.76?", "92.10 ± 0.10")
    assert rows["resnet-1202"][1] == "92.07 V"
    rows = figures.paper_accuracies("stl10", {}).rows
    assert [row[1] for row in rows] == ["85.5 V", "84.6 V", "83.7 V"]


def test_every_experiment_has_its_cost():
    shown = figures.all_experiments().lines
    found = {e.name: line for e, line in zip(registry.experiments().values(), shown, strict=True)}
    assert found["claims"][1] == "● finished"
    assert results.load("claims")["evidence"]["hardware"]["cpu"] in found["claims"][2]
    assert "revode reproduce claims" in found["claims"][2]
    assert "It needs ImageNet" in found["imagenet-revnet"][2]
    assert "H200" in found["imagenet-revnet"][2]
    assert "revode reproduce" not in found["imagenet-revnet"][2]
