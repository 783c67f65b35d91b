"""Interactive figures that work in the built book without a kernel; the step-size explorer also asks one for more."""

from .drift import DriftExplorer
from .revnet import RevNetPad
from .step_size import StepSizeExplorer

__all__ = ["DriftExplorer", "RevNetPad", "StepSizeExplorer"]
