"""Masks of discrete actions: which are allowed in a state."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from gymnasium import spaces

from npTRPO._typing import Array, BoolArray
from npTRPO.policies.spaces import Space

MASK_KEY = "action_mask"
"""The key that a mask has in a Dict observation."""


class MaskError(ValueError):
    """A mask that can't be used: ``row`` says which of several it is, and the message what is wrong."""

    def __init__(self, row: int, said: str) -> None:
        super().__init__(said)
        self.row = row


def choices_of(space: Space) -> tuple[int, ...]:
    """Return the number of choices of each component of a space of actions that can be masked.

    Raises
    ------
    ValueError
        For a space whose actions can't be.
    """
    if isinstance(space, spaces.Discrete):
        return (int(space.n),)
    if isinstance(space, spaces.MultiDiscrete):
        return tuple(int(n) for n in space.nvec.ravel())
    raise ValueError(f"mask_actions is for Discrete and MultiDiscrete actions, not for {space}")


def without_mask(space: Space, choices: Sequence[int]) -> Space:
    """Return a space of observations without the mask in it, which is no feature.

    Raises
    ------
    ValueError
        If the mask has another shape than one element for each choice.
    """
    if not isinstance(space, spaces.Dict) or MASK_KEY not in space.spaces:
        return space
    parts = dict(space.spaces)
    if (shape := parts.pop(MASK_KEY).shape) != (sum(choices),):
        raise ValueError(
            f"the {MASK_KEY} of the observations has shape {shape}, where actions need {(sum(choices),)}"
        )
    return spaces.Dict(list(parts.items()))


def has_mask(space: Space) -> bool:
    """Return whether observations of a space have a mask in them."""
    return isinstance(space, spaces.Dict) and MASK_KEY in space.spaces


def as_masks(masks: Iterable[Any], choices: Sequence[int], unused: Any = False) -> BoolArray:
    """Return masks as one array (N, Σ choices), True where an action is allowed.

    Parameters
    ----------
    masks : array or sequence of arrays
        N masks of booleans, or of 0 and 1, each with the choices of one component after the other.
    choices : sequence of int
        Number of choices of each component.
    unused : bool array, shape (N,), optional
        Those that no action is chosen by. They need not allow any, and allow all in what is returned.

    Raises
    ------
    MaskError
        For one of the wrong shape, with other numbers, or that allows nothing.
    """
    size, rows = sum(choices), [np.asarray(mask) for mask in masks]
    for i, row in enumerate(rows):
        if row.shape != (size,):
            raise MaskError(i, f"has an action mask of shape {row.shape}, not {(size,)}")
    given = np.array(rows).reshape(len(rows), size)
    allowed: BoolArray = given.astype(np.bool_)
    allowed[unused] = True
    wrong = (given != allowed) & ~np.broadcast_to(unused, len(rows))[:, None]
    for i, j in np.argwhere(wrong)[:1]:
        raise MaskError(int(i), f"has the number {given[i, j]} in its action mask, which isn't 0 or 1")
    for i, component in np.argwhere(~any_allowed(allowed, choices))[:1]:
        which = f" in component {component}" if len(choices) > 1 else ""
        raise MaskError(int(i), f"allows no action{which}")
    return allowed


def any_allowed(masks: BoolArray, choices: Sequence[int]) -> BoolArray:
    """Return whether masks (..., Σ choices) allow a choice of each component, shape (..., components)."""
    starts = np.cumsum((0, *choices[:-1]))
    return np.logical_or.reduceat(masks, starts, axis=-1)


def masked(logits: Any, mask: Any, choices: Sequence[int]) -> Any:
    """Return logits with −∞ where a mask is False, for components with so many choices each.

    Raises
    ------
    ValueError
        If the mask isn't like the logits, or allows none of a component's choices.
    """
    mask = np.asarray(mask)
    if mask.dtype != np.bool_ or mask.shape != logits.shape:
        raise ValueError(
            f"a mask must be boolean and like the logits, of shape {logits.shape}, "
            f"not {mask.dtype} of shape {mask.shape}"
        )
    if not np.all(any_allowed(mask, choices)):
        raise ValueError("a mask must allow at least one action of each component in every state")
    return np.where(mask, logits, -np.inf)


def joined(rows: Array, masks: BoolArray) -> Array:
    """Return rows of features with their masks behind them, as a policy with masks takes them."""
    return np.concatenate([rows, masks.astype(rows.dtype)], axis=-1)
