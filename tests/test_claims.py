"""Verdicts follow from made-up results by the stated rules, and from the bundled ones without a file of their own."""

from __future__ import annotations

import copy
import math

import pytest

from revode import results
from revode.errors import CheckpointError
from revode.experiments import checks, claims, few_labels, registry, rules
from revode.experiments.checks import VERDICTS, Check, above, alike, interval, seeds, verdict, within
from revode.experiments.claims import CLAIMS, TOPICS, judge

REPRODUCED, PARTLY, FAILED, WAITING = VERDICTS
BY_NUMBER = {c.number: c for c in CLAIMS}


def of(holds: bool | None, **more) -> Check:
    return Check("a number", holds=holds, **more)


@pytest.mark.parametrize(
    ("holds", "expected"),
    [
        ([], WAITING),
        ([None, None], WAITING),
        ([True, True], REPRODUCED),
        ([True, None], PARTLY),
        ([True, False], PARTLY),
        ([False, None], FAILED),
        ([False, False], FAILED),
    ],
)
def test_the_verdict_follows_from_the_checks(holds, expected):
    assert verdict(map(of, holds)) == expected


def test_what_does_not_count_decides_nothing():
    beside = [of(False, counts=False), of(True, counts=False)]
    assert verdict(beside) == WAITING
    assert verdict([*beside, of(True)]) == REPRODUCED


def test_intervals_are_those_of_student_and_welch():
    # One sample: t(0.975, 2) = 4.302653 (tables); of 1, 2, 3 the standard error is 1/sqrt(3).
    mean, half = interval([1.0, 2.0, 3.0])
    assert (mean, half) == pytest.approx((2.0, 4.302653 / math.sqrt(3)), rel=1e-6)
    assert interval([3.0, 4.0, 5.0], [2.0, 2.0, 2.0], paired=True) == pytest.approx((2.0, half))
    # Two samples of equal size and variance have 2 (n - 1) degrees of freedom: t(0.975, 4) = 2.776445.
    mean, half = interval([1.0, 2.0, 3.0], [11.0, 12.0, 13.0])
    assert (mean, half) == pytest.approx((-10.0, 2.776445 * math.sqrt(2 / 3)), rel=1e-6)
    assert interval([1.0]) == (1.0, math.inf)
    assert interval([2.0, 2.0], [1.0, 1.0]) == (1.0, 0.0)


def test_above_and_alike_ask_for_the_interval():
    a, b = [3.0, 3.1, 2.9], [1.0, 1.1, 0.9]
    assert above("x", a, b, ()).holds is True
    assert above("x", b, a, ()).holds is False
    assert alike("x", a, b, ()).holds is False
    assert alike("x", a, [2.0, 3.0, 4.0], ()).holds is True
    assert above("x", [3.5, 3.6, 3.4], [2.0, 3.0, 4.0], ()).holds is False  # larger, but not shown to be
    assert above("x", a[:1], b[:1], ()).holds is None  # one seed decides nothing
    assert above("x", [], b, ()).measured == "not yet run"


def test_a_range_is_asked_of_the_mean_of_seeds_and_of_each_case():
    assert within("x", [1.0, 3.0], 1.5, 2.5, (), "").holds is True
    assert within("x", [1.0, 3.0], 1.5, 2.5, (), "", spread=False).holds is False
    assert within("x", [], 0, 1, (), "").holds is None


def test_measured_values_in_words():
    assert Check("x", values=(92.7, 92.9), form="{:.2f}", unit=" %").measured == "92.80 ± 0.14 % (n = 2)"
    assert Check("x", values=(1.0, 3.0), spread=False).measured == "1 to 3"
    assert Check("x", values=(math.inf,)).measured == "overflow"
    assert Check("x").measured == "not yet run"


# --- each rule with made-up results ---------------------------------------------------------------------------


def training(*percents: float, stem: str, losses=(2.0, 1.0), **final) -> dict[str, dict]:
    """Finished trainings NAME-seed0, ... with these accuracies."""
    made = {}
    for name, percent in zip(seeds(stem, len(percents)), percents, strict=True):
        made[name] = {
            "name": name, "status": "finished", "settings": {"steps": 100},
            "curve": [{"train_loss": v} for v in losses], "final": {"test_accuracy": percent / 100} | final,
        }  # fmt: skip
    return made


def measured(name: str, **final) -> dict[str, dict]:
    return {name: {"name": name, "status": "finished", "final": final, "curve": [], "settings": {}}}


NEAR = (-0.1, 0.0, 0.1)


def around(center: float) -> list[float]:
    return [center + d for d in NEAR]


def pair(a: float, b: float, data: str) -> dict:
    return training(*around(a), stem=f"hamiltonian-74-{data}") | training(*around(b), stem=f"resnet-32-{data}")


def ordering(a: float, b: float, c: float, sets=("cifar10", "cifar100")) -> dict:
    order = zip(("hamiltonian-74", "leapfrog-26", "midpoint-26"), (a, b, c), strict=True)
    return {k: v for n, p in order for d in sets for k, v in training(*around(p), stem=f"{n}-{d}").items()}


def stl10(*percents: float) -> dict:
    nets = ("hamiltonian-stl10", "midpoint-stl10", "leapfrog-stl10")
    return {k: v for n, p in zip(nets, percents, strict=False) for k, v in training(p, p, p, stem=f"{n}-stl10").items()}


def few(gaps: dict[int, float]) -> dict:
    made = {}
    for images, gap in gaps.items():
        for s, noise in enumerate(NEAR):
            for network, percent in (("hamiltonian", 50 + gap + noise), ("resnet", 50.0)):
                name = few_labels.name(network, "cifar10", images, s)
                made[name] = next(iter(training(percent, stem="x").values())) | {"name": name}
    return made


def momenta(key: str, plain: float, momentum: float) -> dict:
    return {"momenta": [{"c": c, key: plain if c == 0 else momentum} for c in (0.0, 0.9, 0.95, 0.99)]}


def rings(plain: float, momentum: float) -> dict:
    rows = momenta("accuracy", plain, momentum)
    return measured("rings", **rows) | measured("rings-long", **rows)


def thousand(peak: float, *losses: float, percent: float = 94.0) -> dict:
    made = {}
    for batch in (32, 320):
        made |= measured(f"thousand-memory-reversible-{batch}", peak_bytes=peak * rules.GIB)
    made["thousand-training"] = training(10, stem="x", losses=losses)["x-seed0"]
    return made | training(*around(percent), stem="hamiltonian-1202-cifar10")


def benchmark(stored: float, flat: float, ratio: float) -> dict:
    rows = [
        {"family": "revnet", "case": case, "blocks": n, "peak": base + n * slope * 2**20, "parameter_gradients": 0}
        for case, slope, base in (("plain", stored, 0), ("revode", flat, 2**26))
        for n in (8, 32, 128)
    ]
    return measured("benchmark-cpu", memory=rows, time=[{"case": "revode", "ratio": ratio}])


def calculated(factor: float) -> dict:
    """The bundled calculations with every measured number times this factor."""
    record = copy.deepcopy(results.load("claims"))
    for row in record["final"]["claims"]:
        if row["measured"] is not None:
            row["measured"] *= factor
    return {"claims": record}


def gradients(relu: float, tanh: float) -> dict:
    made = {}
    for activation, value in (("relu", relu), ("tanh", tanh)):
        for name in seeds(f"gradient-difference-{activation}"):
            made |= measured(name, **{s: {"largest": value} for s in ("hamiltonian", "midpoint", "leapfrog", "revnet")})
    return made


def norms(symplectic: float, euler: float) -> dict:
    return measured("jacobian-norm-seed0", symplectic=[{"smallest": symplectic}], euler=[{"largest": euler}])


def depth_101(cifar10: tuple[float, float], cifar100: tuple[float, float]) -> dict:
    """Accuracies of the plain network and of both momentum forms, three seeds each."""
    made = {}
    for data, (plain, momentum) in (("cifar10", cifar10), ("cifar100", cifar100)):
        for kind, percent in (("resnet-101", plain), ("momentum-101", momentum), ("momentum-101-field", momentum)):
            made |= training(*around(percent), stem=f"{kind}-{data}")
    return made


def smoothness(off: tuple[float, float], strong: tuple[float, float]) -> dict:
    made = {}
    for key, (change, percent) in (("off", off), ("strong", strong)):
        for name, noise in zip(seeds(f"smoothness-{key}"), NEAR, strict=True):
            made |= {name: training(percent, stem="x", kernel_change=[[change + noise * change]])["x-seed0"]}
    return made


def galerkin(constant: float, bilinear: float, outside: float = 0.0) -> dict:
    ways = {k: {"2": {"outside_3x3": outside, "coefficients": {"dxx": v}}}
            for k, v in (("constant", constant), ("bilinear", bilinear))}  # fmt: skip
    return measured("multiscale-map", **ways)


def multilevel(saved: float, refined: float, dip: float) -> dict:
    made = measured("multilevel-times-resnet", saved=saved)
    for kind, percent in (("copy", refined), ("full", 92.5)):
        made |= training(*around(percent), stem=f"multilevel-{kind}-cifar10")
    points = [
        {"step": step, "test_accuracy": a} for step, a in ((10, 0.5), (20, 0.5 - dip), (30, 0.6), (40, 0.6 - dip))
    ]
    short = training(60, stem="multilevel-resnet-copy")["multilevel-resnet-copy-seed0"]
    return made | {"multilevel-resnet-copy-seed0": short | {"curve": points, "settings": {"milestones": [10, 30]}}}


def swiss_roll(*percents: float) -> dict:
    made = {}
    for network, percent in zip(("resnet", "antisymmetric", "hamiltonian"), percents, strict=True):
        final = {"validation_accuracy_multilevel": percent / 100, "validation_accuracy_cold": 0.9}
        made |= measured(f"swiss-roll-{network}-seed0", **final)
    return made


def remainders(wrong: int, bits: float, ratio: float = 1.0) -> dict:
    rows = [{"depth": d, "wrong": wrong, "bits": bits, "float": 0.1, "x_in_float": 0.1 * ratio} for d in (100, 200)]
    return measured("remainders", depths=rows)


CASES = [
    *((n, REPRODUCED, lambda: calculated(1)) for n in (1, 2, 3, 4, 5, 6, 7, 8, 23)),
    *((n, FAILED, lambda: calculated(1e30)) for n in (2, 3, 5, 8, 23)),
    (11, REPRODUCED, lambda: benchmark(24, 0, 1.33)),
    (11, PARTLY, lambda: benchmark(24, 3, 1.33)),
    (12, REPRODUCED, lambda: benchmark(24, 0, 1.33)),
    (12, PARTLY, lambda: benchmark(24, 0, 1.6)),
    (12, FAILED, lambda: benchmark(24, 0, 2.0)),
    (13, REPRODUCED, lambda: gradients(1e-8, 1e-7)),
    (13, PARTLY, lambda: gradients(1e-5, 1e-7)),
    (13, FAILED, lambda: gradients(1e-5, 1e-5)),
    (14, REPRODUCED, lambda: pair(92.8, 92.8, "cifar10")),
    (14, PARTLY, lambda: pair(92.2, 93.2, "cifar10")),
    (14, FAILED, lambda: pair(80.0, 90.0, "cifar10")),
    (14, WAITING, lambda: pair(92.8, 92.8, "cifar100")),
    (15, REPRODUCED, lambda: pair(70.0, 70.0, "cifar100")),
    (15, FAILED, lambda: pair(60.0, 65.0, "cifar100")),
    (16, REPRODUCED, lambda: ordering(93, 92, 91)),
    (16, PARTLY, lambda: ordering(93, 92, 91, ["cifar10"])),
    (16, FAILED, lambda: ordering(91, 92, 93)),
    (17, REPRODUCED, lambda: stl10(85, 84, 83)),
    (17, PARTLY, lambda: stl10(85, 70, 70)),
    (17, FAILED, lambda: stl10(70, 70)),
    (18, REPRODUCED, lambda: few(dict.fromkeys(few_labels.CIFAR10_SIZES, 5.0))),
    (18, PARTLY, lambda: few({500: 5.0, 1000: 5.0})),
    (18, FAILED, lambda: few({500: -5.0, 1000: 0.0})),
    (19, REPRODUCED, lambda: smoothness((1.0, 75), (0.5, 75.3))),
    (19, PARTLY, lambda: smoothness((1.0, 75), (0.5, 70))),
    (19, FAILED, lambda: smoothness((0.5, 75), (1.0, 70))),
    (20, REPRODUCED, lambda: thousand(0.3, 2.3, 1.9)),
    (20, PARTLY, lambda: thousand(0.3, 2.3, 2.9)),
    (20, FAILED, lambda: thousand(30, 2.3, 2.9, percent=50)),
    (21, REPRODUCED, lambda: measured("crossing", **momenta("mse", 0.15, 0.001))),
    (21, PARTLY, lambda: measured("crossing", **momenta("mse", 0.001, 0.001))),
    (21, FAILED, lambda: measured("crossing", **momenta("mse", 0.001, 0.15))),
    (22, REPRODUCED, lambda: rings(0.8, 1.0)),
    (22, PARTLY, lambda: rings(1.0, 1.0)),
    (22, FAILED, lambda: rings(1.0, 0.8)),
    (24, REPRODUCED, lambda: remainders(0, 30)),
    (24, PARTLY, lambda: remainders(0, 20)),
    (24, FAILED, lambda: remainders(3, 20)),
    (25, REPRODUCED, lambda: remainders(0, 30, 0.7)),
    (25, FAILED, lambda: remainders(0, 30, 1e-6)),
    (27, REPRODUCED, lambda: depth_101((95.15, 95.18), (80, 70))),
    (27, PARTLY, lambda: depth_101((95.15, 95.18), (70, 80))),
    (27, FAILED, lambda: depth_101((95, 85), (70, 80))),
    (28, REPRODUCED, lambda: multilevel(0.43, 92.9, 0.1)),
    (28, PARTLY, lambda: multilevel(0.43, 91.0, 0.1)),
    (28, FAILED, lambda: multilevel(0.1, 91.0, -0.1)),
    (29, REPRODUCED, lambda: measured("residual-norms-trained-seed0", slope_trained=-0.9)),
    (29, FAILED, lambda: measured("residual-norms-trained-seed0", slope_trained=-0.2)),
    (31, REPRODUCED, lambda: swiss_roll(100, 99.5, 100)),
    (31, PARTLY, lambda: swiss_roll(80, 99.5, 100)),
    (31, FAILED, lambda: swiss_roll(80, 80, 80)),
    (30, REPRODUCED, lambda: galerkin(2.0, 1.0)),
    (30, PARTLY, lambda: galerkin(1.0, 1.0)),
    (30, FAILED, lambda: galerkin(1.0, 2.0, outside=0.1)),
    (33, REPRODUCED, lambda: norms(1.5, 0.1)),
    (33, PARTLY, lambda: norms(0.9, 0.1)),
    (33, FAILED, lambda: norms(0.9, 2.0)),
]


@pytest.mark.parametrize(("number", "expected", "made"), CASES, ids=[f"{n}-{v}" for n, v, _ in CASES])
def test_each_rule_can_say_each_verdict(number, expected, made):
    assert judge(BY_NUMBER[number], made()).verdict == expected


#: What is counted when it is asked for, without a file.
COUNTED_NOW = (9, 10)


@pytest.mark.parametrize("claim", CLAIMS, ids=lambda c: str(c.number))
def test_without_results_nothing_is_reproduced(claim):
    found = judge(claim, {})
    assert found.checks
    assert found.verdict == (REPRODUCED if claim.number in COUNTED_NOW else WAITING)
    assert found.files == ()


def test_a_wrong_count_is_not_reproduced(monkeypatch):
    monkeypatch.setattr(rules, "_counts", lambda: dict.fromkeys(rules._PARAMETERS, 0.433))
    assert judge(BY_NUMBER[10], {}).verdict == FAILED


def test_a_reduced_budget_stands_beside_the_claim():
    names = ("hamiltonian-74", "resnet-32")
    records = {n: next(iter(training(92.8, stem="x").values())) for n in names}
    found = judge(BY_NUMBER[14], records)
    assert found.verdict == WAITING
    assert set(found.files) == set(names)


def test_the_longer_training_is_taken_where_there_is_one():
    records = few({500: 5.0})
    for s in few_labels.SEEDS:
        for network, percent in (("hamiltonian", 40 + NEAR[s]), ("resnet", 50)):
            name = few_labels.name(network, "cifar10", 500, s, kind="gpu")
            records[name] = next(iter(training(percent, stem="x").values()))
    assert judge(BY_NUMBER[18], records).verdict == FAILED


# --- the table, and the bundled results -----------------------------------------------------------------------


def test_all_33_claims_are_there_with_source_and_status():
    assert [c.number for c in CLAIMS] == list(range(1, 34))
    for c in CLAIMS:
        assert c.topic in TOPICS
        assert c.status
        assert set(c.status) <= set(claims.STATUS)
        assert c.source


def test_experiments_name_claims_that_exist_and_most_claims_have_one():
    numbers = {n for e in registry.experiments().values() for n in e.claims}
    assert numbers <= BY_NUMBER.keys()
    assert set(range(1, 24)) - set(COUNTED_NOW) <= numbers


def test_the_bundled_results_give_the_verdicts_that_can_be_given_on_a_cpu():
    found = {j.claim.number: j for j in claims.judgements()}
    for number in (1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 23, 33):
        assert found[number].verdict == REPRODUCED, number
    assert found[13].verdict == PARTLY  # a ReLU that falls on the other side
    assert sum(claims.counts(found.values()).values()) == len(CLAIMS)
    for j in found.values():
        assert set(j.files) <= set(results.names())


def test_unfinished_results_do_not_count():
    records = [{"name": "a", "status": "unfinished"}, {"name": "b", "status": "finished"}]
    assert list(checks.finished(records)) == ["b"]


def test_a_damaged_result_is_named(tmp_path):
    from revode.experiments.command import collected

    (tmp_path / "broken.json").write_text("{")
    with pytest.raises(CheckpointError, match=r"broken\.json"):
        collected(tmp_path)
