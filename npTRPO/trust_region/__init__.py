"""The trust region: Fisher-vector products, conjugate gradients, line search, and the update made of them."""

from npTRPO.trust_region.conjugate_gradient import CGOutcome, CGResult, conjugate_gradient
from npTRPO.trust_region.fisher import FisherOperator
from npTRPO.trust_region.line_search import LineSearchOutcome, LineSearchResult, line_search
from npTRPO.trust_region.update import Update, UpdateOutcome, update

__all__ = [
    "CGOutcome",
    "CGResult",
    "FisherOperator",
    "LineSearchOutcome",
    "LineSearchResult",
    "Update",
    "UpdateOutcome",
    "conjugate_gradient",
    "line_search",
    "update",
]
