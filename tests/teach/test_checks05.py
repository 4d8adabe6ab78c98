"""The checks of notebook 05 accept the right answer and name each typical mistake."""

import numpy as np
import pytest
from answers import answer_tests

from cspkit.recovery import soft_threshold
from cspkit.teach.check import verdict


def energy(D, G):
    return np.sum((D @ G) * D)


def gram_error(G, Z, W):
    return np.sqrt(energy(Z - W, G) / energy(W, G))


def overwrites_Z(G, Z, W):
    Z -= W
    return np.sqrt(energy(Z, G) / energy(W, G))


def diagonal_error(G, Z, W):
    return gram_error(np.diag(np.diag(G)), Z, W)


def all_entries(G, Z, W):
    D = Z - W
    return np.sqrt(abs(np.sum(D @ G @ D.T) / np.sum(W @ G @ W.T)))


def top(score, k, axis=1):
    order = np.argsort(-score, axis=axis)
    mask = np.zeros(score.shape, dtype=bool)
    kept = order[:, :k] if axis == 1 else order[:k]
    np.put_along_axis(mask, kept, True, axis=axis)
    return mask


def mask_by(score):
    return lambda W, G, k: top(score(W, np.sqrt(np.diag(G))), k)


def score(W, G):
    return np.abs(W) * np.sqrt(np.diag(G))


def over_the_layer(W, G, k):
    return score(W, G) >= np.sort(score(W, G), axis=None)[-k * len(W)]


def one_too_many(W, G, k):
    return top(score(W, G), min(k + 1, W.shape[1]))


def other_entries(W, G, k):
    return np.roll(top(score(W, G), k), 1, axis=1)


def overwrites_W(W, G, k):
    W[:] = np.abs(W)
    return top(score(W, G), k)


def refit(values=lambda w, G, S: np.linalg.solve(G[np.ix_(S, S)], G[S] @ w), where=lambda S: S):
    def answer(w, G, S):
        z = np.zeros(w.size)
        z[where(S)] = values(w, G, S)
        return z

    return answer


def off_the_support(w, S):
    return np.setdiff1d(np.arange(w.size), S)


def correction(w, G, S):
    off = off_the_support(w, S)
    return np.linalg.solve(G[np.ix_(S, S)], G[np.ix_(S, off)] @ w[off])


def leaves_the_rest(w, G, S):
    z = w.copy()
    z[S] = refit()(w, G, S)[S]
    return z


def overwrites_w(w, G, S):
    w[S] = refit()(w, G, S)[S]
    w[off_the_support(w, S)] = 0
    return w


def step(dual=None, primal=lambda V, old, G, lam: soft_threshold(V, lam)):
    def answer(V, Z, W, G, lam):
        L = np.linalg.norm(G, 2)
        new = V - (Z - W) @ G / L if dual is None else dual(V, Z, W, G, lam, L)
        return new, primal(new, V, G, lam)

    return answer


def overwrites_V(V, Z, W, G, lam):
    V -= (Z - W) @ G / np.linalg.norm(G, 2)
    return V, soft_threshold(V, lam)


RIGHT = {
    "05.gram_error": gram_error,
    "05.aware_mask": lambda W, G, k: top(score(W, G), k),
    "05.refit_row": refit(),
    "05.bregman_step": step(),
}

WRONG = [
    ("05.gram_error", lambda G, Z, W: gram_error(G, Z, W) ** 2, "the root is missing"),
    ("05.gram_error", lambda G, Z, W: np.sqrt(energy(Z - W, G)), "not relative"),
    ("05.gram_error", lambda G, Z, W: energy(Z - W, G), "neither the division"),
    (
        "05.gram_error",
        lambda G, Z, W: np.linalg.norm(Z - W) / np.linalg.norm(W),
        "error of the weights",
    ),
    (
        "05.gram_error",
        lambda G, Z, W: np.linalg.norm((Z - W) @ G) / np.linalg.norm(W @ G),
        "with G once",
    ),
    ("05.gram_error", lambda G, Z, W: np.sqrt(energy(Z, G) / energy(W, G)), "size of what Z"),
    (
        "05.gram_error",
        lambda G, Z, W: np.sqrt(energy(Z - W, G) / energy(Z, G)),
        "by what W computes, not Z",
    ),
    ("05.gram_error", diagonal_error, "only the diagonal"),
    ("05.gram_error", all_entries, "not the sum of all its entries"),
    ("05.gram_error", lambda G, Z, W: 1.25 * gram_error(G, Z, W), "expected"),
    ("05.gram_error", lambda G, Z, W: np.zeros(4), "expected one number"),
    ("05.gram_error", overwrites_Z, "in place"),
    ("05.aware_mask", mask_by(lambda W, rms: np.abs(W)), "the choice by magnitude"),
    ("05.aware_mask", mask_by(lambda W, rms: W * rms), "negative weights"),
    ("05.aware_mask", mask_by(lambda W, rms: -np.abs(W) * rms), "the largest must stay"),
    ("05.aware_mask", mask_by(lambda W, rms: np.abs(W) * rms**2), "its root, the rms"),
    ("05.aware_mask", mask_by(lambda W, rms: np.abs(W) / rms), "multiply"),
    ("05.aware_mask", mask_by(lambda W, rms: rms + 0 * W), "only the rms"),
    ("05.aware_mask", lambda W, G, k: ~top(score(W, G), k), "inverted"),
    ("05.aware_mask", over_the_layer, "in every row"),
    ("05.aware_mask", lambda W, G, k: top(score(W, G), k, axis=0), "along the row"),
    (
        "05.aware_mask",
        lambda W, G, k: top(np.abs(W) * np.sqrt(np.diag(G))[:, None], k),
        "multiply every column",
    ),
    ("05.aware_mask", one_too_many, "kept in a row: 2; expected 1"),
    ("05.aware_mask", other_entries, "have a larger score"),
    ("05.aware_mask", lambda W, G, k: W * top(score(W, G), k), "return the mask"),
    ("05.aware_mask", lambda W, G, k: np.argsort(-score(W, G))[:, :k], "the places are returned"),
    ("05.aware_mask", overwrites_W, "in place"),
    ("05.refit_row", lambda w, G, S: refit()(w, G, S)[S], "only the values on the support"),
    ("05.refit_row", leaves_the_rest, "off the support z must be zero"),
    ("05.refit_row", overwrites_w, "in place"),
    ("05.refit_row", lambda w, G, S: np.zeros_like(w), "are the solved values written"),
    ("05.refit_row", refit(lambda w, G, S: w[S]), "keep their old values"),
    ("05.refit_row", refit(lambda w, G, S: G[S] @ w), "solve with the block"),
    (
        "05.refit_row",
        refit(lambda w, G, S: np.linalg.solve(G[np.ix_(S, S)], w[S])),
        "it must be G[S] @ w",
    ),
    ("05.refit_row", refit(correction), "only the correction"),
    ("05.refit_row", refit(lambda w, G, S: w[S] - correction(w, G, S)), "wrong sign"),
    ("05.refit_row", refit(lambda w, G, S: G[S] @ w / np.diag(G)[S]), "only the diagonal"),
    (
        "05.refit_row",
        refit(lambda w, G, S: np.linalg.inv(G)[S] @ w),
        "all of G is inverted",
    ),
    ("05.refit_row", refit(where=np.sort), "wrong order"),
    ("05.refit_row", refit(lambda w, G, S: 1.0), "do not solve"),
    ("05.bregman_step", step(lambda V, Z, W, G, lam, L: V + (Z - W) @ G / L), "sign is wrong"),
    ("05.bregman_step", step(lambda V, Z, W, G, lam, L: V - (V - W) @ G / L), "taken at V"),
    ("05.bregman_step", step(lambda V, Z, W, G, lam, L: Z - (Z - W) @ G / L), "so it forgets"),
    ("05.bregman_step", step(lambda V, Z, W, G, lam, L: V - (Z - W) @ G), "1/L is missing"),
    ("05.bregman_step", step(lambda V, Z, W, G, lam, L: V - (Z - W) @ G * L), "divide by it"),
    (
        "05.bregman_step",
        step(lambda V, Z, W, G, lam, L: V - (Z - W) @ G / np.linalg.norm(G)),
        "spectral norm",
    ),
    (
        "05.bregman_step",
        step(lambda V, Z, W, G, lam, L: V - (Z - W) @ G / L**2),
        "not its square",
    ),
    ("05.bregman_step", step(lambda V, Z, W, G, lam, L: V - (Z - W) / L), "Gram matrix"),
    (
        "05.bregman_step",
        step(lambda V, Z, W, G, lam, L: V - lam * (Z - W) @ G / L),
        "not to the step",
    ),
    ("05.bregman_step", step(lambda V, Z, W, G, lam, L: V), "V has not moved"),
    ("05.bregman_step", lambda *arguments: step()(*arguments)[::-1], "in the wrong order"),
    ("05.bregman_step", lambda *arguments: step()(*arguments)[1], "return the pair"),
    ("05.bregman_step", lambda *arguments: "V, Z", "expected V and Z"),
    ("05.bregman_step", lambda V, *rest: (V, V[0]), "of Z: the answer has shape"),
    ("05.bregman_step", overwrites_V, "in place"),
    ("05.bregman_step", step(lambda V, Z, W, G, lam, L: 2 * V), "the new V is not"),
    ("05.bregman_step", step(primal=lambda V, old, G, lam: V), "the threshold is missing"),
    (
        "05.bregman_step",
        step(primal=lambda V, old, G, lam: soft_threshold(V, lam / np.linalg.norm(G, 2))),
        "lam itself",
    ),
    (
        "05.bregman_step",
        step(primal=lambda V, old, G, lam: soft_threshold(old, lam)),
        "threshold the new one",
    ),
    (
        "05.bregman_step",
        step(primal=lambda V, old, G, lam: V * (np.abs(V) > lam)),
        "the hard threshold",
    ),
    ("05.bregman_step", step(primal=lambda V, old, G, lam: 0 * V), "V is right, but Z"),
    (
        "05.gram_error",
        lambda G, Z, W: np.sqrt(energy(Z - W, G)) / energy(W, G),
        "the root is taken above only",
    ),
    (
        "05.gram_error",
        lambda G, Z, W: np.mean(
            [gram_error(G, z[None], w[None]) for z, w in zip(Z, W, strict=True)]
        ),
        "the mean of the errors of the rows",
    ),
    (
        "05.gram_error",
        lambda G, Z, W: np.sqrt(
            np.linalg.norm((Z - W) @ G @ (Z - W).T) / np.linalg.norm(W @ G @ W.T)
        ),
        "not its norm",
    ),
    (
        "05.aware_mask",
        lambda W, G, k: top(np.abs(W) * np.linalg.norm(G, axis=0), k),
        "of a column of G is no rms",
    ),
    (
        "05.aware_mask",
        lambda W, G, k: score(W, G) >= np.sort(score(W, G), axis=None)[-k],
        "k weights are kept in all",
    ),
    (
        "05.refit_row",
        refit(lambda w, G, S: np.linalg.lstsq(G[:, S], G @ w, rcond=None)[0]),
        "G is used like A",
    ),
    ("05.refit_row", refit(where=lambda S: np.arange(S.size)), "in the wrong places"),
    ("05.bregman_step", step(lambda V, Z, W, G, lam, L: V - Z @ G / L), "W is missing"),
    ("05.bregman_step", step(lambda V, Z, W, G, lam, L: V - (Z - W) @ G @ G / L), "G only once"),
    (
        "05.bregman_step",
        step(primal=lambda V, old, G, lam: np.maximum(V - lam, 0)),
        "negative entries of V are lost",
    ),
    (
        "05.bregman_step",
        step(primal=lambda V, old, G, lam: np.sign(V) * (np.abs(V) - lam)),
        "change their sign",
    ),
    (
        "05.bregman_step",
        lambda V, Z, W, G, lam: (step()(V, Z, W, G, lam)[0], soft_threshold(Z, lam)),
        "the old Z is thresholded",
    ),
]


test_right, test_wrong, test_unsolved, test_nothing = answer_tests(RIGHT, WRONG)


def test_integers_do_as_a_mask():
    as_integers = verdict("05.aware_mask", lambda W, G, k: top(score(W, G), k).astype(int))
    assert as_integers.startswith("right: 05.aware_mask")


@pytest.mark.parametrize("name", RIGHT)
def test_the_example_is_tried_first_and_shown(name):
    assert "the example" in verdict(name, lambda *_: 0.123)


def test_values_of_the_type_of_an_integer_row_are_refused():
    def cut(w, G, S):
        z = np.zeros_like(w)
        z[S] = np.linalg.solve(G[np.ix_(S, S)], G[S] @ w)
        return z

    assert "use np.zeros(w.size)" in verdict("05.refit_row", cut)


@pytest.mark.parametrize(
    ("name", "answer"),
    [
        ("05.gram_error", lambda G, Z, W: float(np.sqrt(
            np.trace((Z - W) @ G @ (Z - W).T) / np.trace(W @ G @ W.T)))),
        ("05.refit_row", lambda w, G, S: list(refit()(w, G, S))),
        ("05.bregman_step", lambda *a: list(step()(*a))),
        ("05.bregman_step", lambda *a: np.array(step()(*a))),
    ],
)  # fmt: skip
def test_a_right_answer_in_another_form(name, answer):
    assert verdict(name, answer).startswith(f"right: {name}")


def test_an_error_in_a_hidden_case_names_the_case():
    def one_row(G, Z, W):
        if len(W) > 1:
            raise ValueError("only one row")
        return gram_error(G, Z, W)

    told = verdict("05.gram_error", one_row)
    assert "W = rng.standard_normal((4, 6))" in told
    assert "ValueError: only one row" in told
