"""Errors of this package. Each message names the argument, its value, what is allowed, and the remedy."""


class RevodeError(Exception):
    """Base of all errors of this package."""


class FieldShapeError(RevodeError, ValueError):
    """A residual function does not keep the shape of its input."""


class FieldDtypeError(RevodeError, ValueError):
    """A residual function returns no tensor of a floating type."""


class FieldModifiedInputError(RevodeError, ValueError):
    """A residual function writes into its input, which the inverse needs unchanged."""


class NotInvertibleError(RevodeError, ValueError):
    """A step that cannot be undone is asked to be undone."""


class ChannelError(RevodeError, ValueError):
    """A number of channels does not fit the scheme."""


class StepSizeError(RevodeError, ValueError):
    """A step size that is no finite number."""


class DataError(RevodeError, OSError):
    """Image data is missing, incomplete, or cannot be fetched."""


class CheckpointError(RevodeError, OSError):
    """A checkpoint, result or weight file is broken, or cannot be written."""


class ConversionError(RevodeError, ValueError):
    """A model has no form that it could be converted to."""


class TrainingError(RevodeError, RuntimeError):
    """Training cannot go on, for example because the loss is not finite."""


class ImageError(RevodeError, ValueError):
    """A batch of images that a network cannot take: its shape, size or type."""


class FixedPointRangeError(RevodeError, OverflowError):
    """Values left the range that fixed point holds at the present scale."""


class NonFiniteIncrementError(RevodeError, ArithmeticError):
    """A residual function gave a value that is not finite."""


class RecomputationError(RevodeError, RuntimeError):
    """The second evaluation of a residual function differs from the first."""


class JacobianError(RevodeError, ValueError):
    """A map or a state whose Jacobian cannot be taken: not square, not finite, not of a floating type."""


class SpectrumError(RevodeError, ValueError):
    """A question about a spectrum that cannot be answered: too many eigenvalues, an unknown end of the spectrum."""


class DenseSizeError(RevodeError, ValueError):
    """A dense matrix that would not fit the available memory."""


class ExponentCountError(RevodeError, ValueError):
    """A number of Lyapunov exponents that the state does not have."""


class NonFiniteStateError(RevodeError, RuntimeError):
    """A state or a tangent that is no longer finite, at a step that the message names."""


class BatchStatisticsError(RevodeError, ValueError):
    """Inputs that are treated independently are mixed by a normalization in training mode."""
