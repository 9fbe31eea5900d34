"""A trained policy in NumPy alone: ``predict(observations)`` returns its most probable actions.

npTRPO wrote this file with :meth:`npTRPO.TRPO.export`; it needs nothing else. ``POLICY`` holds all that was
learned.
"""

import numpy as np

POLICY = {}


def predict(observations):
    """Return the most probable action for one observation, or for each of a batch.

    Parameters
    ----------
    observations : array, dict or tuple
        An element of the observation space, or a batch with N in front of each array's shape.

    Returns
    -------
    array
        An action of the environment, or N of them.

    Raises
    ------
    ValueError
        For observations of a wrong shape, or not finite.
    """
    space = POLICY["observations"]
    rows, single = _encoded(space, observations)
    if not np.all(np.isfinite(rows)):
        raise ValueError("the observation is not finite")
    x = rows.astype(POLICY["dtype"])
    if "mean" in POLICY:
        x = np.minimum(np.maximum((rows - _array("mean")) * _array("factor"), -10.0), 10.0)
        x = x.astype(POLICY["dtype"])
    n_layers = POLICY["layers"]
    for i in range(n_layers):
        x = x @ _array(f"weight {i}") + _array(f"bias {i}")
        if i < n_layers - 1:
            x = _ACTIVATIONS[POLICY["activation"]](x)
    if "mask" in POLICY:
        key = POLICY["mask"]
        allowed = np.reshape(np.asarray(observations[key]), (len(x), -1)).astype(bool)
        x = np.where(allowed, x, -np.inf)
    actions = _in_environment(_most_probable(x))
    return actions[0] if single else actions


def _encoded(space, observations):
    """Return observations as rows, and whether it was a single one."""
    kind, shape = space["kind"], tuple(space["shape"])
    if kind in ("Dict", "Tuple"):
        keys = space["keys"] if kind == "Dict" else range(len(space["parts"]))
        pairs = [_encoded(part, observations[key]) for key, part in zip(keys, space["parts"], strict=True)]
        singles = {single for _, single in pairs}
        if len(singles) != 1:
            raise ValueError("some parts of the observation are batches, and some are not")
        return np.concatenate([rows for rows, _ in pairs], axis=1), singles.pop()
    array = np.asarray(observations)
    single = array.shape == shape
    if single:
        array = array[None]
    if array.shape[1:] != shape or array.ndim != len(shape) + 1:
        raise ValueError(f"observations have shape {np.shape(observations)}, not {shape} or (N, *{shape})")
    if kind == "Box":
        return array.astype(POLICY["rows"]).reshape(len(array), -1), single
    counted = (array - np.array(space["start"]).reshape(shape)).reshape(len(array), -1)
    for i, n in enumerate(space["choices"]):
        if not np.all((counted[:, i] >= 0) & (counted[:, i] < n) & (counted[:, i] == np.rint(counted[:, i]))):
            raise ValueError(f"an observation is none of the {n} values of its space")
    parts = [counted[:, i, None] == np.arange(n) for i, n in enumerate(space["choices"])]
    return np.concatenate(parts, axis=1).astype(POLICY["rows"]), single


def _most_probable(outputs):
    """Return the actions of a distribution's mode from the network's outputs."""
    kind, sizes = POLICY["distribution"], POLICY["sizes"]
    if kind == "categorical":
        ends = np.cumsum(sizes)
        parts = [outputs[:, end - n : end] for n, end in zip(sizes, ends, strict=True)]
        return np.stack([np.argmax(part, axis=1) for part in parts], axis=1)
    if kind == "bernoulli":
        return (outputs > 0).astype(np.int64)
    if kind == "beta":
        return 1 / (1 + np.exp(outputs[:, sizes[0] :] - outputs[:, : sizes[0]]))
    return outputs[:, : sizes[0]]


def _in_environment(actions):
    """Return a distribution's actions as the environment takes them."""
    actions = actions.reshape(len(actions), *POLICY["action shape"])
    dtype = np.dtype(POLICY["action dtype"])
    if "start" in POLICY:
        return (actions + _array("start")).astype(dtype)
    if "origin" in POLICY:
        actions = _array("origin") + _array("unit") * actions
    inside = np.minimum(np.maximum(actions, _array("low")), _array("high"))
    return (np.rint(inside) if dtype.kind in "iu" else inside).astype(dtype)


_ACTIVATIONS = {
    "tanh": np.tanh,
    "relu": lambda z: np.where(z <= 0, 0, z),
    "sigmoid": lambda z: 0.5 * np.tanh(0.5 * z) + 0.5,
    "silu": lambda z: z * (0.5 * np.tanh(0.5 * z) + 0.5),
}
_MADE = dict[str, np.ndarray]()


def _array(name):
    """Return an array of the policy, written as its dtype, its shape, and its bytes in hexadecimal."""
    if name not in _MADE:
        dtype, shape, text = POLICY[name]
        _MADE[name] = np.frombuffer(bytes.fromhex(text), dtype).reshape(shape)
    return _MADE[name]
