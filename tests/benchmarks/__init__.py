"""Measurements, not tests: ``python -m tests.benchmarks`` writes them to ``results/``."""
