"""A line per update."""

from __future__ import annotations

from collections.abc import Callable

from npTRPO.agent.trpo import Callback, Record

__all__ = ["format_record", "header", "printer"]

_COLUMNS: tuple[tuple[str, int, Callable[[Record], str]], ...] = (
    ("steps", 10, lambda r: f"{r.num_timesteps:,}"),
    ("return", 9, lambda r: f"{r.episode_return:.1f}"),
    ("length", 7, lambda r: f"{r.episode_length:.0f}"),
    ("KL", 9, lambda r: f"{r.update.kl:.5f}"),
    ("predicted", 10, lambda r: f"{r.update.predicted_improvement:.5f}"),
    ("improved", 9, lambda r: f"{r.update.improvement:.5f}"),
    ("CG resid.", 10, lambda r: f"{_cg_residual(r):.1e}"),
    ("tries", 6, lambda r: str(r.update.line_search.tries if r.update.line_search else 0)),
    ("expl.var.", 10, lambda r: f"{r.explained_variance:.3f}"),
    ("entropy", 8, lambda r: f"{r.update.entropy:.3f}"),
    ("steps/s", 9, lambda r: f"{r.steps_per_second:,.0f}"),
)


def header() -> str:
    """The columns' names."""
    return "".join(f"{name:>{width}}" for name, width, _ in _COLUMNS)


def format_record(record: Record) -> str:
    """One update as a line under :func:`header`."""
    return "".join(f"{text(record):>{width}}" for _, width, text in _COLUMNS)


def printer(log_interval: int = 1) -> Callback:
    """Callback that prints the header, and then a line every ``log_interval`` updates."""
    started = False

    def show(record: Record) -> None:
        nonlocal started
        if not started:
            print(header(), flush=True)
            started = True
        if record.n_updates % log_interval == 0:
            print(format_record(record), flush=True)

    return show


def _cg_residual(record: Record) -> float:
    """Residual norm relative to the gradient's."""
    cg = record.update.cg
    return cg.residual_norm / record.update.gradient_norm if cg else float("nan")
