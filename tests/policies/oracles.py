"""What policies are compared with: every action enumerated, quadrature, definitions, complex steps.

Nothing here uses a distribution of npTRPO; a family is only its name and its sizes.
"""

import itertools
import math
from typing import NamedTuple

import numpy as np
from gymnasium import spaces

from npTRPO import Bernoulli, Categorical, DiagGaussian, MultiCategorical

EPS = float(np.finfo(np.float64).eps)


class Family(NamedTuple):
    """A kind of distribution and how many choices each of its components has (a Gaussian's: none)."""

    name: str
    sizes: tuple[int, ...]

    @property
    def n_outputs(self):
        """Columns of the logits, or of the means."""
        return sum(self.sizes) if self.name in ("Categorical", "MultiCategorical") else len(self.sizes)

    @property
    def is_discrete(self):
        return self.name != "DiagGaussian"

    def __call__(self, outputs):
        """npTRPO's distribution for these outputs."""
        if self.name == "MultiCategorical":
            return MultiCategorical(outputs, self.sizes)
        if self.name == "DiagGaussian":
            return DiagGaussian(*outputs)
        return {"Categorical": Categorical, "Bernoulli": Bernoulli}[self.name](outputs)

    def from_flat(self, flat):
        """Outputs (N, n), or a pair of them for a Gaussian, from one array whose last axis holds both."""
        if self.is_discrete:
            return flat
        return flat[..., : self.n_outputs], flat[..., self.n_outputs :]

    @property
    def n_flat(self):
        """Length of the last axis that :meth:`from_flat` takes."""
        return self.n_outputs * (1 if self.is_discrete else 2)


def family_of(space):
    """The family that a policy must have for an action space."""
    if isinstance(space, spaces.Discrete):
        return Family("Categorical", (int(space.n),))
    if isinstance(space, spaces.MultiDiscrete):
        return Family("MultiCategorical", tuple(int(n) for n in space.nvec.ravel()))
    n = math.prod(space.shape)
    return (
        Family("Bernoulli", (2,) * n)
        if isinstance(space, spaces.MultiBinary)
        else Family("DiagGaussian", (0,) * n)
    )


# --- discrete families: every joint action --------------------------------------------------------


def all_actions(family):
    """Every joint action: (K,) for a categorical distribution, (K, components) for the others."""
    joint = np.array(list(itertools.product(*(range(n) for n in family.sizes))))
    return joint[:, 0] if family.name == "Categorical" else joint


def log_table(family, logits):
    """Log-probability of every joint action in every state (K, N), from the definition, in long double."""
    logits = logits.astype(np.longdouble)
    if family.name == "Bernoulli":
        components = [np.stack([np.zeros_like(z), z], axis=-1) for z in logits.T]
    else:
        components = np.split(logits, np.cumsum(family.sizes)[:-1], axis=-1)
    table = np.zeros((1, len(logits)), dtype=np.longdouble)
    for z in components:
        shifted = z - z.max(axis=-1, keepdims=True)
        log_p = shifted - np.log(np.sum(np.exp(shifted), axis=-1, keepdims=True))
        table = (table[:, None, :] + log_p.T[None, :, :]).reshape(-1, len(logits))
    return table


# --- Gaussians: the textbook formulas, and quadrature ---------------------------------------------


def gaussian_log_density(mean, log_std, actions):
    """Log of the density, from its definition, summed over dimensions."""
    variance = np.exp(2 * log_std)
    return np.sum(-((actions - mean) ** 2) / (2 * variance) - np.log(np.sqrt(2 * np.pi * variance)), axis=-1)


def gaussian_kl(mean, log_std, new_mean, new_log_std):
    """E17 as the derivation prints it."""
    std, new_std = np.exp(log_std), np.exp(new_log_std)
    terms = np.log(new_std / std) + (std**2 + (mean - new_mean) ** 2) / (2 * new_std**2) - 0.5
    return np.sum(terms, axis=-1)


def hermite(n_nodes, n_dimensions):
    """Points x in Rᵈ and weights of E[f(x)], x standard normal; exact to degree 2 n_nodes − 1."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(n_nodes)
    weights = weights / np.sqrt(2 * np.pi)
    for index in itertools.product(range(n_nodes), repeat=n_dimensions):
        yield nodes[list(index)], float(np.prod(weights[list(index)]))


# --- any family -----------------------------------------------------------------------------------


def action_nodes(family, outputs):
    """Actions for the N states, and their probability in each, whose weighted sum is the expectation.

    Exact for any function of a discrete action, and for polynomials up to degree 5 of a real one.
    """
    if family.is_discrete:
        for action, log_p in zip(all_actions(family), log_table(family, outputs), strict=True):
            yield np.broadcast_to(action, (len(outputs), *np.shape(action))), np.exp(log_p).astype(float)
    else:
        mean, log_std = outputs
        for x, weight in hermite(3, family.n_outputs):
            yield mean + np.exp(log_std) * x, np.full(len(mean), weight)


def kl_by_definition(family, old, new):
    """KL(old ‖ new) per state: the sum over joint actions, or E17 as printed."""
    if not family.is_discrete:
        return gaussian_kl(*old, *new)
    log_p, log_q = log_table(family, old), log_table(family, new)
    return np.sum(np.exp(log_p) * (log_p - log_q), axis=0).astype(float)


def log_prob_by_definition(family, outputs, actions):
    """Log-probability of one action per state."""
    if not family.is_discrete:
        return gaussian_log_density(*outputs, actions)
    row_of = {tuple(np.atleast_1d(a)): k for k, a in enumerate(all_actions(family))}
    rows = [row_of[tuple(np.atleast_1d(a))] for a in actions]
    return log_table(family, outputs)[rows, np.arange(len(rows))].astype(float)


def fisher_in_outputs(family, flat):
    """E22 as a matrix for one state, whose outputs are ``flat``."""
    if family.name == "DiagGaussian":
        _, log_std = family.from_flat(flat)
        return np.diag(np.concatenate([np.exp(-2 * log_std), np.full(family.n_outputs, 2.0)]))
    if family.name == "Bernoulli":
        return np.diag([math.exp(-abs(z)) / (1 + math.exp(-abs(z))) ** 2 for z in flat])
    total, start = np.zeros((len(flat), len(flat))), 0
    for n in family.sizes:
        part = slice(start, start + n)
        p = np.exp(flat[part]) / np.sum(np.exp(flat[part]))
        total[part, part] = np.diag(p) - np.outer(p, p)
        start += n
    return total


# --- derivatives that no engine had a part in -----------------------------------------------------


def complex_step(f, x, v):
    """Derivative of ``f`` at ``x`` along ``v``: Im f(x + ihv) / h. Nothing is subtracted, so h is tiny."""
    return np.imag(f(x + 1e-100j * v)) / 1e-100


def complex_jacobian(f, x):
    """Jacobian of ``f`` of one vector, shaped f(x).shape + x.shape, column by column."""
    return np.stack([complex_step(f, x, unit) for unit in np.eye(x.size)], axis=-1)
