"""Interactive figures that work in the built book without a kernel, and recompute where one answers."""

from .step_size import StepSizeExplorer

__all__ = ["StepSizeExplorer"]
