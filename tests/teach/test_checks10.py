import math

import numpy as np
import pytest
import torch
from answers import answer_tests

from cspkit.teach import verdict

TOTAL = 331264


def ramp(t, n, s, p):
    return s * (1 - (1 - t / n) ** p) if t < n else s


def right_threshold(V, k):
    flat, Z = V.flatten(), torch.zeros(V.numel())
    places = flat.abs().topk(k).indices
    Z[places] = flat[places]
    return Z.view_as(V)


def last_of_equals(V, k):
    flat, Z = V.flatten(), torch.zeros(V.numel())
    places = flat.abs().numpy().argsort(kind="stable")[-k:]
    Z[places] = flat[places]
    return Z.view_as(V)


def first_of_equals(V, k):
    flat, Z = V.flatten(), torch.zeros(V.numel())
    places = (-flat.abs()).numpy().argsort(kind="stable")[:k]
    Z[places] = flat[places]
    return Z.view_as(V)


def by_row(V, k):
    return right_threshold(V, k) if V.dim() == 1 else torch.stack([by_row(r, k) for r in V])


def changes_V(V, k):
    V[:] = right_threshold(V, k)
    return V


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (lambda t, n, s, p, total: total - round(ramp(t, n, s, p) * total), "right"),
        (lambda t, n, s, p, total: round(ramp(t, n, s, p) * total), "number of zeros"),
        (lambda t, n, s, p, total: (1 - ramp(t, n, s, p)) * total, "is an int"),
        (
            lambda t, n, s, p, total: total - round(s * (1 - (1 - t / n) ** p) * total),
            "after step n",
        ),
        (lambda t, n, s, p, total: total - round((t < n) * ramp(t, n, s, p) * total), "after step"),
        (lambda t, n, s, p, total: total - round(ramp(t, n, 1, p) * total), "multiply by s"),
        (
            lambda t, n, s, p, total: (
                total - round(ramp(n - t, n, s, p) * total) if t < n else total - round(s * total)
            ),
            "use (1 - t / n) ** p",
        ),
        (
            lambda t, n, s, p, total: total - round((s - ramp(t, n, s, p) if t < n else s) * total),
            "falls from s",
        ),
        (lambda t, n, s, p, total: 1 - ramp(t, n, s, p), "this is a share"),
        (lambda t, n, s, p, total: total - round(ramp(t, n, s, 3) * total), "p has no effect"),
        (lambda t, n, s, p, total: total - round(s * total), "at step 0"),
        (lambda t, n, s, p, total: total - int(ramp(t, n, s, p) * total), "is rounded down"),
        (lambda t, n, s, p, total: total - math.ceil(ramp(t, n, s, p) * total), "is rounded up"),
        (lambda t, n, s, p, total: total - np.round(ramp(t, n, s, p) * total), "right"),
        (lambda t, n, s, p, total: total - round(ramp(t, n, s, p + 1) * total), "t = 100, n = 400"),
    ],
)
def test_kept(answer, says):
    assert says in verdict("10.kept", answer)


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (right_threshold, "right"),
        (changes_V, "V itself was changed"),
        (lambda V, k: right_threshold(V, k).abs(), "sign is lost"),
        (lambda V, k: V * (V.topk(k).values[-1] <= V), "largest values"),
        (lambda V, k: V * (V.abs() <= V.abs().topk(k, largest=False).values[-1]), "smallest"),
        (lambda V, k: V[V.abs().topk(k).indices], "places are lost"),
        (lambda V, k: right_threshold(V, k).flatten(), "keep the shape"),
        (lambda V, k: V * (V.abs() >= V.abs().flatten().topk(k).values[-1]), "exactly k"),
        (lambda V, k: V.clone(), "nothing was cut"),
        (lambda V, k: V - right_threshold(V, k), "the k largest became 0"),
        (lambda V, k: right_threshold(V, k) != 0, "this is the mask"),
        (
            lambda V, k: V.sign() * (V.abs() - V.abs().flatten().sort().values[-k - 1]).relu(),
            "soft threshold",
        ),
        (lambda V, k: V * (V.abs() > k), "as a limit"),
        (lambda V, k: right_threshold(V, k).numpy(), "returns an ndarray, expected a tensor"),
        (lambda V, k: V * (V.abs() > V.abs().flatten().sort().values[-k - 1]), "fewer than k"),
        (lambda V, k: V * (V.abs() > V.abs().flatten().topk(k).values[-1]), "one entry is missing"),
        (last_of_equals, "right: "),
        (first_of_equals, "right: "),
        (
            lambda V, k: right_threshold(V, k) if len(V.unique()) > 1 else 0 * V,
            "V = [1., 1., 1., 1.]",
        ),
        (by_row, "of the whole matrix"),
        (lambda V, k: right_threshold(V if V.dim() == 1 else V.clamp(min=-0.5), k), "first row"),
        (lambda V, k: V.tolist(), "expected a tensor"),
    ],
)
def test_hard_threshold(answer, says):
    assert says in verdict("10.hard_threshold", answer)


def step(V, mask, g, eta, rho):
    return V - eta * g - rho * (V - mask * V)


def changes_its_V(V, mask, g, eta, rho):
    V -= eta * g + rho * (V - mask * V)
    return V


def kl(log_q, log_p):
    return (np.exp(log_q) * (log_q - log_p)).sum(axis=1)


@np.errstate(invalid="ignore")
def kl_of_logs(log_q, log_p):
    return (np.exp(log_q) * (np.log(log_q) - np.log(log_p))).sum(axis=1).mean()


RIGHT = {"10.recover": step, "10.divergence": lambda q, p: kl(q, p).mean()}
WRONG = [
    ("10.recover", changes_its_V, "V itself was changed"),
    ("10.recover", lambda V, m, g, eta, rho: V - eta * g, "nothing is forgotten"),
    ("10.recover", lambda V, m, g, eta, rho: m * step(V, m, g, eta, rho), "set to zero"),
    ("10.recover", lambda V, m, g, eta, rho: step(V, m, m * g, eta, rho), "gradient, too"),
    ("10.recover", lambda V, m, g, eta, rho: V - eta * g - rho * m * V, "the kept weights forget"),
    ("10.recover", lambda V, m, g, eta, rho: (1 - rho) * V - eta * g, "all weights forget"),
    ("10.recover", lambda V, m, g, eta, rho: step(V, m, g, eta, -rho), "memory grows"),
    ("10.recover", lambda V, m, g, eta, rho: step(V, m, -g, eta, rho), "uphill"),
    ("10.recover", lambda V, m, g, eta, rho: m * V - eta * g, "that is rho = 1"),
    (
        "10.recover",
        lambda V, m, g, eta, rho: step(V - eta * g, m, 0 * g, eta, rho),
        "the leak comes after the step",
    ),
    ("10.recover", lambda V, m, g, eta, rho: np.where(m, V, rho * V) - eta * g, "not rho"),
    ("10.recover", lambda V, m, g, eta, rho: step(V, m, g, eta, rho) - V + m * V, "not from Z"),
    ("10.recover", lambda V, m, g, eta, rho: step(V, m, g, eta, rho * eta), "the leak is not"),
    ("10.recover", lambda V, m, g, eta, rho: V - eta * g - rho * (V - m), "not the mask"),
    ("10.recover", lambda V, m, g, eta, rho: V - eta * g - rho * abs(~m * V), "sign of V"),
    ("10.recover", lambda V, m, g, eta, rho: step(V, m, g, eta, min(rho, 0.5)), "with rho = 1"),
    ("10.recover", lambda V, m, g, eta, rho: step(V, m, g, 2 * eta, rho), "expected ["),
    ("10.divergence", lambda q, p: kl(p, q).mean(), "exchanged"),
    ("10.divergence", lambda q, p: -kl(q, p).mean(), "sign is turned"),
    ("10.divergence", lambda q, p: kl(q, p).sum(), "take their mean"),
    ("10.divergence", lambda q, p: kl(q, p).mean() / q.shape[1], "over the units, too"),
    ("10.divergence", lambda q, p: -(np.exp(q) * p).sum(axis=1).mean(), "cross entropy"),
    ("10.divergence", lambda q, p: (q - p).sum(axis=1).mean(), "units are not weighed"),
    ("10.divergence", lambda q, p: (q * (q - p)).sum(axis=1).mean(), "np.exp is missing"),
    (
        "10.divergence",
        lambda q, p: (np.exp(q) * np.exp(q - p)).sum(axis=1).mean(),
        "P is multiplied by P / Q",
    ),
    (
        "10.divergence",
        lambda q, p: (np.exp(q) * (np.exp(q) - np.exp(p))).sum(axis=1).mean(),
        "P is multiplied by P - Q",
    ),
    ("10.divergence", lambda q, p: (np.exp(p) * (q - p)).sum(axis=1).mean(), "weighed by Q"),
    ("10.divergence", lambda q, p: (np.exp(q) * (q - p)).sum(axis=0).mean(), "axis 1"),
    ("10.divergence", lambda q, p: (np.exp(q) * abs(q - p)).sum(axis=1).mean(), "absolute value"),
    ("10.divergence", lambda q, p: (np.exp(q) * q / p).sum(axis=1).mean(), "logarithms already"),
    ("10.divergence", lambda q, p: (q * np.log(q / p)).sum(axis=1).mean(), "logarithms already"),
    ("10.divergence", lambda q, p: kl_of_logs(q, p), "logarithms already"),
    ("10.divergence", lambda q, p: 3 * kl(q, p).mean(), "expected"),
]
test_right, test_wrong, test_unsolved, test_nothing = answer_tests(RIGHT, WRONG)
