"""Say in one sentence why an environment cannot be made here, before anything is downloaded.

    preflight.py python         this interpreter is new enough and can make virtual environments
    preflight.py disk FOLDER    the disk that holds FOLDER has room for the packages and the book

Only syntax that old Pythons read, so that they too get as far as the sentence.
"""

import glob
import os
import shutil
import sys

OLDEST = (3, 11)  # requires-python in pyproject.toml
# Measured: the packages 6.2 GB with the CUDA libraries of Linux's PyTorch, and what pip unpacks on the way.
NEED_GB = float(os.environ.get("REVODE_NEED_GB", 8 if sys.platform == "linux" else 3))


def python():
    version = ".".join(str(n) for n in sys.version_info[:3])
    if sys.version_info < OLDEST:
        return "revode needs Python %d.%d or newer, and %s is %s: name another one with `make PYTHON=...`." % (
            OLDEST + (sys.executable, version)
        )
    try:
        import ensurepip  # noqa: F401
        import venv  # noqa: F401
    except ImportError:
        return (
            "%s (%s) cannot make virtual environments: install its venv package (on Debian and Ubuntu "
            "`apt install python3-venv`)." % (sys.executable, version)
        )


def disk(folder):
    folder = os.path.abspath(folder)
    installed = glob.glob(os.path.join(folder, "lib", "python*", "site-packages", "torch"))
    while not os.path.isdir(folder):
        folder = os.path.dirname(folder)
    need, free = (1.0 if installed else NEED_GB), shutil.disk_usage(folder).free / 1e9
    if free < need:
        return (
            "The packages and the book need about %.0f GB, and %s has %.1f GB free: make room, or put the "
            "environment on another disk with `make VENV=/path/there ...`." % (need, folder, free)
        )


if __name__ == "__main__":
    sys.exit({"python": python, "disk": disk}[sys.argv[1]](*sys.argv[2:]))
