"""KL and surrogate in sixty decimal digits, and how far float64 may be from them.

The oracle of the tests of hard numbers, where logits of ±10⁴ and standard deviations of 1e±8 leave no digits
to spare. It begins where the update does: at a network's outputs, in float64.
"""

from decimal import Context, Decimal, localcontext
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from tests.policies.oracles import EPS

DIGITS = Context(prec=60, Emin=-(10**9), Emax=10**9)


class Exact(NamedTuple):
    """Mean KL(old ‖ new) and gain of the surrogate, and how far each may be from them in float64."""

    kl: Decimal
    kl_rounding: float
    gain: Decimal
    gain_rounding: float


def _log_softmax(logits):
    z = [Decimal(each) for each in logits]
    total = sum((each - max(z)).exp() for each in z)
    return [each - max(z) - total.ln() for each in z]


class _Term(NamedTuple):
    """A component of a row: its KL, log π'(a) − log π(a), and bounds on their rounding in units of ε."""

    kl: Decimal
    kl_rounding: float
    log_ratio: Decimal
    log_ratio_rounding: float


@lru_cache(64)  # states that look alike have the same
def _choice(old, new, action):
    """A softmax. log π rounds by ε times itself and 2, π by as much relatively, and each term by a few ε."""
    log_old, log_new = _log_softmax(old), _log_softmax(new)
    kl = sum((a.exp() * (a - b) for a, b in zip(log_old, log_new, strict=True)), Decimal(0))
    sizes = [(float(a.exp()), abs(float(a)), abs(float(b))) for a, b in zip(log_old, log_new, strict=True)]
    rounding = sum(8 * p * (2 + a) * (2 + a + b) for p, a, b in sizes)
    _, a, b = sizes[action]
    return _Term(kl, rounding, log_new[action] - log_old[action], 4 * (4 + a + b))


def _normal(old, new, action):
    """A normal distribution. 1/σ rounds relatively by ε (2 + |log σ|); E17 and log π have a few terms."""
    (mean, log_std), (new_mean, new_log_std) = (tuple(map(Decimal, each)) for each in (old, new))
    u = log_std - new_log_std
    distance = (mean - new_mean) * (-new_log_std).exp()
    kl = ((2 * u).exp() - 1) / 2 - u + distance**2 / 2
    size = 4 * (abs(float((2 * u).exp() - 1)) + abs(float(u)))
    rounding = size + 2 * float(distance) ** 2 * (4 + abs(new[1]))
    deviations = [(Decimal(action) - m) * (-s).exp() for m, s in ((mean, log_std), (new_mean, new_log_std))]
    log_ratio = (deviations[0] ** 2 - deviations[1] ** 2) / 2 + u
    sizes = [
        float(d) ** 2 * (8 + 2 * abs(s)) + 4 * abs(s) + 4
        for d, s in zip(deviations, (old[1], new[1]), strict=True)
    ]
    return _Term(kl, rounding, log_ratio, sum(sizes))


def _terms(family, old, new, action):
    """The components of one row."""
    if family.name == "DiagGaussian":
        for i, a in enumerate(action):
            yield _normal(*((float(part[0][i]), float(part[1][i])) for part in (old, new)), float(a))
        return
    chosen = np.atleast_1d(action)
    if family.name == "Bernoulli":
        for i, a in enumerate(chosen):
            yield _choice(*((0.0, float(part[i])) for part in (old, new)), int(a))
        return
    ends = np.cumsum(family.sizes)
    for a, end, n in zip(chosen, ends, family.sizes, strict=True):
        yield _choice(*(tuple(part[end - n : end].tolist()) for part in (old, new)), int(a))


def exact(family, old, new, actions, advantages):
    """What an update from one set of outputs (N, …) to another comes to on a batch."""
    n, pairs = len(actions), family.name == "DiagGaussian"
    totals: list[Any] = [Decimal(0), 0.0, Decimal(0), 0.0]
    with localcontext(DIGITS):
        for i, (action, advantage) in enumerate(zip(actions, map(float, advantages), strict=True)):
            rows = ((part[0][i], part[1][i]) if pairs else part[i] for part in (old, new))
            terms = list(_terms(family, *rows, action))
            log_ratio = sum((term.log_ratio for term in terms), Decimal(0))
            ratio = log_ratio.exp()
            rounding = sum(term.log_ratio_rounding for term in terms) + n + 8
            totals[0] += sum(term.kl for term in terms)
            totals[1] += sum(term.kl_rounding + (n + len(terms)) * float(term.kl) for term in terms)
            totals[2] += (ratio - 1) * Decimal(advantage)
            totals[3] += (float(ratio) * rounding + n + 8) * abs(advantage)
        kl, kl_rounding, gain, gain_rounding = (total / n for total in totals)
    tiny = float(np.finfo(np.float64).tiny)  # below it, numbers are rounded to multiples of a fixed one
    return Exact(kl, EPS * kl_rounding + tiny, gain, EPS * gain_rounding + tiny)
