"""The version, for every room: importing the package itself would be an import upwards."""

__version__ = "0.1.0"
