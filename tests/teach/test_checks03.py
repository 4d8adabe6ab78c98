"""The checks of notebook 03 accept the right answer and name each typical mistake."""

import numpy as np
import pytest
from answers import answer_tests

from cspkit.recovery import hard_threshold, soft_threshold
from cspkit.teach.check import verdict


def fit_on(A, y, S):
    x = np.zeros(A.shape[1])
    x[S] = np.linalg.lstsq(A[:, S], y, rcond=None)[0]
    return x


def best_step(A, g, S):
    A_g = A[:, S] @ g[S]
    return g[S] @ g[S] / (A_g @ A_g)


def overwrites_g(A, g, S):
    mu = best_step(A, g, S)
    g[:] = 0
    return mu


def htp_step(A, y, x, k, mu):
    moved = x + mu * A.T @ (y - A @ x)
    return fit_on(A, y, np.flatnonzero(hard_threshold(moved, k)))


def htp_from(moved):
    """HTP with another choice of the moved point."""

    def answer(A, y, x, k, mu):
        g = A.T @ (y - A @ x)
        return fit_on(A, y, np.flatnonzero(hard_threshold(moved(A, y, x, mu, g), k)))

    return answer


def htp_by(cut):
    """HTP with another cut of the moved point."""

    def answer(A, y, x, k, mu):
        return fit_on(A, y, np.flatnonzero(cut(x + mu * A.T @ (y - A @ x), k)))

    return answer


def k_smallest(u, k):
    return np.isin(np.arange(u.size), np.argsort(np.abs(u))[:k])


def fits_the_residual(share):
    def answer(A, y, x, k, mu):
        support = np.flatnonzero(htp_step(A, y, x, k, mu))
        return share * x + fit_on(A, y - A @ x, support)

    return answer


def keeps_old_support(A, y, x, k, mu):
    return fit_on(A, y, np.flatnonzero((htp_step(A, y, x, k, mu) != 0) | (x != 0)))


def largest_values(A, y, x, k, mu):
    moved = x + mu * A.T @ (y - A @ x)
    return fit_on(A, y, np.argsort(-moved)[:k])


def overwrites_x(A, y, x, k, mu):
    x[:] = htp_step(A, y, x, k, mu)
    return x


def memory(at="z", start="v", only_kept=False, cut=False, sign=-1, rate=True):
    """A step with memory; the options are typical mistakes."""

    def answer(A, y, v, k, eta):
        points = {"z": hard_threshold(v, k), "v": v}
        gradient = A.T @ (A @ points[at] - y)
        if only_kept:
            gradient = np.where(points["z"] != 0, gradient, 0)
        v_new = points[start] + sign * (eta if rate else 1) * gradient
        return points["z"], hard_threshold(v_new, k) if cut else v_new

    return answer


def memory_with(cut):
    def answer(A, y, v, k, eta):
        z = cut(v, k)
        return z, v - eta * A.T @ (A @ z - y)

    return answer


def swapped(*arguments):
    return memory()(*arguments)[::-1]


def cut_after_the_step(A, y, v, k, eta):
    v_new = v - eta * A.T @ (A @ v - y)
    return hard_threshold(v_new, k), v_new


def not_cut(A, y, v, k, eta):
    return v, memory()(A, y, v, k, eta)[1]


def keeps_largest_values(A, y, v, k, eta):
    z = np.where(v >= np.sort(v)[-k], v, 0)
    return z, v - eta * A.T @ (A @ z - y)


def overwrites_v(A, y, v, k, eta):
    z = hard_threshold(v, k)
    v -= eta * A.T @ (A @ z - y)
    return z, v


def replaced(v_new):
    def answer(A, y, v, k, eta):
        return hard_threshold(v, k), v_new(v, k)

    return answer


def rests(push=np.max, bar=np.min, size_g=np.abs, size_z=np.abs, on_S=True, at=True, turn=False):
    """The test for a resting place; the options are typical mistakes."""

    def answer(A, y, S, ratio):
        z = fit_on(A, y, S)
        g = A.T @ (y - A @ z if at else y)
        left, right = push(size_g(np.delete(g, S))), bar(size_z(z[S] if on_S else z))
        return bool(left <= ratio * right) if turn else bool(ratio * left <= right)

    return answer


def strict(A, y, S, ratio):
    z = fit_on(A, y, S)
    g = A.T @ (y - A @ z)
    return bool(ratio * np.max(np.abs(np.delete(g, S))) < np.min(np.abs(z[S])))


RIGHT = {
    "03.best_step": best_step,
    "03.htp_step": htp_step,
    "03.memory_step": memory(),
    "03.rests": rests(),
}

WRONG = [
    ("03.best_step", lambda A, g, S: 1 / best_step(A, g, S), "upside down"),
    ("03.best_step", lambda A, g, S: np.sqrt(best_step(A, g, S)), "must be squared"),
    ("03.best_step", lambda A, g, S: g @ g / np.sum((A @ g) ** 2), "the whole g is used"),
    (
        "03.best_step",
        lambda A, g, S: g @ g / np.sum((A[:, S] @ g[S]) ** 2),
        "||g||^2 on top takes the whole g",
    ),
    (
        "03.best_step",
        lambda A, g, S: g[S] @ g[S] / np.sum((A @ g) ** 2),
        "A g below takes the whole g",
    ),
    ("03.best_step", lambda A, g, S: -best_step(A, g, S), "the sign is wrong"),
    ("03.best_step", lambda A, g, S: 2 * best_step(A, g, S), "a factor 2 too large"),
    ("03.best_step", lambda A, g, S: best_step(A, g, S) / 2, "a factor 2 too small"),
    ("03.best_step", lambda A, g, S: 1 / np.linalg.norm(A, 2) ** 2, "this is 1/L"),
    ("03.best_step", lambda A, g, S: 3.3 * best_step(A, g, S), "makes ||r - eta A g_S|| smaller"),
    ("03.best_step", lambda A, g, S: g[S], "expected one number"),
    ("03.best_step", overwrites_g, "in place"),
    (
        "03.htp_step",
        lambda A, y, x, k, mu: hard_threshold(x + mu * A.T @ (y - A @ x), k),
        "this is a step of IHT",
    ),
    ("03.htp_step", lambda A, y, x, k, mu: x + mu * A.T @ (y - A @ x), "nothing was cut"),
    ("03.htp_step", htp_from(lambda A, y, x, mu, g: x - mu * g), "uphill"),
    ("03.htp_step", htp_from(lambda A, y, x, mu, g: g), "from the gradient alone"),
    ("03.htp_step", htp_from(lambda A, y, x, mu, g: A.T @ y), "x is ignored"),
    ("03.htp_step", htp_from(lambda A, y, x, mu, g: x + mu * A.T @ y), "not y"),
    ("03.htp_step", keeps_old_support, "the old support was kept"),
    ("03.htp_step", htp_from(lambda A, y, x, mu, g: x + g), "eta is not used"),
    ("03.htp_step", htp_from(lambda A, y, x, mu, g: x), "the support is the old one"),
    ("03.htp_step", largest_values, "compare magnitudes"),
    (
        "03.htp_step",
        lambda A, y, x, k, mu: hard_threshold(np.linalg.lstsq(A, y, rcond=None)[0], k),
        "choose first",
    ),
    (
        "03.htp_step",
        lambda A, y, x, k, mu: htp_step(A, y, x, k + 1, mu),
        "nonzeros: 2, expected 1",
    ),
    (
        "03.htp_step",
        lambda A, y, x, k, mu: 1.01 * htp_step(A, y, x, k, mu),
        "not the least squares fit",
    ),
    ("03.htp_step", overwrites_x, "in place"),
    ("03.htp_step", lambda A, y, x, k, mu: htp_step(A, y, x, k, mu)[:k], "the answer has shape"),
    ("03.memory_step", memory(at="v"), "the misfit never sees the cut"),
    ("03.memory_step", memory(start="z"), "this is IHT"),
    ("03.memory_step", memory(only_kept=True), "the cut ones cannot come back"),
    ("03.memory_step", memory(cut=True), "the new v is cut"),
    ("03.memory_step", memory(sign=1), "the sign is wrong"),
    ("03.memory_step", memory(rate=False), "eta is not used"),
    ("03.memory_step", memory(at="v", start="z"), "changed places"),
    ("03.memory_step", swapped, "in the wrong order"),
    ("03.memory_step", cut_after_the_step, "cut first"),
    ("03.memory_step", not_cut, "z is not cut"),
    ("03.memory_step", keeps_largest_values, "compare magnitudes"),
    ("03.memory_step", overwrites_v, "in place"),
    ("03.memory_step", replaced(lambda v, k: v), "v did not move"),
    ("03.memory_step", replaced(hard_threshold), "nothing is remembered"),
    ("03.memory_step", replaced(lambda v, k: 2 * v), "the next v is not v - eta"),
    ("03.memory_step", lambda A, y, v, k, eta: 2 * v, "an ndarray, expected z and v"),
    ("03.memory_step", lambda A, y, v, k, eta: (None, v), "of z: the function returns None"),
    ("03.memory_step", lambda A, y, v, k, eta: (hard_threshold(v, k), 1.0), "of v: the answer has"),
    ("03.rests", lambda *a: not rests()(*a), "the opposite"),
    ("03.rests", rests(turn=True), "the wrong side"),
    ("03.rests", rests(size_z=np.array), "use np.abs(z[S])"),
    ("03.rests", rests(size_g=np.array), "use np.abs(g)"),
    ("03.rests", rests(on_S=False), "take z[S]"),
    ("03.rests", rests(bar=np.max), "the smallest one leaves first"),
    ("03.rests", rests(push=np.min), "the largest one enters first"),
    ("03.rests", rests(at=False), "g is A^T y"),
    ("03.rests", lambda A, y, S, ratio: rests()(A, y, S, 1.0), "the ratio is not used"),
    ("03.rests", strict, "use <="),
    ("03.rests", lambda *a: float(rests()(*a)), "type float (1.0), expected True or False"),
    ("03.rests", lambda *a: True, "the answer is True, expected False"),
    ("03.rests", lambda A, y, S, ratio: np.ones(16, dtype=bool), "expected True or False"),
    (
        "03.best_step",
        lambda A, g, S: g[S] @ g[S] / np.linalg.norm(A[:, S] @ g[S]),
        "the norm below is not squared",
    ),
    ("03.best_step", lambda A, g, S: 1 / np.sum((A[:, S] @ g[S]) ** 2), "on top is missing"),
    ("03.best_step", lambda A, g, S: 1 / np.linalg.norm(A[:, S], 2) ** 2, "of the columns on S"),
    ("03.htp_step", htp_by(lambda u, k: u), "the moved vector was not cut"),
    ("03.htp_step", htp_by(k_smallest), "the k smallest"),
    ("03.htp_step", lambda *a: htp_step(*a)[htp_step(*a) != 0], "only the values"),
    ("03.htp_step", fits_the_residual(0), "the residual was fitted"),
    ("03.htp_step", fits_the_residual(1), "x is added to a fit"),
    (
        "03.htp_step",
        lambda A, y, x, k, mu: fit_on(
            A, y, np.flatnonzero(x + hard_threshold(mu * A.T @ (y - A @ x), k))
        ),
        "the gradient was cut before",
    ),
    ("03.memory_step", lambda *a: memory()(*a)[1], "only the new v"),
    ("03.memory_step", lambda *a: memory()(*a)[0], "only z"),
    ("03.memory_step", lambda *a: (memory()(*a)[0] != 0, memory()(*a)[1]), "z is a mask"),
    ("03.memory_step", memory_with(soft_threshold), "the soft threshold"),
    (
        "03.memory_step",
        lambda A, y, v, k, eta: memory_with(
            lambda v, k: hard_threshold(v - eta * A.T @ (A @ v - y), k)
        )(A, y, v, k, eta),
        "cut first",
    ),
    (
        "03.memory_step",
        lambda A, y, v, k, eta: np.array(memory()(A, y, v, k, eta)) - [0 * v, hard_threshold(v, k)],
        "only what was cut is kept",
    ),
    ("03.rests", rests(push=np.linalg.norm), "joined in a norm"),
]


test_right, test_wrong, test_unsolved, test_nothing = answer_tests(RIGHT, WRONG)


def test_true_support_is_the_only_resting_place_at_a_large_ratio():
    rng = np.random.default_rng(0)
    A = rng.standard_normal((10, 16))
    y = A[:, [1, 5]] @ np.array([1.0, -1.0])
    assert rests()(A, y, np.array([1, 5]), 1e3)
    assert not rests()(A, y, np.array([1, 6]), 1e3)


def test_the_example_is_tried_first_and_shown():
    told = verdict("03.best_step", lambda A, g, S: 0.5)
    assert "the example, A = diag(1, 2, 10)" in told
    assert "the answer is 0.5, expected 0.7692" in told


def test_an_error_in_a_hidden_case_names_the_case():
    def only_from_zero(A, y, x, k, eta):
        if x.any():
            raise ValueError("x is not zero")
        return htp_step(A, y, x, k, eta)

    told = verdict("03.htp_step", only_from_zero)
    assert told.startswith("not yet: 03.htp_step: for rng = default_rng(2)")
    assert "fails with ValueError: x is not zero" in told


@pytest.mark.parametrize(
    ("name", "answer"),
    [
        ("03.best_step", lambda A, g, S: np.linalg.lstsq(
            (A[:, S] @ g[S])[:, None], np.linalg.lstsq(A.T, g, rcond=None)[0], rcond=None)[0][0]),
        ("03.memory_step", lambda *a: list(memory()(*a))),
        ("03.memory_step", lambda *a: np.stack(memory()(*a))),
        ("03.rests", lambda *a: np.bool_(rests()(*a))),
        ("03.rests", lambda *a: int(rests()(*a))),
    ],
)  # fmt: skip
def test_a_right_answer_in_another_form(name, answer):
    assert verdict(name, answer).startswith(f"right: {name}")


def test_values_of_the_type_of_an_integer_input_are_refused():
    def truncated(A, y, v, k, eta):
        z = hard_threshold(v, k)
        v_new = np.zeros_like(y)
        v_new[:] = v - eta * A.T @ (A @ z - y)
        return z, v_new

    assert "A = I, y = (1, 1)" in verdict("03.memory_step", truncated)
