r"""The numbered equations of the derivation: each in words, as a formula, and where it is from."""

from __future__ import annotations

from dataclasses import dataclass

from npTRPO.theory import notation

__all__ = ["EQUATIONS", "SECTIONS", "Equation"]

_TRPO = "Schulman et al. 2015 (TRPO), arXiv 1502.05477"
_GAE = "Schulman et al. 2015 (GAE), arXiv 1506.02438"
_CPO = "Achiam et al. 2017 (CPO), arXiv 1705.10528"
_NPG = "Kakade 2001, A natural policy gradient"
_NW = "Nocedal and Wright, Numerical Optimization, 2nd ed."
_INFORMATION = "Cover and Thomas, Elements of Information Theory, 2nd ed."


@dataclass(frozen=True)
class Equation:
    """An equation in words and as a formula in the notation of :mod:`npTRPO.theory.notation`."""

    title: str
    formula: str
    source: str

    @property
    def text(self) -> str:
        """The formula as one line of text."""
        return notation.text(self.formula)

    @property
    def mathml(self) -> str:
        """The formula as a MathML element."""
        return notation.mathml(self.formula)


SECTIONS = {
    "How much better is the new policy?": (1, 6),
    "The surrogate": (7, 14),
    "The trust region": (15, 19),
    "The quadratic model": (20, 25),
    "The step": (26, 32),
    "Conjugate gradients for Hx = g": (33, 37),
    "The line search": (38, 38),
    "Advantages": (39, 44),
}
"""Titles of the derivation's sections, with the numbers of their first and last equation."""

EQUATIONS = {
    "E1": Equation(
        "the objective is the value of the first state, the discounted return",
        r"J(π) = E_{s_0~ρ_0}[V^π(s_0)] = E_{τ~π}[\sum_{t≥0} γ^t r_t]",
        f"{_TRPO}, section 2",
    ),
    "E2": Equation(
        "discounted differences of any V telescope to V of the first state",
        r"E_{s_0~ρ_0}[V(s_0)] = −E_{τ~π'}[\sum_{t≥0} γ^t (γ V(s_{t+1}) − V(s_t))]",
        f"{_TRPO}, proof of lemma 1",
    ),
    "E3": Equation(
        "the new policy is better by its discounted old advantages",
        r"J(π') − J(π) = E_{τ~π'}[\sum_{t≥0} γ^t (r_t + γ V^π(s_{t+1}) − V^π(s_t))]"
        r" = E_{τ~π'}[\sum_{t≥0} γ^t A^π(s_t, a_t)]",
        f"{_TRPO}, equation 1",
    ),
    "E4": Equation(
        "the TD residual is an unbiased sample of the advantage",
        r"E_{s_{t+1}~P}[δ_t | s_t, a_t] = A^π(s_t, a_t), δ_t = r_t + γ V^π(s_{t+1}) − V^π(s_t)",
        f"{_GAE}, section 3",
    ),
    "E5": Equation(
        "discounted visitation is a distribution that solves a linear system",
        r"ν^π(s) = (1 − γ) \sum_{t≥0} γ^t P(s_t = s | π), ν^π = (1 − γ) ρ_0 + γ P_π^T ν^π",
        f"{_TRPO}, section 2 (there not normalised)",
    ),
    "E6": Equation(
        "discounted advantages along trajectories are a mean over visitation",
        r"E_{τ~π'}[\sum_{t≥0} γ^t A^π(s_t, a_t)] = \frac{1}{1 − γ} E_{s~ν^{π'}, a~π'}[A^π(s, a)]",
        f"{_TRPO}, equation 2",
    ),
    "E7": Equation(
        "the surrogate takes the old visitation for the new",
        r"L_π(π') = J(π) + \frac{1}{1 − γ} E_{s~ν^π, a~π'}[A^π(s, a)]",
        f"{_TRPO}, equation 3",
    ),
    "E8": Equation(
        "the surrogate agrees with the objective to first order",
        r"L_π(π) = J(π), ∇_{θ'} L_π(π_{θ'})|_{θ'=θ} = ∇_θ J(π_θ)",
        f"{_TRPO}, equation 4",
    ),
    "E9": Equation(
        "importance sampling writes the surrogate with old actions",
        r"L_π(π') = J(π) + \frac{1}{1 − γ} E_{s~ν^π, a~π}[\frac{π'(a|s)}{π(a|s)} A^π(s, a)]",
        f"{_TRPO}, equation 14",
    ),
    "E10": Equation(
        "the sample surrogate is a mean of ratios times advantages",
        r"\hat{L}(θ') = \frac{1}{N} \sum_n \exp(\log π_{θ'}(a_n|s_n) − \log π_θ(a_n|s_n)) \hat{A}_n",
        f"{_TRPO}, equation 14",
    ),
    "E11": Equation(
        "the surrogate is wrong by at most a multiple of the largest TV²",
        r"J(π') ≥ L_π(π') − \frac{4 ε γ}{{(1 − γ)}^2} α^2, α = \max_s D_\text{TV}(π(·|s), π'(·|s)), "
        r"ε = \max_{s,a} |A^π(s, a)|",
        f"{_TRPO}, theorem 1",
    ),
    "E12": Equation(
        "the same in the largest KL divergence, as TV² ≤ KL",
        r"J(π') ≥ L_π(π') − C \max_s D_\text{KL}(π(·|s) ‖ π'(·|s)), C = \frac{4 ε γ}{{(1 − γ)}^2}",
        f"{_TRPO}, equation 9",
    ),
    "E13": Equation(
        "on average and on both sides, and never looser than E11",
        r"|J(π') − L_π(π')| ≤ \frac{2 γ ε'}{{(1 − γ)}^2} E_{s~ν^π}[D_\text{TV}(π'(·|s), π(·|s))], "
        r"ε' = \max_s |E_{a~π'}[A^π(s, a)]|",
        f"{_CPO}, theorem 1 and corollary 1",
    ),
    "E14": Equation(
        "the mean TV is at most the root of half the mean KL",
        r"E_{s~ν^π}[D_\text{TV}] ≤ \sqrt{\frac{1}{2} E_{s~ν^π}[D_\text{KL}]}",
        f"{_CPO}, equation 7",
    ),
    "E15": Equation(
        "an update raises the surrogate within the trust region",
        r"\max_{θ'} L_π(π_{θ'}) \text{subject to} E_{s~ν^π}[D_\text{KL}(π_θ(·|s) ‖ π_{θ'}(·|s))] ≤ δ",
        f"{_TRPO}, equation 12",
    ),
    "E16": Equation(
        "KL of softmax policies is a sum over actions",
        r"D_\text{KL}(π ‖ π') = \sum_a π(a|s) \log \frac{π(a|s)}{π'(a|s)}, "
        r"π(a|s) = \frac{\exp z_a}{\sum_b \exp z_b}",
        f"{_INFORMATION}, equation 2.26",
    ),
    "E17": Equation(
        "KL(old ‖ new) of diagonal Gaussians in closed form",
        r"D_\text{KL}(π ‖ π') = \sum_i [\log \frac{σ'_i}{σ_i} + "
        r"\frac{σ_i^2 + {(μ_i − μ'_i)}^2}{2 σ'_i^2} − \frac{1}{2}]",
        f"{_INFORMATION}, equation 8.46 for two normal densities",
    ),
    "E18": Equation(
        "KL of a product is the sum of the components' KLs",
        r"D_\text{KL}(\prod_i π_i ‖ \prod_i π'_i) = \sum_i D_\text{KL}(π_i ‖ π'_i)",
        f"{_INFORMATION}, theorem 2.5.3",
    ),
    "E19": Equation(
        "mean KL over a batch: exact in actions, sampled in states",
        r"\hat{D}(θ') = \frac{1}{N} \sum_n D_\text{KL}(π_θ(·|s_n) ‖ π_{θ'}(·|s_n))",
        f"{_TRPO}, section 5",
    ),
    "E20": Equation(
        "mean KL is ½ΔᵀHΔ up to third order; value and gradient at 0 are 0",
        r"E_s[D_\text{KL}(π_θ ‖ π_{θ+Δ})] = \frac{1}{2} Δ^T H Δ + O(‖Δ‖^3)",
        f"{_TRPO}, appendix C",
    ),
    "E21": Equation(
        "the Hessian of mean KL is the Fisher information",
        r"H = F = E[∇_θ \log π {∇_θ \log π}^T] = \frac{1}{N} \sum_n J_n^T M_n J_n",
        f"{_TRPO}, appendix C.1",
    ),
    "E22": Equation(
        "Fisher information in a distribution's own outputs, closed form",
        r"M = \text{diag}(p) − p p^T \text{(softmax),} p (1 − p) \text{(Bernoulli),} "
        r"\text{diag}(1 / σ^2, 2) \text{(Gaussian in} (μ, \log σ)\text{)}",
        f"{_TRPO}, appendix C.1",
    ),
    "E23": Equation(
        "the same product by differentiating mean KL twice",
        r"H v = ∇_θ({∇_θ E_s[D_\text{KL}(π_{θ_\text{old}} ‖ π_θ)]}^T v)|_{θ=θ_\text{old}}",
        f"{_TRPO}, appendix C.1",
    ),
    "E24": Equation(
        "F is symmetric, never negative, and exact for a linear Gaussian mean",
        r"F = F^T, v^T F v ≥ 0, "
        r"D_\text{KL}(θ ‖ θ + Δ) = \frac{1}{2} Δ^T F Δ \text{for linear} μ_θ \text{and fixed} σ",
        f"{_TRPO}, appendix C.1",
    ),
    "E25": Equation(
        "the natural step is the same in all linear parametrisations",
        r"θ = B φ: B Δ_φ = Δ_θ",
        f"{_NPG}, section 2",
    ),
    "E26": Equation(
        "no step within the quadratic region improves the linear model more",
        r"Δ^* = \text{arg} \max_Δ g^T Δ \text{subject to} \frac{1}{2} Δ^T H Δ ≤ δ",
        f"{_TRPO}, appendix C",
    ),
    "E27": Equation(
        "the step and its multiplier meet the KKT conditions",
        r"g − λ H Δ = 0, \frac{1}{2} Δ^T H Δ ≤ δ, λ ≥ 0, λ (\frac{1}{2} Δ^T H Δ − δ) = 0",
        f"{_NW}, theorem 12.1",
    ),
    "E28": Equation(
        "the multiplier of the trust region",
        r"λ = \sqrt{\frac{g^T H^{−1} g}{2 δ}}",
        f"{_TRPO}, appendix C",
    ),
    "E29": Equation(
        "the natural step in closed form",
        r"Δ^* = \sqrt{\frac{2 δ}{g^T H^{−1} g}} H^{−1} g",
        f"{_TRPO}, appendix C",
    ),
    "E30": Equation(
        "scaled by xᵀHx, any x ends on the boundary of the region",
        r"Δ = \sqrt{\frac{2 δ}{x^T H x}} x: \frac{1}{2} Δ^T H Δ = δ",
        f"{_TRPO}, appendix C",
    ),
    "E31": Equation(
        "predicted improvement of the linear model",
        r"g^T Δ^* = \sqrt{2 δ g^T H^{−1} g}",
        f"{_TRPO}, appendix C",
    ),
    "E32": Equation(
        "the natural gradient is the best linear fit of the advantage",
        r"\text{arg} \min_w E_{s~ν^π, a~π}[{(w^T ∇_θ \log π(a|s) − A^π(s, a))}^2] = (1 − γ) F^+ ∇_θ J",
        f"{_NPG}, theorem 1",
    ),
    "E33": Equation(
        "CG's iterates are best in their Krylov subspaces",
        r"α_k = \frac{r_k^T r_k}{p_k^T H p_k}, x_{k+1} = x_k + α_k p_k, r_{k+1} = r_k − α_k H p_k, "
        r"p_{k+1} = r_{k+1} + β_k p_k",
        f"{_NW}, algorithm 5.2",
    ),
    "E34": Equation(
        "Fletcher–Reeves and Polak–Ribière agree",
        r"β_k = \frac{r_{k+1}^T r_{k+1}}{r_k^T r_k} = \frac{r_{k+1}^T (r_{k+1} − r_k)}{r_k^T r_k}",
        f"{_NW}, equations 5.41 and 5.44",
    ),
    "E35": Equation(
        "preconditioned CG is CG in other coordinates",
        r"M = C C^T: x_k = C y_k, C^T H C y = C^T g",
        f"{_NW}, algorithm 5.3",
    ),
    "E36": Equation(
        "what CG promises: orthogonality, descent, an end, a rate",
        r"r_i^T r_j = 0, p_i^T H p_j = 0 \text{for} i ≠ j, "
        r"‖e_k‖_H ≤ 2 {(\frac{\sqrt{κ} − 1}{\sqrt{κ} + 1})}^k ‖e_0‖_H",
        f"{_NW}, theorems 5.2 to 5.5",
    ),
    "E37": Equation(
        "CG stops at the first residual within the relative tolerance",
        r"‖r_k‖ ≤ \max(\text{rtol} ‖g‖, \text{atol})",
        f"{_NW}, section 5.1; relative as in SciPy",
    ),
    "E38": Equation(
        "the line search takes the first fraction that meets both conditions",
        r"θ_\text{new} = θ + α^i Δ, i = \min\{i: D_\text{KL}(θ ‖ θ + α^i Δ) ≤ δ, "
        r"\hat{L}(θ + α^i Δ) > \hat{L}(θ)\}",
        f"{_TRPO}, appendix C",
    ),
    "E39": Equation(
        "TD residuals: nothing after a termination, the last V at a truncation",
        r"δ_t = r_t + γ V(s_{t+1}) − V(s_t)",
        f"{_GAE}, section 3; Pardo et al. 2018 for truncations",
    ),
    "E40": Equation(
        "the k-step estimator sums k discounted residuals",
        r"\hat{A}_t^{(k)} = \sum_{l<k} γ^l δ_{t+l} = −V(s_t) + r_t + … + γ^{k−1} r_{t+k−1} + γ^k V(s_{t+k})",
        f"{_GAE}, equation 14",
    ),
    "E41": Equation(
        "GAE is the exponentially weighted mean of the k-step estimators",
        r"\hat{A}_t = (1 − λ)(\hat{A}_t^{(1)} + λ \hat{A}_t^{(2)} + λ^2 \hat{A}_t^{(3)} + …) "
        r"= \sum_{l≥0} (γ λ)^l δ_{t+l}",
        f"{_GAE}, equation 16",
    ),
    "E42": Equation(
        "GAE runs backwards, and anew at every end of an episode",
        r"\hat{A}_t = δ_t + γ λ \hat{A}_{t+1}",
        f"{_GAE}, equation 16",
    ),
    "E43": Equation(
        "λ = 0 is the TD residual, λ = 1 the return less V",
        r"λ = 0: \hat{A}_t = δ_t, λ = 1: \hat{A}_t = \sum_{l≥0} γ^l r_{t+l} − V(s_t)",
        f"{_GAE}, equations 17 and 18",
    ),
    "E44": Equation(
        "with the exact V, GAE is unbiased for every λ",
        r"E_{τ~π}[\hat{A}_t | s_t, a_t] = A^π(s_t, a_t)",
        f"{_GAE}, proposition 1",
    ),
}
"""By number, E1 to E44."""
