"""The checks of notebook 04 accept the right answer and name each typical mistake."""

import numpy as np
import pytest
from answers import answer_tests
from scipy.stats import norm

from cspkit.recovery import phase_transition, soft_threshold
from cspkit.teach.check import verdict

Z = np.linspace(0.01, 8, 4000)


def promise(
    normalise=True, size=np.abs, diagonal=True, last=lambda b: np.ceil(b - 1e-9) - 1, whole=int
):
    def answer(A):
        unit = A / np.linalg.norm(A, axis=0) if normalise else A
        cosines = size(unit.T @ unit)
        if diagonal:
            np.fill_diagonal(cosines, -1)
        return whole(last((1 + 1 / cosines.max()) / 2))

    return answer


def overwrites_A(A):
    k = promise()(A)
    A /= np.linalg.norm(A, axis=0)
    return k


def coherence_only(A):
    unit = A / np.linalg.norm(A, axis=0)
    return np.max(np.abs(unit.T @ unit) - np.eye(A.shape[1]))


def line(best=np.max, M=lambda z: (1 + z**2) * norm.cdf(-z) - z * norm.pdf(z), c=2, denominator=2):
    def answer(delta, z=Z):
        return best((1 - c / delta * M(z)) / (1 + z**2 - denominator * M(z)))

    return answer


def over_M(delta, z=Z):
    M = (1 + z**2) * norm.cdf(-z) - z * norm.pdf(z)
    return np.max((1 - 2 / (delta * M)) / (1 + z**2 - 2 * M))


def parts(join):
    """The line, with other ways to join the upper and the lower part of the fraction."""

    def answer(delta, z=Z):
        M = (1 + z**2) * norm.cdf(-z) - z * norm.pdf(z)
        return np.max(join(1 - 2 / delta * M, 1 + z**2 - 2 * M))

    return answer


def times_delta(delta, z=Z):
    M = (1 + z**2) * norm.cdf(-z) - z * norm.pdf(z)
    return np.max((1 - 2 * delta * M) / (1 + z**2 - 2 * M))


def step(
    error=lambda tau, X, G, alpha: soft_threshold(X + tau * G, alpha * tau) - X,
    combine=lambda mse, delta, sigma: np.sqrt(sigma**2 + mse / delta),
    mean=np.mean,
):
    def answer(tau, X, G, delta, sigma, alpha):
        return combine(mean(error(tau, X, G, alpha) ** 2), delta, sigma)

    return answer


def overwrites_X(tau, X, G, delta, sigma, alpha):
    right = step()(tau, X, G, delta, sigma, alpha)
    X += tau * G
    return right


def needed(enough=lambda n, k, m: k <= m * phase_transition(m / n), more=0):
    def answer(n, k):
        m = np.arange(1, n)
        return int(m[np.argmax(enough(n, k, m))]) + more

    return answer


RIGHT = {
    "04.promised_k": promise(),
    "04.weak_threshold": line(),
    "04.next_tau": step(),
    "04.measurements_needed": needed(),
}

WRONG = [
    ("04.promised_k", promise(normalise=False), "normalise them first"),
    ("04.promised_k", promise(size=lambda c: c.copy()), "use absolute values"),
    ("04.promised_k", promise(diagonal=False), "is the diagonal"),
    ("04.promised_k", promise(last=lambda b: np.floor(b + 1e-9)), "strictly less"),
    ("04.promised_k", promise(last=np.ceil), "rounded up"),
    ("04.promised_k", promise(last=lambda b: np.ceil(2 * b - 1e-9) - 1), "factor 1/2 is missing"),
    ("04.promised_k", coherence_only, "this is the coherence"),
    ("04.promised_k", promise(last=lambda b: b, whole=float), "no integer"),
    ("04.promised_k", lambda A: promise()(A) - 0.5, "the answer is 0.5, expected 1"),
    ("04.promised_k", overwrites_A, "in place"),
    ("04.promised_k", lambda A: promise()(A) + 7, "expected 1"),
    ("04.weak_threshold", line(best=lambda f: f), "take its maximum"),
    ("04.weak_threshold", line(best=lambda f: Z[np.argmax(f)]), "this is the alpha of the maximum"),
    ("04.weak_threshold", line(best=np.min), "the minimum over alpha"),
    ("04.weak_threshold", lambda delta: delta * phase_transition(delta), "this is k/n"),
    ("04.weak_threshold", line(c=1, denominator=1), "nonnegative signals"),
    ("04.weak_threshold", line(denominator=0), "of the denominator is missing"),
    ("04.weak_threshold", times_delta, "must be divided by it"),
    (
        "04.weak_threshold",
        line(M=lambda z: (1 + z**2) * norm.cdf(z) - z * norm.pdf(z)),
        "not Phi(alpha)",
    ),
    (
        "04.weak_threshold",
        line(M=lambda z: (1 + z**2) * norm.cdf(-z) + z * norm.pdf(z)),
        "not + alpha phi(alpha)",
    ),
    (
        "04.weak_threshold",
        line(M=lambda z: (1 + z**2) * norm.pdf(z) - z * norm.cdf(-z)),
        "are swapped",
    ),
    (
        "04.weak_threshold",
        line(M=lambda z: (1 + z) * norm.cdf(-z) - z * norm.pdf(z)),
        "1 + alpha**2, not 1 + alpha",
    ),
    ("04.weak_threshold", lambda delta: 0.5, "expected 0.3857"),
    ("04.weak_threshold", lambda delta: np.nan, "nan or inf"),
    ("04.next_tau", step(combine=lambda e, d, s: s**2 + e / d), "square root is missing"),
    ("04.next_tau", step(combine=lambda e, d, s: e), "mean squared error alone"),
    ("04.next_tau", step(combine=lambda e, d, s: np.sqrt(s**2 + e)), "division by delta"),
    ("04.next_tau", step(combine=lambda e, d, s: np.sqrt(s**2 + e * d)), "multiplied by delta"),
    ("04.next_tau", step(combine=lambda e, d, s: np.sqrt(e / d)), "own noise sigma**2"),
    ("04.next_tau", step(combine=lambda e, d, s: np.sqrt((s**2 + e) / d)), "divided by delta too"),
    ("04.next_tau", step(combine=lambda e, d, s: np.sqrt(s + e / d)), "must be squared first"),
    ("04.next_tau", step(mean=np.sum), "take their mean"),
    (
        "04.next_tau",
        step(lambda t, X, G, a: soft_threshold(X + t * G, a) - X),
        "threshold is alpha",
    ),
    ("04.next_tau", step(lambda t, X, G, a: soft_threshold(X + t * G, t) - X), "threshold is tau"),
    ("04.next_tau", step(lambda t, X, G, a: t * G), "nothing is thresholded"),
    ("04.next_tau", step(lambda t, X, G, a: soft_threshold(X + G, a * t) - X), "the noise is xi"),
    ("04.next_tau", step(lambda t, X, G, a: soft_threshold(X, a * t) - X), "tau * xi is missing"),
    (
        "04.next_tau",
        step(lambda t, X, G, a: soft_threshold(X + t**2 * G, a * t) - X),
        "tau is a standard deviation",
    ),
    ("04.next_tau", step(lambda t, X, G, a: soft_threshold(X + t * G, a * t)), "not subtracted"),
    ("04.next_tau", overwrites_X, "in place"),
    ("04.next_tau", lambda *arguments: 0.77, "the answer is 0.77, expected 1.005"),
    ("04.measurements_needed", needed(more=-1), "one too small"),
    ("04.measurements_needed", needed(more=1), "one too large"),
    (
        "04.measurements_needed",
        needed(lambda n, k, m: k / n <= phase_transition(m / n)),
        "nonzeros per measurement",
    ),
    ("04.measurements_needed", lambda n, k: needed()(n, k) / n, "this is delta"),
    ("04.measurements_needed", lambda n, k: n - 1, "the largest m"),
    ("04.measurements_needed", lambda n, k: 2 * k, "limit of uniqueness"),
    ("04.measurements_needed", lambda n, k: k, "m = k"),
    ("04.measurements_needed", lambda n, k: np.ceil(2 * k * np.log(n / k)), "the rule 2 k ln"),
    ("04.measurements_needed", lambda n, k: needed()(n, k) + 0.25, "no integer"),
    ("04.measurements_needed", needed(more=5), "expected 21"),
    ("04.promised_k", promise(last=np.round), "rounded to the nearest"),
    ("04.promised_k", promise(last=lambda b: np.floor(b + 1e-9) - 1), "1 is always subtracted"),
    (
        "04.promised_k",
        lambda A: promise(normalise=False)(A / np.linalg.norm(A, axis=1, keepdims=True)),
        "the rows were normalised",
    ),
    (
        "04.promised_k",
        lambda A: promise(normalise=False)((A / np.linalg.norm(A, axis=0)).T),
        "products of rows",
    ),
    ("04.weak_threshold", line(best=np.argmax), "the index of the maximum"),
    ("04.weak_threshold", parts(lambda a, b: 1 - (1 - a) / b), "brackets are missing"),
    ("04.weak_threshold", parts(lambda a, b: np.max(a) / np.max(b)), "above and below"),
    ("04.weak_threshold", over_M, "stands above"),
    ("04.weak_threshold", line(c=1), "missing above"),
    ("04.weak_threshold", line(denominator=1), "missing below"),
    (
        "04.weak_threshold",
        line(M=lambda z: (1 + z) ** 2 * norm.cdf(-z) - z * norm.pdf(z)),
        "not (1 + alpha)^2",
    ),
    (
        "04.weak_threshold",
        line(M=lambda z: (1 + z**2) * norm.cdf(-z) - norm.pdf(z)),
        "alpha is missing",
    ),
    (
        "04.next_tau",
        lambda tau, X, G, delta, sigma, alpha: np.sqrt(
            sigma**2 + np.mean(soft_threshold(X + tau * G, alpha * tau) - X) ** 2 / delta
        ),
        "squares the mean",
    ),
    ("04.next_tau", step(combine=lambda e, d, s: s + np.sqrt(e / d)), "under the root, too"),
    ("04.next_tau", step(combine=lambda e, d, s: s + e / d), "of sigma**2 alone"),
    (
        "04.next_tau",
        step(lambda t, X, G, a: soft_threshold(X + t * G, a * t) - X - t * G),
        "subtract the signal X",
    ),
    (
        "04.next_tau",
        lambda tau, X, G, delta, sigma, alpha: np.sqrt(
            sigma**2 + np.mean((soft_threshold(X + sigma * G, alpha * tau) - X) ** 2) / delta
        ),
        "an entry has the noise tau * xi",
    ),
    (
        "04.measurements_needed",
        needed(lambda n, k, m: k >= m * phase_transition(m / n)),
        "the wrong way round",
    ),
]


test_right, test_wrong, test_unsolved, test_nothing = answer_tests(RIGHT, WRONG)


@pytest.mark.parametrize("name", RIGHT)
@pytest.mark.parametrize(
    ("answer", "sentence"),
    [(lambda *_: None, "returns None"), (lambda *_: np.zeros(2), "expected one number")],
)
def test_answer_that_is_no_number_is_described(name, answer, sentence):
    assert sentence in verdict(name, answer)


def test_the_line_agrees_with_the_package():
    assert verdict("04.weak_threshold", phase_transition).startswith("right: 04.weak_threshold")


@pytest.mark.parametrize("name", RIGHT)
def test_the_example_is_tried_first_and_shown(name):
    assert "the example" in verdict(name, lambda *_: 0.123)


def test_a_small_difference_is_shown():
    told = verdict("04.next_tau", lambda *arguments: 1.0001 * step()(*arguments))
    shown, expected = told.split("the answer is ")[1].split(", expected ")
    assert shown != expected.rstrip("; ")


@pytest.mark.parametrize(
    ("name", "answer"),
    [
        ("04.promised_k", lambda A: float(promise()(A))),
        ("04.weak_threshold", lambda delta: line()(delta, np.linspace(0.001, 10, 2_001))),
        ("04.next_tau", lambda *arguments: np.float32(step()(*arguments))),
        (
            "04.measurements_needed",
            lambda n, k: next(m for m in range(1, n) if k <= m * phase_transition(m / n)),
        ),
    ],
)
def test_a_right_answer_in_another_form(name, answer):
    assert verdict(name, answer).startswith(f"right: {name}")


def test_an_error_in_a_hidden_case_names_the_case():
    def needs_two(A):
        if A.shape[1] > 2:
            raise IndexError("too many columns")
        return promise()(A)

    told = verdict("04.promised_k", needs_two)
    assert "(250, 1000)" in told
    assert "IndexError: too many columns" in told
