"""Pruning while training: when (schedules), which (budgets), and the methods, one file each."""

from cspkit.pruning.csp import CSP
from cspkit.pruning.gmp import GMP
from cspkit.pruning.gradual import GradualPruner
from cspkit.pruning.prune import PRUNERS, Pruned, prunable_weights, prune

__all__ = ["CSP", "GMP", "PRUNERS", "GradualPruner", "Pruned", "prunable_weights", "prune"]
