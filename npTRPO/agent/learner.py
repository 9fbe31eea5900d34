"""The learner as an immutable value, and learning from a batch as a pure function of it."""

import dataclasses
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Self, TypeVar

import numpy as np

from npTRPO._typing import Array, BoolArray
from npTRPO.agent.experience import WholeBatch
from npTRPO.agent.model import Model
from npTRPO.policies.masks import MaskError
from npTRPO.policies.mlp import MLP
from npTRPO.policies.policy import Policy
from npTRPO.sampling.actor import Actor
from npTRPO.sampling.batch import Batch
from npTRPO.sampling.normalization import Moments, RewardScale
from npTRPO.sampling.statistics import Spread, explained
from npTRPO.trust_region import value_fit
from npTRPO.trust_region.conjugate_gradient import ConjugateGradient
from npTRPO.trust_region.line_search import LineSearch
from npTRPO.trust_region.parts import PartsObjective
from npTRPO.trust_region.update import Update, UpdateOutcome, update

PURPOSES = ("initialisation", "sampling", "value fit", "reset", "predict")
"""Purposes that random numbers are drawn for. The position is part of the seed, so never reorder these."""

_T = TypeVar("_T")


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

    def rng(self, purpose: str, shard: int | None = None) -> np.random.Generator:
        """Return the random numbers for one of ``PURPOSES`` in the coming update.

        They follow from the seed, the purpose and the number of updates so far, and so need not be kept. Each
        of several shards has its own.
        """
        key = (PURPOSES.index(purpose), self.n_updates, *(() if shard is None else (shard,)))
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
    model: Model,
    learner: Learner,
    observations: Any,
    deterministic: bool,
    rng: np.random.Generator,
    action_masks: Any = None,
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
    action_masks : bool array, shape (N, Σ choices), optional
        Which actions are allowed, for a policy that masks them; unless given, those that the observations
        allow, or all.

    Returns
    -------
    array, shape (N, ...)
        As the environments take them.

    Raises
    ------
    ValueError
        For observations of a wrong shape, or not finite; for masks that allow nothing, or of a wrong shape.
    """
    policy = model.policy
    actor = Actor(policy, learner.theta, learner.observation_moments, None if deterministic else rng)
    return policy.to_env(actor.act(*seen(policy, actor, observations, action_masks)))


def seen(
    policy: Policy, actor: Actor, observations: Any, action_masks: Any = None
) -> tuple[Array, BoolArray | None]:
    """Return a batch of observations as an actor sees it, (N, features), and masks; see :func:`act`."""
    if action_masks is not None and not policy.choices:
        raise ValueError("action_masks are for agents that are made with mask_actions=True")
    try:
        masks = policy.masks(observations, action_masks)
    except MaskError as error:
        raise ValueError(f"observation {error.row} {error}") from error
    rows = policy.encode(observations, policy.observation_dtype)
    if not np.all(np.isfinite(rows)):
        raise ValueError("the observation is not finite")
    if masks is not None and len(masks) != len(rows):
        raise ValueError(f"there are {len(masks)} action_masks for {len(rows)} observations")
    return actor.normalized(rows), masks


def learn(
    model: Model, learner: Learner, batch: Batch | WholeBatch, rng: np.random.Generator
) -> tuple[Learner, Update]:
    """Learn from one batch: estimate advantages, update the policy, fit the value function.

    Parameters
    ----------
    model : Model
        Policy, value network and options.
    learner : Learner
        What was learned before; it isn't changed.
    batch : Batch or WholeBatch
        Experience of the learner's policy, its observations normalised by the learner's moments; in one
        piece, or in parts, in which all sums over it are then taken.
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
    if isinstance(batch, Batch):
        if learner.reward_scale.running.shape != (n_envs := batch.rewards.shape[1],):
            learner = learner.at_reset(n_envs)
        batch = WholeBatch.of(model, [batch], learner.reward_scale.running)
    if not batch.n_transitions:
        raise ValueError("the batch has no transition to learn from: all of its steps only reset")
    learner = replace(
        learner, num_timesteps=learner.num_timesteps + batch.n_steps, n_updates=learner.n_updates + 1
    )
    with np.errstate(over="ignore", invalid="ignore"):  # what isn't finite is refused, not warned about
        learned, result = _learn_from(model, learner, batch, rng)
    if all(np.all(np.isfinite(array)) for array in learned.arrays().values()):
        return learned, result
    stay = Update(learner.theta, UpdateOutcome.NOT_FINITE, result.gradient_norm, result.entropy)
    return learner, replace(stay, explained_variance=result.explained_variance)


def _learn_from(
    model: Model, learner: Learner, batch: WholeBatch, rng: np.random.Generator
) -> tuple[Learner, Update]:
    config, layered = model.config, isinstance(model.policy.network, MLP)
    scale = learner.reward_scale.merged(*(summary.rewards for summary in batch.summaries))
    learner = replace(learner, reward_scale=scale)
    spreads = batch.call("estimate", scale, learner.value_theta)
    advantages, returns, errors = map(Spread.merged, zip(*spreads, strict=True))
    explained_variance = explained(errors, returns)
    if config.discounted_states:
        batch = batch.discounted()

    learner, kl = _renewed(model, learner, batch)
    if kl > config.target_kl:
        entropy = float(batch.states.mean("entropy"))
        stay = Update(learner.theta, UpdateOutcome.MEASURED, math.nan, entropy, kl)
        return learner, replace(stay, explained_variance=explained_variance)
    objective = PartsObjective(
        batch.policy,
        batch.call("linearize", learner.theta, advantages if config.normalize_advantage else None),
        model.policy.network,
        learner.theta,
        config.cg_damping,
        config.cg_preconditioner,  # type: ignore[arg-type]
    )
    result = _improved(
        model,
        objective,
        learner.theta,
        target_kl=config.target_kl,
        solver=ConjugateGradient(config.cg_rtol, maxiter=config.cg_steps(layered), beta=config.cg_beta),  # type: ignore[arg-type]
        search=LineSearch(config.line_search_shrinking_factor, config.line_search_max_iter),
        damped_step=config.damped_step,
    )
    if result.outcome is not UpdateOutcome.IMPROVED:
        result = replace(result, kl=kl)
    value_theta, adam = fit_values(model, learner, batch, rng)
    learned = replace(learner, theta=result.theta, value_theta=value_theta, adam=adam)
    return learned, replace(result, explained_variance=explained_variance)


def _improved(model: Model, objective: PartsObjective, theta: Array, **settings: Any) -> Update:
    """Update the policy, by a function of one's own if there is one.

    Raises
    ------
    TypeError
        If that doesn't return an Update with parameters like θ.
    """
    if (improve := model.own.get("improve")) is None:
        return update(objective, theta, **settings)
    result = improve(objective, theta)
    if not isinstance(result, Update) or getattr(result.theta, "shape", None) != theta.shape:
        raise TypeError(
            f"improve must return a npTRPO.trust_region.Update whose theta has shape {theta.shape}, "
            f"not {result!r}"
        )
    return replace(result, theta=np.asarray(result.theta, theta.dtype))


def _renewed(model: Model, learner: Learner, batch: WholeBatch) -> tuple[Learner, float]:
    """Renew the moments of the observations, before the update, within its trust region (E57).

    The update then measures how far the policy that will act is from the one that acted, in the same
    observations. The moments stay if renewing them alone would leave the region; but the first ones are
    taken up in any case.

    Returns
    -------
    Learner
        With the new moments, and for MLPs the parameters that make the same functions of them.
    float
        Mean KL divergence from the policy that acted to this learner's, in nats.
    """
    moments = learner.observation_moments
    if moments is not None:
        new = moments.merged(*(summary.observations for summary in batch.summaries))
        candidate = _in_units(model, learner, moments, new)
        kl = float(batch.states.mean("renew", learner.theta, candidate.theta, new))
        if not moments.count or kl <= model.config.target_kl:
            return candidate, kl
    batch.call("keep")
    return learner, 0.0


def _in_units(model: Model, learner: Learner, old: Moments, new: Moments) -> Learner:
    """E57: Return the learner with new moments of the observations, and the same functions of them.

    A network of one's own keeps its parameters, and so isn't the same function; nor is any network with the
    first moments, as parameters are drawn for observations that are normalised.
    """
    changed: dict[str, Any] = {"observation_moments": new}
    change = old.change(new, model.policy.observation_eps)
    if old.count and isinstance(network := model.policy.network, MLP):
        changed["theta"] = network.absorb(learner.theta, *change)
    if old.count and isinstance(network := model.value_network, MLP):
        changed["value_theta"] = network.absorb(learner.value_theta, *change)
        changed["adam"] = learner.adam.absorbed(network, *change)
    return replace(learner, **changed)


def fit_values(
    model: Model, learner: Learner, batch: WholeBatch, rng: np.random.Generator
) -> tuple[Array, value_fit.AdamState]:
    """Fit the value function to the batch's returns, and return its parameters and Adam's state."""
    config, network, theta = model.config, model.value_network, learner.value_theta
    layered = network if isinstance(network, MLP) else None
    if config.value_fit == "trust_region":
        solver = ConjugateGradient(config.cg_rtol, maxiter=config.cg_steps(layered is not None))
        with_factors = layered if config.cg_preconditioner == "kronecker" else None
        fitted = value_fit.fit_in_parts(batch.values, with_factors, theta, solver, steps=config.value_steps)
        return fitted, learner.adam
    observations, returns = map(np.concatenate, zip(*batch.call("targets"), strict=True))
    if config.value_fit == "lbfgs":
        found = value_fit.fit_lbfgs(network, theta, observations, returns, max_iter=config.value_steps)
        return found, learner.adam
    return value_fit.fit_adam(
        *(network, theta, observations, returns, learner.adam, rng),
        epochs=config.value_steps,
        batch_size=config.batch_size,
        learning_rate=config.learning_rate,
    )
