"""Trust Region Policy Optimization in pure NumPy."""
