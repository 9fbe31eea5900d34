"""What an agent does with observations, without an environment."""

import os
from typing import Any

import gymnasium
import numpy as np

from npTRPO._typing import Array, BoolArray
from npTRPO.agent.export import export
from npTRPO.agent.learner import Learner, act, seen
from npTRPO.agent.model import Model
from npTRPO.policies.distributions import Distribution
from npTRPO.policies.spaces import as_batch
from npTRPO.sampling.actor import Actor


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
        actions = self.act(batch, deterministic, action_masks=_one_or_more(action_masks, single))
        if not single:
            return actions, None
        # A single number is an array in Gymnasium's Box, and none in its Discrete.
        box = isinstance(self.model.policy.action_space, gymnasium.spaces.Box)
        return (np.asarray(actions[0]) if box else actions[0]), None

    def predict_values(self, observation: Any) -> Any:
        """Estimate the value of one observation, or of each of a batch: V(s), in the environment's rewards.

        Parameters
        ----------
        observation : array, dict or tuple
            As for :meth:`predict`.

        Returns
        -------
        float, or array of shape (N,)
            The discounted return that is expected from there on.

        Examples
        --------
        >>> import numpy as np
        >>> from npTRPO import TRPO
        >>> agent = TRPO("MlpPolicy", "CartPole-v1", seed=0)
        >>> agent.predict_values(np.zeros((3, 4))).shape
        (3,)
        """
        batch, single = as_batch(self.model.policy.observation_space, observation)
        features, _ = self._seen(batch)
        values = self.model.value_network(self.learner.value_theta, features)[:, 0].astype(np.float64)
        values = values * self.learner.reward_scale.moments.scale[0]  # which rewards were divided by
        return float(values[0]) if single else values

    def distribution(self, observation: Any, action_masks: Any = None) -> Distribution:
        """Return π(·|s) of one observation, as a batch of one, or of each of a batch.

        Its actions are the policy's own, before they are rescaled or counted from a Discrete space's start:
        ``agent.policy.to_env(actions)`` are the environment's. Parameters are those of :meth:`predict`.

        Examples
        --------
        >>> import numpy as np
        >>> from npTRPO import TRPO
        >>> agent = TRPO("MlpPolicy", "CartPole-v1", seed=0)
        >>> agent.distribution(np.zeros(4)).probs
        array([[0.5, 0.5]], dtype=float32)
        """
        batch, single = as_batch(self.model.policy.observation_space, observation)
        masks = _one_or_more(action_masks, single)
        policy = self.model.policy
        return policy(self.learner.theta, policy.rows(*self._seen(batch, masks)))

    def parameters_by_layer(self) -> dict[str, Array]:
        """Return views of θ by name, in its order; what is written into them changes the agent.

        An MLP has ``policy.0.weight``, of shape (inputs, outputs), ``policy.0.bias``, ``policy.1.weight``, …;
        a network of one's own ``policy``, all of its parameters. ``log_std`` comes last, if θ has it.
        Learning makes a new θ, of which these are no views.

        Examples
        --------
        >>> from npTRPO import TRPO
        >>> agent = TRPO("MlpPolicy", "CartPole-v1", net_arch=[8], seed=0)
        >>> {name: view.shape for name, view in agent.parameters_by_layer().items()}
        {'policy.0.weight': (4, 8), 'policy.0.bias': (8,), 'policy.1.weight': (8, 2), 'policy.1.bias': (2,)}
        """
        return self.model.policy.by_layer(self.learner.theta)

    def _seen(self, batch: Any, action_masks: Any = None) -> tuple[Array, BoolArray | None]:
        """Return a batch of observations as the networks see it, and masks."""
        policy, learner = self.model.policy, self.learner
        return seen(policy, Actor(policy, learner.theta, learner.observation_moments), batch, action_masks)

    def export(self, path: str | os.PathLike[str]) -> None:
        """Write the policy to a file that runs without npTRPO, and returns the most probable actions.

        Parameters
        ----------
        path : path
            One that ends in ".py" becomes a program with NumPy alone, whose function ``predict`` takes what
            :meth:`predict` does and returns the same actions. One that ends in ".onnx" becomes a model with
            the input "observations", a batch in the space's dtype, and the output "actions" (needs the
            ``onnx`` extra).

        Raises
        ------
        ValueError
            For another ending.
        NotImplementedError
            For networks and distributions of one's own, which are code, and for what a model can't hold.

        Examples
        --------
        >>> import runpy, tempfile
        >>> import numpy as np
        >>> from npTRPO import TRPO
        >>> agent = TRPO("MlpPolicy", "CartPole-v1", seed=0)
        >>> with tempfile.TemporaryDirectory() as directory:
        ...     agent.export(f"{directory}/policy.py")
        ...     predict = runpy.run_path(f"{directory}/policy.py")["predict"]
        >>> bool(predict(np.ones(4)) == agent.predict(np.ones(4), deterministic=True)[0])
        True
        """
        export(self.model, self.learner, path)


def _one_or_more(masks: Any, single: bool) -> Any:
    """Return masks as a batch, where there may be one for a single observation."""
    return np.reshape(masks, (1, -1)) if single and masks is not None else masks
