"""Derivatives of derivatives: an engine that differentiates plain NumPy code, as often as one likes.

The curvature of a trust region is a second derivative, H v = ∇(∇KLᵀ v) (E23), and so is the check that every
formula for it must pass. The engine gets it by differentiating its own derivatives. Here these are compared
with what is known in closed form, Hermite polynomials and the Fisher information of a softmax,
M = diag(p) − ppᵀ (E22), and with differences, which lose a third to a half of all digits.
"""

import numpy as np
from _figure import BLUE, GREEN, ORANGE, PINK, VERMILION, describe, new_figure, options, save, write
from numpy.polynomial import hermite_e

from npTRPO import Categorical
from npTRPO.autograd import check_derivatives, define_rule, grad, hvp, primitive

args = options(__file__, __doc__)
rng = np.random.default_rng(0)

# A gradient is a function like any other, and has a gradient in turn. The sum makes it a derivative per x.
x = np.linspace(-4, 4, 33 if args.quick else 257)
curves = [np.exp(-0.5 * x**2)]
derivative, errors = lambda x: np.exp(-0.5 * x**2), []
for order in range(1, 5):
    derivative = grad(lambda x, f=derivative: np.sum(f(x)))
    curves.append(derivative(x))
    hermite = (-1) ** order * hermite_e.hermeval(x, np.eye(5)[order])
    errors.append(np.max(np.abs(curves[order] - hermite * curves[0])))
print(f"Derivatives 1 to 4 of exp(−x²/2), against Hermite polynomials: errors up to {max(errors):.1e}")

# The same for a KL divergence between softmaxes of 50 logits.
logits, v = rng.standard_normal((2, 50))
old = Categorical(logits)
expected = old.fisher_product(v)


def kl(new):
    """KL(old ‖ new), for one row of new logits or for each of many."""
    return old.kl(Categorical(new))


def error(product):
    """Largest error of H v, relative to its largest entry."""
    return np.max(np.abs(product - expected)) / np.max(np.abs(expected))


def differences(h):
    """Errors of second differences of KL, of differences of its gradient, and of a complex step."""
    a, b = h * np.eye(50), h * v
    mixed = kl(logits + a + b) - kl(logits + a - b) - kl(logits - a + b) + kl(logits - a - b)
    once = grad(kl)(logits + b) - grad(kl)(logits - b)
    return error(mixed / (4 * h * h)), error(once / (2 * h)), error(grad(kl)(logits + 1j * b).imag / h)


steps = 10.0 ** np.arange(-15, 0.5, 0.5 if args.quick else 0.25)
of_values, of_gradients, complex_step = np.transpose([differences(h) for h in steps])
exact = error(hvp(kl, logits, v))
print(f"E23: H v by the engine, against the closed form E22: relative error {exact:.1e}; at their best step")
print(f"     differences of gradients {np.min(of_gradients):.1e}, and of values {np.min(of_values):.1e}")

# A checker has to notice what is wrong. This rule is, by one part in a million.
sine = primitive(lambda x: np.sin(x))
define_rule(sine, lambda answer, x: (1 + 1e-6) * np.cos(x))
check_derivatives(kl, logits, order=3)
try:
    check_derivatives(sine, np.ones(1))
except AssertionError as refusal:
    print(f"KL passes check_derivatives to order 3; a rule that is off by 1e-6 doesn't: {refusal}")

if args.out:
    figure = new_figure()
    left, right = figure.subplots(1, 2)
    for order, colour in enumerate([GREEN, BLUE, VERMILION, PINK, ORANGE]):
        left.plot(x, curves[order], color=colour, label=str(order))
    left.legend(title="order", alignment="left", loc="upper left")
    describe(left, "grad of grad of grad …", "x", "derivative of exp(−x²/2)")
    for errors, colour in ((of_values, VERMILION), (of_gradients, ORANGE), (complex_step, PINK)):
        right.loglog(steps, errors, color=colour)
    right.axhline(exact, color=BLUE, linestyle="--")
    write(right, 2e-8, 1e2, "second differences of KL", VERMILION)
    write(right, 2e-14, 1e-10, "differences of its gradient", ORANGE)
    write(right, 2e-14, 1e-14, "complex step in its gradient", PINK)
    write(right, 0.5, 6e-16, "the engine, twice: no step", BLUE, ha="right")
    right.set(xlim=(1e-14, 1), ylim=(1e-17, 1e4))
    describe(right, "Error of H v: differences against E23", "step h", "relative error")
    save(figure, args.out)
