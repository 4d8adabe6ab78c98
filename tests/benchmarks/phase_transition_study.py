"""Where does basis pursuit stop recovering? The measured 50 % line beside the theory curve.

    python tests/benchmarks/phase_transition_study.py

For n = 400 and delta = m/n of 0.25, 0.5, 0.75, Gaussian matrices and Gaussian nonzeros, it
counts how often basis pursuit recovers x up to a relative error of 1e-6, for sparsities around
the theoretical threshold, and writes one row per (m, k) to the CSV file. Rows that are there
already are kept, so an interrupted run goes on where it stopped; every row has a random
generator of its own, so the result does not depend on that. At the end it fits
P(success) = 1 / (1 + exp((rho - rho_50) / width)) for each delta, and prints rho_50 with its
standard error from a parametric bootstrap. With --summary it only prints.
"""

import argparse
import csv
import warnings
from pathlib import Path

import numpy as np
from scipy.optimize import minimize
from scipy.special import expit

from cspkit.files import check_output, locked, replacing
from cspkit.recovery import (
    ConvergenceWarning,
    basis_pursuit,
    gaussian,
    phase_transition,
    sparse_signal,
)

FIELDS = ["n", "m", "k", "delta", "rho", "trials", "successes"]
COMMAND = "# made by: python tests/benchmarks/phase_transition_study.py"


def successes(n, m, k, trials, seed):
    """Count of trials in which basis pursuit finds the signal."""
    rng = np.random.default_rng([seed, n, m, k])
    count = 0
    for _ in range(trials):
        A, x = gaussian(m, n, rng), sparse_signal(n, k, rng)
        found = basis_pursuit(A, A @ x).x
        count += np.linalg.norm(found - x) <= 1e-6 * np.linalg.norm(x)
    return int(count)


def fifty_percent_point(rho, trials, count, start):
    """Maximum likelihood fit of a logistic curve; its middle."""

    def negative_log_likelihood(parameters):
        p = expit((parameters[0] - rho) / np.exp(parameters[1]))
        p = np.clip(p, 1e-12, 1 - 1e-12)
        return -np.sum(count * np.log(p) + (trials - count) * np.log(1 - p))

    fit = minimize(negative_log_likelihood, [start, np.log(0.02)], method="Nelder-Mead")
    return fit.x[0], np.exp(fit.x[1])


def read(path):
    if not path.exists():
        return []
    with path.open() as file:
        return list(csv.DictReader(line for line in file if not line.startswith("#")))


def summary(rows):
    """Print the measured 50 % point of each delta, its standard error, and the theory."""
    print("delta   rho at 50 %   standard error   theory   difference")
    for delta in sorted({float(row["delta"]) for row in rows}):
        chosen = [row for row in rows if float(row["delta"]) == delta]
        rho, trials, count = (
            np.array([float(row[name]) for row in chosen])
            for name in ("rho", "trials", "successes")
        )
        theory = phase_transition(delta)
        middle, width = fifty_percent_point(rho, trials, count, theory)
        rng = np.random.default_rng(0)
        p = expit((middle - rho) / width)
        again = [
            fifty_percent_point(rho, trials, rng.binomial(trials.astype(int), p), middle)[0]
            for _ in range(200)
        ]
        print(
            f"{delta:.2f}    {middle:.4f}        {np.std(again):.4f}           "
            f"{theory:.4f}   {middle - theory:+.4f}"
        )


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("data/results/phase_transition.csv"))
    parser.add_argument("--n", type=int, default=400)
    parser.add_argument("--trials", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--summary", action="store_true", help="only print what is there")
    options = parser.parse_args()
    check_output(options.out, "--out")
    rows = read(options.out)
    done = {(int(row["n"]), int(row["m"]), int(row["k"])) for row in rows}
    if not options.summary:
        warnings.simplefilter("ignore", ConvergenceWarning)
        extra = f" --n {options.n} --trials {options.trials} --seed {options.seed}"
        head = COMMAND + extra + "\n" + ",".join(FIELDS) + "\n"
        for delta in (0.25, 0.5, 0.75):
            m = round(delta * options.n)
            for share in np.linspace(0.7, 1.3, 13):
                k = round(share * phase_transition(delta) * m)
                if (options.n, m, k) in done:
                    continue
                count = successes(options.n, m, k, options.trials, options.seed)
                row = [options.n, m, k, delta, f"{k / m:.6f}", options.trials, count]
                with locked(options.out, wait=-1), replacing(options.out) as file:
                    text = options.out.read_text() if options.out.is_file() else head
                    file.write_text(text + ",".join(map(str, row)) + "\n")
                print(f"m {m}  k {k}  {count} of {options.trials}", flush=True)
    summary(read(options.out))


if __name__ == "__main__":
    main()
