"""Pruning during training: schedules, budgets (weights per layer), and one file per method."""

from cspkit.pruning.acdc import ACDC
from cspkit.pruning.admm import ADMM
from cspkit.pruning.csp import CSP
from cspkit.pruning.dpf import DPF
from cspkit.pruning.gmp import GMP
from cspkit.pruning.gradual import GradualPruner, MaskedPruner
from cspkit.pruning.hold import Hold
from cspkit.pruning.l1_prox import L1Prox
from cspkit.pruning.narang import Narang
from cspkit.pruning.oneshot import OneShot
from cspkit.pruning.prune import PRUNERS, Pruned, prunable_weights, prune
from cspkit.pruning.rigl import RigL

__all__ = [
    "ACDC",
    "ADMM",
    "CSP",
    "DPF",
    "GMP",
    "PRUNERS",
    "GradualPruner",
    "Hold",
    "L1Prox",
    "MaskedPruner",
    "Narang",
    "OneShot",
    "Pruned",
    "RigL",
    "prunable_weights",
    "prune",
]
