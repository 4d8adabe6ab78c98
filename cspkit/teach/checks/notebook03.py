"""Checks of the exercises of notebook 03, greedy and thresholding."""

import numpy as np

from cspkit.recovery import hard_threshold
from cspkit.teach.cases import Case, table
from cspkit.teach.checks.systems import fit_on


def best_step(A, g, support):
    A_g = A[:, support] @ g[support]
    return g[support] @ g[support] / (A_g @ A_g)


table("03.best_step", best_step, [
    Case("the example, A = diag(1, 2, 10), g = (3, 1, 5), support [0, 1]",
         (np.diag([1, 2, 10]), np.array([3, 1, 5]), np.array([0, 1]))),
    "rng = default_rng(1); A = rng.standard_normal((12, 20)); "
    "g = A.T @ rng.standard_normal(12); support = np.array([3, 17, 8, 11])",
], [
    ("A_g @ A_g / (g[support] @ g[support])",
     "the fraction is upside down: ||g_S||^2 belongs on top"),
    ("np.linalg.norm(g[support]) / np.linalg.norm(A_g)",
     "the norms must be squared, above and below"),
    ("(A_g @ A_g) => np.linalg.norm(A_g)", "the norm below is not squared: A_g @ A_g"),
    ("1 / (A_g @ A_g)", "||g_S||^2 on top is missing"),
    ("g @ g / np.sum((A @ g) ** 2)", "the whole g is used; only its entries on S move"),
    ("g @ g / (A_g @ A_g)", "||g||^2 on top takes the whole g; use g on S above and below"),
    ("g[support] @ g[support] / np.sum((A @ g) ** 2)",
     "A g below takes the whole g; use A[:, S] @ g[S]"),
    ("return => return -", "the sign is wrong: g already points downhill"),
    ("return => return 2 *", "a factor 2 too large: the derivative of the square has it twice"),
    ("return => return 0.5 *", "a factor 2 too small: the derivative of the square has it twice"),
    ("1 / np.linalg.norm(A, 2) ** 2",
     "this is 1/L, safe for all directions; take the best step along g_S"),
    ("1 / np.linalg.norm(A[:, support], 2) ** 2",
     "this is 1/L of the columns on S, safe for all their directions; take the best along g_S"),
], "another step makes ||r - eta A g_S|| smaller",
    right="If the step changes the support, it may be too long: the package's iht then halves it.",
)  # fmt: skip


def htp_step(A, y, x, k, eta):
    moved = x + eta * A.T @ (y - A @ x)
    return fit_on(A, y, np.flatnonzero(hard_threshold(moved, k)))


def wrong_htp(answer, right, inputs):
    count, k = np.count_nonzero(answer), inputs[3]
    if count != k:
        return f"nonzeros: {count}, expected {k}"
    return "the values are not the least squares fit on the support of the moved point"


MADE = (
    "rng = default_rng(2); A = rng.standard_normal((15, 30)) / np.sqrt(15); "
    "y = rng.standard_normal(15); k = 4; x = np.zeros(30); "
)
SOMEWHERE = MADE + "x[[2, 9, 21, 28]] = 1.5, -0.8, 0.6, -1.2; "
table("03.htp_step", htp_step, [
    Case("the example, A = I, y = (3, 0, -4), x = 0, k = 1, eta = 0.5",
         (np.eye(3, dtype=int), np.array([3, 0, -4]), np.zeros(3), 1, 0.5)),
    SOMEWHERE + "eta = 0.7",
    MADE + "eta = 1.0",
    SOMEWHERE + "eta = 3.0",
], [
    ("hard_threshold(moved, k)",
     "this is a step of IHT: the support is right, now fit its values to y"),
    ("moved", "nothing was cut; keep the k largest with hard_threshold"),
    ("hard_threshold(moved, k) => moved",
     "the moved vector was not cut: its k largest magnitudes are the support"),
    ("np.flatnonzero(hard_threshold(moved, k)) => np.argsort(np.abs(moved))[:k]",
     "the k smallest magnitudes were kept; keep the largest"),
    ("fit_on(A, y, S := np.flatnonzero(hard_threshold(moved, k)))[S]",
     "only the values on the support are returned; write them into n zeros"),
    ("fit_on(A, y, => fit_on(A, y - A @ x,", "the residual was fitted; fit y itself"),
    ("return fit_on(A, y, => return x + fit_on(A, y - A @ x,",
     "x is added to a fit of the residual; the new answer is a fit of y alone"),
    ("hard_threshold(moved, k) => x + hard_threshold(moved - x, k)",
     "the gradient was cut before it was added; add it, then cut the sum"),
    ("x + eta => x - eta", "the step goes uphill: add eta A^T (y - A x)"),
    ("x + eta * =>", "the support is chosen from the gradient alone; the step starts at x"),
    ("x + eta * A.T @ (y - A @ x) => A.T @ y",
     "x is ignored; the gradient is taken at x and the step starts there"),
    ("(y - A @ x) => y", "the gradient needs the residual y - A x, not y"),
    ("hard_threshold(moved, k) => (x != 0) | (hard_threshold(moved, k) != 0)",
     "the old support was kept as well; the k chosen positions replace it"),
    ("(moved, k) => (x, k)", "the support is the old one; move before you choose"),
    ("eta * =>", "eta is not used"),
    ("np.flatnonzero(hard_threshold(moved, k)) => np.argsort(-moved)[:k]",
     "the k largest values were kept; compare magnitudes"),
    ("hard_threshold(np.linalg.lstsq(A, y, rcond=None)[0], k)",
     "all columns were fitted and then cut; choose first, then fit the chosen ones"),
], wrong_htp,
    right="If a step chooses the same support again, the next one returns the same answer: done.",
)  # fmt: skip


def memory_step(A, y, v, k, eta):
    z = hard_threshold(v, k)
    v_new = v - eta * A.T @ (A @ z - y)
    return z, v_new


def wrong_memory(answer, right, inputs):
    if not np.allclose(answer[0], right[0]):
        return "z is not H_k(v)"
    return "the next v is not v - eta A^T (A z - y)"


LATE = "z is cut from the new v; cut first, then take the gradient at this z"
table("03.memory_step", memory_step, [
    Case("the example, A = I, y = (1, 1), v = (2, 0.5), k = 1, eta = 0.1",
         (np.eye(2, dtype=int), np.array([1, 1]), np.array([2, 0.5]), 1, 0.1)),
    "rng = default_rng(3); A, y, v = rng.standard_normal((8, 12)), rng.standard_normal(8), "
    "rng.standard_normal(12); k = 3; eta = 0.2",
], [
    ("v_new, z", "z and v are returned in the wrong order"),
    ("v_new", "only the new v is returned; return the pair z, v"),
    ("z", "only z is returned; return the pair z, v"),
    ("z != 0, v_new", "z is a mask here; it must have the values of v"),
    ("z = hard_threshold(v, k) => z = np.sign(v) * np.maximum(np.abs(v) - k, 0)",
     "this is the soft threshold; hard_threshold keeps the k largest values as they are"),
    ("z = hard_threshold(v, k) => z = hard_threshold(v - eta * A.T @ (A @ v - y), k)", LATE),
    ("v_new = v => v_new = v - z", "only what was cut is kept in v; the step starts at all of v"),
    ("v, v_new", "z is not cut; it keeps only the k largest magnitudes of v"),
    ("hard_threshold(v, k) => v", "nothing is cut: z is H_k(v)"),
    ("hard_threshold(v_new, k), v_new", LATE),
    ("A @ z => A @ v && return z => return hard_threshold(v_new, k)", LATE),
    ("hard_threshold(v, k) => np.where(v >= np.sort(v)[-k], v, 0)",
     "z keeps the largest values; compare magnitudes"),
    ("A @ z => A @ v",
     "the gradient is taken at v, so the misfit never sees the cut; take it at z"),
    ("v_new = v => v_new = z",
     "the step starts at z: this is IHT, which forgets what it cuts; start at v"),
    ("A.T @ (A @ z - y) => np.where(z != 0, A.T @ (A @ z - y), 0)",
     "the gradient reaches only the kept entries, so the cut ones cannot come back"),
    ("z, hard_threshold(v_new, k)", "the new v is cut; the memory stays dense"),
    ("v - eta => v + eta", "the sign is wrong: v moves against the gradient A^T (A z - y)"),
    ("eta * =>", "eta is not used"),
    ("z, v", "v did not move"),
    ("z, z", "the new v is z: nothing is remembered"),
    ("v_new = v => v_new = z && A @ z => A @ v",
     "z and v have changed places: gradient at z, step from v"),
], wrong_memory, parts=("z", "v"),
    right="Pruning with csp does this in notebook 10: V is the memory, Z are the weights in use.",
)  # fmt: skip


def rests(A, y, support, ratio):
    z = fit_on(A, y, support)
    off = np.delete(A.T @ (y - A @ z), support)
    return bool(ratio * np.max(np.abs(off)) <= np.min(np.abs(z[support])))


SMALL = "A = np.array([[1, 0, 0.6], [0, 1, 0.8]]); y = np.array([1, 0.5]); "
DRAWN = (
    "rng = default_rng(4); A = rng.standard_normal((10, 16)) / np.sqrt(10); "
    "y = A[:, 2] - A[:, 7] + A[:, 11] + 0.1 * rng.standard_normal(10); "
)
SUPPORTS = [[2, 7, 11]]
SUPPORTS += [np.random.default_rng(i).choice(16, 3, replace=False).tolist() for i in range(40)]
table("03.rests", rests, [
    *(f"{SMALL}support = np.array([0]); ratio = {ratio}" for ratio in (1, 4)),
    *(f"{DRAWN}support = np.array({support}); ratio = {ratio}"
      for support in SUPPORTS for ratio in (0.05, 0.2, 0.5, 1.0, 2.0, 4.0)),
    "A = np.eye(4)[:, [0, 1, 2, 3, 0]]; y = np.array([2.0, 0, 0, 0]); "
    "support = np.array([0, 1]); ratio = 1e6",
], [
    ("return => return not", "the answer is the opposite: True means that it rests"),
    ("bool(np.max(np.abs(off)) <= ratio * np.min(np.abs(z[support])))",
     "the ratio is on the wrong side: ratio * max |g_j| <= min |z_i|"),
    ("np.abs(z[support]) => z[support]",
     "the values of z are compared with their sign; use np.abs(z[S])"),
    ("np.abs(off) => off", "g is compared with its sign; use np.abs(g) off S"),
    ("z[support] => z", "it never rests; a minimum over all of z is 0, as z is 0 off S: take z[S]"),
    ("min => max", "the largest |z_i| was taken; the smallest one leaves first"),
    ("max => min", "the smallest |g_j| was taken; the largest one enters first"),
    ("(y - A @ z) => y", "g is A^T y; it must be the gradient at z, A^T (y - A z)"),
    ("ratio * =>", "the ratio is not used"),
    ("np.max(np.abs(off)) => np.linalg.norm(off)",
     "all |g_j| were joined in a norm; only the largest counts"),
    ("<= => <",
     "with g = 0 and z_i = 0 the two sides are equal, and it rests: use <=, and do not divide"),
], right="A larger ratio leaves fewer resting places; a support that explains y always is one."
)  # fmt: skip
