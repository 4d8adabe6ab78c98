"""Checks of the exercises of notebook 04, how many measurements."""

from functools import cache

import numpy as np
from scipy.stats import norm

from cspkit.recovery import phase_transition, soft_threshold
from cspkit.teach.cases import Case, table


def promised_k(A):
    unit = A / np.linalg.norm(A, axis=0)
    cosines = np.abs(unit.T @ unit)
    np.fill_diagonal(cosines, 0)
    bound = (1 + 1 / cosines.max()) / 2
    return np.ceil(bound - 1e-9) - 1


def two_columns(cosine):
    return np.array([[1.0, cosine], [0.0, np.sqrt(1 - cosine**2)]])


table("04.promised_k", promised_k, [
    Case("the example, two unit vectors with cosine 1/3", (two_columns(1 / 3),)),
    *((two_columns(0.22) * lengths,) for lengths in ([1, 1], [10, 0.5])),
    Case("two unit vectors with cosine -0.6", (two_columns(-0.6),)),
    (np.array([[1, 1], [0, 1]]),),
    "A = default_rng(0).standard_normal((250, 1000)) / np.sqrt(250)",
], [
    ("cosines.max()",
     "this is the coherence; the answer is the largest integer below (1 + 1/coh(A)) / 2"),
    ("/ np.linalg.norm(A, axis=0) =>",
     "the columns have other lengths than 1; normalise them first"),
    ("np.abs(unit.T @ unit) => unit.T @ unit && (cosines, 0) => (cosines, -2)",
     "the cosines have a sign; use absolute values"),
    ("axis=0 => axis=1, keepdims=True", "the rows were normalised; the lengths of columns: axis=0"),
    ("unit.T @ unit => unit @ unit.T", "these are products of rows; those of columns are U^T U"),
    ("np.round(bound)",
     "as if rounded to the nearest, or as if brackets were missing in (1 + 1 / coh(A)) / 2"),
    ("0",
     "k = 0: is the diagonal, which is 1, left out? And is it 1 / coh(A), not coh(A)?"),
    ("np.floor(bound + 1e-9) - 1",
     "1 is subtracted always; only if the bound is an integer, k must be 1 less"),
    ("np.floor(bound + 1e-9)",
     "the answer is rounded down, but must be strictly less than the bound"),
    ("np.ceil(bound - 1e-9)", "the answer is rounded up; it must be below the bound"),
    (") / 2 => )", "the factor 1/2 is missing"),
    ("bound", "the bound is returned, which is no integer"),
], right="This k holds for every signal. Section 2 allows a far larger k for nearly every signal."
)  # fmt: skip


def weak_threshold(delta):
    alpha = np.linspace(0.01, 8, 4000)
    M = (1 + alpha**2) * norm.cdf(-alpha) - alpha * norm.pdf(alpha)
    return np.max((1 - 2 / delta * M) / (1 + alpha**2 - 2 * M))


table("04.weak_threshold", weak_threshold, [(0.5,), (0.25,), (0.1,), (0.75,)], [
    ("np.max =>", "the whole curve over alpha is returned; take its maximum"),
    ("alpha[np.argmax((1 - 2 / delta * M) / (1 + alpha**2 - 2 * M))]",
     "this is the alpha of the maximum; return the value of the fraction there"),
    ("np.max => np.argmax", "this is the index of the maximum; return the maximum"),
    ("(1 - 2 / delta * M) / (1 + alpha**2 - 2 * M) => 1 - 2 / delta * M / (1 + alpha**2 - 2 * M)",
     "brackets are missing around 1 - 2/delta M(alpha)"),
    ("2 / delta * M => 2 / (delta * M)", "M(alpha) stands above, not below: 2 / delta * M"),
    ("/ (1 + alpha**2 - 2 * M) => ) / np.max(1 + alpha**2 - 2 * M",
     "the maximum is taken above and below; take it of the whole fraction"),
    ("2 / delta => 1 / delta", "the factor 2 before M(alpha) is missing above"),
    ("- 2 * M => - M", "the factor 2 before M(alpha) is missing below"),
    ("return => return delta *", "this is k/n; the line is k/m, so do not multiply by delta"),
    ("2 / delta => 1 / delta && 2 * M => M",
     "this is the line for nonnegative signals: both factors of M(alpha) must be 2"),
    ("max => min", "this is the minimum over alpha; take the maximum"),
    ("2 / delta => 2 * delta", "2 M(alpha) is multiplied by delta, but must be divided by it"),
    ("- 2 * M =>", "the - 2 M(alpha) of the denominator is missing"),
    ("cdf(-alpha) => cdf(alpha)", "M(alpha) has Phi(-alpha), the small tail, not Phi(alpha)"),
    ("- alpha * => + alpha *", "M(alpha) has - alpha phi(alpha), not + alpha phi(alpha)"),
    ("cdf(-alpha) => pdf(alpha) && alpha * norm.pdf(alpha) => alpha * norm.cdf(-alpha)",
     "Phi (norm.cdf) and phi (norm.pdf) are swapped"),
    ("M = (1 + alpha**2) => M = (1 + alpha)", "M(alpha) starts with 1 + alpha**2, not 1 + alpha"),
    ("M = (1 + alpha**2) => M = (1 + alpha) ** 2",
     "M(alpha) starts with 1 + alpha^2, not (1 + alpha)^2"),
    ("- alpha * =>  - ", "alpha is missing before phi(alpha)"),
], rtol=5e-4, right="phase_transition of the package is this line, for one delta or many."
)  # fmt: skip


def next_tau(tau, X, xi, delta, sigma, alpha):
    error = soft_threshold(X + tau * xi, alpha * tau) - X
    return np.sqrt(sigma**2 + np.mean(error**2) / delta)


SAMPLES = (
    "rng = default_rng(2); X = rng.choice([-1.0, 0.0, 1.0], size=5_000, p=[0.05, 0.9, 0.05]); "
    "xi = rng.standard_normal(5_000); "
)
table("04.next_tau", next_tau, [
    (0.5, np.array([0.0, 1.0]), np.array([1.0, -1.0]), 0.5, 0.1, 1.0),
    SAMPLES + "tau = 0.458; delta = 0.5; sigma = 0.1; alpha = 1.5",
    SAMPLES + "tau = 0.2; delta = 0.25; sigma = 0.3; alpha = 1.2",
], [
    ("np.sqrt =>", "this is tau squared; the square root is missing"),
    ("np.mean(error**2)",
     "this is the mean squared error alone; divide by delta, add sigma**2, take the root"),
    ("np.mean(error**2) => np.mean(error) ** 2", "this squares the mean; take the mean of squares"),
    ("sigma + np.sqrt(np.mean(error**2) / delta)", "sigma**2 belongs under the root, too"),
    ("sigma + np.mean(error**2) / delta", "the root is of sigma**2 alone; take that of the sum"),
    ("- X => - (X + tau * xi)",
     "the noisy entry X + tau * xi is subtracted; subtract the signal X"),
    ("+ tau * xi => + sigma * xi", "sigma is the noise in y; an entry has the noise tau * xi"),
    ("/ delta =>", "the division by delta is missing"),
    ("/ delta => * delta", "the error is multiplied by delta; divide by it"),
    ("sigma**2 + =>", "the measurements' own noise sigma**2 is missing"),
    ("np.sqrt((sigma**2 + np.mean(error**2)) / delta)",
     "sigma**2 is divided by delta too; only the error is"),
    ("sigma**2 => sigma", "sigma is added, but must be squared first"),
    ("mean => sum", "the squared errors are summed; take their mean"),
    ("alpha * tau => alpha", "the threshold is alpha; it must be alpha * tau"),
    ("alpha * tau => tau", "the threshold is tau; it must be alpha * tau"),
    ("alpha * tau => 0.0", "nothing is thresholded"),
    ("tau * xi => xi", "the noise is xi; it must be tau * xi"),
    ("+ tau * xi =>", "the noise tau * xi is missing"),
    ("tau * xi => tau**2 * xi", "the noise is tau**2 * xi; tau is a standard deviation"),
    ("- X =>", "the signal X is not subtracted: the error is the shrunk value minus X"),
], right="A tau that comes back unchanged is the noise level at which AMP stops.")  # fmt: skip


@cache
def rho(n):
    return phase_transition(np.arange(1, n) / n)


def measurements_needed(n, k):
    m = np.arange(1, n)
    return m[np.argmax(k <= m * rho(n))]


table("04.measurements_needed", measurements_needed, [(100, 5), (100, 33), (60, 1), (120, 50)], [
    ("return => return -1 +",
     "one too small: at this m the line is still below k (argmax gives the index i, not m[i])"),
    ("return => return 1 +", "one too large: one measurement less is enough"),
    ("k <= m * => k / n <=", "rho was compared with k/n; it counts nonzeros per measurement, k/m"),
    ("k <= m * => k >= m *", "the comparison is the wrong way round: k <= m * rho(m/n)"),
    ("m[np.argmax(k <= m * rho(n))] / n", "this is delta = m/n; return m"),
    ("n - 1", "this is the largest m; the smallest is asked for"),
    ("2 * k", "2 k is the limit of uniqueness; l1 needs more"),
    ("k", "m = k: these are the nonzeros, not the measurements"),
    ("np.ceil(2 * k * np.log(n / k))",
     "this is the rule 2 k ln(n/k), which asks too much here; use the line"),
], lambda answer, right, inputs: "" if answer == np.round(answer) else "it is no integer",
    right="The line is that of large n; at a small n, take a few measurements more.",
)  # fmt: skip
