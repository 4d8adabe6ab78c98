"""Sparse recovery: find a sparse x from y = A x + e, with fewer measurements than unknowns.

Everywhere A is (m, n), y is (m,), x is (n,) with k nonzeros, and the lasso minimises

    1/2 ||y - A x||_2^2 + lam ||x||_1.

The parameter alpha of scikit-learn's Lasso is lam / m.

Every solver returns a `RecoveryResult`. If the method computes a duality gap, the result holds it
in `gap`. The gap is a certificate: the objective is at most gap * 1/2 ||y||_2^2 above the smallest
objective. If a solver did not converge, the result says so, and the solver issues a
`ConvergenceWarning`. Bad arguments raise an `ArgumentError`, which is a ValueError and names the
argument.

A and y may have any magnitude. The solvers first divide A and y by powers of two, and undo
this scaling in the answer. If the answer is outside the range of its float type, the solver
raises an `ArgumentError`.
"""

from cspkit.recovery.basis_pursuit import basis_pursuit, bpdn
from cspkit.recovery.bregman import linearized_bregman
from cspkit.recovery.duality import lasso_gap, relative_gap
from cspkit.recovery.greedy import cosamp, omp
from cspkit.recovery.lasso import lam_max_of, lasso, lasso_path, reweighted_lasso
from cspkit.recovery.message_passing import amp, state_evolution
from cspkit.recovery.proximal import (
    block_soft_threshold,
    hard_threshold,
    l0_threshold,
    project_l2_ball,
    project_linf_ball,
    soft_threshold,
)
from cspkit.recovery.proximal_gradient import fista, group_lasso, ista
from cspkit.recovery.result import ConvergenceWarning, RecoveryResult
from cspkit.recovery.risk import LassoRisk, lasso_risk, soft_threshold_risk
from cspkit.recovery.sensing import gaussian, partial_dct, rademacher, sparse_signal, toeplitz
from cspkit.recovery.theory import (
    coherence,
    exact_recovery_coefficient,
    irrepresentability,
    minimax_threshold,
    phase_transition,
    rip_lower_bound,
    welch_bound,
)
from cspkit.recovery.thresholding import htp, iht

__all__ = [
    "ConvergenceWarning",
    "LassoRisk",
    "RecoveryResult",
    "amp",
    "basis_pursuit",
    "block_soft_threshold",
    "bpdn",
    "coherence",
    "cosamp",
    "exact_recovery_coefficient",
    "fista",
    "gaussian",
    "group_lasso",
    "hard_threshold",
    "htp",
    "iht",
    "irrepresentability",
    "ista",
    "l0_threshold",
    "lam_max_of",
    "lasso",
    "lasso_gap",
    "lasso_path",
    "lasso_risk",
    "linearized_bregman",
    "minimax_threshold",
    "omp",
    "partial_dct",
    "phase_transition",
    "project_l2_ball",
    "project_linf_ball",
    "rademacher",
    "relative_gap",
    "reweighted_lasso",
    "rip_lower_bound",
    "soft_threshold",
    "soft_threshold_risk",
    "sparse_signal",
    "state_evolution",
    "toeplitz",
    "welch_bound",
]
