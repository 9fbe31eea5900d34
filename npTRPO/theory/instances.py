"""Random instances that the derivation is checked on: an MDP, a pair of policies, and what follows."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from gymnasium import spaces

from npTRPO._typing import Array
from npTRPO.autograd import grad
from npTRPO.policies.distributions import Categorical
from npTRPO.policies.policy import Policy
from npTRPO.theory.exact import ExactBatch, table, tabular_policy
from npTRPO.theory.mdp import Evaluation, TabularMDP
from npTRPO.theory.random_mdps import KINDS, random_mdp
from npTRPO.theory.simulation import Transitions, sample_visitation
from npTRPO.trust_region.conjugate_gradient import conjugate_gradient
from npTRPO.trust_region.fisher import FisherOperator
from npTRPO.trust_region.linearized import BatchLinearization
from npTRPO.trust_region.objective import surrogate

COMPLEX_STEP = 1e-100

SAMPLES = 128
"""Transitions that are drawn to check an expectation."""


@dataclass(frozen=True, eq=False)
class GaussianPair:
    """A pair of Gaussian policies on some states.

    Attributes
    ----------
    policy : Policy
        For Box spaces.
    theta, new_theta : array, shape (p,)
        Parameters of the old policy and of the new one.
    observations : array, shape (N, features)
    """

    policy: Policy
    theta: Array
    new_theta: Array
    observations: Array

    @classmethod
    def draw(cls, rng: np.random.Generator, net_arch: tuple[int, ...]) -> GaussianPair:
        """Draw one with up to 3 features, up to 2 actions, and 6 states."""
        features, actions = int(rng.integers(1, 4)), int(rng.integers(1, 3))
        policy = Policy.for_spaces(_box(features), _box(actions), net_arch=net_arch)
        theta = 0.7 * rng.standard_normal(policy.n_parameters)
        shift = 10 ** rng.uniform(-2, 0) * rng.standard_normal(policy.n_parameters)
        return cls(policy, theta, theta + shift, rng.standard_normal((6, features)))

    @cached_property
    def old(self) -> Any:
        """The old distribution on all states."""
        return self.policy(self.theta, self.observations)

    @cached_property
    def new(self) -> Any:
        """The new distribution on all states."""
        return self.policy(self.new_theta, self.observations)


class SharpPair(NamedTuple):
    """E48: a pair of policies whose surrogate is as wrong as the bounds allow.

    Action 1 leads from state 0, the start, to state 1; all else stays. The old policy has V = 0, so that its
    advantages are the rewards; where it never goes, the new policy does as badly as can be.
    """

    old: Evaluation
    new: Evaluation
    gamma: float
    alpha: float

    @classmethod
    def of(cls, alpha: float, gamma: float) -> SharpPair:
        """Make the pair whose total variation is ``alpha`` in both states; ε is 1 up to α = ½."""
        transition = np.zeros((2, 3, 2))
        transition[0, [0, 2], 0] = transition[0, 1, 1] = transition[1, :, 1] = 1
        c = alpha / (1 - alpha)
        mdp = TabularMDP(transition, np.array([[c, 1, -1], [-c, 1, -1]]), np.array([1.0, 0.0]), gamma)
        old = np.array([[1 - alpha, 0, alpha], [1 - alpha, alpha, 0]])
        return cls(mdp.evaluate(old), mdp.evaluate(old[::-1]), gamma, alpha)


@dataclass(frozen=True, eq=False)
class Instance:
    """A finite MDP with an old and a new policy, and everything about them that is needed more than once.

    Attributes
    ----------
    mdp : TabularMDP
    policy : Policy
        Softmax on one-hot states, linear or with a hidden layer.
    theta, new_theta : array, shape (p,)
        Parameters of the old policy π and of the new one π'.
    gaussian : GaussianPair
        The same for continuous actions.
    lam : float
        λ of GAE.
    target_kl : float
        δ in nats.
    damping : float
        λ of F + λI, where a positive definite H is needed.
    seed : int
        Of all else that is drawn for this instance.
    """

    mdp: TabularMDP
    policy: Policy
    theta: Array
    new_theta: Array
    gaussian: GaussianPair
    lam: float
    target_kl: float
    damping: float
    seed: int

    @classmethod
    def draw(cls, rng: np.random.Generator, mdp: TabularMDP | None = None) -> Instance:
        """Draw an instance; an MDP of up to 5 states and 2 to 4 actions of any kind, unless given."""
        if mdp is None:
            kind = KINDS[rng.integers(len(KINDS))]
            n_states = int(rng.integers(2 if kind == "absorbing" else 1, 6))
            mdp = random_mdp(rng, n_states, int(rng.integers(2, 5)), kind=kind)
        policy = tabular_policy(mdp, (3,) if rng.random() < 0.5 else ())
        theta = 0.8 * rng.standard_normal(policy.n_parameters)
        shift = 10 ** rng.uniform(-2, 0) * rng.standard_normal(policy.n_parameters)
        return cls(
            mdp=mdp,
            policy=policy,
            theta=theta,
            new_theta=theta + shift,
            gaussian=GaussianPair.draw(rng, (3,) if rng.random() < 0.5 else ()),
            lam=float(rng.choice([0.0, 1.0, rng.random(), rng.random()])),
            target_kl=float(10 ** rng.uniform(-3, -1)),
            damping=float(10 ** rng.uniform(-1.5, -0.5)),
            seed=int(rng.integers(2**63)),
        )

    def rng(self, number: int) -> np.random.Generator:
        """Return the generator of equation ``number``, which doesn't depend on what others draw."""
        # As default_rng((seed, number)), which takes more than twice as long.
        return np.random.default_rng(np.array([self.seed & 0xFFFFFFFF, self.seed >> 32, number], np.uint32))

    @property
    def gamma(self) -> float:
        """γ."""
        return self.mdp.discount

    @cached_property
    def states(self) -> Array:
        """All states, encoded one-hot, shape (S, S)."""
        return self.policy.encode(np.arange(self.mdp.n_states))

    @cached_property
    def old_distribution(self) -> Categorical:
        """π in every state."""
        return Categorical(self.policy.outputs(self.theta, self.states))

    @cached_property
    def new_distribution(self) -> Categorical:
        """π' in every state."""
        return Categorical(self.policy.outputs(self.new_theta, self.states))

    @cached_property
    def old(self) -> Evaluation:
        """π, evaluated."""
        return self.mdp.evaluate(self.old_distribution.probs)

    @cached_property
    def new(self) -> Evaluation:
        """π', evaluated."""
        return self.mdp.evaluate(self.new_distribution.probs)

    @cached_property
    def sharp(self) -> SharpPair:
        """A pair of E48 with the same γ, and α ≤ ½ that may be small, where E11 is nearly attained."""
        return SharpPair.of(0.5 * float(10 ** self.rng(48).uniform(-3, 0)), self.gamma)

    @cached_property
    def pairs(self) -> tuple[Pair, ...]:
        """The instance itself, and its sharp pair."""
        return self, self.sharp

    @cached_property
    def batch(self) -> ExactBatch:
        """All pairs (s, a), weighted by ν^π(s) π(a|s)."""
        return ExactBatch.of(self.policy, self.old)

    @cached_property
    def sample(self) -> Transitions:
        """Transitions of the old policy, distributed as its visitation."""
        return sample_visitation(self.mdp, self.old.policy, SAMPLES, self.rng(0))

    @cached_property
    def episodic(self) -> Instance:
        """An instance whose episodes end, in an absorbing state."""
        rng = self.rng(56)
        mdp = random_mdp(rng, int(rng.integers(2, 6)), int(rng.integers(2, 4)), kind="absorbing")
        return Instance.draw(rng, mdp)

    def surrogate(self, theta: Any, weights: Array | None = None) -> Any:
        """(1 − γ)(L_π(π_θ) − J(π)), exactly, by the function that training calls with samples (E9).

        Other weights of the pairs (s, a) than ν^π(s) π(a|s) may take their place.
        """
        batch, old_log_prob = self.batch, self.old_distribution.log_probs.ravel()
        new, weights = self.policy(theta, batch.observations), batch.weights if weights is None else weights
        return surrogate(new, old_log_prob, batch.actions, batch.advantages, weights)

    @cached_property
    def gradient(self) -> Array:
        """g: gradient of the surrogate at θ, (1 − γ)∇J, shape (p,)."""
        gradient: Array = grad(self.surrogate)(self.theta)
        return gradient

    @cached_property
    def _outputs(self) -> BatchLinearization:
        """The policy's outputs, linearised at θ, with ν^π as weights of the states."""
        return BatchLinearization(self.policy.outputs, self.theta, self.states, self.old.visitation)

    @cached_property
    def fisher(self) -> FisherOperator:
        """F, with ν^π as weights of the states."""
        return FisherOperator.of(self._outputs, self.policy)

    @cached_property
    def damped(self) -> FisherOperator:
        """H = F + λI, positive definite."""
        return FisherOperator.of(self._outputs, self.policy, self.damping)

    @cached_property
    def solution(self) -> tuple[Array, float]:
        """H⁻¹g and gᵀH⁻¹g as training finds them: by conjugate gradients, and as xᵀHx."""
        x = conjugate_gradient(self.damped, self.gradient, rtol=1e-13).x
        return x, float(x @ (self.damped @ x))

    @cached_property
    def scores(self) -> Array:
        """∇ log π(a|s) for every pair, shape (S·A, p), by complex steps: the engine has no part in it."""
        log_probs = partial(_log_probs, self.policy, self.states)
        return complex_step_jacobian(log_probs, self.theta)

    @cached_property
    def dense(self) -> Array:
        """H as a matrix, from the scores, shape (p, p)."""
        fisher: Array = self.scores.T @ (self.batch.weights[:, None] * self.scores)
        return fisher + self.damping * np.eye(len(fisher))

    def table(self, theta: Any) -> Any:
        """π_θ(a|s), shape (S, A)."""
        return table(self.policy, theta)


Pair: TypeAlias = Instance | SharpPair
"""An old and a new policy in an MDP, evaluated, with γ."""


def complex_step_jacobian(f: Any, x: Array) -> Array:
    """Return the Jacobian of a raveled ``f`` at ``x``, (size of f, n), exact to rounding, without the engine.

    References
    ----------
    Squire and Trapp, "Using complex variables to estimate derivatives of real functions", 1998.
    """
    units = 1j * COMPLEX_STEP * np.eye(len(x))
    return np.stack([np.imag(f(x + unit)).ravel() / COMPLEX_STEP for unit in units], axis=1)


def _log_probs(policy: Policy, states: Array, theta: Any) -> Any:
    return Categorical(policy.outputs(theta, states)).log_probs


def _box(size: int) -> spaces.Box:
    return spaces.Box(-np.inf, np.inf, (size,))
