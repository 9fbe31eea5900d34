"""Wrong versions of the code that someone could well write, and the tests that notice each of them.

A mutation replaces a piece of a function's source by what is wrong, and puts the result in the function's
place, wherever it is used. ``python -m tests.mutations FILE`` runs the tests on all of them in one process
and writes what happened as JSON.
"""

import __future__

import ast
import importlib
import inspect
import json
import sys
import textwrap
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import CodeType, FunctionType
from typing import Any

import pytest
from _pytest.runner import runtestprotocol

__all__ = ["MUTATIONS", "Mutation", "run"]


@dataclass(frozen=True)
class Mutation:
    """A wrong version of the code.

    Attributes
    ----------
    wrong : str
        What is wrong with it.
    where : str
        The function, as "module:name".
    changes : tuple of pairs of str
        Pieces of its source, each there exactly once, and what takes their place.
    caught_by : tuple of str
        Tests that fail, as "file::name" below tests/.
    raises : str
        What they fail with.
    slip : int, optional
        Which of the slips that are common in write-ups of TRPO it is, 1 to 8.
    """

    wrong: str
    where: str
    changes: tuple[tuple[str, str], ...]
    caught_by: tuple[str, ...]
    raises: str = "AssertionError"
    slip: int | None = None

    def function(self) -> FunctionType:
        """The function that is changed."""
        module, _, path = self.where.partition(":")
        owner: Any = importlib.import_module(module)
        for name in path.split("."):
            found = inspect.getattr_static(owner, name)
            owner = found if isinstance(found, type) else getattr(owner, name)
        if isinstance(found, property):
            found = found.fget
        elif isinstance(found, cached_property):
            found = found.func
        elif isinstance(found, (classmethod, staticmethod)):
            found = found.__func__
        function = inspect.unwrap(found)
        assert isinstance(function, FunctionType), self.where
        return function

    def code(self) -> CodeType:
        """The code of the wrong version."""
        function = self.function()
        source = textwrap.dedent(inspect.getsource(function))
        for right, wrong in self.changes:
            assert source.count(right) == 1, f"{self.where} has {right!r} {source.count(right)} times"
            source = source.replace(right, wrong)
        tree = ast.parse(source)
        [definition] = tree.body
        assert isinstance(definition, ast.FunctionDef)
        definition.decorator_list = []  # they have done their work
        flags = __future__.annotations.compiler_flag
        module = compile(tree, inspect.getsourcefile(function) or "", "exec", flags, dont_inherit=True)
        [code] = [c for c in module.co_consts if isinstance(c, CodeType) and c.co_name == function.__name__]
        return code

    def apply(self, patch: pytest.MonkeyPatch) -> None:
        """Make the function wrong, for all who have it."""
        patch.setattr(self.function(), "__code__", self.code())


# --- the list -----------------------------------------------------------------------------------------------

_DISTRIBUTIONS = "npTRPO.policies.distributions"
_STEP = "npTRPO.trust_region.update"
_OBJECTIVE = "npTRPO.trust_region.objective"
_LINEARIZED = "npTRPO.trust_region.linearized"
_FISHER = "npTRPO.trust_region.fisher"
_PRECONDITIONER = "npTRPO.trust_region.kronecker"
_SOLVER = "npTRPO.trust_region.conjugate_gradient"
_CG = f"{_SOLVER}:conjugate_gradient"
_SEARCH = "npTRPO.trust_region.line_search:line_search"
_ADVANTAGES = "npTRPO.sampling.advantages"
_BATCH = "npTRPO.sampling.batch"
_STEPPING = "npTRPO.sampling.stepping"
_THEORY = "npTRPO.theory"
_LEARNER = "npTRPO.agent.learner"

MUTATIONS: tuple[Mutation, ...] = (
    # The eight slips.
    Mutation(
        "the Gaussian KL has old and new exchanged",
        f"{_DISTRIBUTIONS}:DiagGaussian.kl",
        (
            ("u = self.log_std - new.log_std", "u = new.log_std - self.log_std"),
            ("np.exp(-new.log_std)", "np.exp(-self.log_std)"),
        ),
        (
            "policies/test_distributions.py::test_e17_kl_reads_old_to_new[DiagGaussian]",
            "theory/test_derivation.py::test_an_equation_holds[E17]",
        ),
        slip=1,
    ),
    Mutation(
        "the step is scaled by xᵀH⁻¹x",
        f"{_STEP}:update",
        (
            (
                "curvature = fisher.quadratic_form(cg.x)",
                "curvature = float(cg.x @ solver.solve(fisher, cg.x).x)",
            ),
        ),
        ("trust_region/test_update.py::test_e30_e31_the_full_step_is_on_the_boundary_of_the_undamped_model",),
        slip=2,
    ),
    Mutation(
        "the surrogate has no 1/(1 − γ)",
        f"{_THEORY}.exact:local_approximation",
        (("gain / (1 - discount)", "gain"),),
        (
            "theory/test_derivation.py::test_an_equation_holds[E7]",
            "theory/test_derivation.py::test_an_equation_holds[E9]",
        ),
        slip=3,
    ),
    Mutation(
        "the TD residual is taken for the advantage, whatever λ is",
        f"{_ADVANTAGES}:gae",
        (("gamma * lam", "0.0"),),
        ("theory/test_derivation.py::test_an_equation_holds[E43]",),
        slip=4,
    ),
    Mutation(
        "a small number in the KL's logarithms makes its gradient at the old parameters almost zero",
        f"{_DISTRIBUTIONS}:Categorical.kl",
        (
            (
                "self.probs * (self.log_probs - new.log_probs)",
                "self.probs * (np.log(self.probs + 1e-8) - np.log(new.probs + 1e-8))",
            ),
        ),
        (
            "theory/test_derivation.py::test_an_equation_holds[E20]",
            "trust_region/test_fisher.py::test_e20_kl_and_its_gradient_are_zero_at_the_old_parameters",
        ),
        slip=5,
    ),
    Mutation(
        "the Hessian of the KL is zero, as its value and gradient are",
        f"{_FISHER}:FisherOperator._undamped",
        (("self._batch.gauss_newton(v, self._metrics)", "0 * v"),),
        (
            "trust_region/test_fisher.py::test_e21_e22_e23_the_product_four_ways[Discrete]",
            "theory/test_derivation.py::test_an_equation_holds[E21]",
        ),
        slip=5,
    ),
    Mutation(
        "conjugate gradients stop at an absolute squared residual",
        f"{_SOLVER}:_end",
        (("residual <= tolerance", "residual**2 <= 1e-5"),),
        (
            "trust_region/test_conjugate_gradient.py::test_e36_scaling_by_powers_of_two_changes_no_bit[fletcher-reeves]",
            "trust_region/test_conjugate_gradient.py::test_e37_the_iteration_ends_at_the_first_residual_within_the_tolerance",
            "theory/test_derivation.py::test_an_equation_holds[E37]",
        ),
        slip=6,
    ),
    Mutation(
        "the line search accepts a KL of up to 1.5 δ",
        _SEARCH,
        (("kl > target_kl", "kl > 1.5 * target_kl"),),
        (
            "trust_region/test_line_search.py::test_e38_the_first_step_that_meets_both_conditions_is_taken",
            "trust_region/test_update.py::test_e38_an_accepted_step_keeps_the_kl_and_improves_the_surrogate[float64]",
            "theory/test_derivation.py::test_an_equation_holds[E38]",
        ),
        slip=7,
    ),
    Mutation(
        "the line search doesn't look at the KL",
        _SEARCH,
        (("kl > target_kl", "False"),),
        (
            "trust_region/test_line_search.py::test_e38_the_first_step_that_meets_both_conditions_is_taken",
            "theory/test_derivation.py::test_an_equation_holds[E38]",
        ),
        slip=7,
    ),
    Mutation(
        "0 is bootstrapped at a truncation",
        f"{_ADVANTAGES}:gae",
        (("next_values, terminated, gamma)", "next_values, terminated | truncated, gamma)"),),
        (
            "theory/test_derivation.py::test_an_equation_holds[E43]",
            "sampling/test_advantages.py::test_E43_with_lambda_0_gae_is_the_td_residual",
            "theory/test_derivation.py::test_an_equation_holds[E41]",
            "theory/test_derivation.py::test_an_equation_holds[E42]",
        ),
        slip=8,
    ),
    Mutation(
        "advantages leak across the ends of episodes",
        f"{_ADVANTAGES}:gae",
        (("ended[::-1]", "np.zeros_like(ended)"),),
        (
            "theory/test_derivation.py::test_an_equation_holds[E42]",
            "theory/test_estimators.py::test_e42_what_follows_an_end_changes_nothing_before_it",
            "theory/test_derivation.py::test_an_equation_holds[E41]",
            "theory/test_derivation.py::test_an_equation_holds[E43]",
        ),
        slip=8,
    ),
    Mutation(
        "advantages leak across truncations",
        f"{_ADVANTAGES}:gae",
        (("ended = terminated | truncated", "ended = terminated"),),
        (
            "theory/test_derivation.py::test_an_equation_holds[E42]",
            "theory/test_derivation.py::test_an_equation_holds[E41]",
            "theory/test_derivation.py::test_an_equation_holds[E43]",
        ),
        slip=8,
    ),
    # Distributions.
    Mutation(
        "the categorical KL is reversed",
        f"{_DISTRIBUTIONS}:Categorical.kl",
        (
            (
                "self.probs * (self.log_probs - new.log_probs)",
                "new.probs * (new.log_probs - self.log_probs)",
            ),
        ),
        (
            "policies/test_distributions.py::test_e17_kl_reads_old_to_new[Categorical]",
            "theory/test_derivation.py::test_an_equation_holds[E16]",
            "theory/test_derivation.py::test_an_equation_holds[E15]",
            "theory/test_derivation.py::test_an_equation_holds[E19]",
        ),
    ),
    Mutation(
        "the binary KL is reversed",
        f"{_DISTRIBUTIONS}:Bernoulli.kl",
        (("self._log_probs, new._log_probs", "new._log_probs, self._log_probs"),),
        ("policies/test_distributions.py::test_e17_kl_reads_old_to_new[Bernoulli]",),
    ),
    Mutation(
        "the KL is a mean over action dimensions",
        f"{_DISTRIBUTIONS}:DiagGaussian.kl",
        (("np.sum(", "np.mean("),),
        ("theory/test_derivation.py::test_an_equation_holds[E17]",),
    ),
    Mutation(
        "the log-density is a mean over action dimensions",
        f"{_DISTRIBUTIONS}:DiagGaussian.log_prob",
        (("np.sum(standardized**2, axis=-1)", "np.mean(standardized**2, axis=-1)"),),
        ("policies/test_distributions.py::test_the_log_density_is_scipys",),
    ),
    Mutation(
        "the log-density lacks its constant",
        f"{_DISTRIBUTIONS}:DiagGaussian.log_prob",
        ((" - constant\n", "\n"),),
        ("policies/test_distributions.py::test_the_density_integrates_to_one",),
    ),
    Mutation(
        "the log-density takes log σ for log σ²",
        f"{_DISTRIBUTIONS}:DiagGaussian.log_prob",
        (("np.exp(-self.log_std)", "np.exp(-self.log_std / 2)"),),
        ("policies/test_distributions.py::test_the_density_integrates_to_one",),
    ),
    Mutation(
        "the entropy has the wrong sign",
        f"{_DISTRIBUTIONS}:Categorical.entropy",
        (("return -np.sum", "return np.sum"),),
        ("policies/test_distributions.py::test_entropy_is_the_sum_over_all_joint_actions",),
    ),
    Mutation(
        "M of the softmax lacks what is off its diagonal",
        f"{_DISTRIBUTIONS}:Categorical.fisher_product",
        (("self.probs * np.sum(weighted, axis=-1, keepdims=True)", "self.probs * weighted"),),
        ("policies/test_distributions.py::test_e22_the_fisher_product_is_the_closed_form",),
    ),
    Mutation(
        "M of the Gaussian is that in σ, not in log σ",
        f"{_DISTRIBUTIONS}:DiagGaussian.fisher_product",
        (("2 * along_log_std", "2 * np.exp(-2 * self.log_std) * along_log_std"),),
        ("policies/test_distributions.py::test_e20_the_fisher_information_is_the_hessian_of_the_kl",),
    ),
    Mutation(
        "M of the Bernoulli distribution is p",
        f"{_DISTRIBUTIONS}:Bernoulli.fisher_product",
        (("np.exp(zero + one)", "np.exp(one)"),),
        ("policies/test_distributions.py::test_e22_the_fisher_product_is_the_closed_form",),
    ),
    Mutation(
        "a product's KL is that of its first component",
        f"{_DISTRIBUTIONS}:MultiCategorical._total",
        (("return sum(rest, start=first)", "return first"),),
        ("theory/test_derivation.py::test_an_equation_holds[E18]",),
    ),
    Mutation(
        "an action without probability can be drawn",
        f"{_DISTRIBUTIONS}:Categorical.sample",
        (("cumulative > threshold", "cumulative >= threshold"),),
        ("policies/test_distributions.py::test_sampling_inverts_the_cumulative_distribution",),
    ),
    Mutation(
        "samples have σ² for σ",
        f"{_DISTRIBUTIONS}:DiagGaussian.sample",
        (("np.exp(self._log_std)", "np.exp(2 * self._log_std)"),),
        ("policies/test_distributions.py::test_gaussian_samples_have_their_moments",),
    ),
    Mutation(
        "a product's entropy is a mean over its components",
        f"{_DISTRIBUTIONS}:Bernoulli.entropy",
        (("-np.sum", "-np.mean"),),
        ("policies/test_distributions.py::test_entropy_is_the_sum_over_all_joint_actions",),
    ),
    Mutation(
        "the entropy of a Gaussian is ½ short in every dimension",
        f"{_DISTRIBUTIONS}:DiagGaussian.entropy",
        ((" * math.e)", ")"),),
        (
            "policies/test_distributions.py::test_e17_entropy_and_kl_of_a_gaussian_equal_gauss_hermite_quadrature",
        ),
    ),
    # The Fisher information and conjugate gradients.
    Mutation(
        "the Fisher information is a sum over states",
        f"{_LINEARIZED}:Block.mean_vjp",
        ((" / self._count", ""),),
        ("trust_region/test_fisher.py::test_e21_e22_e23_the_product_four_ways[Discrete]",),
    ),
    Mutation(
        "damping is part of xᵀHx",
        f"{_FISHER}:FisherOperator.quadratic_form",
        (("self._undamped(", "self._matvec("),),
        (
            "trust_region/test_fisher.py::test_damping_is_added_once_to_products_and_never_to_the_quadratic_form",
            "trust_region/test_update.py::test_e30_e31_the_full_step_is_on_the_boundary_of_the_undamped_model",
        ),
    ),
    Mutation(
        "damping is forgotten in the solve",
        f"{_FISHER}:FisherOperator._matvec",
        (("return product + self.damping * v if self.damping else product", "return product"),),
        (
            "trust_region/test_fisher.py::test_damping_is_added_once_to_products_and_never_to_the_quadratic_form",
        ),
    ),
    Mutation(
        "conjugate gradients change the right-hand side",
        _CG,
        (
            ("r = b.copy() if", "r = b if"),
            ("r_old, r = r, r - alpha * Ap", "r -= alpha * Ap\n        r_old = r"),
        ),
        ("theory/test_derivation.py::test_an_equation_holds[E34]",),
    ),
    Mutation(
        "β is inverted",
        _CG,
        (("(rz - carried) / rz_old)", "rz_old / (rz - carried))"),),
        ("theory/test_derivation.py::test_an_equation_holds[E34]",),
        raises="RuntimeWarning",
    ),
    Mutation(
        "β is zero: steepest descent",
        _CG,
        (("p = z + coefficient * p", "p = z"),),
        ("theory/test_derivation.py::test_an_equation_holds[E33]",),
    ),
    Mutation(
        "conjugate gradients take a step too many",
        f"{_SOLVER}:_end",
        (("iterations >= maxiter", "iterations > maxiter"),),
        ("theory/test_krylov.py::test_iterates_begin_at_zero_and_stop_in_time",),
    ),
    Mutation(
        "conjugate gradients hand the same array to the callback every time",
        _CG,
        (("x = x + alpha * p", "x += alpha * p"),),
        (
            "trust_region/test_conjugate_gradient.py::test_neither_b_nor_earlier_iterates_are_changed[fletcher-reeves]",
        ),
    ),
    Mutation(
        "β has rᵀr for rᵀz with a preconditioner",
        _CG,
        (("rz_old, rz = rz, _dot(r, z)", "rz_old, rz = rz, _dot(r, r)"),),
        ("theory/test_derivation.py::test_an_equation_holds[E35]",),
    ),
    Mutation(
        "the first residual doesn't know of x₀",
        _CG,
        (("b.copy() if x0 is None else b - product(x)", "b.copy()"),),
        (
            "theory/test_derivation.py::test_an_equation_holds[E33]",
            "trust_region/test_conjugate_gradient.py::test_e33_e34_e35_e37_the_path_is_scipys_to_its_end[False-fletcher-reeves]",
        ),
    ),
    Mutation(
        "the relative tolerance is relative to the last residual's square",
        _CG,
        (("rtol * _norm(b)", "rtol * _norm(b) ** 2"),),
        ("theory/test_derivation.py::test_an_equation_holds[E37]",),
    ),
    Mutation(
        "α has rᵀr for rᵀz with a preconditioner",
        _CG,
        (("rz / curvature", "_dot(r, r) / curvature"),),
        ("theory/test_derivation.py::test_an_equation_holds[E35]",),
    ),
    Mutation(
        "Polak–Ribière adds what it should subtract",
        _CG,
        (("rz - carried", "rz + carried"),),
        (
            "trust_region/test_conjugate_gradient.py::test_e34_the_two_formulas_differ_where_products_are_not_symmetric",
        ),
    ),
    Mutation(
        "a direction without curvature is followed",
        f"{_SOLVER}:_unless_positive",
        (("value <= 0", "value < 0"),),
        ("trust_region/test_conjugate_gradient.py::test_zero_curvature_is_no_step_either",),
        raises="ZeroDivisionError",
    ),
    Mutation(
        "the absolute tolerance is added to the relative one",
        _CG,
        (("tolerance = max(rtol * _norm(b), atol)", "tolerance = rtol * _norm(b) + atol"),),
        ("theory/test_derivation.py::test_an_equation_holds[E37]",),
    ),
    # The step and the line search.
    Mutation(
        "the preconditioner's factors are sums over states",
        f"{_LINEARIZED}:Block.mean_outer",
        ((" / self._count", ""),),
        (
            "trust_region/test_kronecker.py::test_e35_for_a_linear_function_it_is_the_inverse_itself",
            "trust_region/test_kronecker.py::test_e35_each_layers_block_is_the_product_of_its_inputs_and_its_gradients",
        ),
    ),
    Mutation(
        "the preconditioner forgets the damping",
        f"{_PRECONDITIONER}:KroneckerPreconditioner.__init__",
        (("max(damping, least)", "least"),),
        ("trust_region/test_kronecker.py::test_e35_for_a_linear_function_it_is_the_inverse_itself",),
    ),
    Mutation(
        "a layer's biases have no derivative",
        "npTRPO.policies.mlp:_affine_in_theta",
        (("np.ones((len(rows), 1), x.dtype)", "np.zeros((len(rows), 1), x.dtype)"),),
        (
            "trust_region/test_kronecker.py::test_e35_for_a_linear_function_it_is_the_inverse_itself",
            "trust_region/test_fisher.py::test_e21_e22_e23_the_product_four_ways[Discrete]",
        ),
    ),
    Mutation(
        "the surrogate's ratio is inverted",
        f"{_OBJECTIVE}:surrogate",
        (("new.log_prob(actions) - old_log_prob", "old_log_prob - new.log_prob(actions)"),),
        (
            "trust_region/test_update.py::test_an_objective_is_what_it_is_defined_as_whatever_blocks_and_weights",
            "trust_region/test_update.py::test_e8_its_gradient_at_the_old_parameters_is_the_score_function_gradient",
        ),
    ),
    Mutation(
        "the surrogate is the mean of log-ratios",
        f"{_OBJECTIVE}:surrogate",
        (("np.exp(new.log_prob(actions) - old_log_prob)", "(new.log_prob(actions) - old_log_prob)"),),
        (
            "trust_region/test_update.py::test_an_objective_is_what_it_is_defined_as_whatever_blocks_and_weights",
        ),
    ),
    Mutation(
        "the line search is told the KL from new to old",
        f"{_OBJECTIVE}:PolicyObjective.__call__",
        (("mean_kl(self._old(block), new, ", "mean_kl(new, self._old(block), "),),
        (
            "trust_region/test_update.py::test_e38_an_accepted_step_keeps_the_kl_and_improves_the_surrogate[float64]",
        ),
    ),
    Mutation(
        "the step is √(δ / xᵀFx) x, without the 2",
        f"{_STEP}:natural_step",
        (("2 * target_kl / curvature", "target_kl / curvature"),),
        (
            "theory/test_derivation.py::test_an_equation_holds[E29]",
            "theory/test_derivation.py::test_an_equation_holds[E30]",
        ),
    ),
    Mutation(
        "the multiplier is inverted",
        f"{_STEP}:lagrange_multiplier",
        (("curvature / (2 * target_kl)", "2 * target_kl / curvature"),),
        (
            "theory/test_derivation.py::test_an_equation_holds[E28]",
            "theory/test_derivation.py::test_an_equation_holds[E27]",
        ),
    ),
    Mutation(
        "no improvement is improvement enough",
        _SEARCH,
        (("new_surrogate <= surrogate", "new_surrogate < surrogate"),),
        (
            "trust_region/test_line_search.py::test_e38_the_first_step_that_meets_both_conditions_is_taken",
            "theory/test_steps.py::test_e38_equal_is_within_the_region_but_no_improvement",
        ),
    ),
    Mutation(
        "θ is not restored where the search fails",
        _SEARCH,
        (("return LineSearchResult(theta, surrogate", "return LineSearchResult(candidate, surrogate"),),
        ("theory/test_steps.py::test_e38_equal_is_within_the_region_but_no_improvement",),
    ),
    Mutation(
        "the line search begins with the second fraction",
        _SEARCH,
        (("fraction = shrinking_factor**i", "fraction = shrinking_factor ** (i + 1)"),),
        ("trust_region/test_line_search.py::test_e38_the_first_step_that_meets_both_conditions_is_taken",),
    ),
    Mutation(
        "the improvement is the surrogate",
        f"{_STEP}:update",
        (("found.surrogate - objective.at_old", "found.surrogate"),),
        (
            "trust_region/test_update.py::test_e38_an_accepted_step_keeps_the_kl_and_improves_the_surrogate[float64]",
        ),
    ),
    Mutation(
        "the KL is compared in float32",
        f"{_OBJECTIVE}:PolicyObjective.__call__",
        (
            ("new = self._policy.family(cast(outputs, np.float64))", "new = self._policy.family(outputs)"),
            ("mean_kl(self._old(block), new", "mean_kl(self._policy.family(block.value), new"),
        ),
        (
            "trust_region/test_update.py::test_e38_an_accepted_step_keeps_the_kl_and_improves_the_surrogate[float32]",
        ),
    ),
    Mutation(
        "fractions fall by differences, not by factors",
        _SEARCH,
        (("fraction = shrinking_factor**i", "fraction = 1 - (1 - shrinking_factor) * i"),),
        ("trust_region/test_line_search.py::test_e38_the_first_step_that_meets_both_conditions_is_taken",),
    ),
    Mutation(
        "the value function's step trusts a region that is too small",
        "npTRPO.trust_region.value_fit:fit_trust_region",
        (("2 * max_change * error", "max_change * error"),),
        ("trust_region/test_value_fit.py::test_a_linear_step_is_ridge_regression_cut_to_the_trust_region",),
    ),
    Mutation(
        "Adam doesn't correct its moments' bias",
        "npTRPO.trust_region.value_fit:fit_adam",
        (("rate = learning_rate * math.sqrt(1 - 0.999**steps) / (1 - 0.9**steps)", "rate = learning_rate"),),
        ("trust_region/test_value_fit.py::test_adam_is_the_published_algorithm_on_shuffled_minibatches",),
    ),
    Mutation(
        "the predicted improvement is that of H⁻¹g, not of the step",
        f"{_STEP}:update",
        (("predicted_improvement(g, step)", "predicted_improvement(g, cg.x)"),),
        ("trust_region/test_update.py::test_e30_e31_the_full_step_is_on_the_boundary_of_the_undamped_model",),
    ),
    Mutation(
        "blocks of rows count the same, whatever their size",
        f"{_LINEARIZED}:BatchLinearization.mean",
        (("len(block) / n", "1 / len(blocks)"),),
        (
            "trust_region/test_update.py::test_an_objective_is_what_it_is_defined_as_whatever_blocks_and_weights",
        ),
    ),
    Mutation(
        "explicit weights, which are parts of the whole already, are multiplied by the block's part too",
        f"{_LINEARIZED}:BatchLinearization.mean",
        (("len(block) / n if self.weights is None else len(self.blocks) / len(blocks)", "len(block) / n"),),
        (
            "trust_region/test_update.py::test_an_objective_is_what_it_is_defined_as_whatever_blocks_and_weights",
            "trust_region/test_linearized.py::test_e21_products_are_means_of_those_with_the_jacobian_whatever_blocks_and_weights",
        ),
    ),
    Mutation(
        "the preconditioner's scores are doubled",
        f"{_FISHER}:FisherOperator.preconditioner",
        (("np.sum(family", "2 * np.sum(family"),),
        (
            "trust_region/test_kronecker.py::test_a_policys_factors_are_those_of_the_scores_of_its_actions[Box]",
        ),
    ),
    Mutation(
        "inner products are float32's where the vectors are",
        f"{_SOLVER}:_dot",
        (
            (
                "np.dot(u.astype(np.float64, copy=False), v.astype(np.float64, copy=False))",
                "np.dot(u, v)",
            ),
        ),
        (
            "trust_region/test_conjugate_gradient.py::test_in_float32_right_hand_sides_may_be_huge_or_tiny[1e+20]",
            "trust_region/test_conjugate_gradient.py::test_in_float32_right_hand_sides_may_be_huge_or_tiny[1e-24]",
        ),
    ),
    Mutation(
        "the explained variance counts a constant error",
        "npTRPO.trust_region.value_fit:explained_variance",
        (("np.var(returns - values)", "np.mean((returns - values) ** 2)"),),
        (
            "trust_region/test_value_fit.py::test_explained_variance_is_that_of_the_definition_and_ignores_a_constant_error",
        ),
    ),
    # Advantages and experience.
    Mutation(
        "V of the next episode is bootstrapped at a truncation",
        f"{_ADVANTAGES}:gae",
        (
            (
                "next_values, terminated, gamma)",
                "np.where(truncated, np.roll(values, -1, axis=0), next_values), terminated, gamma)",
            ),
        ),
        (
            "theory/test_derivation.py::test_an_equation_holds[E41]",
            "theory/test_derivation.py::test_an_equation_holds[E42]",
            "theory/test_derivation.py::test_an_equation_holds[E43]",
        ),
    ),
    Mutation(
        "advantages leak across terminations",
        f"{_ADVANTAGES}:gae",
        (("ended = terminated | truncated", "ended = truncated & ~terminated"),),
        (
            "theory/test_derivation.py::test_an_equation_holds[E41]",
            "theory/test_derivation.py::test_an_equation_holds[E42]",
            "theory/test_derivation.py::test_an_equation_holds[E43]",
        ),
    ),
    Mutation(
        "V is bootstrapped after a termination in advantages, not in residuals",
        f"{_ADVANTAGES}:gae",
        (("next_values, terminated, gamma)", "next_values, np.zeros_like(terminated), gamma)"),),
        (
            "theory/test_derivation.py::test_an_equation_holds[E41]",
            "theory/test_derivation.py::test_an_equation_holds[E42]",
            "theory/test_derivation.py::test_an_equation_holds[E43]",
        ),
    ),
    Mutation(
        "γ is forgotten in the TD residual",
        f"{_ADVANTAGES}:td_residuals",
        (("rewards + gamma * np.where", "rewards + np.where"),),
        ("theory/test_derivation.py::test_an_equation_holds[E44]",),
    ),
    Mutation(
        "γ is forgotten in the recursion",
        f"{_ADVANTAGES}:gae",
        (("gamma * lam", "lam"),),
        ("theory/test_derivation.py::test_an_equation_holds[E42]",),
    ),
    Mutation(
        "λ is outside of the recursion",
        f"{_ADVANTAGES}:gae",
        (
            ("gamma * lam", "gamma"),
            ("return _decayed_sums", "return lam * _decayed_sums"),
        ),
        ("theory/test_derivation.py::test_an_equation_holds[E41]",),
    ),
    Mutation(
        "the k-step estimator discounts its last value once too little",
        f"{_THEORY}.estimators:k_step_estimates",
        (("powers[1:] * values[1:]", "powers[:-1] * values[1:]"),),
        ("theory/test_estimators.py::test_e40_by_hand",),
    ),
    Mutation(
        "a truncated episode goes on in the next one's first observation",
        f"{_BATCH}:Batch.values",
        (("next_values[tuple(self.final_steps.T)] = predicted[(steps + 1) * n :]", "pass"),),
        (
            "sampling/test_rollout.py::test_every_valid_transition_is_one_that_the_environment_wrote_down[SameStep]",
        ),
    ),
    Mutation(
        "nothing is expected after the last step of a batch",
        f"{_BATCH}:Batch.values",
        (
            (
                "predicted[None, steps * n : (steps + 1) * n]",
                "0 * predicted[None, steps * n : (steps + 1) * n]",
            ),
        ),
        (
            "sampling/test_rollout.py::test_every_valid_transition_is_one_that_the_environment_wrote_down[SameStep]",
        ),
    ),
    Mutation(
        "final steps of joined batches stay with the first batch's environments",
        f"{_BATCH}:Batch.concatenate",
        (("[:, 1] += before", "[:, 1] += 0 * before"),),
        ("sampling/test_batch.py::test_joined_batches_have_the_values_of_each[SameStep]",),
    ),
    Mutation(
        "batches that were normalised by different moments are joined",
        f"{_BATCH}:_same",
        (("astuple(one), astuple(another)", "astuple(one)[:1], astuple(another)[:1]"),),
        ("sampling/test_batch.py::test_batches_that_differ_are_not_joined[moments]",),
        raises="Failed",
    ),
    Mutation(
        "the value function is fitted to advantages",
        f"{_LEARNER}:_learn_from",
        (("returns = chosen + values[valid]", "returns = chosen"),),
        ("agent/test_learner.py::test_a_batch_is_learned_from_as_the_algorithm_says[True-trust_region]",),
    ),
    Mutation(
        "V is bootstrapped after a termination",
        f"{_ADVANTAGES}:td_residuals",
        (("np.where(terminated, 0, next_values)", "next_values"),),
        (
            "theory/test_derivation.py::test_an_equation_holds[E39]",
            "theory/test_derivation.py::test_an_equation_holds[E41]",
            "theory/test_derivation.py::test_an_equation_holds[E43]",
        ),
    ),
    Mutation(
        "the recursion doesn't reach the last step of a long episode",
        f"{_ADVANTAGES}:_decayed_sums",
        (("while reach < len(sums)", "while 2 * reach < len(sums)"),),
        ("theory/test_derivation.py::test_an_equation_holds[E42]",),
    ),
    Mutation(
        "advantages are scaled but not centred",
        f"{_LEARNER}:normalized",
        (("(advantages - np.mean(advantages)) / spread", "advantages / spread"),),
        (
            "agent/test_learner.py::test_advantages_get_mean_0_and_deviation_1_and_are_zero_if_they_do_not_vary",
        ),
    ),
    Mutation(
        "rewards are scaled by what was known before the batch, and so not at all in the first update",
        f"{_LEARNER}:_learn_from",
        (("rewards = scale.apply(rewards)", "rewards = learner.reward_scale.apply(rewards)"),),
        ("agent/test_learner.py::test_a_batch_is_learned_from_as_the_algorithm_says[True-trust_region]",),
    ),
    Mutation(
        "what isn't finite is learned",
        f"{_LEARNER}:learn",
        (("if all(np.all(np.isfinite(array))", "if any(np.all(np.isfinite(array))"),),
        (
            "agent/test_learner.py::test_an_update_that_is_not_finite_is_refused_and_the_learner_kept_but_for_its_counts[adam]",
        ),
    ),
    Mutation(
        "a copy of an agent draws other actions than the original",
        "npTRPO.agent.trpo:TRPO.__getstate__",
        (
            (
                '{"env": None, "_sampler": None}',
                '{"env": None, "_sampler": None, "_rng_act": np.random.default_rng(0)}',
            ),
        ),
        (
            "agent/test_copies.py::test_copies_with_ones_own_code_act_and_learn_on_as_the_original[True-network-adam]",
        ),
    ),
    Mutation(
        "steps that only reset are counted among the observations",
        f"{_LEARNER}:_learn_from",
        (
            (
                "batch.raw_observations[valid]",
                "batch.raw_observations.reshape(-1, batch.raw_observations.shape[-1])",
            ),
        ),
        ("agent/test_learner.py::test_moments_are_updated_once_per_batch_and_after_it",),
    ),
    Mutation(
        "an agent predicts from observations that aren't normalised",
        f"{_LEARNER}:act",
        (("actor.act(actor.normalized(rows))", "actor.act(rows)"),),
        ("agent/test_trpo.py::test_predict_normalises_as_training_does",),
    ),
    Mutation(
        "a step that only resets counts as a transition",
        f"{_STEPPING}:Stepper.advance",
        (("valid[t] = ~self._resets", "valid[t] = True"),),
        (
            "sampling/test_rollout.py::test_every_valid_transition_is_one_that_the_environment_wrote_down[NextStep]",
        ),
    ),
    Mutation(
        "the normaliser is updated inside of a batch",
        f"{_STEPPING}:Actor.normalized",
        (
            (
                "standardize(rows, self._normalizer)",
                "standardize(rows, (self._normalizer[0] + rows.sum(axis=0) / 99, self._normalizer[1]))",
            ),
        ),
        (
            "sampling/test_rollout.py::test_observations_are_normalised_by_the_moments_given_and_kept_raw_as_well[NextStep-float64]",
        ),
    ),
    Mutation(
        "merged variances forget that means differ",
        "npTRPO.sampling.normalization:Moments.updated",
        ((" + shift**2 * (self.count * n / total**2)", ""),),
        ("sampling/test_normalization.py::test_moments_are_those_of_all_rows_however_they_came",),
    ),
    Mutation(
        "the running return goes on across the ends of episodes",
        "npTRPO.sampling.normalization:RewardScale.updated",
        (("np.where(ended[-1], 0.0, seen[-1])", "seen[-1]"),),
        ("sampling/test_normalization.py::test_the_scale_of_rewards_is_the_deviation_of_the_running_return",),
    ),
    Mutation(
        "rewards are centred, which changes the task",
        "npTRPO.sampling.normalization:RewardScale.apply",
        (("rewards / self", "(rewards - self.moments.mean[0]) / self"),),
        ("sampling/test_normalization.py::test_rewards_are_divided_but_not_centred_and_clipped_at_ten",),
    ),
    Mutation(
        "standardised rows aren't clipped",
        "npTRPO.sampling.normalization:standardize",
        (("clipped((rows - mean) * factor, -CLIP, CLIP)", "(rows - mean) * factor"),),
        ("sampling/test_normalization.py::test_standardized_rows_are_clipped_at_ten_deviations",),
    ),
    Mutation(
        "returns of episodes run on",
        "npTRPO.sampling.rollout:Sampler._episodes",
        (("np.where(ended[-1], 0.0, returns[-1])", "returns[-1]"),),
        (
            "sampling/test_rollout.py::test_episodes_that_span_batches_have_their_returns_and_lengths[NextStep]",
        ),
    ),
    Mutation(
        "actions are clipped before their probability is taken",
        f"{_STEPPING}:Stepper.advance",
        (("actions.append(actions)", "actions.append(self.policy.to_env(actions))"),),
        (
            "sampling/test_rollout.py::test_a_batch_has_the_actions_that_were_drawn_and_the_environment_those_that_it_takes[bounded]",
        ),
    ),
    # Theory.
    Mutation(
        "visitation has no 1 − γ",
        f"{_THEORY}.mdp:TabularMDP.evaluate",
        (("(1 - gamma) * self.start)", "self.start)"),),
        ("theory/test_derivation.py::test_an_equation_holds[E5]",),
    ),
    Mutation(
        "the policy gradient has no 1/(1 − γ)",
        f"{_THEORY}.mdp:TabularMDP.policy_gradient",
        ((" / (1 - self.discount)", ""),),
        ("theory/test_derivation.py::test_an_equation_holds[E8]",),
    ),
    Mutation(
        "the penalty has 1 − γ without its square",
        f"{_THEORY}.exact:penalty",
        (("(1 - discount) ** 2", "(1 - discount)"),),
        ("theory/test_bounds.py::test_e11_and_e13_grow_with_the_horizon_as_the_error_does[0.9]",),
    ),
    Mutation(
        "the average bound has 1 − γ without its square",
        f"{_THEORY}.bounds:average_bound",
        (("(1 - instance.gamma) ** 2", "(1 - instance.gamma)"),),
        ("theory/test_bounds.py::test_e11_and_e13_grow_with_the_horizon_as_the_error_does[0.9]",),
    ),
    Mutation(
        "the total variation has no ½",
        f"{_THEORY}.bounds:total_variation",
        (("axis=1) / 2", "axis=1)"),),
        ("theory/test_bounds.py::test_total_variation_is_between_0_and_1",),
    ),
    Mutation(
        "visitation follows transitions backwards",
        f"{_THEORY}.mdp:TabularMDP.evaluate",
        (("np.linalg.solve(system.T, ", "np.linalg.solve(system, "),),
        ("theory/test_derivation.py::test_an_equation_holds[E7]",),
    ),
    Mutation(
        "the worst-case bound has α for α²",
        f"{_THEORY}.bounds:worst_case_bound",
        (("* alpha**2", "* alpha"),),
        ("theory/test_bounds.py::test_e12_the_bound_in_kl_is_no_tighter_than_e11",),
    ),
    Mutation(
        "Pinsker's inequality has no ½",
        f"{_THEORY}.bounds:mean_total_variation_bound",
        (("mean_kl / 2", "mean_kl"),),
        ("theory/test_bounds.py::test_e14_is_attained_to_first_order",),
    ),
    Mutation(
        "the cubic bound is that of a range of moments, not of a remainder",
        f"{_THEORY}.curvature:cubic_bound",
        (("(36 * math.sqrt(3))", "(6 * math.sqrt(3))"),),
        ("theory/test_curvature.py::test_e20_the_cubic_bound_is_attained_by_two_actions",),
    ),
    Mutation(
        "least squares have the weights for their roots",
        f"{_THEORY}.steps:compatible_weights",
        (("np.sqrt(weights)", "weights"),),
        ("theory/test_steps.py::test_e32_the_fit_is_weighted_where_no_weights_fit_exactly",),
    ),
    Mutation(
        "visitation is sampled one step too late",
        f"{_THEORY}.simulation:sample_visitation",
        (("rng.geometric(1 - mdp.discount, n) - 1", "rng.geometric(1 - mdp.discount, n)"),),
        ("theory/test_simulation.py::test_e5_transitions_are_drawn_from_the_visitation",),
    ),
    Mutation(
        "a likeliest next state is taken for all of them",
        f"{_THEORY}.simulation:draw",
        (("_inverted(np.cumsum(rows, axis=-1), rng)", "np.argmax(rows, axis=-1)"),),
        ("theory/test_derivation.py::test_an_equation_holds[E4]",),
    ),
    Mutation(
        "sums over time are discounted too much",
        f"{_THEORY}.performance:discounted_sum",
        (("discount * transition.T", "0.9 * discount * transition.T"),),
        (
            "theory/test_derivation.py::test_an_equation_holds[E1]",
            "theory/test_derivation.py::test_an_equation_holds[E3]",
            "theory/test_derivation.py::test_an_equation_holds[E5]",
            "theory/test_derivation.py::test_an_equation_holds[E6]",
        ),
    ),
    Mutation(
        "the natural step is found with damping",
        f"{_THEORY}.curvature:_undamped_step",
        (("instance.states, weights", "instance.states, 0.1, weights"),),
        ("theory/test_derivation.py::test_an_equation_holds[E25]",),
    ),
    Mutation(
        "the softmax's Fisher information is off by a millionth",
        f"{_DISTRIBUTIONS}:Categorical.fisher_product",
        (("weighted = self.probs * v", "weighted = self.probs * v * (1 + 1e-6)"),),
        (
            "theory/test_derivation.py::test_an_equation_holds[E21]",
            "theory/test_derivation.py::test_an_equation_holds[E22]",
            "theory/test_derivation.py::test_an_equation_holds[E23]",
        ),
    ),
    # The engine.
    Mutation(
        "a derivative keeps the shape that its argument was broadcast to",
        "npTRPO.autograd.tracer:unbroadcast",
        (("if cotangent.shape == shape:", "if True:"),),
        ("autograd/test_tracer.py::test_a_rule_of_partial_derivatives_is_differentiable_and_broadcasts",),
    ),
    Mutation(
        "the derivative of tanh, as of every function, is a constant to the next differentiation",
        "npTRPO.autograd.tracer:_elementwise",
        (("inner, outer = ", "partial = _plain(partial)\n    inner, outer = "),),
        ("autograd/test_rules.py::test_the_checker_accepts_every_rule_at_orders_one_and_two[tanh]",),
    ),
    Mutation(
        "of several contributions to a derivative one counts",
        "npTRPO.autograd.transforms:_add",
        (("cotangents[index] + g if index in cotangents else g", "g"),),
        ("autograd/test_transforms.py::test_an_argument_used_several_times_receives_every_contribution",),
    ),
    Mutation(
        "sums of derivatives are written into memory that others hold",
        "npTRPO.autograd.transforms:_add",
        (("cotangents[index] + g", "operator.iadd(cotangents[index], g)"),),
        ("autograd/test_rules.py::test_the_checker_accepts_every_rule_at_orders_one_and_two[x + y]",),
    ),
    Mutation(
        "sums of tangents are written into a tangent that others hold",
        "npTRPO.autograd.transforms:Linearization.jvp",
        (("operator.add", "operator.iadd"),),
        ("autograd/test_rules.py::test_the_checker_accepts_every_rule_at_orders_one_and_two[x + y]",),
    ),
    Mutation(
        "a tangent is scaled in place, though others hold it",
        "npTRPO.autograd.tracer:_elementwise",
        (("broadcast(t * partial, outer)", "broadcast(np.multiply(t, partial, out=t), outer)"),),
        ("autograd/test_rules.py::test_the_checker_accepts_every_rule_at_orders_one_and_two[exp]",),
    ),
    Mutation(
        "a cotangent is scaled in place, though others hold it",
        "npTRPO.autograd.tracer:_elementwise",
        (("unbroadcast(g * partial, inner)", "unbroadcast(np.multiply(g, partial, out=g), inner)"),),
        ("autograd/test_rules.py::test_the_checker_accepts_every_rule_at_orders_one_and_two[exp]",),
    ),
    Mutation(
        "of crossed bounds, clip takes the lower one",
        "npTRPO.autograd.compositions:_np_clip",
        (
            (
                "a = a if a_min is None else np.maximum(a, a_min)",
                "a = a if a_max is None else np.minimum(a, a_max)",
            ),
            (
                "return a if a_max is None else np.minimum(a, a_max)",
                "return a if a_min is None else np.maximum(a, a_min)",
            ),
        ),
        ("autograd/test_rules.py::test_a_traced_value_is_the_plain_one_to_the_bit[float64-crossed bounds]",),
    ),
    Mutation(
        "all arguments at a tie of the maximum receive the whole derivative",
        "npTRPO.autograd.rules:_max_rule",
        (("largest / np.sum(largest, axis=axis, keepdims=True)", "largest"),),
        ("autograd/test_rules.py::test_derivatives_at_kinks_and_corners[max of equals]",),
    ),
    Mutation(
        "levels of differentiation are mixed up",
        "npTRPO.autograd.tracer:Trace.__init__",
        (("next(_levels)", "0"),),
        ("autograd/test_transforms.py::test_nested_perturbations_stay_apart[forward-d/dx [x d/dy (x + y)]]",),
    ),
    Mutation(
        "an element that is selected twice receives one derivative",
        "npTRPO.autograd.rules:scattered",
        (("np.add.at(total, index, x)", "total[index] = x"),),
        ("autograd/test_rules.py::test_integers_with_repeats_add_up_and_do_not_overwrite",),
    ),
    Mutation(
        "the softmax overflows",
        "npTRPO.autograd.rules:_logsumexp",
        (("largest = np.max(x, axis=axis, keepdims=True)", "largest = 0"),),
        ("autograd/test_rules.py::test_logsumexp_of_huge_numbers_overflows_nowhere",),
        raises="RuntimeWarning",
    ),
)


# --- running them -------------------------------------------------------------------------------------------


class Runner:
    """Runs the tests of a list on the right code and on each wrong version, instead of once each."""

    def __init__(self, mutations: Sequence[Mutation]) -> None:
        self.mutations = mutations
        self.right: dict[str, str] = {}
        """What went wrong in each test on the right code; nothing should."""
        self.caught: dict[str, dict[str, str]] = {}
        """By wrong version and test, the failure."""
        self._raised: BaseException | None = None

    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        items = {item.nodeid.removeprefix("tests/"): item for item in session.items}
        for name, item in items.items():
            self.right[name] = self._failure(item)
        for mutation in self.mutations:
            with pytest.MonkeyPatch.context() as patch:
                mutation.apply(patch)
                names = mutation.caught_by
                self.caught[mutation.wrong] = {name: self._failure(items[name]) for name in names}
        return True

    def pytest_runtest_makereport(self, item: pytest.Item, call: pytest.CallInfo[None]) -> None:
        if call.excinfo is not None and self._raised is None:
            self._raised = call.excinfo.value

    def _failure(self, item: pytest.Item) -> str:
        """The kind of exception that the test ends with; nothing if it passes."""
        self._raised = None
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # as pytest's first versions don't, if one calls this by oneself
            runtestprotocol(item, nextitem=None, log=False)
        return "" if self._raised is None else type(self._raised).__name__


def run(mutations: Sequence[Mutation] = MUTATIONS) -> Runner:
    """Run the tests of all the mutations, on the right code and on each wrong version."""
    runner = Runner(mutations)
    root = Path(__file__).parent
    names = sorted({str(root / name) for mutation in mutations for name in mutation.caught_by})
    pytest.main([*names, "-q", "-p", "no:cacheprovider", "--no-header", f"--rootdir={root.parent}"], [runner])
    return runner


if __name__ == "__main__":
    done = run()
    Path(sys.argv[1]).write_text(json.dumps({"right": done.right, "caught": done.caught}))
