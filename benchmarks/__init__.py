"""Time and memory of a training step: revode beside plain autograd, checkpointing and other packages."""
