"""``python -m revode``, the same as the command ``revode``."""

import sys

from .cli import main

sys.exit(main())
