"""exp(x) − 1 − x, which KL divergences are sums of, without cancellation."""

from typing import Any

import numpy as np

from npTRPO.autograd import define_rule, primitive

# Below this size exp(x) − 1 − x is summed as a series; above, it loses four bits at most.
_SMALL = 0.125


@primitive
def expm1_minus(x: Any) -> Any:
    """Compute exp(x) − 1 − x, which is never negative, to the precision of its dtype for x of any size.

    Near 0 both exp(x) − 1 and x are much larger than their difference, which is therefore summed as
    x²/2! + x³/3! + … + x¹²/12!.

    Examples
    --------
    >>> import numpy as np
    >>> expm1_minus(np.array([0.0, 1e-8, 1.0, -700.0])).round(20)
    array([0.00000000e+00, 5.00000000e-17, 7.18281828e-01, 6.99000000e+02])
    """
    small = (x < _SMALL) & (x > -_SMALL)
    y = np.where(small, x, 0)
    series = 1 + y / 12
    for n in range(11, 2, -1):
        series = 1 + y / n * series
    return np.where(small, 0.5 * y * y * series, np.expm1(x) - x)


def _slope_of_expm1_minus(answer: Any, x: Any) -> Any:
    return np.expm1(x)


define_rule(expm1_minus, _slope_of_expm1_minus)
