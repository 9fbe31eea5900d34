"""Options of the algorithm: each has its default, limits, meaning and source in one place, its field."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from npTRPO._checks import is_whole, unknown_option
from npTRPO.policies.mlp import ACTIVATIONS

_Check: TypeAlias = tuple[Callable[[Any], bool], str]


# Transitions per update unless asked otherwise. Fewer are too narrow a sample where episodes of one
# length keep the copies of an environment in step with each other.
USUAL_BATCH = 2048
USUAL_WIDTHS = (64, 64)


def _is_number(x: Any) -> bool:
    return isinstance(x, (int, float)) and not isinstance(x, bool) and abs(x) <= sys.float_info.max


_POSITIVE: _Check = (lambda x: _is_number(x) and x > 0, "a positive number")
_NOT_NEGATIVE: _Check = (lambda x: _is_number(x) and x >= 0, "a number that isn't negative")
_FRACTION: _Check = (lambda x: _is_number(x) and 0 <= x <= 1, "a number from 0 to 1")
_INSIDE: _Check = (lambda x: _is_number(x) and 0 < x < 1, "a number between 0 and 1, exclusive")
_COUNT: _Check = (lambda x: is_whole(x, 1), "a whole number, at least 1")
_COUNT_OR_NONE: _Check = (lambda x: x is None or is_whole(x, 1), "a whole number, at least 1, or None")
_NUMBER: _Check = (_is_number, "a finite number")
_COPIES: _Check = (lambda x: is_whole(x, 1, 4096), "a whole number from 1 to 4096")


def _one_of(*choices: Any) -> _Check:
    return (lambda x: x in choices, "one of " + ", ".join(map(repr, choices)))


def _is_net_arch(x: Any) -> bool:
    if isinstance(x, Mapping):
        return {*x} <= {"pi", "vf"} and all(isinstance(v, tuple) and _is_net_arch(v) for v in x.values())
    return isinstance(x, tuple) and len(x) <= 1000 and all(is_whole(n, 1) for n in x)


_NET_ARCH: _Check = (_is_net_arch, "a list of layer widths, or dict(pi=[...], vf=[...]), at most 1000")


def _are_keys(x: Any) -> bool:
    return isinstance(x, tuple) and all(isinstance(key, str) and key for key in x)


def _option(default: Any, meaning: str, check: _Check, choices: tuple[Any, ...] = ()) -> Any:
    """Make a field with its meaning and the test of its values."""
    metadata = {"meaning": meaning, "check": check, "choices": choices}
    return dataclasses.field(default=default, metadata=metadata)


def _switch(meaning: str, default: bool = True) -> Any:
    return _option(default, meaning, (lambda x: isinstance(x, bool), "True or False"))


def _choice(default: Any, meaning: str, *choices: Any) -> Any:
    return _option(default, meaning, _one_of(*choices), choices)


@dataclass(frozen=True)
class TRPOConfig:
    """Every option of :class:`npTRPO.TRPO`; unknown or impossible values are refused."""

    n_envs: int = _option(
        8, "Copies of the environment that are stepped together, if it is given by its id.", _COPIES
    )
    vectorization_mode: str | None = _choice(
        None,
        "How the copies are stepped; None takes the environment's own vectorised form if it has one, "
        "and else sync.",
        *(None, "sync", "async", "vector_entry_point", "envpool"),
    )
    n_shards: int | None = _option(
        None,
        "Groups of environments with random numbers and a part of every sum of their own, which may be in "
        "different processes; what is learned depends on their number. None is one per worker, and one "
        "without workers.",
        _COUNT_OR_NONE,
    )
    n_steps: int | None = _option(
        None,
        "Steps in each environment per update, so that a batch has n_steps × n_envs; None makes a batch "
        f"of at least {USUAL_BATCH}.",
        _COUNT_OR_NONE,
    )
    gamma: float = _option(0.99, "Discount γ (E1).", _FRACTION)
    gae_lambda: float = _option(0.95, "λ of generalized advantage estimation (E41; GAE paper).", _FRACTION)
    normalize_advantage: bool = _switch("Give the advantages of a batch mean 0 and standard deviation 1.")
    normalize_observations: bool = _switch(
        "Standardise observations by their running mean and standard deviation."
    )
    normalize_rewards: bool = _switch(
        "Divide rewards by the running standard deviation of the discounted return."
    )
    info_keys: tuple[str, ...] = _option(
        (),
        'Keys of numbers in the infos of every step, such as "cost", that batches have too, for updates of '
        "one's own.",
        (_are_keys, "a list of strings that aren't empty"),
    )
    discounted_states: bool = _switch(
        "Weigh states by γᵗ, t the step within the episode, in surrogate, KL and Fisher information: then "
        "the discounted return is improved (E10). Without, states count as often as they are visited (E56), "
        "as in the papers' experiments.",
        default=False,
    )
    target_kl: float = _option(
        0.01, "Trust region δ: largest mean KL(old ‖ new) of an update, in nats (E15).", _POSITIVE
    )
    cg_max_steps: int | None = _option(
        None,
        "Largest number of conjugate-gradient steps per solve (E33); None takes 3 with Kronecker factors, "
        "and 15 without.",
        _COUNT_OR_NONE,
    )
    cg_damping: float = _option(
        0.1, "λ added to the Fisher information for the solve (TRPO paper, Appendix C).", _NOT_NEGATIVE
    )
    cg_rtol: float = _option(
        0.01,
        "Conjugate gradients stop at this residual norm relative to the gradient's (E37).",
        _NOT_NEGATIVE,
    )
    cg_beta: str = _choice(
        "fletcher-reeves", "Formula for β in conjugate gradients (E34).", "fletcher-reeves", "polak-ribiere"
    )
    cg_preconditioner: str = _choice(
        "kronecker",
        "Precondition conjugate gradients (E35) by Kronecker factors of each layer, or not; networks of "
        "one's own go without.",
        *("kronecker", "identity"),
    )
    damped_step: bool = _switch(
        "Count λ as curvature in the length of the step too: the quadratic trust region is then that of "
        "F + λI, and steps are shorter (E30).",
        default=False,
    )
    line_search_shrinking_factor: float = _option(
        0.8, "Factor α by which the line search shortens the step (E38).", _INSIDE
    )
    line_search_max_iter: int = _option(10, "Largest number of steps the line search tries (E38).", _COUNT)
    sub_sampling_factor: int = _option(
        1, "Use every k-th state for the Fisher information, and all of them for all else.", _COUNT
    )
    value_fit: str = _choice(
        "trust_region",
        "How the value function is fitted: Gauss–Newton steps in a trust region (GAE paper, section 5), "
        "L-BFGS, or Adam on minibatches.",
        *("trust_region", "lbfgs", "adam"),
    )
    n_critic_updates: int | None = _option(
        None,
        "Steps of the value fit per update; None takes 2 Gauss–Newton steps, 20 steps of L-BFGS, or "
        "10 passes over the batch by Adam.",
        _COUNT_OR_NONE,
    )
    learning_rate: float = _option(1e-3, "Step size of the value fit by adam.", _POSITIVE)
    batch_size: int = _option(128, "Minibatch of the value fit by adam.", _COUNT)
    net_arch: tuple[int, ...] | Mapping[str, tuple[int, ...]] = _option(
        USUAL_WIDTHS,
        "Widths of the hidden layers, or dict(pi=[...], vf=[...]) for policy and value function apart; "
        "one that isn't given has the default.",
        _NET_ARCH,
    )
    activation_fn: str = _choice("tanh", "Activation of the hidden layers.", *sorted(ACTIVATIONS))
    log_std_init: float = _option(
        0.0,
        "Initial logarithm of the standard deviation, for Box actions; in units of the half-range where they "
        "are rescaled.",
        _NUMBER,
    )
    ortho_init: bool = _switch("Orthogonal initialisation of the weights.")
    state_dependent_std: bool = _switch(
        "Let the network give a Gaussian's standard deviations as well as its means (E58); log σ stays "
        "between −20 and 2.",
        default=False,
    )
    distribution: str | None = _choice(
        None,
        "Distribution of the actions of a Box: beta, between finite bounds; None takes a Gaussian.",
        *(None, "beta"),
    )
    rescale_actions: bool = _switch(
        "Act in units of the half-range around the centre where both bounds of a Box action are finite; the "
        "environment gets its own units."
    )
    mask_actions: bool = _switch(
        "Take masks of discrete actions from the key action_mask of the observations, or from the "
        "environments' action_masks(): a forbidden action has probability 0.",
        default=False,
    )
    dtype: str = _choice("float32", "Floating-point type of networks and products.", "float32", "float64")
    checkpoint_interval: int | None = _option(
        None,
        "Updates between checkpoints; at each the environments start afresh, newly seeded, so that a run "
        "that is picked up there goes on to the same bits. While no episode has ended since the last one, "
        "both are put off. None never interrupts an episode.",
        _COUNT_OR_NONE,
    )
    seed: int | None = _option(
        None,
        "Seed of everything random; the same seed gives the same bits. None takes one from the system.",
        (lambda x: x is None or is_whole(x, 0), "a whole number that isn't negative, or None"),
    )

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value = _plain(getattr(self, field.name))
            accepts, wanted = field.metadata["check"]
            if not accepts(value):
                raise ValueError(f"{field.name} must be {wanted}, but it is {value!r}")
            object.__setattr__(self, field.name, value)

    @classmethod
    def from_dict(cls, options: Mapping[str, Any]) -> TRPOConfig:
        """Return the config with the given options, and defaults for the rest.

        Raises
        ------
        TypeError
            For a key that is no option, with the nearest one that is.
        ValueError
            For a value out of range.
        """
        names = [field.name for field in dataclasses.fields(cls)]
        for key in options:
            if key not in names:
                raise unknown_option(key, names)
        return cls(**options)

    @classmethod
    def from_file(cls, options: Mapping[str, Any]) -> TRPOConfig:
        """Return the config that a file holds, with the options that its version didn't have off."""
        return cls.from_dict({"rescale_actions": False, **options})

    def to_dict(self) -> dict[str, Any]:
        """Return the options as numbers, strings and lists, as a JSON file holds them."""
        return {field.name: _listed(getattr(self, field.name)) for field in dataclasses.fields(self)}

    def steps_per_env(self, n_envs: int) -> int:
        """Return the number of steps in each of ``n_envs`` environments per update."""
        return self.n_steps or -(-USUAL_BATCH // n_envs)

    def check_batch(self, n_envs: int) -> None:
        """Raise a ValueError if nothing can be learned from a batch of ``n_envs`` environments."""
        if self.normalize_advantage and n_envs * self.steps_per_env(n_envs) == 1:
            raise ValueError(
                "nothing is learned from a batch of one transition, whose normalised advantage is 0: "
                "n_envs × n_steps must be at least 2, or normalize_advantage False"
            )

    @property
    def objective(self) -> str:
        """What training maximises, in words (E10, E56)."""
        if self.discounted_states:
            return "the discounted return, as states are weighted by gamma^t (E10)"
        return (
            "the mean advantage in the states as often as they are visited (E56), "
            "whose gradient isn't that of the discounted return"
        )

    @property
    def value_steps(self) -> int:
        """Steps of the value fit per update."""
        usual = {"trust_region": 2, "lbfgs": 20, "adam": 10}
        return self.n_critic_updates or usual[self.value_fit]

    def cg_steps(self, layered: bool) -> int:
        """Return the most steps of conjugate gradients, for a network with Kronecker factors or without."""
        return self.cg_max_steps or (3 if layered and self.cg_preconditioner == "kronecker" else 15)

    @property
    def policy_arch(self) -> tuple[int, ...]:
        """Widths of the policy's hidden layers."""
        return self._widths("pi")

    @property
    def value_arch(self) -> tuple[int, ...]:
        """Widths of the value function's hidden layers."""
        return self._widths("vf")

    def _widths(self, name: str) -> tuple[int, ...]:
        arch = self.net_arch
        return tuple(arch.get(name, USUAL_WIDTHS) if isinstance(arch, Mapping) else arch)


def _plain(value: Any) -> Any:
    """Turn NumPy scalars into Python numbers, and sequences into tuples."""
    if hasattr(value, "item") and getattr(value, "ndim", None) == 0:
        return value.item()
    if isinstance(value, (list, tuple)):
        return tuple(_plain(part) for part in value)
    if isinstance(value, Mapping):
        return {str(key): _plain(part) for key, part in value.items()}
    return value


def _listed(value: Any) -> Any:
    if isinstance(value, tuple):
        return list(value)
    return {key: _listed(part) for key, part in value.items()} if isinstance(value, dict) else value


def _documented() -> str:
    lines = [TRPOConfig.__doc__ or "", "", "    Parameters", "    ----------"]
    for field in dataclasses.fields(TRPOConfig):
        lines.append(f"    {field.name} : {field.type}, default {field.default!r}")
        lines.append(f"        {field.metadata['meaning']}")
    return "\n".join(lines) + "\n"


TRPOConfig.__doc__ = _documented()
