"""Is any other solver's objective lower? The lasso against scikit-learn, celer and cvxpy.

    python tests/benchmarks/recovery_agreement.py

Solves 200 random problems of many kinds, each with `lasso` and with the others at their tightest
tolerances, and prints for every kind the largest relative excess of our objective over the best
of theirs, and the largest violation of the optimality conditions. A peer that is not installed,
or that fails on a problem, is left out there, and the table says how often each answered. The
exit code is 1 if an excess is above 1e-9.
"""

import sys
import warnings

import numpy as np
from sklearn.linear_model import Lasso

from cspkit.recovery import lam_max_of, lasso, sparse_signal

try:
    import celer
except ImportError:
    celer = None
try:
    import cvxpy
except ImportError:
    cvxpy = None

KINDS = [
    "wide", "tall", "one row", "one column", "duplicate columns", "zero columns",
    "column norms 1e-6 to 1e6", "nearly parallel", "signs", "lam above lam_max", "y zero",
    "lam small",
]  # fmt: skip


def problem(kind, rng):
    """A, y and lam of one random problem."""
    m, n = {
        "tall": (rng.integers(40, 120), rng.integers(5, 40)),
        "one row": (1, rng.integers(2, 60)),
        "one column": (rng.integers(2, 60), 1),
    }.get(kind, (rng.integers(20, 60), rng.integers(60, 150)))
    A = rng.standard_normal((m, n))
    if kind == "duplicate columns":
        A = A[:, rng.integers(0, n // 2, n)]
    elif kind == "zero columns":
        A[:, rng.random(n) < 0.3] = 0
    elif kind == "column norms 1e-6 to 1e6":
        A *= 10.0 ** rng.uniform(-6, 6, n)
    elif kind == "nearly parallel":
        A = np.cumsum(0.1 * A, axis=1) + A[:, :1]
    elif kind == "signs":
        A = np.sign(A)
    y = A @ sparse_signal(n, max(1, n // 15), rng) + 0.1 * rng.standard_normal(m)
    lam = 10 ** rng.uniform(-2, -0.1) * lam_max_of(A, y)
    if kind == "lam above lam_max":
        lam = rng.uniform(1.0, 2.0) * lam_max_of(A, y)
    elif kind == "lam small":
        lam = 1e-4 * lam_max_of(A, y)
    elif kind == "y zero":
        y, lam = 0 * y, 0.1
    return A, y, lam


def scikit_learn(A, y, lam):
    model = Lasso(alpha=lam / len(y), fit_intercept=False, tol=1e-15, max_iter=200_000)
    return model.fit(np.asfortranarray(A), y).coef_


def celer_lasso(A, y, lam):
    model = celer.Lasso(alpha=lam / len(y), fit_intercept=False, tol=1e-14, max_iter=1_000)
    return model.fit(np.asfortranarray(A), y).coef_


def cvxpy_lasso(A, y, lam):
    x = cvxpy.Variable(A.shape[1])
    goal = cvxpy.Minimize(0.5 * cvxpy.sum_squares(y - A @ x) + lam * cvxpy.norm1(x))
    tight = {"tol_gap_abs": 1e-14, "tol_gap_rel": 1e-14, "tol_feas": 1e-12}
    cvxpy.Problem(goal).solve(solver="CLARABEL", **tight)
    return x.value


def objective(A, y, x, lam):
    return 0.5 * np.sum((y - A @ x) ** 2) + lam * np.sum(np.abs(x))


def kkt_violation(A, y, x, lam):
    """Relative to max |A^T y|."""
    c, on = A.T @ (y - A @ x), x != 0
    inside = np.max(np.abs(c[on] - lam * np.sign(x[on])), initial=0)
    outside = np.max(np.abs(c[~on]) - lam, initial=0)
    return max(inside, outside) / (np.max(np.abs(A.T @ y)) or 1)


def main():
    warnings.simplefilter("ignore")
    peers = {"scikit-learn": scikit_learn}
    if celer:
        peers["celer"] = celer_lasso
    if cvxpy:
        peers["cvxpy"] = cvxpy_lasso
    print("compared with", ", ".join(peers))
    worst = 0.0
    answered = dict.fromkeys(peers, 0)
    print(f"{'kind':26} problems  largest excess  largest KKT violation  largest gap")
    for number, kind in enumerate(KINDS):
        excesses, violations, gaps = [], [], []
        for i in range(17 if number < 8 else 16):
            A, y, lam = problem(kind, np.random.default_rng([number, i]))
            result = lasso(A, y, lam, tol=1e-14)
            values = []
            for name, solve in peers.items():
                try:
                    value = objective(A, y, solve(A, y, lam), lam)
                except Exception:
                    continue
                if np.isfinite(value):
                    values.append(value)
                    answered[name] += 1
            own = objective(A, y, result.x, lam)
            excesses.append((own - min(values)) / min(values) if min(values) > 0 else own)
            violations.append(kkt_violation(A, y, result.x, lam))
            gaps.append(result.gap)
            if kind in ("lam above lam_max", "y zero") and (result.x.any() or result.n_iter):
                sys.exit(f"{kind}: the answer must be zero at once")
        worst = max(worst, *excesses)
        print(
            f"{kind:26} {len(excesses):8}  {max(excesses):14.1e}  "
            f"{max(violations):21.1e}  {max(gaps):11.1e}"
        )
    print("answered:", ", ".join(f"{name} {count}" for name, count in answered.items()))
    print(f"largest excess over the best of them: {worst:.1e}")
    sys.exit(int(worst > 1e-9))


if __name__ == "__main__":
    main()
