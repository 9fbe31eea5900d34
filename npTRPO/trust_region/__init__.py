"""The trust region: objective, Fisher-vector products, conjugate gradients, line search, and their update."""

from npTRPO.trust_region.conjugate_gradient import CGOutcome, CGResult, ConjugateGradient, conjugate_gradient
from npTRPO.trust_region.fisher import FisherOperator
from npTRPO.trust_region.line_search import LineSearch, LineSearchOutcome, LineSearchResult, line_search
from npTRPO.trust_region.linearized import BatchLinearization
from npTRPO.trust_region.objective import Objective, PolicyObjective, Trial, mean_kl, surrogate
from npTRPO.trust_region.update import Update, UpdateOutcome, natural_step, predicted_improvement, update
from npTRPO.trust_region.value_fit import AdamState, fit_adam, fit_lbfgs, fit_trust_region

__all__ = ["Objective", "PolicyObjective", "Trial", "mean_kl", "surrogate"]
__all__ += ["BatchLinearization", "FisherOperator"]
__all__ += ["CGOutcome", "CGResult", "ConjugateGradient", "conjugate_gradient"]
__all__ += ["LineSearch", "LineSearchOutcome", "LineSearchResult", "line_search"]
__all__ += ["Update", "UpdateOutcome", "natural_step", "predicted_improvement", "update"]
__all__ += ["AdamState", "fit_adam", "fit_lbfgs", "fit_trust_region"]
