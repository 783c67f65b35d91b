"""Interactive figures that work in the built book without a kernel, and recompute where one answers."""

from .step_size import StepSizeExplorer, bundled_layer

__all__ = ["StepSizeExplorer", "bundled_layer"]
