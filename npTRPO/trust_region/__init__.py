"""The trust region: objective, Fisher-vector products, conjugate gradients, line search, and their update."""

from npTRPO.trust_region.conjugate_gradient import CGOutcome, CGResult, ConjugateGradient, conjugate_gradient
from npTRPO.trust_region.fisher import FisherOperator
from npTRPO.trust_region.line_search import LineSearch, LineSearchOutcome, LineSearchResult, line_search
from npTRPO.trust_region.linearized import BatchLinearization
from npTRPO.trust_region.objective import Objective, PolicyObjective, Trial, mean_kl, surrogate
from npTRPO.trust_region.update import Update, UpdateOutcome, natural_step, predicted_improvement, update
from npTRPO.trust_region.value_fit import AdamState, fit_adam, fit_lbfgs, fit_trust_region

__all__ = [
    "AdamState",
    "BatchLinearization",
    "CGOutcome",
    "CGResult",
    "ConjugateGradient",
    "FisherOperator",
    "LineSearch",
    "LineSearchOutcome",
    "LineSearchResult",
    "Objective",
    "PolicyObjective",
    "Trial",
    "Update",
    "UpdateOutcome",
    "conjugate_gradient",
    "fit_adam",
    "fit_lbfgs",
    "fit_trust_region",
    "line_search",
    "mean_kl",
    "natural_step",
    "predicted_improvement",
    "surrogate",
    "update",
]
