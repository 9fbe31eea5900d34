"""The ``nptrpo`` command: train, evaluate, render, plot, presets, verify."""

from npTRPO.cli.command import main

__all__ = ["main"]
