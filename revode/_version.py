"""The version, written here and nowhere else in the code: pyproject.toml reads it from this line."""

__version__ = "0.1.0"
