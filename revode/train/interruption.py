"""Ctrl-C and signals to end: the step at hand is finished and saved."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


class Stopped(KeyboardInterrupt):
    """Ctrl-C or a signal to end, after the checkpoint was written."""


@contextmanager
def signals(impatient: bool) -> Iterator[list[int]]:
    """Collects SIGINT and SIGTERM, so that the step at hand is finished and saved.

    A second one stops at once, if ``impatient``: torchrun hands on a Ctrl-C that the terminal has sent already.
    """
    caught: list[int] = []

    def note(number: int, frame: Any) -> None:
        if caught and impatient:
            raise Stopped("stopped at once; the last checkpoint is kept")
        caught.append(number)
        os.write(2, b"\nstopping after this step\n")  # print() must not be called in the midst of itself

    before = {}
    try:
        for number in (signal.SIGINT, signal.SIGTERM):
            before[number] = signal.signal(number, note)
    except ValueError:  # signals reach the main thread only
        pass
    try:
        yield caught
    finally:
        for number, handler in before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
