"""Checks of notebook 10."""

from __future__ import annotations

from numbers import Integral

import numpy as np
import torch

from cspkit.teach.check import Verdict, as_array, exercise, named


@exercise("10.kept")
def kept(answer) -> Verdict:
    total = 331264
    end = answer(400, 400, 0.95, 6, total)
    if end == round(0.95 * total):
        return "this is the number of zeros; the weights that are left are asked for"
    if not isinstance(end, Integral):
        return f"a number of weights is an int, but this is a {type(end).__name__}"
    if answer(0, 400, 0.95, 6, total) != total:
        return "at step 0 nothing is cut yet, all weights are kept"
    if answer(500, 400, 0.95, 6, total) != end:
        return "after step n the sparsity stays at s: the ramp holds for t < n only"
    if answer(100, 400, 0.95, 3, total) == answer(100, 400, 0.95, 6, total):
        return "the exponent p has no effect"
    quarter = total - round(0.95 * (1 - 0.75**6) * total)
    got = (end, answer(100, 400, 0.95, 6, total))
    if got != (16563, quarter):
        return f"expected 16563 at step 400 and {quarter} at step 100, got {got[0]} and {got[1]}"
    return None


@exercise("10.hard_threshold")
def hard_threshold(answer) -> Verdict:
    V = torch.tensor([0.5, -2.0, 0.1, 1.0])
    given = V.clone()
    Z = answer(V, 2)
    if not isinstance(Z, torch.Tensor):
        return f"expected a tensor, got {type(Z).__name__}"
    if not torch.equal(V, given):
        return "V itself was changed: it is the memory, return a new tensor"
    if torch.equal(Z, torch.tensor([0.5, 0.0, 0.0, 1.0])):
        return "the largest values are kept, not the largest magnitudes: -2 is lost"
    if torch.equal(Z, torch.tensor([0.0, 2.0, 0.0, 1.0])):
        return "the sign is lost: -2 became 2"
    if torch.equal(Z, torch.tensor([0.5, 0.0, 0.1, 0.0])):
        return "the smallest entries are kept, not the largest"
    if Z.shape == (2,):
        return "only the kept entries are returned: their places are lost"
    if not torch.equal(Z, torch.tensor([0.0, -2.0, 0.0, 1.0])):
        return f"expected [0, -2, 0, 1], got {Z.tolist()}"
    matrix = torch.tensor([[3.0, -4.0, 5.0], [-0.1, 0.2, -1.0]])
    kept = answer(matrix, 3)
    if kept.shape != (2, 3):
        return f"a (2, 3) matrix became {tuple(kept.shape)}: keep the shape of V"
    if int((kept != 0).sum()) == 6:
        return "of each row k entries are kept: k counts those of the whole matrix"
    if not torch.equal(kept, torch.tensor([[3.0, -4.0, 5.0], [0.0, 0.0, 0.0]])):
        return f"of {matrix.tolist()} with k = 3 the first row is to be kept, got {kept.tolist()}"
    if int((answer(torch.ones(4), 2) != 0).sum()) != 2:
        return "with equal magnitudes more than k entries are kept: exactly k are asked for"
    return None


@exercise("10.recover")
def recover(answer) -> Verdict:
    V, g = np.array([1.0, -2.0, 0.3, 0.0, 0.5]), np.array([0.5, 1.0, -2.0, 4.0, 0.0])
    mask = np.array([True, True, False, False, False])
    eta, rho = 0.1, 0.25
    given = V.copy()
    got, wrong = as_array(answer(V, mask.copy(), g.copy(), eta, rho), (5,))
    if wrong:
        return wrong
    if not np.array_equal(V, given):
        return "V itself was changed: return a new array"
    right = V - eta * g - rho * (V - mask * V)
    known = (
        (V - eta * g, "nothing is forgotten: the term with rho is missing"),
        (mask * right, "cut weights are set to zero; they are to keep 1 - rho of their value"),
        (V - eta * mask * g - rho * (V - mask * V), "cut weights get their gradient, too"),
        (V - eta * g - rho * mask * V, "it is the kept weights that forget here"),
        (V - eta * g - rho * V, "all weights forget; kept ones have V - Z = 0"),
        (V - eta * g + rho * (V - mask * V), "the memory grows: V is pulled to Z, so minus"),
        (V + eta * g - rho * (V - mask * V), "the step goes uphill: minus eta times the gradient"),
        (mask * V - eta * g, "that is rho = 1, whatever rho was given"),
    )
    if not np.allclose(got, right):
        return named(got, known, f"expected {right.tolist()}, got {got.tolist()}")
    got, _ = as_array(answer(V, mask, g, eta, 1.0), (5,))
    if got is None or not np.allclose(got, mask * V - eta * g):
        return "with rho = 1 the step should start from Z"
    return None


@exercise("10.divergence")
def divergence(answer) -> Verdict:
    rng = np.random.default_rng(0)
    cases = [np.log([[[0.5, 0.5]], [[0.9, 0.1]]])]
    cases += [np.log(rng.dirichlet(np.ones(4), size=(2, 3))) for _ in range(2)]
    for log_P, log_Q in cases:
        got, wrong = as_array(answer(log_P.copy(), log_Q.copy()), ())
        if wrong:
            return wrong
        P, Q = np.exp(log_P), np.exp(log_Q)
        cells = (P * (log_P - log_Q)).sum(axis=1)
        if np.isclose(got, cells.mean()):
            continue
        known = (
            ((Q * (log_Q - log_P)).sum(axis=1).mean(), "the two models are exchanged: P weighs"),
            (-cells.mean(), "the sign is turned: a divergence is never negative"),
            (cells.sum(), "the sum over cells: their mean is asked for"),
            ((P * (log_P - log_Q)).mean(), "the mean over units, too: they are summed"),
            (-(P * log_Q).sum(axis=1).mean(), "that is the cross entropy; take off that of P"),
            ((log_P - log_Q).sum(axis=1).mean(), "units are weighed by P"),
        )
        return named(got, known, f"expected {cells.mean():.4f}, got {float(got):.4f}")
    return None
