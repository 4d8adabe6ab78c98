"""How fast are `lasso` and `omp`, beside scikit-learn and celer?

    python tests/benchmarks/recovery_speed.py

Prints the ratio of our time to theirs: the median over paired runs, one after the other in this
process, on one core. All lasso answers must reach a relative duality gap of 1e-6, which is
computed here for both, from one dual point. scikit-learn's `tol` multiplies ||y||^2, so it gets
half of ours. Matrices are in column order, which scikit-learn and celer use without a copy.
Without celer its rows are left out.
"""

import time
import warnings

import numpy as np
import sklearn
from sklearn.linear_model import Lasso, orthogonal_mp
from threadpoolctl import threadpool_limits

from cspkit.recovery import gaussian, lam_max_of, lasso, lasso_gap, omp, sparse_signal

try:
    import celer
except ImportError:
    celer = None

TOL = 1e-6


def with_noise(A, k, rng):
    """Measurements of a k-sparse signal at a signal-to-noise ratio of 40 dB."""
    y = A @ sparse_signal(A.shape[1], k, rng)
    e = rng.standard_normal(len(y))
    return y + 0.01 * np.linalg.norm(y) / np.linalg.norm(e) * e


def autoregressive(m, n, correlation, rng):
    """Columns of which each has the given correlation with the next."""
    A = rng.standard_normal((m, n))
    for j in range(1, n):
        A[:, j] = correlation * A[:, j - 1] + np.sqrt(1 - correlation**2) * A[:, j]
    return A / np.sqrt(m)


def paired(ours, theirs, runs):
    """Median times in milliseconds, and the median of the ratios."""
    times = []
    for _ in range(runs):
        start = time.perf_counter()
        ours()
        middle = time.perf_counter()
        theirs()
        times.append((middle - start, time.perf_counter() - middle))
    times = 1e3 * np.array(times[1:])  # the first run pays for page faults and caches
    return *np.median(times, axis=0), np.median(times[:, 0] / times[:, 1])


def line(what, peer, own_ms, peer_ms, ratio, target, note=""):
    verdict = "" if target is None else f"{'met' if ratio <= target else 'MISSED'} (<= {target})"
    print(f"{what:28} {peer:24} {own_ms:9.2f} {peer_ms:9.2f} {ratio:7.2f}  {verdict:16} {note}")


def compare_lasso(what, A, y, fraction, targets, runs):
    lam = fraction * lam_max_of(A, y)
    alpha = lam / len(y)
    peers = {
        "scikit-learn": Lasso(
            alpha=alpha, fit_intercept=False, tol=TOL / 2, max_iter=10**6, copy_X=False
        )
    }
    if celer:
        peers["celer"] = celer.Lasso(alpha=alpha, fit_intercept=False, tol=TOL / 2, max_iter=1_000)
    for name, model in peers.items():
        own, other, ratio = paired(
            lambda: lasso(A, y, lam, tol=TOL), lambda model=model: model.fit(A, y), runs
        )
        # One dual point certifies both answers: a peer's own may be better than its residual.
        own_x = lasso(A, y, lam, tol=TOL).x
        dual = y - A @ own_x
        gaps = [lasso_gap(y, y - A @ x, x, lam, dual, A.T @ dual) for x in (own_x, model.coef_)]
        note = f"gaps {gaps[0]:.0e} {gaps[1]:.0e}"
        if max(gaps) > TOL:
            note += "  NOT EQUAL: a gap is above 1e-6"
        line(f"{what} {fraction:g}", name, own, other, ratio, targets.get(name), note)


def compare_omp(what, A, y, k, target, runs, **options):
    def theirs():
        return orthogonal_mp(A, y, n_nonzero_coefs=k, **options)

    times = paired(lambda: omp(A, y, k), theirs, runs)
    same = np.allclose(omp(A, y, k).x, theirs(), atol=1e-9)
    line(what, "orthogonal_mp", *times, target, "same answer" if same else "ANSWERS DIFFER")


def main():
    warnings.simplefilter("ignore")
    print(f"numpy {np.__version__}, scikit-learn {sklearn.__version__}, ", end="")
    print(f"celer {celer.__version__}" if celer else "celer not installed: its rows are left out")
    print("lasso: size, lam / lam_max      beside                     ours ms  theirs ms   ratio")
    sizes = [(256, 1024, 25, 1.0), (1000, 4000, 100, 1.0), (2000, 20000, 100, 0.5)]
    for m, n, k, target in sizes:
        rng = np.random.default_rng(0)
        A = np.asfortranarray(gaussian(m, n, rng))
        y = with_noise(A, k, rng)
        runs = {1024: 101, 4000: 21, 20000: 8}[n]
        compare_lasso(f"{m}x{n} k {k}", A, y, 0.1, {"scikit-learn": target}, runs)
        compare_lasso(f"{m}x{n} k {k}", A, y, 0.01, {"celer": 1.0}, runs)
    rng = np.random.default_rng(0)
    A = np.asfortranarray(autoregressive(500, 2000, 0.99, rng))
    y = with_noise(A, 50, rng)
    for fraction in (0.1, 0.01, 0.001):
        compare_lasso("AR(1) 0.99 500x2000", A, y, fraction, {"celer": 2.0}, 7)

    print("omp: size")
    for m, n, k, _ in sizes:
        rng = np.random.default_rng(0)
        A = np.asfortranarray(gaussian(m, n, rng))
        y = with_noise(A, k, rng)
        compare_omp(f"{m}x{n} k {k}", A, y, k, 1.0, {1024: 51, 4000: 11, 20000: 6}[n])
    rng = np.random.default_rng(0)
    A = gaussian(256, 1024, rng)
    Y = np.stack([with_noise(A, 25, rng) for _ in range(500)], axis=1)
    compare_omp("500 signals 256x1024 k 25", A, Y, 25, 0.25, 5, precompute=True)


if __name__ == "__main__":
    with threadpool_limits(1):
        main()
