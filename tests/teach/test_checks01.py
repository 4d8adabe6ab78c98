"""The checks of notebook 01 accept the right answer and name each typical mistake."""

import numpy as np
import pytest
from answers import answer_tests

from cspkit.teach.check import verdict


def smallest_l1(a, y):
    x = np.zeros(len(a))
    j = np.argmax(np.abs(a))
    x[j] = y / a[j]
    return x


def on_axis(choose, value=lambda y, a: y / a):
    def answer(a, y):
        x, j = np.zeros(len(a)), choose(a)
        x[j] = value(y, a[j])
        return x

    return answer


def halves(a, y):
    """Solves the equation with the two axes of largest |a|, half of y on each."""
    x, order = np.zeros(len(a)), np.argsort(-np.abs(a))[:2]
    x[order] = y / 2 / a[order]
    return x


def overwrites_a(a, y):
    x = smallest_l1(a, y)
    a[:] = x
    return a


def soft_threshold(v, t):
    return np.sign(v) * np.maximum(np.abs(v) - t, 0)


def overwrites_v(v, t):
    v[:] = soft_threshold(v, t)
    return v


def debias(A, y, support):
    x = np.zeros(A.shape[1])
    x[support] = np.linalg.lstsq(A[:, support], y, rcond=None)[0]
    return x


def values_on(A, y, support):
    return np.linalg.lstsq(A[:, support], y, rcond=None)[0]


def scatter(values, where=lambda support: support):
    def answer(A, y, support):
        x = np.zeros(A.shape[1])
        x[where(support)] = values(A, y, support)
        return x

    return answer


def overwrites_y(A, y, support):
    x = debias(A, y, support)
    y[:] = 0
    return x


def all_columns(A, y, support):
    return np.linalg.lstsq(A, y, rcond=None)[0]


def omp_until(A, y, eps, choose=np.abs, enough=None, refit=True, more=0, late=False):
    """OMP; the options are typical mistakes."""
    enough = enough or (lambda r, eps: np.linalg.norm(r) <= eps)
    x, support, residual = np.zeros(A.shape[1]), [], y
    for _ in range(A.shape[0]):
        if enough(residual, eps) and not late:
            if not more:
                break
            more -= 1
        j = np.argmax(choose(A.T @ residual))
        support.append(j)
        if refit:
            x[support] = values_on(A, y, support)
        else:
            x[j] += A[:, j] @ residual / (A[:, j] @ A[:, j])
        residual = y - A @ x
        if late and enough(residual, eps):
            break
    return x


def pursuit(**mistake):
    return lambda *given: omp_until(*given, **mistake)


def values_after_the_loop(A, y, eps):
    support, residual = [], y
    while np.linalg.norm(residual) > eps:
        support.append(np.argmax(np.abs(A.T @ residual)))
        values = values_on(A, y, support)
        residual = y - A[:, support] @ values
    x = np.zeros(A.shape[1])
    x[support] = values
    return x


def by_normal_equations(A, y, eps):
    """The same OMP with another solver, and a list as its answer."""
    x, support = np.zeros(A.shape[1]), []
    while np.sqrt(np.sum((y - A @ x) ** 2)) > eps and len(support) < len(y):
        support.append(int(np.abs((y - A @ x) @ A).argmax()))
        A_S = A[:, support]
        x[support] = np.linalg.solve(A_S.T @ A_S, A_S.T @ y)
    return list(x)


def ista(A, y, lam, steps, L=None, r=None, threshold=None, start=None, sign=1, momentum=False):
    """ISTA; the options are typical mistakes."""
    L = (L or (lambda A: np.linalg.norm(A, 2) ** 2))(A)
    x = ahead = np.zeros(A.shape[1])
    for i in range(1, steps + 1):
        residual = y if r else y - A @ ahead
        before = ahead * (not start) + sign * A.T @ residual / L
        x_new = soft_threshold(before, lam / L if threshold is None else threshold(lam))
        ahead = x_new + momentum * (i - 1) / (i + 2) * (x_new - x)
        x = x_new
    return x


def ista_with(**mistake):
    return lambda *given: ista(*given, **mistake)


def threshold_first(A, y, lam, steps):
    L, x = np.linalg.norm(A, 2) ** 2, np.zeros(A.shape[1])
    for _ in range(steps):
        x = soft_threshold(x, lam / L) + A.T @ (y - A @ x) / L
    return x


def list_of_two(*arguments):
    return [np.zeros(2), "three"]


RIGHT = {
    "01.smallest_l1": smallest_l1,
    "01.soft_threshold": soft_threshold,
    "01.ista": ista,
    "01.debias": debias,
    "01.omp_until": omp_until,
}
OTHER_RIGHT = [
    ("01.smallest_l1", lambda a, y: list(smallest_l1(a, y))),
    ("01.soft_threshold", lambda v, t: v - np.clip(v, -t, t)),
    ("01.soft_threshold", lambda v, t: np.float32(1) * soft_threshold(v, t)),
    ("01.ista", lambda A, y, lam, steps: ista(A, y, lam, steps, L=lambda A: eigenvalue(A))),
    ("01.omp_until", by_normal_equations),
]


def eigenvalue(A):
    return np.linalg.eigvalsh(A.T @ A)[-1]


WRONG = [
    ("01.smallest_l1", lambda a, y: y / np.max(a), "shape ()"),
    ("01.smallest_l1", overwrites_a, "in place"),
    (
        "01.smallest_l1",
        on_axis(lambda a: np.argmax(np.abs(a)), lambda y, a: y / abs(a)),
        "the sign is lost",
    ),
    ("01.smallest_l1", lambda a, y: a * y / (a @ a), "where the circle touches"),
    ("01.smallest_l1", on_axis(np.argmax), "a negative one may be larger in magnitude"),
    ("01.smallest_l1", on_axis(lambda a: np.argmin(np.abs(a))), "the wrong axis"),
    (
        "01.smallest_l1",
        on_axis(lambda a: np.argmax(np.abs(a)), lambda y, a: y),
        "does not solve the equation",
    ),
    ("01.smallest_l1", halves, "a smaller l1 norm is possible"),
    (
        "01.smallest_l1",
        lambda a, y: smallest_l1(a, y).astype(a.dtype),
        "integer input gives integers",
    ),
    ("01.smallest_l1", lambda a, y: smallest_l1(a, y) + 1, "for the example, a = [3, 4], y = 2"),
    ("01.smallest_l1", lambda a, y: a * np.nan, "nan or inf"),
    ("01.soft_threshold", lambda v, t: np.maximum(np.abs(v) - t, 0), "sign of negative inputs"),
    ("01.soft_threshold", lambda v, t: -soft_threshold(v, t), "every sign is flipped"),
    ("01.soft_threshold", lambda v, t: np.maximum(v - t, 0), "all negative inputs become zero"),
    ("01.soft_threshold", lambda v, t: np.where(np.abs(v) > t, v, 0), "hard thresholding"),
    ("01.soft_threshold", lambda v, t: v - t * np.sign(v), "change their sign"),
    ("01.soft_threshold", lambda v, t: v - t, "subtracted from negative inputs too"),
    ("01.soft_threshold", lambda v, t: np.clip(v, -t, t), "the part that is cut off"),
    (
        "01.soft_threshold",
        lambda v, t: np.sign(v) * np.maximum(np.abs(v), t),
        "magnitudes below t are raised to t",
    ),
    (
        "01.soft_threshold",
        lambda v, t: np.where(np.abs(v) > t, v - t, 0),
        "they must move up by t",
    ),
    ("01.soft_threshold", lambda v, t: np.sign(v) * (np.abs(v) > t), "only the sign"),
    ("01.soft_threshold", lambda v, t: soft_threshold(v, 1.0), "t = 0.5"),
    ("01.soft_threshold", lambda v, t: soft_threshold(v, t / 2), "expected [-2.,  0.,  1.]"),
    (
        "01.soft_threshold",
        lambda v, t: soft_threshold(v, t).astype(v.dtype),
        "integer input gives integers",
    ),
    ("01.soft_threshold", overwrites_v, "in place"),
    ("01.soft_threshold", lambda v, t: soft_threshold(v, t).ravel(), "expected (3, 3)"),
    ("01.soft_threshold", lambda v, t: soft_threshold(v[0], t), "shape ()"),
    ("01.debias", values_on, "only the values on the support"),
    ("01.debias", overwrites_y, "in place"),
    ("01.debias", all_columns, "least squares with all columns"),
    (
        "01.debias",
        scatter(values_on, lambda s: slice(s.size)),
        "the right values in the wrong places",
    ),
    ("01.debias", scatter(values_on, np.sort), "the right values in the wrong order"),
    ("01.debias", scatter(lambda A, y, s: all_columns(A, y, s)[s]), "the rest cut off"),
    ("01.debias", scatter(lambda A, y, s: A[:, s].T @ y), "these are the correlations"),
    ("01.debias", scatter(lambda A, y, s: 1.0), "expected [3., 2., 0.]"),
    ("01.debias", lambda A, y, s: debias(A, y, s) + 1, "the answer is [4., 3., 1.]"),
    ("01.debias", lambda A, y, s: np.zeros(A.shape[1]), "write the values into x"),
    ("01.debias", lambda A, y, s: debias(A, y, s)[:, None], "shape (3, 1), expected (3,)"),
    ("01.debias", lambda A, y, s: debias(A, y, s) if s.size else None, "support = []"),
    (
        "01.debias",
        lambda A, y, s: debias(A, y, s) if s.size else np.ones(A.shape[1]),
        "support = []",
    ),
    ("01.ista", ista_with(L=lambda A: np.linalg.norm(A, 2)), "L = ||A||_2^2"),
    ("01.ista", ista_with(L=lambda A: np.linalg.norm(A) ** 2), "Frobenius"),
    ("01.ista", ista_with(r="y"), "compute y - A x again"),
    ("01.ista", ista_with(sign=-1), "uphill"),
    ("01.ista", ista_with(threshold=lambda lam: lam), "it must be lam / L"),
    ("01.ista", ista_with(threshold=lambda lam: 0.0), "without a threshold"),
    ("01.ista", ista_with(start="0"), "starts from 0 every time"),
    ("01.ista", ista_with(momentum=True), "this is FISTA"),
    ("01.ista", threshold_first, "first the step, then the threshold"),
    ("01.ista", lambda A, y, lam, steps: ista(A, y, lam, min(steps, 1)), "only one step"),
    ("01.ista", lambda A, y, lam, steps: ista(A, y, lam, steps + 1), "steps = 1\nthe answer is"),
    ("01.omp_until", pursuit(choose=lambda c: c), "negative correlation"),
    ("01.omp_until", pursuit(refit=False), "chosen earlier are not fitted again"),
    ("01.omp_until", pursuit(more=1), "one column too many"),
    ("01.omp_until", pursuit(late=True), "a column is chosen where none is needed"),
    ("01.omp_until", pursuit(more=2), "expected"),
    ("01.omp_until", pursuit(enough=lambda r, eps: r @ r <= eps), "the squared norm"),
    ("01.omp_until", pursuit(enough=lambda r, eps: np.max(np.abs(r)) <= eps), "largest entry"),
    ("01.omp_until", pursuit(enough=lambda r, eps: False), "never stops"),
    ("01.omp_until", pursuit(enough=lambda r, eps: np.linalg.norm(r) <= 4 * eps), "eps = 1.5"),
    ("01.omp_until", lambda *given: 0.999 * omp_until(*given), "the answer is"),
    ("01.omp_until", lambda A, y, eps: np.zeros(A.shape[1]), "are the fitted values written"),
    ("01.omp_until", lambda A, y, eps: [3, 5], "shape (2,), expected (3,)"),
    (
        "01.omp_until",
        lambda A, y, eps: omp_until(A, y, eps) if np.any(y) else np.ones(A.shape[1]),
        "y = [0., 0., 0., 0.]",
    ),
    ("01.omp_until", values_after_the_loop, "eps = 5\nit fails with UnboundLocalError"),
]


test_right, test_wrong, test_unsolved, test_nothing = answer_tests(
    [*RIGHT.items(), *OTHER_RIGHT], WRONG
)


@pytest.mark.parametrize("name", RIGHT)
@pytest.mark.parametrize(
    ("answer", "sentence"), [(lambda *_: None, "returns None"), (list_of_two, "returns a list")]
)
def test_answer_that_is_no_array_is_described(name, answer, sentence):
    assert sentence in verdict(name, answer)


def test_soft_threshold_agrees_with_the_package():
    from cspkit.recovery import soft_threshold as package

    assert verdict("01.soft_threshold", package).startswith("right: 01.soft_threshold")
