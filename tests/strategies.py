"""Every Hypothesis strategy of the tests."""

from inspect import signature
from typing import NamedTuple

import numpy as np
from gymnasium import spaces
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from npTRPO import Policy
from npTRPO.theory import random_mdp
from npTRPO.theory.instances import Instance
from npTRPO.theory.random_mdps import KINDS
from tests.policies.oracles import Family

seeds = st.integers(0, 2**32 - 1)


@st.composite
def generators(draw):
    """A random generator whose seed shrinks, for bulk numbers that need no shrinking of their own."""
    return np.random.default_rng(draw(seeds))


def arrays(shape, low=-3.0, high=3.0):
    """Float64 arrays of moderate numbers, in which every element shrinks."""
    elements = st.floats(low, high, allow_nan=False, allow_subnormal=False)
    return hnp.arrays(np.float64, shape, elements=elements)


# --- autograd: what NumPy's functions accept ------------------------------------------------------

shapes = hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=3)
filled_shapes = hnp.array_shapes(min_dims=1, max_dims=3, min_side=1, max_side=3)


@st.composite
def broadcastable(draw, *intervals):
    """One array per interval, with entries from it, in shapes that broadcast together."""
    smallest = draw(st.sampled_from([1, 1, 1, 0]))
    drawn = hnp.mutually_broadcastable_shapes(
        num_shapes=len(intervals), min_side=smallest, max_side=3, max_dims=3
    )
    rng = draw(generators())
    pairs = zip(intervals, draw(drawn).input_shapes, strict=True)
    return tuple(np.asarray(rng.uniform(low, high, shape)) for (low, high), shape in pairs)


@st.composite
def distinct(draw, shape_tuples):
    """Arrays of these shapes with entries at least 1/2 from each other and 1/4 from every integer."""
    drawn = draw(shape_tuples)
    sizes = [int(np.prod(shape)) for shape in drawn]
    values = (draw(generators()).permutation(sum(sizes)) - sum(sizes) // 2) / 2 + 0.25
    return tuple(
        part.reshape(shape)
        for part, shape in zip(np.split(values, np.cumsum(sizes)[:-1]), drawn, strict=True)
    )


@st.composite
def matmul_operands(draw):
    """Positive operands of every dimension combination that ``@`` allows, batches broadcasting."""
    smallest = draw(st.sampled_from([1, 1, 1, 0]))
    drawn = hnp.mutually_broadcastable_shapes(
        signature=np.matmul.signature, min_side=smallest, max_side=3, max_dims=2
    )
    rng = draw(generators())
    left, right = draw(drawn).input_shapes
    return np.asarray(rng.uniform(0.5, 2, left)), np.asarray(rng.uniform(0.5, 2, right))


@st.composite
def dot_operands(draw):
    """Positive operands of ``np.dot`` up to a right one with two axes, scalars included."""
    left = draw(st.one_of(st.just(()), hnp.array_shapes(max_dims=3, max_side=3)))
    columns = draw(st.integers(1, 3))
    matching = [(left[-1],), (left[-1], columns)] if left else [(columns,), (columns, 2)]
    right = draw(st.sampled_from([(), *matching]))
    rng = draw(generators())
    return np.asarray(rng.uniform(0.5, 2, left)), np.asarray(rng.uniform(0.5, 2, right))


def axes_of(ndim):
    """Every way to say over which of ``ndim`` axes to reduce: None, one axis, a tuple, negative or not."""
    one = st.integers(-ndim, ndim - 1) if ndim else st.none()
    return st.one_of(st.none(), one, hnp.valid_tuple_axes(ndim))


@st.composite
def reductions(draw, shape):
    """A shape, the axes to reduce over, and keepdims."""
    drawn = draw(shape)
    return drawn, draw(axes_of(len(drawn))), draw(st.booleans())


@st.composite
def reshapings(draw):
    """A shape and another one with as many elements, of which one side may be left to NumPy as −1."""
    sides = draw(st.lists(st.integers(1, 3), max_size=4))
    start, cut = draw(st.permutations(sides)), draw(st.integers(0, len(sides)))
    wanted = [int(np.prod(sides[:cut])), *sides[cut:]]
    if draw(st.booleans()):
        wanted[draw(st.integers(0, len(wanted) - 1))] = -1
    return tuple(start), draw(st.sampled_from([tuple(wanted), -1]))


@st.composite
def transpositions(draw):
    """A shape and an order of its axes, some of them counted from the end, or None."""
    shape = draw(shapes)
    order = draw(st.permutations(range(len(shape))))
    signed = tuple(axis - len(shape) * draw(st.integers(0, 1)) for axis in order)
    return shape, draw(st.sampled_from([signed, None]))


@st.composite
def indexings(draw):
    """A shape and an index of it: basic, of integers with repeats, boolean, or all of these mixed."""
    kind = draw(st.sampled_from(["basic", "integers", "boolean", "mixed"]))
    if kind == "basic":
        shape = draw(shapes)
        return shape, draw(hnp.basic_indices(shape, allow_newaxis=True, allow_ellipsis=True))
    shape = draw(filled_shapes)
    if kind == "integers":
        result = hnp.array_shapes(min_dims=0, max_dims=2, max_side=4)
        count = draw(st.integers(1, len(shape)))
        return shape, draw(hnp.integer_array_indices(shape[:count], result_shape=result))
    if kind == "boolean":
        return shape, draw(hnp.arrays(bool, shape[: draw(st.integers(1, len(shape)))]))
    parts: list[object] = []
    for side in shape[: draw(st.integers(1, len(shape)))]:
        ways = [
            st.slices(side),
            st.integers(-side, side - 1),
            hnp.arrays(int, 2, elements=st.integers(0, side - 1)),
        ]
        if side > 1:
            ways.append(st.permutations([True, True] + [False] * (side - 2)).map(np.array))
        parts.append(draw(st.one_of(ways)))
        parts.extend([None] * draw(st.integers(0, 1)))
    return shape, tuple([*parts, Ellipsis] if draw(st.booleans()) else parts)


@st.composite
def takings(draw):
    """A shape, indices along one of its axes that broadcast with the others, and that axis."""
    shape = draw(filled_shapes)
    axis = draw(st.integers(-len(shape), len(shape) - 1))
    sides = [draw(st.sampled_from([1, side])) for side in shape]
    sides[axis] = draw(st.integers(0, 4))
    elements = st.integers(-shape[axis], shape[axis] - 1)
    return shape, draw(hnp.arrays(int, tuple(sides), elements=elements)), axis


@st.composite
def joinings(draw):
    """Shapes that agree but for one axis, and that axis."""
    shape = draw(hnp.array_shapes(max_dims=3, min_side=0, max_side=3))
    axis = draw(st.integers(-len(shape), len(shape) - 1))
    place = axis % len(shape)
    sides = draw(st.lists(st.integers(0, 3), min_size=1, max_size=3))
    return [(*shape[:place], side, *shape[place + 1 :]) for side in sides], axis


# --- policies: spaces, families of distributions, policies and batches ------------------------------


@st.composite
def boxes(draw, max_dims=3):
    """Boxes of any shape and dtype; bounds differ by element, and may be infinite in a float's."""
    shape = draw(hnp.array_shapes(min_dims=0, max_dims=max_dims, max_side=3))
    dtype = np.dtype(draw(st.sampled_from(["float32", "float64", "uint8", "int8", "int32"])))
    if dtype.kind == "f":
        lows, highs = [-1.5, 0.0, -np.inf, 0.1], [0.5, 2.0, np.inf, 0.3]
    else:
        lows, highs = [0, 3, np.iinfo(dtype).min], [3, 7, np.iinfo(dtype).max]
    low = draw(hnp.arrays(dtype, shape, elements=st.sampled_from(np.array(lows, dtype).tolist())))
    high = draw(hnp.arrays(dtype, shape, elements=st.sampled_from(np.array(highs, dtype).tolist())))
    return spaces.Box(low, high, shape, dtype)


@st.composite
def multi_discretes(draw):
    """MultiDiscrete spaces with one axis or two, and any start."""
    shape = draw(hnp.array_shapes(max_dims=2, max_side=2))
    start = draw(hnp.arrays(np.int64, shape, elements=st.integers(-3, 3)))
    return spaces.MultiDiscrete(draw(hnp.arrays(np.int64, shape, elements=st.integers(1, 4))), start=start)


discretes = st.builds(spaces.Discrete, st.integers(1, 5), start=st.integers(-3, 3))
multi_binaries = st.builds(
    spaces.MultiBinary, st.one_of(st.integers(1, 4), st.lists(st.integers(1, 2), min_size=1, max_size=3))
)
flat_spaces = st.one_of(discretes, boxes(), multi_discretes(), multi_binaries)
observation_spaces = st.recursive(
    flat_spaces,
    lambda inner: st.one_of(
        st.dictionaries(st.sampled_from("abc"), inner, min_size=1, max_size=3).map(spaces.Dict),
        st.lists(inner, min_size=1, max_size=3).map(spaces.Tuple),
    ),
    max_leaves=5,
)
action_spaces = st.one_of(discretes, boxes(max_dims=2), multi_discretes(), multi_binaries)

discrete_families = st.one_of(
    st.builds(Family, st.just("Categorical"), st.tuples(st.integers(1, 5))),
    st.builds(
        Family, st.just("MultiCategorical"), st.lists(st.integers(1, 3), min_size=1, max_size=3).map(tuple)
    ),
    st.builds(Family, st.just("Bernoulli"), st.integers(1, 3).map(lambda n: (2,) * n)),
)
gaussian_families = st.builds(Family, st.just("DiagGaussian"), st.integers(1, 3).map(lambda n: (0,) * n))
families = st.one_of(discrete_families, gaussian_families)


@st.composite
def outputs_of(draw, family, copies=1, max_rows=3, bound=3.0):
    """``copies`` sets of a family's outputs for the same number of states: logits, or (μ, log σ)."""
    n_rows = draw(st.integers(1, max_rows))
    drawn = [draw(arrays((n_rows, family.n_flat), -bound, bound)) for _ in range(copies)]
    return tuple(family.from_flat(flat) for flat in drawn)


class PolicyBatch(NamedTuple):
    """A policy and what it did: ``observations`` are encoded, ``actions`` as its distribution gave them."""

    policy: Policy
    theta: np.ndarray
    observations: np.ndarray
    actions: np.ndarray
    advantages: np.ndarray


countable_action_spaces = st.one_of(
    st.builds(spaces.Discrete, st.integers(2, 4)),
    st.lists(st.integers(2, 3), min_size=1, max_size=2).map(spaces.MultiDiscrete),
    st.builds(spaces.MultiBinary, st.integers(1, 3)),
)
real_action_spaces = st.integers(1, 2).map(lambda n: spaces.Box(-np.inf, np.inf, (n,), np.float64))
small_action_spaces = st.one_of(countable_action_spaces, real_action_spaces)
activations = st.sampled_from(["tanh", "relu", "sigmoid", "silu"])


@st.composite
def policy_batches(
    draw,
    actions=small_action_spaces,
    max_rows=6,
    max_layers=2,
):
    """Small policies of every family, shape and activation, with parameters away from their initial ones.

    The numbers come from a generator: a network's kinks then have probability zero.
    """
    observation_space = spaces.Box(-np.inf, np.inf, (draw(st.integers(1, 3)),), np.float64)
    net_arch = draw(st.lists(st.integers(1, 4), max_size=max_layers))
    policy = Policy.for_spaces(observation_space, draw(actions), net_arch, draw(activations))
    n_rows, rng = draw(st.integers(1, max_rows)), draw(generators())
    theta = policy.init(rng) + 0.3 * rng.standard_normal(policy.n_parameters)
    observations = rng.standard_normal((n_rows, *observation_space.shape))
    sampled = policy(theta, observations).sample(rng)
    return PolicyBatch(policy, theta, observations, sampled, rng.standard_normal(n_rows))


# --- trust region: linear systems -------------------------------------------------------------------


class System(NamedTuple):
    """A x = b with A = Q diag(eigenvalues) Qᵀ."""

    A: np.ndarray
    b: np.ndarray
    eigenvalues: np.ndarray
    Q: np.ndarray

    @property
    def condition(self):
        return float(self.eigenvalues.max() / self.eigenvalues.min())


def rotation(rng, n):
    """An orthogonal matrix."""
    return np.linalg.qr(rng.standard_normal((n, n)))[0]


def system(eigenvalues, coordinates, rng):
    """The system in random axes with these eigenvalues, and with b's coordinates in those axes."""
    Q = rotation(rng, eigenvalues.size)
    A = (Q * eigenvalues) @ Q.T
    return System((A + A.T) / 2, Q @ coordinates, eigenvalues, Q)


@st.composite
def systems(draw, max_size=8, max_condition=1e8, min_size=1):
    """Positive definite systems: eigenvalues between 1 and ``max_condition``, some of them equal."""
    sixteenths = draw(st.lists(st.integers(0, 16), min_size=min_size, max_size=max_size))
    rng = draw(generators())
    eigenvalues = max_condition ** (np.array(sixteenths) / 16)
    return system(eigenvalues, rng.standard_normal(eigenvalues.size), rng)


# --- sampling: what an environment may send ----------------------------------------------------------


@st.composite
def experiences(draw, closed=False):
    """The arrays that GAE takes, each (T,): episodes one after the other, ending in every way or cut off.

    What a step led to has the value of the next step's observation, unless the episode ended.
    With ``closed``, the last step ends an episode.
    """
    n = draw(st.integers(1, 10))
    ends = draw(
        st.lists(st.sampled_from(["", "", "terminated", "truncated", "both"]), min_size=n, max_size=n)
    )
    if closed and not ends[-1]:
        ends[-1] = draw(st.sampled_from(["terminated", "truncated", "both"]))
    values, rewards, last = (draw(arrays((n,))) for _ in range(3))
    over = np.array([bool(end) for end in ends])
    return {
        "rewards": rewards,
        "values": values,
        "next_values": np.where(over | (np.arange(n) == n - 1), last, np.roll(values, -1)),
        "terminated": np.array([end in ("terminated", "both") for end in ends]),
        "truncated": np.array([end in ("truncated", "both") for end in ends]),
    }


fractions = st.one_of(st.sampled_from([0.0, 1.0, 0.5, 0.99]), st.floats(0.01, 1))
"""Discounts and λs."""


@st.composite
def row_batches(draw):
    """Rows (N, d) of numbers around any offset and of any spread, cut into batches, some of them empty."""
    n, d = draw(st.integers(1, 30)), draw(st.integers(1, 3))
    offset, spread = draw(st.sampled_from([0.0, 1.0, -1e8, 1e12])), draw(st.sampled_from([1e-3, 1.0, 1e6]))
    rows = offset + spread * draw(generators()).standard_normal((n, d))
    return np.split(rows, sorted(draw(st.lists(st.integers(0, n), max_size=4))))


lifetimes = st.fixed_dictionaries(
    {
        "lengths": st.lists(st.integers(1, 5), min_size=1, max_size=4),
        "ends": st.lists(st.sampled_from(["terminated", "truncated", "both"]), min_size=1, max_size=3),
    }
)
"""Lengths of a counter's episodes and how they end."""


# --- agent: options of the config --------------------------------------------------------------------


def _is_no_integer(value):
    """Whether Python wouldn't call the value a whole number; what is true or false isn't one either."""
    return not isinstance(value, int) or isinstance(value, bool)


_whole = st.integers(1, 2**40)
_widths = st.lists(st.integers(1, 300), max_size=3)
_no_numbers = st.one_of(
    st.text("1 aé", max_size=5),
    st.booleans(),
    st.sampled_from([np.nan, np.inf, -np.inf, 1j, 10**400, -(10**400)]),
    st.lists(st.integers(1, 3), min_size=1, max_size=2),
    st.dictionaries(st.text("ab", max_size=2), st.integers(), max_size=2),
)
_fractional = st.floats(-10, 10).filter(lambda x: not x.is_integer())

RIGHT_OPTIONS: dict[str, st.SearchStrategy[object]] = {
    "count": _whole,
    "copies": st.integers(1, 4096),
    "count or None": st.none() | _whole,
    "seed": st.none() | st.integers(0, 2**80),
    "fraction": st.floats(0, 1) | st.sampled_from([0, 1]),
    "inside": st.floats(0, 1, exclude_min=True, exclude_max=True),
    "positive": st.floats(0, 1e300, exclude_min=True) | _whole,
    "not negative": st.floats(0, 1e300) | st.integers(0, 9),
    "number": st.floats(-1e300, 1e300) | st.integers(-9, 9),
    "bool": st.booleans(),
    "keys": st.lists(st.text(min_size=1, max_size=9), max_size=3),
    "widths": _widths | st.fixed_dictionaries({}, optional={"pi": _widths, "vf": _widths}),
}
"""Values that an option of each kind takes."""

WRONG_OPTIONS: dict[str, st.SearchStrategy[object]] = {
    "count": st.none() | st.integers(-5, 0) | _fractional | st.just(2.0) | _no_numbers.filter(_is_no_integer),
    "copies": st.none() | st.integers(-5, 0) | st.integers(4097, 2**70) | _no_numbers.filter(_is_no_integer),
    "count or None": st.integers(-5, 0) | _fractional | _no_numbers.filter(_is_no_integer),
    "seed": st.integers(-5, -1) | _fractional | _no_numbers.filter(_is_no_integer),
    "fraction": st.none() | st.floats(1, 9, exclude_min=True) | st.floats(-9, -1e-9) | _no_numbers,
    "inside": st.none() | st.floats(1, 9) | st.floats(-9, 0) | st.sampled_from([0, 1]) | _no_numbers,
    "positive": st.none() | st.floats(-9, 0) | st.integers(-9, 0) | _no_numbers,
    "not negative": st.none() | st.floats(-9, -1e-9) | st.integers(-9, -1) | _no_numbers,
    "number": st.none() | _no_numbers,
    "bool": st.none() | st.sampled_from([0, 1, 0.0, "yes", "True", ()]),
    "choice": st.sampled_from([0, 1, True, "", "none", "TANH", "float16", (), ["sync"]]) | st.floats(),
    "keys": st.sampled_from([None, "cost", 1, [""], ["cost", 1], [["cost"]], {"cost": 1}]),
    "widths": st.sampled_from(
        [
            None,
            64,
            "64",
            [0],
            [-1],
            [64.0],
            [True],
            [None],
            [[64]],
            {"pi": [64], "q": [64]},
            {"pi": [64], "vf": 64},
            {"pi": [64], "vf": {"pi": [1], "vf": [1]}},
            {"pi": [64], "vf": [64], "qf": [64]},
        ]
    ),
}
"""Values that an option of each kind refuses."""


# --- checkpoints: spaces with everything that one can say about them ---------------------------------

_integer_dtypes = st.sampled_from([np.int8, np.int32, np.uint16, np.int64])
_discrete_dtypes = {"dtype": _integer_dtypes} if "dtype" in signature(spaces.Discrete).parameters else {}
_typed_spaces = st.one_of(
    flat_spaces,
    st.builds(spaces.Discrete, st.integers(1, 5), start=st.integers(0, 3), **_discrete_dtypes),
    st.builds(
        spaces.MultiDiscrete,
        st.lists(st.integers(1, 4), min_size=1, max_size=3).map(np.array),
        dtype=_integer_dtypes,
    ),
)
detailed_spaces = st.recursive(
    _typed_spaces,
    lambda inner: st.one_of(
        st.lists(st.tuples(st.sampled_from("bca"), inner), min_size=1, unique_by=lambda pair: pair[0]).map(
            spaces.Dict
        ),
        st.lists(inner, min_size=1, max_size=3).map(spaces.Tuple),
    ),
    max_leaves=5,
)
"""Observation spaces of any dtype; the keys of a Dict come in any order."""

detailed_action_spaces = st.one_of(_typed_spaces, action_spaces)


# --- theory: finite MDPs, and a pair of policies in them --------------------------------------------


@st.composite
def mdps(
    draw,
    min_states=1,
    max_states=5,
    max_actions=4,
    max_discount=0.99,
):
    """Random MDPs of every kind, a single state and a single action included."""
    kind = draw(st.sampled_from(KINDS))
    n_states = draw(st.integers(max(min_states, 2 if kind == "absorbing" else 1), max_states))
    n_actions = draw(st.integers(1, max_actions))
    discount = draw(st.one_of(st.just(0.0), st.just(max_discount), st.floats(0, max_discount)))
    return random_mdp(draw(generators()), n_states, n_actions, kind=kind, discount=discount)


@st.composite
def instances(draw, **limits):
    """An MDP of the limits given, an old and a new policy in it, and a pair of Gaussian policies."""
    return Instance.draw(draw(generators()), draw(mdps(**limits)))
