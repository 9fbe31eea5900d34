"""Training runs on disk: directories that can be watched, interrupted, resumed, plotted and rendered."""
