"""The learner as an immutable value, and learning from a batch as a pure function of it."""

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Self, SupportsIndex, TypeVar

import numpy as np

from npTRPO._typing import Array
from npTRPO.agent.config import TRPOConfig
from npTRPO.policies.mlp import MLP
from npTRPO.policies.network import FunctionNetwork, Network
from npTRPO.policies.policy import Policy
from npTRPO.policies.spaces import Space
from npTRPO.sampling.advantages import gae
from npTRPO.sampling.batch import Batch
from npTRPO.sampling.normalization import Moments, RewardScale
from npTRPO.sampling.stepping import Actor
from npTRPO.trust_region import value_fit
from npTRPO.trust_region.update import Update, UpdateOutcome, update

PURPOSES = ("initialisation", "sampling", "value fit", "reset", "predict")
"""Purposes that random numbers are drawn for. The position is part of the seed, so never reorder these."""

# Options that the update of a policy takes by the same names.
_OF_UPDATE = (
    *("target_kl", "cg_damping", "cg_rtol", "cg_beta", "cg_preconditioner"),
    *("line_search_shrinking_factor", "line_search_max_iter", "sub_sampling_factor"),
)

_T = TypeVar("_T")


@dataclass(frozen=True)
class Model:
    """Everything that learning leaves as it is.

    Attributes
    ----------
    policy : Policy
        The family of distributions over actions.
    value_network : Network
        From encoded observations to one output, the value.
    config : TRPOConfig
        The algorithm's options.
    own : dict
        ``network`` and ``distribution``, factories of one's own, or neither. A model that has some is pickled
        as these, and made anew by them, so that it is they that must be found by their names.
    """

    policy: Policy
    value_network: Network
    config: TRPOConfig
    own: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    @classmethod
    def for_spaces(
        cls, observation_space: Space, action_space: Space, config: TRPOConfig, own: Mapping[str, Any]
    ) -> Self:
        """Make policy and value network for a pair of Gymnasium spaces.

        Parameters
        ----------
        observation_space, action_space : gymnasium.Space
            Of one environment.
        config : TRPOConfig
            The algorithm's options.
        own : dict
            As in the attribute; the value network comes from the same factory as the policy's, with one
            output.

        Raises
        ------
        NotImplementedError
            For a space that isn't supported.
        """
        policy = Policy.for_spaces(
            observation_space,
            action_space,
            net_arch=config.policy_arch,
            activation_fn=config.activation_fn,
            log_std_init=config.log_std_init,
            ortho_init=config.ortho_init,
            **own,
        )
        value_network: Network
        if "network" in own:
            value_network = FunctionNetwork.made_by(own["network"], policy.n_features, 1)
        else:
            sizes = (policy.n_features, *config.value_arch, 1)
            value_network = MLP(sizes, config.activation_fn, orthogonal=config.ortho_init)
        return cls(policy, value_network, config, dict(own))

    def __reduce_ex__(self, protocol: SupportsIndex) -> Any:
        if not self.own:
            return super().__reduce_ex__(protocol)
        spaces = self.policy.observation_space, self.policy.action_space
        return Model.for_spaces, (*spaces, self.config, self.own)


@dataclass(frozen=True)
class Learner:
    """Everything that learning changes.

    Learning returns new learners and never writes into the arrays of an old one, so one that is kept stays as
    it is.

    Attributes
    ----------
    theta : array, shape (p,)
        Parameters of the policy.
    value_theta : array, shape (q,)
        Parameters of the value function.
    adam : AdamState
        Moments of the value function's gradient, which the fit by Adam carries on.
    reward_scale : RewardScale
        Moments of the running discounted return, and that return in each environment. In another number of
        environments the running returns begin at zero.
    observation_moments : Moments or None
        Of all observations so far; None if they aren't normalised.
    num_timesteps : int
        Environment steps so far.
    n_updates : int
        Updates so far, refused ones too.
    entropy : int
        The seed's entropy, which all random numbers follow from.
    """

    theta: Array
    value_theta: Array
    adam: value_fit.AdamState
    reward_scale: RewardScale
    observation_moments: Moments | None
    num_timesteps: int
    n_updates: int
    entropy: int

    @classmethod
    def blank(cls, model: Model, entropy: int) -> Self:
        """Return a learner whose parameters are all zero."""
        policy, config = model.policy, model.config
        theta = np.zeros(policy.n_parameters, config.dtype)
        value_theta = np.zeros(model.value_network.n_parameters, config.dtype)
        return cls(
            theta=theta,
            value_theta=value_theta,
            adam=value_fit.AdamState.zero(value_theta),
            reward_scale=RewardScale.empty(config.n_envs),
            observation_moments=Moments.empty(policy.n_features) if config.normalize_observations else None,
            num_timesteps=0,
            n_updates=0,
            entropy=entropy,
        )

    @classmethod
    def initial(cls, model: Model, entropy: int) -> Self:
        """Draw the parameters that learning starts from."""
        blank = cls.blank(model, entropy)
        rng, dtype = blank.rng("initialisation"), np.dtype(model.config.dtype)
        theta = model.policy.init(rng, dtype=dtype)
        return replace(blank, theta=theta, value_theta=model.value_network.init(rng, dtype=dtype))

    def rng(self, purpose: str) -> np.random.Generator:
        """Return the random numbers for one of ``PURPOSES`` in the coming update.

        They follow from the seed, the purpose and the number of updates so far, and so need not be kept.
        """
        key = (PURPOSES.index(purpose), self.n_updates)
        return np.random.default_rng(np.random.SeedSequence(self.entropy, spawn_key=key))

    def at_reset(self, n_envs: int) -> Self:
        """Return the learner as it is after a reset of so many environments: no episode is under way."""
        return replace(self, reward_scale=RewardScale(self.reward_scale.moments, np.zeros(n_envs)))

    def leaves(self) -> dict[str, Any]:
        """Return all arrays and numbers in it by their names, such as "adam_mean"; see :func:`map_leaves`."""
        found: dict[str, Any] = {}
        map_leaves(found.setdefault, self)
        return found

    def arrays(self) -> dict[str, Array]:
        """Return those of :meth:`leaves` that are arrays."""
        return {name: leaf for name, leaf in self.leaves().items() if isinstance(leaf, np.ndarray)}


def map_leaves(change: Callable[[str, Any], Any], value: _T, name: str = "") -> _T:
    """Return a dataclass with every array and number in it, however deep, replaced by ``change(name, leaf)``.

    A name joins those of the fields that lead to the leaf, as in "observation_moments_mean". What is None
    stays None.
    """
    if not dataclasses.is_dataclass(value) or isinstance(value, type):
        return value if value is None else change(name, value)
    fields = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    return replace(
        value, **{key: map_leaves(change, part, f"{name}_{key}".lstrip("_")) for key, part in fields.items()}
    )


def act(
    model: Model, learner: Learner, observations: Any, deterministic: bool, rng: np.random.Generator
) -> Array:
    """Choose an action for each observation of a batch.

    Parameters
    ----------
    model, learner
        Policy and options, and what was learned.
    observations : array, dict or tuple
        A batch as vector environments return it: N in front of each array's shape.
    deterministic : bool
        The most probable actions instead of random ones.
    rng : numpy.random.Generator
        Draws the actions.

    Returns
    -------
    array, shape (N, ...)
        As the environments take them.

    Raises
    ------
    ValueError
        For observations of a wrong shape, or not finite.
    """
    rows = model.policy.encode(observations, learner.theta.dtype)
    if not np.all(np.isfinite(rows)):
        raise ValueError("the observation is not finite")
    actor = Actor(model.policy, learner.theta, learner.observation_moments, None if deterministic else rng)
    return model.policy.to_env(actor.act(actor.normalized(rows)))


def learn(model: Model, learner: Learner, batch: Batch, rng: np.random.Generator) -> tuple[Learner, Update]:
    """Learn from one batch: estimate advantages, update the policy, fit the value function.

    Parameters
    ----------
    model : Model
        Policy, value network and options.
    learner : Learner
        What was learned before; it isn't changed.
    batch : Batch
        Experience of the learner's policy, its observations normalised by the learner's moments.
    rng : numpy.random.Generator
        Shuffles the batch for the value fit by Adam; the other fits draw nothing. :meth:`TRPO.learn` takes
        ``learner.rng("value fit")``.

    Returns
    -------
    Learner
        What is learned afterwards. If any of its numbers isn't finite the update is refused, and all but the
        counts of steps and updates is what it was.
    Update
        What the update of the policy did.

    Raises
    ------
    ValueError
        If all steps of the batch only reset, and so there is nothing to learn from.

    Examples
    --------
    >>> import numpy as np
    >>> from npTRPO import TRPO
    >>> from npTRPO.sampling import Sampler
    >>> agent = TRPO("MlpPolicy", "CartPole-v1", n_envs=2, seed=0)
    >>> rng, learner = np.random.default_rng(0), agent.learner
    >>> sampler = Sampler(agent.env, agent.policy, seed=0)
    >>> batch = sampler.collect(learner.theta, 32, learner.observation_moments, rng)
    >>> learner, update = learn(agent.model, learner, batch, rng)
    >>> learner.num_timesteps, update.kl <= agent.config.target_kl
    (64, True)
    """
    if not batch.valid.any():
        raise ValueError("the batch has no transition to learn from: all of its steps only reset")
    n_steps, n_envs = batch.rewards.shape
    if learner.reward_scale.running.shape != (n_envs,):
        learner = learner.at_reset(n_envs)
    learner = replace(
        learner, num_timesteps=learner.num_timesteps + n_steps * n_envs, n_updates=learner.n_updates + 1
    )
    with np.errstate(over="ignore", invalid="ignore"):  # what isn't finite is refused, not warned about
        learned, result = _learn_from(model, learner, batch, rng)
    if all(np.all(np.isfinite(array)) for array in learned.arrays().values()):
        return learned, result
    stay = Update(learner.theta, UpdateOutcome.NOT_FINITE, result.gradient_norm, result.entropy)
    return learner, replace(stay, explained_variance=result.explained_variance)


def _learn_from(
    model: Model, learner: Learner, batch: Batch, rng: np.random.Generator
) -> tuple[Learner, Update]:
    config, valid, rewards = model.config, batch.valid, batch.rewards
    scale, moments = learner.reward_scale, learner.observation_moments
    if config.normalize_rewards:
        scale = scale.updated(rewards, batch.ended, valid, config.gamma)
        rewards = scale.apply(rewards)
    value = partial(value_fit.predict_values, model.value_network, learner.value_theta)
    values, next_values = batch.values(value)
    ends, discounts = (batch.terminated, batch.truncated), (config.gamma, config.gae_lambda)
    advantages = gae(rewards, values, next_values, *ends, *discounts)
    observations, chosen = batch.observations[valid], advantages[valid]
    returns = chosen + values[valid]
    result = update(
        model.policy,
        learner.theta,
        observations,
        batch.actions[valid],
        normalized(chosen) if config.normalize_advantage else chosen,
        cg_max_steps=config.cg_steps(isinstance(model.policy.network, MLP)),
        **{name: getattr(config, name) for name in _OF_UPDATE},
    )
    value_theta, adam = fit_values(model, learner, observations, returns, rng)
    learned = replace(
        learner,
        theta=result.theta,
        value_theta=value_theta,
        adam=adam,
        reward_scale=scale,
        observation_moments=moments and moments.updated(batch.raw_observations[valid]),
    )
    explained = value_fit.explained_variance(values[valid], returns)
    return learned, replace(result, explained_variance=explained)


def fit_values(
    model: Model, learner: Learner, observations: Array, returns: Array, rng: np.random.Generator
) -> tuple[Array, value_fit.AdamState]:
    """Fit the value function to returns, each (N,), and return its parameters and Adam's state."""
    config, network = model.config, model.value_network
    given = network, learner.value_theta, observations, returns
    if config.value_fit == "adam":
        return value_fit.fit_adam(
            *given,
            learner.adam,
            rng,
            epochs=config.value_steps,
            batch_size=config.batch_size,
            learning_rate=config.learning_rate,
        )
    if config.value_fit == "lbfgs":
        return value_fit.fit_lbfgs(*given, max_iter=config.value_steps), learner.adam
    fitted = value_fit.fit_trust_region(
        *given,
        steps=config.value_steps,
        cg_max_steps=config.cg_steps(isinstance(network, MLP)),
        cg_rtol=config.cg_rtol,
        cg_preconditioner=config.cg_preconditioner,  # type: ignore[arg-type]
    )
    return fitted, learner.adam


def normalized(advantages: Array) -> Array:
    """Return advantages with mean 0 and standard deviation 1; all zero if they don't vary."""
    # Where they don't vary their deviation needn't be 0, as a mean is rounded.
    spread = float(np.std(advantages)) if np.ptp(advantages) > 0 else 0.0
    return np.asarray((advantages - np.mean(advantages)) / spread) if spread else np.zeros_like(advantages)
