"""A policy as an ONNX model: from observations to its most probable actions."""

from __future__ import annotations

import importlib
import itertools
from collections.abc import Mapping
from typing import Any

import numpy as np

from npTRPO._typing import Array

_OPSET = 17


def onnx_model(policy: Mapping[str, Any]) -> bytes:
    """Return the model of a policy as described by :mod:`npTRPO.agent.export`.

    Its input "observations" is a batch in the space's dtype, and its output "actions" a batch too.

    Raises
    ------
    ModuleNotFoundError
        Without the package onnx.
    NotImplementedError
        For observations of several spaces.
    """
    try:
        helper: Any = importlib.import_module("onnx.helper")
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError('export to ONNX needs a package: pip install "npTRPO[onnx]"') from error
    space = policy["observations"]
    if space["kind"] in ("Dict", "Tuple"):
        raise NotImplementedError(
            f"an ONNX model has one input, and observations of a {space['kind']} have several: "
            "export to a .py file, or flatten them in a gymnasium.ObservationWrapper"
        )
    graph = _Graph(helper)
    actions = graph.actions(policy, graph.outputs(policy, graph.features(policy)))
    made = helper.make_graph(
        [*graph.nodes, helper.make_node("Identity", [actions], ["actions"])],
        "policy",
        [
            helper.make_tensor_value_info(
                "observations", _type(helper, space["dtype"]), ["N", *space["shape"]]
            )
        ],
        [
            helper.make_tensor_value_info(
                "actions", _type(helper, policy["action dtype"]), ["N", *policy["action shape"]]
            )
        ],
        graph.constants,
    )
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", _OPSET)], ir_version=8)
    content: bytes = model.SerializeToString()
    return content


def _type(helper: Any, dtype: Any) -> int:
    return int(helper.np_dtype_to_tensor_dtype(np.dtype(dtype)))


class _Graph:
    """Nodes and constants of a graph, as they are added."""

    def __init__(self, helper: Any) -> None:
        self._helper = helper
        self._numbers = itertools.count()
        self.nodes: list[Any] = []
        self.constants: list[Any] = []

    def node(self, kind: str, *inputs: str | Array, **attributes: Any) -> str:
        """Add a node; return the name of its output. Arrays among the inputs become constants."""
        names = [part if isinstance(part, str) else self._constant(part) for part in inputs]
        output = f"{kind.lower()} {next(self._numbers)}"
        self.nodes.append(self._helper.make_node(kind, names, [output], **attributes))
        return output

    def _constant(self, array: Array) -> str:
        name = f"constant {next(self._numbers)}"
        raw = np.ascontiguousarray(array)
        kind = _type(self._helper, raw.dtype)
        self.constants.append(self._helper.make_tensor(name, kind, raw.shape, raw.tobytes(), raw=True))
        return name

    def cast(self, x: str, dtype: Any) -> str:
        """Return a value in another dtype."""
        return self.node("Cast", x, to=_type(self._helper, dtype))

    def features(self, policy: Mapping[str, Any]) -> str:
        """Add the encoding of observations and their normalisation."""
        space, dtype = policy["observations"], policy["dtype"]
        if space["kind"] == "Box":
            size = int(np.prod(space["shape"]))
            x = self.node("Reshape", self.cast("observations", policy["rows"]), np.array([-1, size]))
        else:
            counts = self.cast("observations", np.int64)
            counted = self.node("Sub", counts, np.array(space["start"], np.int64).reshape(space["shape"]))
            flat = self.node("Reshape", counted, np.array([-1, len(space["choices"])]))
            parts = [
                self.node("Equal", self.node("Gather", flat, np.array([i]), axis=1), np.arange(n))
                for i, n in enumerate(space["choices"])
            ]
            x = self.cast(self.node("Concat", *parts, axis=1), policy["rows"])
        if "mean" in policy:
            centred = self.node("Sub", self.cast(x, np.float64), policy["mean"])
            scaled = self.node("Mul", centred, policy["factor"].astype(np.float64))
            x = self.node("Clip", scaled, np.array(-10.0), np.array(10.0))
        return self.cast(x, dtype)

    def outputs(self, policy: Mapping[str, Any], x: str) -> str:
        """Add the network."""
        for i in range(policy["layers"]):
            x = self.node("Add", self.node("MatMul", x, policy[f"weight {i}"]), policy[f"bias {i}"])
            if i < policy["layers"] - 1:
                x = self._activated(policy["activation"], x)
        return x

    def _activated(self, name: str, x: str) -> str:
        if name == "silu":
            return self.node("Mul", x, self.node("Sigmoid", x))
        return self.node(name.capitalize(), x)

    def actions(self, policy: Mapping[str, Any], outputs: str) -> str:
        """Add the mode of the distribution, in the environment's units."""
        kind, sizes, dtype = policy["distribution"], policy["sizes"], policy["action dtype"]
        shape = np.array([-1, *policy["action shape"]])
        if kind == "categorical":
            starts = np.cumsum([0, *sizes])
            parts = [
                self._columns(outputs, start, start + n) for start, n in zip(starts, sizes, strict=False)
            ]
            chosen = [self.node("ArgMax", part, axis=1, keepdims=1) for part in parts]
            x = self.node("Concat", *chosen, axis=1)
        elif kind == "bernoulli":
            zero = np.zeros((), policy["dtype"])
            x = self.cast(self.node("Greater", outputs, zero), np.int64)
        else:
            n = sizes[0]
            x = self._columns(outputs, 0, n)
            if kind == "beta":  # α / (α + β) from their logarithms
                x = self.node("Sigmoid", self.node("Sub", x, self._columns(outputs, n, 2 * n)))
        x = self.node("Reshape", x, shape)
        if "start" in policy:
            return self.cast(self.node("Add", x, policy["start"].astype(np.int64)), dtype)
        x = self.cast(x, np.float64)
        if "origin" in policy:
            x = self.node("Add", self.node("Mul", x, policy["unit"]), policy["origin"])
        x = self.node("Max", x, policy["low"].astype(np.float64))
        x = self.node("Min", x, policy["high"].astype(np.float64))
        return self.cast(self.node("Round", x) if np.dtype(dtype).kind in "iu" else x, dtype)

    def _columns(self, x: str, start: int, stop: int) -> str:
        return self.node("Slice", x, np.array([start]), np.array([stop]), np.array([1]))
