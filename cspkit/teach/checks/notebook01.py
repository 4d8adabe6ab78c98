"""Checks of the exercises of notebook 01, sparse signals."""

import numpy as np

from cspkit.recovery import soft_threshold
from cspkit.teach.cases import table
from cspkit.teach.checks.systems import A, Y


def smallest_l1(a, y):
    x, j = np.zeros(a.size), np.argmax(np.abs(a))
    x[j] = y / a[j]
    return x


def one_axis_is_better(x, right, inputs):
    solved = np.isclose(inputs[0] @ x, inputs[1]) and np.count_nonzero(x) > 1
    return "a smaller l1 norm is possible, on one axis" if solved else ""


table("01.smallest_l1", smallest_l1, [
    (np.array([3, 4]), 2), (np.array([1, -2]), 3), (np.array([3.0, 4.0]), 2.0),
    (np.array([-0.5, 1.0, 0.2, -4.0, 2.0]), -6.0), (np.array([0.5, 2.0, 1.0]), 0.0),
], [
    ("/ a[j] => / abs(a[j])", "the sign is lost: divide by a[j], not |a[j]|"),
    ("a * y / (a @ a)",
     "this is the shortest point, where the circle touches; the diamond touches at a corner"),
    ("np.abs(a) => a",
     "the largest a was chosen, but a negative one may be larger in magnitude: use |a|"),
    ("argmax => argmin", "the wrong axis: the largest |a_i| reaches y with the smallest |x_i|"),
    ("x.astype(a.dtype)",
     "integer input gives integers: make x with np.zeros(a.size), whose type is float"),
    ("/ a[j] =>", "x does not solve the equation: a^T x must be y, so divide y by a[j]"),
], one_axis_is_better, right="One equation needs one nonzero; m equations never need more than m."
)  # fmt: skip


def shrink(v, t):
    return np.sign(v) * np.maximum(np.abs(v) - t, 0)


V = np.array([-3.0, -1.5, -1.0, -0.25, 0.0, 0.5, 1.0, 2.0, 4.0])
table("01.soft_threshold", shrink, [
    (np.array([-3, 0.5, 2]), 1.0), (V, 1.0), (np.array([-3, 0, 2]), 1), (np.array([-3, 0, 2]), 0.5),
    *((V.reshape(3, 3), t) for t in (0.0, 0.5, 2.5)),
], [
    ("np.sign(v) * =>", "the sign of negative inputs is lost"),
    ("np.sign => -np.sign", "every sign is flipped"),
    ("np.maximum(v - t, 0)",
     "all negative inputs become zero; treat magnitude and sign separately"),
    ("np.where(np.abs(v) > t, v, 0)",
     "this is hard thresholding: entries beyond t are kept whole, but must shrink by t"),
    ("np.sign(v) * (np.abs(v) - t)",
     "entries smaller than t change their sign; stop at zero with np.maximum(..., 0)"),
    ("v - t", "t is subtracted from negative inputs too, which moves them away from zero"),
    ("np.clip(v, -t, t)", "this is the part that is cut off; the answer is v minus this part"),
    ("- t, 0 => , t", "this shrinks towards t instead of zero"),
    ("np.where(np.abs(v) > t, v - t, 0)",
     "negative inputs beyond -t move away from zero; they must move up by t"),
    ("np.sign(v) * (np.abs(v) > t)", "only the sign is returned; the magnitude |v| - t is missing"),
    ("(np.sign(v) * np.maximum(np.abs(v) - t, 0)).astype(v.dtype)",
     "integer input gives integers: the answer needs the type float"),
], right="Notebooks 03 and 10 use the hard threshold, which keeps large entries whole."
)  # fmt: skip


def ista(A, y, lam, steps):
    L, x = np.linalg.norm(A, 2) ** 2, np.zeros(A.shape[1])
    for _ in range(steps):
        r = y - A @ x
        x = soft_threshold(x + A.T @ r / L, lam / L)
    return x


def fista(A, y, lam, steps):
    L, x = np.linalg.norm(A, 2) ** 2, np.zeros(A.shape[1])
    ahead = x
    for i in range(steps):
        new = soft_threshold(ahead + A.T @ (y - A @ ahead) / L, lam / L)
        ahead, x = new + i / (i + 3) * (new - x), new
    return x


WIDE = np.array([[0.9, -0.4, 0.3, 0.0], [0.2, 0.8, -0.5, 0.6], [-0.3, 0.1, 0.7, 0.5]])
table("01.ista", ista, [
    (2 * np.eye(2), np.array([4, 1]), 2.0, 1),
    *((WIDE, np.array([2.0, -1.5, 1.0]), lam, steps)
      for lam, steps in ((0.3, 1), (0.3, 2), (0.1, 7), (0.0, 3), (0.3, 0))),
    (np.array([[1, 2], [0, 1]]), np.array([3, -1]), 1, 3),
], [
    ("2) ** 2 => 2)", "the step uses ||A||_2; it must use L = ||A||_2^2"),
    ("(A, 2) => (A)", "this is the Frobenius norm; ||A||_2 is np.linalg.norm(A, 2)"),
    ("r = y - A @ x => r = y", "the residual stays y; compute y - A x again in every step"),
    ("x + A.T => x - A.T", "the gradient step goes uphill: add A^T (y - A x) / L"),
    ("lam / L => lam", "the threshold is lam; it must be lam / L"),
    ("lam / L => 0.0", "this is a gradient method without a threshold: apply soft_threshold"),
    ("x + A.T @ r / L, lam / L) => x, lam / L) + A.T @ r / L",
     "the threshold comes before the gradient step; first the step, then the threshold"),
    ("(x + => (", "the gradient step starts from 0 every time; add it to x"),
    (fista, "this is FISTA; ISTA has no momentum"),
    ("(steps) => (min(steps, 1))", "only one step is taken; repeat the formula `steps` times"),
], right="Its excess falls at least like 1 / steps, and that of FISTA at least like 1 / steps^2."
)  # fmt: skip


def debias(A, y, support):
    x = np.zeros(A.shape[1])
    x[support] = np.linalg.lstsq(A[:, support], y, rcond=None)[0]
    return x


table("01.debias", debias, [
    (np.array([[1, 0, 1], [0, 2, 1]]), np.array([3, 4]), np.array([0, 1])),
    *((A, Y, np.array(support, dtype=int)) for support in ([5, 1, 2], [4, 0], [])),
    (np.array([[2, 1], [0, 1], [1, 1]]), np.array([1, 2, 4]), np.array([0, 1])),
], [
    ("x[support]",
     "only the values on the support are returned; write them into a vector of n zeros"),
    ("0 * x", "x is all zeros; write the values into x"),
    ("np.linalg.lstsq(A, y, rcond=None)[0]",
     "this is least squares with all columns; fit with A[:, support] only"),
    ("x[support] => x[: support.size]",
     "the right values in the wrong places: x[support] = values"),
    ("x[support] => x[np.sort(support)]",
     "the right values in the wrong order; value i belongs to position support[i]"),
    ("A[:, support], => A, && [0] => [0][support]",
     "all columns were fitted and the rest cut off; fit with A[:, support] only"),
    ("np.linalg.lstsq(A[:, support], y, rcond=None)[0] => A[:, support].T @ y",
     "these are the correlations A_S^T y; least squares also undoes A_S^T A_S"),
], right="Fine-tuning does this to a network: the zeros stay, the other weights are fitted again."
)  # fmt: skip


def omp_until(A, y, eps):
    x, support, r, done = np.zeros(A.shape[1]), [], y, False
    for _ in range(A.shape[0]):
        done = np.linalg.norm(r) <= eps
        if done:
            break
        support.append(np.argmax(np.abs(A.T @ r)))
        x[support] = np.linalg.lstsq(A[:, support], y, rcond=None)[0]
        r = y - A @ x
    return x


table("01.omp_until", omp_until, [
    (np.eye(3), np.array([3, -2, 0.1]), 0.5),
    *((A, Y, eps) for eps in (1.5, 0.9, 0.3, 0.05, 5.0)),
    (A, np.zeros(4), 0.0), (np.eye(3, dtype=int), np.array([3, -2, 1]), 1),
], [
    ("np.linalg.norm(r) => r @ r",
     "the squared norm of the residual is compared with eps; compare the norm"),
    ("np.linalg.norm(r) => np.max(np.abs(r))",
     "the largest entry of the residual is compared with eps; compare its l2 norm"),
    ("done = np.linalg => late, done = done, np.linalg && if done => if late",
     "one column too many: test the residual before a column is chosen, not after"),
    ("if done => if done and support",
     "a column is chosen where none is needed: test the residual before the choice"),
    ("np.abs(A.T @ r) => A.T @ r",
     "columns with a negative correlation are overlooked: choose by |a_j^T r|"),
    ("x[support] = => j = support[-1]; x[j] += A[:, j] @ r / (A[:, j] @ A[:, j])  #",
     "the values chosen earlier are not fitted again: least squares on the support"),
    ("<= eps => < 0",
     "it never stops before all m columns are used; is eps compared with the norm?"),
    ("0 * x", "x is all zeros; are the fitted values written into it?"),
], right="With an eps below the norm of the noise, OMP goes on and fits the noise.")  # fmt: skip
