"""Image sets held as one uint8 tensor, and their batches as a pure function of seed and step."""

from .batches import Batches, evaluation_batches, normalize
from .sets import SPLITS, ImageSet, add_arguments, load, main

__all__ = ["SPLITS", "Batches", "ImageSet", "add_arguments", "evaluation_batches", "load", "main", "normalize"]
