"""Interactive figures that work in the built book without a kernel; the step-size explorer also asks one for more."""

from .revnet import RevNetPad
from .step_size import StepSizeExplorer
from .two_images import TwoImages

__all__ = ["RevNetPad", "StepSizeExplorer", "TwoImages"]
