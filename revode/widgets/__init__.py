"""Interactive figures that work in the built book without a kernel; the step-size explorer also asks one for more."""

from .bent_kernel import BentKernel
from .depth_doubling import DepthDoubling
from .drift import DriftExplorer
from .image_depth import ImageDepth
from .revnet import RevNetPad
from .rings import RingsExplorer
from .step_size import StepSizeExplorer
from .two_images import TwoImages

__all__ = [
    "BentKernel",
    "DepthDoubling",
    "DriftExplorer",
    "ImageDepth",
    "RevNetPad",
    "RingsExplorer",
    "StepSizeExplorer",
    "TwoImages",
]
