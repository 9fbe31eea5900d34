"""The ``nptrpo`` command: train, evaluate, render, plot, compare, presets, verify."""

from npTRPO.cli.command import main

__all__ = ["main"]
