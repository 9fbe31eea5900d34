"""The installed version, as setup.cfg states it."""

from importlib.metadata import version

__all__ = ["__version__"]

__version__ = version("npTRPO")
