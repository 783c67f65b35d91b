"""Self-checking cells for the chapters."""

from __future__ import annotations

import numpy as np


def check(answer, expected, hint: str = "", *, rtol: float = 1e-3, atol: float = 0.0) -> None:
    """Compare a reader's answer with the expected one and print a line: right, not yet, or a hint.

    It raises nothing, so that a notebook runs through with unanswered exercises.

    Args:
        answer: A number, an array, a tensor or a string; ``...`` stands for no answer yet.
        expected: What is right.
        hint: What helps whoever is wrong; the right answer is not printed.
        rtol: Relative tolerance of numbers.
        atol: Absolute tolerance of numbers.
    """
    if answer is ...:
        print("○ Not answered yet: replace the three dots and run the cell again.")
    elif problem := _wrong(answer, expected, rtol, atol):
        print(f"✗ Not yet: {problem}." + (f" Hint: {hint}" if hint else ""))
    else:
        print("✓ Right.")


def _wrong(answer, expected, rtol: float, atol: float) -> str:
    if isinstance(expected, str):
        return "" if str(answer).strip().lower() == expected.strip().lower() else f"{answer!r} is another answer"
    try:
        got, want = _array(answer), _array(expected)
    except (TypeError, ValueError):
        return f"a number or an array is asked for, and this is a {type(answer).__name__}"
    if got.shape != want.shape:
        return f"the shape is {got.shape}, and {want.shape} is asked for"
    if np.allclose(got, want, rtol=rtol, atol=atol):
        return ""
    return f"{answer!r} is another number" if got.ndim == 0 else "the numbers differ"


def _array(value) -> np.ndarray:
    if hasattr(value, "detach"):  # a tensor, perhaps with gradient or on another device
        value = value.detach().cpu()
    array = np.asarray(value)
    if array.dtype.kind not in "biufc":
        raise TypeError
    return array.astype(complex)
