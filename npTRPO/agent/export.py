"""Policies as files that run without npTRPO: a Python file with NumPy alone, or an ONNX model."""

from __future__ import annotations

import inspect
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from gymnasium import spaces

from npTRPO._typing import Array
from npTRPO.agent import exported
from npTRPO.agent.learner import Learner
from npTRPO.agent.model import Model
from npTRPO.files.writing import write_whole
from npTRPO.policies.masks import MASK_KEY
from npTRPO.policies.mlp import MLP
from npTRPO.policies.spaces import Space, action_units, interval_units

_PLACE = "POLICY = {}\n"


def export(model: Model, learner: Learner, path: str | os.PathLike[str]) -> None:
    """Write a policy to a file that runs without npTRPO; see :meth:`npTRPO.TRPO.export`.

    Raises
    ------
    ValueError
        If the name ends neither in ".py" nor in ".onnx".
    NotImplementedError
        For networks and distributions of one's own, which are code.
    """
    file = Path(path)
    if file.suffix not in (".py", ".onnx"):
        raise ValueError(f"the file must end in .py or .onnx, but it is {str(path)!r}")
    described = _described(model, learner)
    if file.suffix == ".py":
        content = _program(described).encode()
    else:
        from npTRPO.agent.onnx_graph import onnx_model

        content = onnx_model(described)
    file.parent.mkdir(parents=True, exist_ok=True)
    write_whole(file, lambda opened: opened.write(content))


def _program(described: Mapping[str, Any]) -> str:
    """Return the source of :mod:`npTRPO.agent.exported` with a policy in it."""
    source = inspect.getsource(exported)
    parts = {
        name: _written(part) if isinstance(part, np.ndarray) else part for name, part in described.items()
    }
    lines = ["POLICY = {", *(f"    {name!r}: {part!r}," for name, part in parts.items()), "}", ""]
    before, after = source.split(_PLACE)
    return before + "\n".join(lines) + after


def _written(array: Array) -> tuple[str, list[int], str]:
    return array.dtype.str, list(array.shape), array.tobytes().hex()


def _described(model: Model, learner: Learner) -> dict[str, Any]:
    """Return all that predicting takes: numbers, words and arrays."""
    policy, network = model.policy, model.policy.network
    if model.own or not isinstance(network, MLP):
        raise NotImplementedError(
            f"a {' and a '.join(sorted(model.own))} of one's own can't be exported, as it is code: "
            "save the agent instead, and load it where that code is"
        )
    if policy.choices and not policy.observes_masks:
        raise NotImplementedError(
            f"the masks must be in the observations, as {MASK_KEY!r}, for a policy that is exported"
        )
    found: dict[str, Any] = {
        "observations": _space(policy.observation_space, bool(policy.choices)),
        "rows": policy.observation_dtype.str,
        "dtype": learner.theta.dtype.str,
        "layers": len(network.layers),
        "activation": network.activation_fn,
    }
    if policy.choices:
        found["mask"] = MASK_KEY
    if learner.observation_moments is not None:
        mean, factor = learner.observation_moments.normalizer(learner.theta.dtype, policy.observation_eps)
        found |= {"mean": mean, "factor": factor}
    for name, view in network.by_layer(learner.theta).items():
        layer, kind = name.split(".")
        found[f"{kind} {layer}"] = view
    return found | _actions(model)


def _space(space: Space, with_mask: bool = False) -> dict[str, Any]:
    """Describe a space of observations, without the mask of actions in it."""
    if isinstance(space, (spaces.Dict, spaces.Tuple)):
        members = space.spaces.items() if isinstance(space, spaces.Dict) else enumerate(space.spaces)
        pairs: dict[Any, Space] = dict(members)
        if with_mask:
            del pairs[MASK_KEY]
        parts = [_space(part) for part in pairs.values()]
        return {"kind": type(space).__name__, "shape": [], "keys": list(pairs), "parts": parts}
    if isinstance(space, spaces.Discrete):
        start, choices = int(space.start), [int(space.n)]
        return {"kind": "choices", "shape": [], "dtype": "<i8", "start": start, "choices": choices}
    if isinstance(space, spaces.MultiDiscrete):
        start, choices = space.start.tolist(), space.nvec.ravel().tolist()
        shape, dtype = list(space.shape), np.dtype(space.dtype).str
        return {"kind": "choices", "shape": shape, "dtype": dtype, "start": start, "choices": choices}
    return {"kind": "Box", "shape": list(space.shape or ()), "dtype": np.dtype(space.dtype).str}


def _actions(model: Model) -> dict[str, Any]:
    """Describe the distribution's most probable actions, and how they become the environment's."""
    config = model.config
    space: Any = model.policy.action_space
    dtype = np.dtype(space.dtype).str
    found: dict[str, Any] = {"action shape": list(space.shape or ()), "action dtype": dtype}
    if not isinstance(space, spaces.Box):
        start = np.asarray(getattr(space, "start", 0))
        if isinstance(space, spaces.MultiBinary):
            return found | {"distribution": "bernoulli", "sizes": [], "start": start}
        sizes = [int(space.n)] if isinstance(space, spaces.Discrete) else space.nvec.ravel().tolist()
        return found | {"distribution": "categorical", "sizes": sizes, "start": start}
    found |= {"sizes": [int(np.prod(space.shape))], "low": space.low, "high": space.high}
    units = None
    if config.distribution == "beta":
        units = interval_units(space)
    elif config.rescale_actions:
        units = action_units(space)
    if units is not None and (np.any(units[0]) or np.any(units[1] != 1)):
        found |= {"origin": units[0], "unit": units[1]}
    return found | {"distribution": "beta" if config.distribution == "beta" else "gaussian"}
