"""Stable-Baselines3's vector environments as Gymnasium's."""

import warnings
from typing import Any

import numpy as np
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space

from npTRPO.sampling.vectors import counting_calls

_INTERFACE = ("num_envs", "observation_space", "action_space", "step_async", "step_wait", "env_method")


def is_vec_env(env: Any) -> bool:
    """Return whether an object is a vector environment as Stable-Baselines3's ``VecEnv`` describes them."""
    ours = isinstance(env, (type, VectorEnv))
    return not ours and all(hasattr(env, name) for name in _INTERFACE)


class FromVecEnv(VectorEnv[Any, Any, Any]):
    """A Stable-Baselines3 ``VecEnv`` with Gymnasium's interface; it is left open when this is no longer used.

    An environment whose episode ends is reset in the same step, and its last observation is in its infos, as
    ``terminal_observation``; it was truncated where ``TimeLimit.truncated`` is true there.

    Parameters
    ----------
    venv : VecEnv
        A VecNormalize around it is taken off, as agents normalise by themselves.

    Warns
    -----
    UserWarning
        If a VecNormalize is taken off, or can't be.
    """

    def __init__(self, venv: Any) -> None:
        self.venv = _without_normalization(venv)
        self.metadata = {**getattr(venv, "metadata", {}), "autoreset_mode": AutoresetMode.SAME_STEP}
        self.render_mode = getattr(venv, "render_mode", None)
        self.num_envs = self.venv.num_envs
        self.single_observation_space = self.venv.observation_space
        self.single_action_space = self.venv.action_space
        self.observation_space = batch_space(self.single_observation_space, self.num_envs)
        self.action_space = batch_space(self.single_action_space, self.num_envs)
        self._calls = counting_calls(self.venv)
        self._methods: set[str] = set()

    @property
    def nptrpo_calls(self) -> int:
        """How often it was reset or stepped, by whomever."""
        return self._calls()

    def reset(self, *, seed: Any = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        """Reset all environments."""
        if seed is not None:
            self.venv.seed(int(seed))
        if options:
            self.venv.set_options(options)
        return self.venv.reset(), {}

    def step(self, actions: Any) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        """Step all environments, and reset those whose episodes end."""
        observations, rewards, dones, infos = self.venv.step(actions)
        ended = np.asarray(dones, dtype=np.bool_)
        truncated = ended & np.array([bool(info.get("TimeLimit.truncated")) for info in infos])
        found: dict[str, Any] = {}
        for i, info in enumerate(infos):
            if ended[i]:
                info = {"final_obs": info.get("terminal_observation"), "final_info": info}
            for key, value in info.items():
                self._column(found, key)[i] = value
                found[f"_{key}"][i] = True
        return observations, rewards, ended & ~truncated, truncated, found

    def _column(self, found: dict[str, Any], key: str) -> Any:
        """Return the infos of all environments that a key has, which are made if need be."""
        if key not in found:
            found[key] = np.full(self.num_envs, None, dtype=object)
            found[f"_{key}"] = np.zeros(self.num_envs, dtype=np.bool_)
        return found[key]

    def call(self, name: str, *arguments: Any, **options: Any) -> tuple[Any, ...]:
        """Call a method of every environment, and return what each returns.

        Raises
        ------
        AttributeError
            If there is none of that name.
        """
        if name not in self._methods:
            if hasattr(self.venv, "has_attr") and not self.venv.has_attr(name):
                raise AttributeError(f"the environments of {type(self.venv).__name__} have no {name!r}")
            self._methods.add(name)
        return tuple(self.venv.env_method(name, *arguments, **options))

    def render(self) -> Any:
        """Return the picture of each environment."""
        return tuple(self.venv.get_images())

    def close_extras(self, **_: Any) -> None:
        """Close the environments."""
        self.venv.close()

    def __del__(self) -> None:
        """Leave the environments open, which aren't this object's own."""


def _without_normalization(venv: Any) -> Any:
    """Return a VecEnv without a VecNormalize around it, and say so."""
    outermost = venv
    while _normalizes(venv):
        venv = venv.venv
    inner = venv
    while hasattr(type(inner), "venv") or "venv" in vars(inner):
        inner = inner.venv
        if _normalizes(inner):
            warnings.warn(
                f"there is a VecNormalize inside of {type(venv).__name__}, where it can't be taken off: "
                "agents normalise observations and rewards by themselves; leave it out, or put it outermost",
                UserWarning,
                stacklevel=2,
            )
    if venv is not outermost:
        warnings.warn(
            "VecNormalize is taken off, as agents normalise observations and rewards by themselves "
            "(normalize_observations, normalize_rewards), and keep the moments in their files",
            UserWarning,
            stacklevel=2,
        )
    return venv


def _normalizes(venv: Any) -> bool:
    return any(kind.__name__ == "VecNormalize" for kind in type(venv).__mro__) and hasattr(venv, "venv")
