"""``python -m revode.figures hero FILE.svg`` writes the picture of the README."""

import sys
from pathlib import Path

from ..checkpoint import write_atomic
from .dynamics import hero

if len(sys.argv) != 3 or sys.argv[1] != "hero":
    sys.exit("usage: python -m revode.figures hero FILE.svg")
write_atomic(Path(sys.argv[2]), hero().encode())
