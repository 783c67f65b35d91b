"""A self-checking cell says right, not yet, or not answered, and never stops a notebook."""

from __future__ import annotations

import re

import numpy as np
import pytest
import torch

from revode.exercises import check


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (0.2, 0.2),
        (0.2001, 0.2),
        (1389, 1389.0),
        (torch.tensor([1.0, 2.0], requires_grad=True), [1.0, 2.0]),
        ((1.0, 2.0), np.array([1, 2])),
        (1j, 1j),
        (" Euler", "euler"),
    ],
)
def test_right(answer, expected, capsys):
    check(answer, expected, hint="think")
    assert capsys.readouterr().out == "✓ Right.\n"


@pytest.mark.parametrize(
    ("answer", "expected", "words"),
    [
        (0.3, 0.2, "0.3 is another number. Hint: think"),
        ([1.0, 2.1], [1.0, 2.0], "the numbers differ. Hint: think"),
        ([1.0], [1.0, 2.0], r"the shape is \(1,\), and \(2,\) is asked for"),
        (None, 0.2, "this is a NoneType"),
        ("a fifth", 0.2, "this is a str"),
        (float("nan"), 0.2, "nan is another number"),
        ("midpoint", "euler", "'midpoint' is another answer"),
    ],
)
def test_wrong_gets_a_hint_and_not_the_answer(answer, expected, words, capsys):
    check(answer, expected, hint="think")
    out = capsys.readouterr().out
    assert out.startswith("✗ Not yet: ")
    assert re.search(words, out)
    assert "0.2" not in out.replace("0.2001", "")


def test_no_answer_yet(capsys):
    check(..., 0.2)
    assert capsys.readouterr().out.startswith("○ Not answered yet")


def test_tolerance_is_the_callers(capsys):
    check(1e-12, 0.0, atol=1e-9)
    check(1e-12, 0.0)
    first, second = capsys.readouterr().out.splitlines()
    assert first == "✓ Right."
    assert second.startswith("✗")
