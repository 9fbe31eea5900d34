"""Hyperparameters and parameters of an agent by the names that Stable-Baselines3 has for them."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from typing import IO, Any

import numpy as np
from gymnasium.vector import VectorEnv

from npTRPO._typing import Array
from npTRPO.agent.acting import Acting
from npTRPO.agent.attributes import part_of
from npTRPO.agent.checkpoint import read_checkpoint
from npTRPO.agent.config import TRPOConfig
from npTRPO.agent.learner import Learner, map_leaves
from npTRPO.policies.mlp import MLP

Parameters = dict[str, dict[str, Array]]


class Parametrised(Acting):
    """An agent whose hyperparameters are attributes, and whose parameters can be read and written.

    An option that is assigned counts from the next update on, and is checked as in the config.
    """

    config: TRPOConfig
    env: VectorEnv[Any, Any, Any] | None

    gamma: float = part_of("config", "gamma")
    gae_lambda: float = part_of("config", "gae_lambda")
    normalize_advantage: bool = part_of("config", "normalize_advantage")
    target_kl: float = part_of("config", "target_kl")
    cg_max_steps: int | None = part_of("config", "cg_max_steps")
    cg_damping: float = part_of("config", "cg_damping")
    line_search_shrinking_factor: float = part_of("config", "line_search_shrinking_factor")
    line_search_max_iter: int = part_of("config", "line_search_max_iter")
    sub_sampling_factor: int = part_of("config", "sub_sampling_factor")
    n_critic_updates: int | None = part_of("config", "n_critic_updates")
    learning_rate: float = part_of("config", "learning_rate")
    batch_size: int = part_of("config", "batch_size")

    @property
    def n_envs(self) -> int:
        """Number of environments that the agent learns in."""
        return self.config.n_envs if self.env is None else self.env.num_envs

    @property
    def n_steps(self) -> int:
        """Steps in each environment per update."""
        return self.config.steps_per_env(self.n_envs)

    @n_steps.setter
    def n_steps(self, value: int) -> None:
        self.config = replace(self.config, n_steps=value)

    @property
    def seed(self) -> int | None:
        """The seed that the agent was made with."""
        return self.config.seed

    @property
    def net_arch(self) -> dict[str, list[int]]:
        """Widths of the hidden layers of the policy (pi) and of the value function (vf)."""
        return {"pi": list(self.config.policy_arch), "vf": list(self.config.value_arch)}

    def get_parameters(self) -> Parameters:
        """Return copies of all that actions and values follow from, by name.

        "policy" has θ as :meth:`parameters_by_layer` names it, and the value function's parameters as
        ``value.0.weight``, …; "normalization" has the moments of observations and rewards.

        Examples
        --------
        >>> from npTRPO import TRPO
        >>> agent = TRPO("MlpPolicy", "CartPole-v1", net_arch=[], seed=0)
        >>> {name: list(arrays) for name, arrays in agent.get_parameters().items()}["policy"]
        ['policy.0.weight', 'policy.0.bias', 'value.0.weight', 'value.0.bias']
        """
        return {
            group: {name: np.array(part) for name, part in parts.items()}
            for group, parts in self._parts(self.learner).items()
        }

    def set_parameters(
        self,
        load_path_or_dict: str | os.PathLike[str] | IO[bytes] | Mapping[str, Mapping[str, Any]],
        exact_match: bool = True,
        device: str = "auto",
    ) -> None:
        """Take the parameters that :meth:`get_parameters` returned, or those of an agent's file.

        Parameters
        ----------
        load_path_or_dict : path, file or dict
            What to take them from.
        exact_match : bool
            Whether all must be there; otherwise those that aren't stay as they are.
        device
            Taken for compatibility.

        Raises
        ------
        ValueError
            For names or shapes that aren't the agent's, or impossible numbers; nothing is changed then.
        """
        if isinstance(load_path_or_dict, Mapping):
            given: Mapping[str, Mapping[str, Any]] = load_path_or_dict
        else:
            given = self._parts(read_checkpoint(load_path_or_dict, self.model.own).learner)
        # What is written into these views is in the copy.
        copied: Learner = map_leaves(lambda _, leaf: np.array(leaf), self.learner)
        parts = self._parts(copied)
        wanted = {(group, name) for group, names in parts.items() for name in names}
        there = {(group, name) for group, names in given.items() for name in names}
        if odd := sorted(there - wanted) or (exact_match and sorted(wanted - there)):
            what = (
                "is none of the agent's" if there - wanted else "is missing (exact_match=False allows that)"
            )
            raise ValueError(f"the parameter {odd[0][1]!r} in {odd[0][0]!r} {what}")
        for group, name in there:
            part, array = parts[group][name], np.asarray(given[group][name])
            if array.shape != part.shape:
                raise ValueError(f"{name} must have shape {part.shape}, not {array.shape}")
            if not np.isfinite(array).all():
                raise ValueError(f"{name} must be finite")
            if name.endswith(("_variance", "_count")) and (array < 0).any():
                raise ValueError(f"{name} must not be negative")
            part[...] = array
        new = copied.leaves()
        self.learner = map_leaves(
            lambda name, leaf: new[name] if isinstance(leaf, np.ndarray) else int(new[name]), self.learner
        )

    def _parts(self, learner: Learner) -> Parameters:
        """Return views of a learner's parameters and moments, as far as they are arrays, by name."""
        network = self.model.value_network
        value = (
            network.by_layer(learner.value_theta) if isinstance(network, MLP) else {"": learner.value_theta}
        )
        policy = self.model.policy.by_layer(learner.theta)
        policy |= {f"value.{name}".rstrip("."): view for name, view in value.items()}
        moments = {name: leaf for name, leaf in learner.leaves().items() if "_moments_" in name}
        return {"policy": policy, "normalization": moments}
