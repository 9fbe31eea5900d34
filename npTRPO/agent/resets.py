"""When environments begin afresh, so that a file written then goes on to the same bits."""

from dataclasses import dataclass, replace
from typing import Self

MOST_INTERVALS = 16
"""Intervals between two resets, at most."""


@dataclass(frozen=True)
class Resets:
    """What decides when environments begin afresh: the updates and episodes since they last did.

    They do at multiples of an interval, as that is where checkpoints are written. As this cuts episodes off,
    it is put off while none has ended since the last time, so that episodes longer than the interval end too:
    for as many updates as there were before and an interval more, and for 16 intervals, at most. What decides
    follows from a checkpoint and what comes after it, and so a run that is resumed there decides alike.

    Attributes
    ----------
    last : int
        Number of updates when the environments last began afresh.
    episodes : int
        Episodes that have ended since.
    """

    last: int = 0
    episodes: int = 0

    def after(self, episodes: int) -> Self:
        """Return what decides when so many more episodes have ended."""
        return replace(self, episodes=self.episodes + episodes)

    def latest(self, interval: int) -> int:
        """Return the number of updates after which environments begin afresh even if no episode has ended."""
        return self.last + min(self.last + interval, MOST_INTERVALS * interval)

    def due(self, n_updates: int, interval: int | None) -> bool:
        """Return whether the environments begin afresh after so many updates."""
        if not interval or n_updates % interval:
            return False
        return self.episodes > 0 or n_updates >= self.latest(interval)

    def put_off(self, n_updates: int, interval: int | None) -> bool:
        """Return whether they would, had an episode ended."""
        return bool(interval and n_updates % interval == 0) and not self.due(n_updates, interval)
