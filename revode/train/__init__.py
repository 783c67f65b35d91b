"""Training that can be trusted: the papers" schedules, exact resumption, and a result file with its evidence.

The loss is the mean cross-entropy over the batch, plus ``smoothness`` times
:meth:`revode.networks.Network.smoothness`, plus ``weight_decay`` times half the squared norm of kernels and last
matrix. In the released code the smoothness term is added to the cost that it prints, but not to the gradient; here it
is part of what is differentiated. Weight decay acts on what the released code calls "w": kernels and the last
layer"s matrix, not on biases and not on the scales and shifts of batch normalization.

SGD with momentum m and rate r: v <- m v + gradient, w <- w - r v, as in TensorFlow"s MomentumOptimizer, which the
authors used. Defaults come from :data:`revode.models.MODELS`.

Sources: Chang et al. 2018 (arXiv 1709.03698) and its released code, branches master, hamiltonian and ham1122.
"""

from .command import add_arguments, main
from .config import CHECKPOINT, LOG, RESULT, TrainConfig, half_precision
from .diagnosis import first_not_finite
from .interruption import Stopped
from .run import fit, load_network, sgd

__all__ = [
    "CHECKPOINT",
    "LOG",
    "RESULT",
    "Stopped",
    "TrainConfig",
    "add_arguments",
    "first_not_finite",
    "fit",
    "half_precision",
    "load_network",
    "main",
    "sgd",
]
