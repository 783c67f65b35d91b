"""Interactive figures that work in the built book without a kernel; the step-size explorer also asks one for more."""

from .revnet import RevNetPad
from .step_size import StepSizeExplorer

__all__ = ["RevNetPad", "StepSizeExplorer"]
