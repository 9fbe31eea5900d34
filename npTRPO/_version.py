"""The installed version, as setup.cfg states it."""

from importlib.metadata import version

__version__ = version("npTRPO")
