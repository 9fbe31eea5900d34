"""Policies π(a|s; θ): a network, and the distribution over actions that its outputs give."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from npTRPO._typing import Array, BoolArray
from npTRPO.policies.distributions import Distribution
from npTRPO.policies.families import DistributionFactory, family_for
from npTRPO.policies.masks import MASK_KEY, as_masks, choices_of, has_mask, joined, without_mask
from npTRPO.policies.mlp import MLP
from npTRPO.policies.network import FunctionNetwork, Network, NetworkFactory
from npTRPO.policies.spaces import (
    Space,
    action_converter,
    check_supported,
    encode,
    encoded_eps,
    encoded_size,
)


@dataclass(frozen=True)
class Policy:
    """A family of distributions over actions, one for each parameter vector θ and observation.

    Make one with :meth:`for_spaces`. θ holds the network's parameters and, for Box actions, the
    logarithms of the standard deviations last (one per action dimension, the same in every state).

    Attributes
    ----------
    observation_space, action_space : gymnasium.Space
        Of one environment, not of a batch.
    network : Network
        From encoded observations to logits or means.
    family : callable
        From the distribution's parameters (an array, or a pair such as means and log standard deviations)
        to the distribution.
    n_log_std : int
        How many log standard deviations end θ.
    log_std_init : float
        Their initial value.
    to_env : callable
        From a distribution's actions to what the environment takes: see ``rescale_actions``.
    head : callable, optional
        From the network's outputs to the distribution's parameters, if they aren't these.
    choices : tuple of int
        Number of choices of each component of the actions, if they are masked. The policy's rows of
        observations then have their masks behind them, which the network doesn't see: see :meth:`rows`.
    state_dependent_std : bool
        Whether the network gives a Gaussian's log standard deviations, after its means.
    """

    observation_space: Space
    action_space: Space
    network: Network
    family: Callable[[Any], Distribution]
    n_log_std: int
    log_std_init: float
    to_env: Callable[[Array], Array]
    head: Callable[[Any], Any] | None = None
    choices: tuple[int, ...] = ()
    state_dependent_std: bool = False

    @classmethod
    def for_spaces(
        cls,
        observation_space: Space,
        action_space: Space,
        net_arch: Sequence[int] = (64, 64),
        activation_fn: str = "tanh",
        log_std_init: float = 0.0,
        ortho_init: bool = True,
        network: NetworkFactory | None = None,
        distribution: DistributionFactory | Literal["beta"] | None = None,
        rescale_actions: bool = False,
        mask_actions: bool = False,
        state_dependent_std: bool = False,
    ) -> Policy:
        """Make the policy for a pair of Gymnasium spaces.

        Parameters
        ----------
        observation_space, action_space : gymnasium.Space
            Discrete actions give a :class:`Categorical`, Box a :class:`DiagGaussian`, MultiDiscrete a
            :class:`MultiCategorical`, MultiBinary a :class:`Bernoulli`.
        net_arch : sequence of int
            Widths of the hidden layers; empty for a linear policy.
        activation_fn : {"tanh", "relu", "sigmoid", "silu"}
            Activation of the hidden layers.
        log_std_init : float
            Initial log σ of a Gaussian, in log units of the policy's own actions.
        ortho_init : bool
            Orthogonal initialisation of the weights.
        network : callable, optional
            In place of a multilayer perceptron: ``network(n_features, n_outputs)`` returns a function
            (θ, observations) → outputs in plain NumPy, and its initialiser rng → θ.
        distribution : "beta" or callable, optional
            In place of those above. "beta" gives a :class:`Beta` on a Box of finite bounds, the lower one at
            0 and the upper one at 1. A callable ``distribution(action_space)`` returns how many outputs the
            network needs, and what makes a :class:`Distribution` of them.
        rescale_actions : bool
            Where both bounds of a Box are finite, the policy's own actions are in units of the half-range
            around the centre, −1 and 1 being the bounds, and ``to_env`` converts them. (:class:`npTRPO.TRPO`
            asks for it.) A distribution of one's own, which knows the space, acts in the environment's units.
        mask_actions : bool
            Discrete and MultiDiscrete actions that a state forbids have probability 0. Masks are taken from
            the key "action_mask" of Dict observations, which then is no feature, or given: see :meth:`masks`.
        state_dependent_std : bool
            The network gives a Gaussian's log σ as well as its means, and θ ends without one (E58). It stays
            between −20 and 2 by a tanh on either side of ``log_std_init``, which is the initial bias of these
            outputs; a network of one's own begins as it does.

        Raises
        ------
        NotImplementedError
            For a space that isn't supported; the message says what to do instead.
        ValueError
            For a beta distribution on anything but a Box of finite bounds, for masks of actions that can't
            have any, for those of another length than the actions need, and for deviations that depend on the
            state where there are none.

        Examples
        --------
        >>> import numpy as np
        >>> from gymnasium import spaces
        >>> policy = Policy.for_spaces(spaces.Box(-1, 1, (3,)), spaces.Discrete(2))
        >>> theta = policy.init(np.random.default_rng(0))
        >>> policy(theta, np.zeros((5, 3))).probs.shape
        (5, 2)
        """
        choices = choices_of(action_space) if mask_actions else ()
        if mask_actions and distribution is not None:
            raise ValueError("mask_actions needs the usual distribution of discrete actions")
        features = without_mask(observation_space, choices) if choices else observation_space
        check_supported(features, "observation")
        check_supported(action_space, "action")
        made = family_for(
            action_space, distribution, rescale_actions, log_std_init if state_dependent_std else None
        )
        sizes = (encoded_size(features), *net_arch, made.n_outputs)
        return cls(
            observation_space=observation_space,
            action_space=action_space,
            # A small last layer, so that the policy starts out indifferent.
            network=MLP(sizes, activation_fn, output_gain=0.01, orthogonal=bool(ortho_init))
            if network is None
            else FunctionNetwork.made_by(network, sizes[0], made.n_outputs),
            family=made.make,
            n_log_std=made.n_log_std,
            log_std_init=float(log_std_init),
            to_env=action_converter(action_space, made.units),
            head=made.head,
            state_dependent_std=state_dependent_std,
            choices=choices,
        )

    @cached_property
    def _features(self) -> Space:
        """The space of observations without the mask."""
        return without_mask(self.observation_space, self.choices) if self.choices else self.observation_space

    @property
    def n_features(self) -> int:
        """Length of an encoded observation."""
        return encoded_size(self._features)

    @cached_property
    def observation_eps(self) -> Array:
        """Relative precision of the numbers of an encoded observation, shape (n_features,)."""
        return encoded_eps(self._features)

    @cached_property
    def observation_dtype(self) -> np.dtype[Any]:
        """Floating-point type of encoded observations that rounds none of them."""
        exact = np.any(self.observation_eps < np.finfo(np.float32).eps)
        return np.dtype(np.float64 if exact else np.float32)

    @property
    def n_parameters(self) -> int:
        """Length of θ."""
        return self.network.n_parameters + self.n_log_std

    def init(self, rng: np.random.Generator, dtype: npt.DTypeLike = np.float64) -> Array:
        """Draw θ, shape (n_parameters,)."""
        log_std = np.full(self.n_log_std, self.log_std_init, dtype=dtype)
        theta = np.concatenate([self.network.init(rng, dtype), log_std])
        if self.state_dependent_std and isinstance(self.network, MLP):
            theta[len(theta) - self.network.sizes[-1] // 2 :] = self.log_std_init  # the last biases
        return theta

    def by_layer(self, theta: Array) -> dict[str, Array]:
        """Return views of the parts of θ by name; together, and in their order, they are all of it."""
        weights, log_std = np.split(theta, [len(theta) - self.n_log_std])
        if not isinstance(self.network, MLP):
            views = {"policy": weights}
        else:
            views = {f"policy.{name}": view for name, view in self.network.by_layer(weights).items()}
        return views | ({"log_std": log_std} if self.n_log_std else {})

    def encode(self, observations: Any, dtype: npt.DTypeLike = np.float64) -> Array:
        """Encode a batch of the space's observations as the network's inputs, shape (N, features)."""
        return encode(self._features, observations, dtype)

    @property
    def observes_masks(self) -> bool:
        """Whether the masks of actions are in the observations."""
        return bool(self.choices) and has_mask(self.observation_space)

    def masks(self, observations: Any, given: Any = None, unused: Any = False) -> BoolArray | None:
        """Return which actions are allowed in a batch of observations, shape (N, Σ choices), or None.

        Parameters
        ----------
        observations : array, dict or tuple
            N of the space's.
        given : array or sequence of arrays, optional
            N masks, in place of those in the observations.
        unused : bool array, shape (N,), optional
            Those that no action is chosen by, and which needn't allow any.

        Raises
        ------
        npTRPO.policies.masks.MaskError
            For one of the wrong shape, or that allows nothing.
        """
        if given is None and self.observes_masks:
            given = observations[MASK_KEY]
        return None if given is None else as_masks(given, self.choices, unused)

    def rows(self, encoded: Array, masks: BoolArray | None) -> Array:
        """Return encoded observations (N, features) as the policy takes them: masks behind, if it has some.

        Where none are given, all actions are allowed.
        """
        if not self.choices:
            return encoded
        everything = np.ones((len(encoded), sum(self.choices)), dtype=np.bool_)
        return joined(encoded, everything if masks is None else masks)

    def outputs(self, theta: Any, observations: Any) -> Any:
        """Compute the distribution's parameters for encoded observations (N, features).

        Logits (N, n), which are −∞ for actions that aren't allowed; or the pair of means and log standard
        deviations, each (N, n).
        """
        if self.choices:
            return _masked(sum(self.choices), partial(self.network, theta), observations)
        if not self.n_log_std:
            outputs = self.network(theta, observations)
            return outputs if self.head is None else self.head(outputs)
        mean = self.network(theta[: -self.n_log_std], observations)
        return mean, np.broadcast_to(theta[-self.n_log_std :], mean.shape)

    def __call__(self, theta: Any, observations: Any) -> Distribution:
        """Return π_θ(·|s) for encoded observations (N, features); a Box with one axis is encoded as is."""
        return self.family(self.outputs(theta, observations))

    def at(self, theta: Array) -> Callable[[Array], Distribution]:
        """Fix θ: return a function of encoded observations, to act on a few rows at a time."""
        weights, log_std = np.split(theta, [len(theta) - self.n_log_std])
        network = self.network
        at_theta = network.at(weights) if type(network) is MLP else partial(network, weights)
        if self.choices:
            at_theta = partial(_masked, sum(self.choices), at_theta)
        return partial(_distribution, self.family, self.head, at_theta, log_std)


def _masked(n: int, network: Callable[[Array], Any], rows: Array) -> Any:
    """Return a network's outputs for rows with masks of length n behind them, −∞ where these are 0."""
    return np.where(rows[..., -n:] > 0, network(rows[..., :-n]), -np.inf)


def _distribution(
    family: Callable[[Any], Distribution],
    head: Callable[[Any], Any] | None,
    network: Callable[[Array], Array],
    log_std: Array,
    observations: Array,
) -> Distribution:
    """Make the distribution of a network's outputs, and of log σ where there are any."""
    outputs = network(observations)
    if head is not None:
        outputs = head(outputs)
    return family((outputs, log_std) if log_std.size else outputs)
