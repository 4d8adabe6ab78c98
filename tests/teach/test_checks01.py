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
    y -= A @ x
    return x


def all_columns(A, y, support):
    return np.linalg.lstsq(A, y, rcond=None)[0]


def pursuit(choose=np.abs, enough=lambda r, eps: np.linalg.norm(r) <= eps, refit=True, more=0):
    def answer(A, y, eps):
        x, support, residual = np.zeros(A.shape[1]), [], y
        extra = more
        for _ in range(A.shape[0]):
            if enough(residual, eps):
                if not extra:
                    break
                extra -= 1
            j = np.argmax(choose(A.T @ residual))
            support.append(j)
            if refit:
                x[support] = values_on(A, y, support)
            else:
                x[j] += A[:, j] @ residual
            residual = y - A @ x
        return x

    return answer


def noise_free_columns(A, y, eps):
    """The values of OMP, each a little too small."""
    return 0.999 * pursuit()(A, y, eps)


def ignores_zero(A, y, eps):
    return pursuit()(A, y, eps) if np.any(y) else np.ones(A.shape[1])


def list_of_two(*arguments):
    return [np.zeros(2), "three"]


RIGHT = {
    "01.smallest_l1": smallest_l1,
    "01.soft_threshold": soft_threshold,
    "01.debias": debias,
    "01.omp_until": pursuit(),
}

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
    ("01.smallest_l1", halves, "is possible"),
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
        "towards t instead of zero",
    ),
    (
        "01.soft_threshold",
        lambda v, t: np.where(np.abs(v) > t, v - t, 0),
        "they must move up by t",
    ),
    ("01.soft_threshold", lambda v, t: np.sign(v) * (np.abs(v) > t), "only the sign"),
    ("01.soft_threshold", lambda v, t: soft_threshold(v, 1.0), "wrong for t = 0"),
    ("01.soft_threshold", lambda v, t: soft_threshold(v, t / 2), "expected -2"),
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
    ("01.debias", scatter(lambda A, y, s: 1.0), "not the least squares fit"),
    ("01.debias", lambda A, y, s: debias(A, y, s) + 1, "entries off the support are not zero"),
    ("01.debias", lambda A, y, s: np.zeros(A.shape[1]), "are the fitted values written"),
    ("01.debias", lambda A, y, s: debias(A, y, s)[:, None], "shape (20, 1), expected (20,)"),
    (
        "01.debias",
        lambda A, y, s: debias(A, y, s) if s.size else None,
        "for an empty support the function returns None",
    ),
    (
        "01.debias",
        lambda A, y, s: debias(A, y, s) if s.size else np.ones(A.shape[1]),
        "an empty support must give all zeros",
    ),
    ("01.omp_until", pursuit(choose=lambda c: c), "negative correlation"),
    ("01.omp_until", pursuit(refit=False), "chosen earlier are not fitted again"),
    ("01.omp_until", pursuit(more=1), "one column too many"),
    ("01.omp_until", pursuit(more=2), "columns were chosen where"),
    ("01.omp_until", pursuit(enough=lambda r, eps: r @ r <= eps), "the squared residual norm"),
    ("01.omp_until", pursuit(enough=lambda r, eps: False), "never stops"),
    (
        "01.omp_until",
        pursuit(enough=lambda r, eps: np.linalg.norm(r) <= 10 * eps),
        "which is above eps",
    ),
    ("01.omp_until", noise_free_columns, "not those of OMP"),
    ("01.omp_until", lambda A, y, eps: np.zeros(A.shape[1]), "are the fitted values written"),
    ("01.omp_until", lambda A, y, eps: [3, 5, 8], "shape (3,), expected (60,)"),
    ("01.omp_until", ignores_zero, "for y = 0"),
]


test_right, test_wrong, test_unsolved, test_nothing = answer_tests(RIGHT, WRONG)


@pytest.mark.parametrize("name", RIGHT)
@pytest.mark.parametrize(
    ("answer", "sentence"), [(lambda *_: None, "returns None"), (list_of_two, "returns a list")]
)
def test_answer_that_is_no_array_is_described(name, answer, sentence):
    assert sentence in verdict(name, answer)


def test_soft_threshold_agrees_with_the_package():
    from cspkit.recovery import soft_threshold as package

    assert verdict("01.soft_threshold", package) == "right: 01.soft_threshold"
