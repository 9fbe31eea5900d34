"""What an agent does with observations, without an environment."""

from typing import Any

import gymnasium
import numpy as np

from npTRPO._typing import Array
from npTRPO.agent.learner import Learner, act
from npTRPO.agent.model import Model
from npTRPO.policies.spaces import as_batch


class Acting:
    """An agent that acts: a model, what was learned, and random numbers to draw actions with."""

    model: Model
    learner: Learner
    _rng_act: np.random.Generator

    def act(
        self,
        observations: Any,
        deterministic: bool = False,
        rng: np.random.Generator | None = None,
        action_masks: Any = None,
    ) -> Array:
        """Choose an action for each observation of a batch; ``rng`` defaults to the agent's own.

        See :func:`npTRPO.agent.learner.act`.
        """
        rng = rng or self._rng_act
        return act(self.model, self.learner, observations, deterministic, rng, action_masks)

    def predict(
        self,
        observation: Any,
        state: None = None,
        episode_start: Any = None,
        deterministic: bool = False,
        action_masks: Any = None,
    ) -> tuple[Any, None]:
        """Choose an action for one observation, or for each of a batch.

        Parameters
        ----------
        observation : array, dict or tuple
            An element of the observation space, or a batch with N in front of each array's shape.
        state, episode_start
            Taken for compatibility; the policy has no memory.
        deterministic : bool
            The most probable action instead of a random one.
        action_masks : bool array, optional
            With ``mask_actions``: True where an action is allowed, for one observation or for each of the
            batch. Unless given, those that the observations allow, or all.

        Returns
        -------
        action, state
            An element of the action space, or a batch; None.

        Raises
        ------
        ValueError
            For observations of a wrong shape, or not finite; for masks that allow nothing, or of a wrong
            shape.
        """
        batch, single = as_batch(self.model.policy.observation_space, observation)
        if single and action_masks is not None:
            action_masks = np.reshape(action_masks, (1, -1))
        actions = self.act(batch, deterministic, action_masks=action_masks)
        if not single:
            return actions, None
        # A single number is an array in Gymnasium's Box, and none in its Discrete.
        box = isinstance(self.model.policy.action_space, gymnasium.spaces.Box)
        return (np.asarray(actions[0]) if box else actions[0]), None
