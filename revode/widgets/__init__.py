"""Interactive figures that work in the built book without a kernel; the step-size explorer also asks one for more."""

from .bent_kernel import BentKernel
from .drift import DriftExplorer
from .revnet import RevNetPad
from .rings import RingsExplorer
from .step_size import StepSizeExplorer
from .two_images import TwoImages

__all__ = ["BentKernel", "DriftExplorer", "RevNetPad", "RingsExplorer", "StepSizeExplorer", "TwoImages"]
