"""Checks of the exercises of notebook 03, greedy and thresholding."""

from __future__ import annotations

import numpy as np

from cspkit.recovery import hard_threshold
from cspkit.teach.cases import Case, table

Vector = np.ndarray


def _fit(A: Vector, y: Vector, support: Vector) -> Vector:
    x = np.zeros(A.shape[1])
    x[support] = np.linalg.lstsq(A[:, support], y, rcond=None)[0]
    return x


def _ratio(A: Vector, above: Vector, below: Vector) -> float:
    A_g = A @ below
    return above @ above / (A_g @ A_g)


def _on(g: Vector, support: Vector) -> Vector:
    return np.where(np.isin(np.arange(g.size), support), g, 0)


def _best(A: Vector, g: Vector, support: Vector) -> float:
    return _ratio(A, _on(g, support), _on(g, support))


def _best_step_cases() -> list[Case]:
    rng = np.random.default_rng(1)
    A, r = rng.standard_normal((12, 20)), rng.standard_normal(12)
    return [
        Case(
            "the example, A = diag(1, 2, 10), g = (3, 1, 5), support [0, 1]",
            (np.diag([1, 2, 10]), np.array([3, 1, 5]), np.array([0, 1])),
        ),
        Case(
            "rng = default_rng(1); A, r = rng.standard_normal((12, 20)), rng.standard_normal(12); "
            "g = A.T @ r; support [3, 17, 8, 11]",
            (A, A.T @ r, np.array([3, 17, 8, 11])),
        ),
    ]


table(
    "03.best_step",
    _best,
    _best_step_cases(),
    [
        (lambda *a: 1 / _best(*a), "the fraction is upside down: ||g_S||^2 belongs on top"),
        (lambda *a: np.sqrt(_best(*a)), "the norms must be squared, above and below"),
        (lambda A, g, S: _ratio(A, g, g), "the whole g is used; only its entries on S move"),
        (
            lambda A, g, S: _ratio(A, g, _on(g, S)),
            "||g||^2 on top takes the whole g; use g on S above and below",
        ),
        (
            lambda A, g, S: _ratio(A, _on(g, S), g),
            "A g below takes the whole g; use A[:, S] @ g[S]",
        ),
        (lambda *a: -_best(*a), "the sign is wrong: g already points downhill"),
        (
            lambda *a: 2 * _best(*a),
            "a factor 2 too large: the derivative of the square has it twice",
        ),
        (
            lambda *a: _best(*a) / 2,
            "a factor 2 too small: the derivative of the square has it twice",
        ),
        (
            lambda A, g, S: 1 / np.linalg.norm(A, 2) ** 2,
            "this is 1/L, safe for all directions; take the best step along g_S",
        ),
    ],
    "another step makes ||r - eta A g_S|| smaller",
)


def _htp(A: Vector, y: Vector, moved: Vector, k: int) -> Vector:
    return _fit(A, y, np.flatnonzero(hard_threshold(moved, k)))


def _moved(A: Vector, y: Vector, x: Vector, eta: float) -> Vector:
    return x + eta * A.T @ (y - A @ x)


def _htp_cases() -> list[Case]:
    rng = np.random.default_rng(2)
    A, y = rng.standard_normal((15, 30)) / np.sqrt(15), rng.standard_normal(15)
    start = np.zeros(30)
    start[[2, 9, 21, 28]] = 1.5, -0.8, 0.6, -1.2
    made = (
        "rng = default_rng(2); A = rng.standard_normal((15, 30)) / np.sqrt(15); "
        "y = rng.standard_normal(15); k = 4; "
    )
    somewhere = "x = 0 but x[[2, 9, 21, 28]] = 1.5, -0.8, 0.6, -1.2"
    return [
        Case(
            "the example, A = I, y = (3, 0, -4), x = 0, k = 1, eta = 0.5",
            (np.eye(3, dtype=int), np.array([3, 0, -4]), np.zeros(3, dtype=int), 1, 0.5),
        ),
        Case(f"{made}{somewhere}; eta = 0.7", (A, y, start, 4, 0.7)),
        Case(f"{made}x = 0; eta = 1", (A, y, np.zeros(30), 4, 1.0)),
        Case(f"{made}{somewhere}; eta = 3", (A, y, start, 4, 3.0)),
    ]


def _wrong_htp(answer: object, right: Vector, inputs: tuple) -> str:
    count, k = np.count_nonzero(answer), inputs[3]
    if count != k:
        return f"{count} entries are not zero, expected {k}"
    return "the values are not the least squares fit on the support of the moved point"


table(
    "03.htp_step",
    lambda A, y, x, k, eta: _htp(A, y, _moved(A, y, x, eta), k),
    _htp_cases(),
    [
        (
            lambda A, y, x, k, eta: hard_threshold(_moved(A, y, x, eta), k),
            "this is a step of IHT: the support is right, now fit its values to y",
        ),
        (
            lambda A, y, x, k, eta: _moved(A, y, x, eta),
            "nothing was cut; keep the k largest with hard_threshold",
        ),
        (
            lambda A, y, x, k, eta: _htp(A, y, _moved(A, y, x, -eta), k),
            "the step goes uphill: add eta A^T (y - A x)",
        ),
        (
            lambda A, y, x, k, eta: _htp(A, y, A.T @ (y - A @ x), k),
            "the support is chosen from the gradient alone; the step starts at x",
        ),
        (
            lambda A, y, x, k, eta: _htp(A, y, A.T @ y, k),
            "x is ignored; the gradient is taken at x and the step starts there",
        ),
        (
            lambda A, y, x, k, eta: _htp(A, y, x + eta * A.T @ y, k),
            "the gradient needs the residual y - A x, not y",
        ),
        (
            lambda A, y, x, k, eta: _fit(
                A, y, np.flatnonzero((x != 0) | (hard_threshold(_moved(A, y, x, eta), k) != 0))
            ),
            "the old support was kept as well; the k chosen positions replace it",
        ),
        (
            lambda A, y, x, k, eta: _fit(A, y, np.flatnonzero(hard_threshold(x, k))),
            "the support is the old one; move before you choose",
        ),
        (
            lambda A, y, x, k, eta: _htp(A, y, _moved(A, y, x, 1.0), k),
            "eta is not used",
        ),
        (
            lambda A, y, x, k, eta: _fit(A, y, np.argsort(-_moved(A, y, x, eta))[:k]),
            "the k largest values were kept; compare magnitudes",
        ),
        (
            lambda A, y, x, k, eta: hard_threshold(np.linalg.lstsq(A, y, rcond=None)[0], k),
            "all columns were fitted and then cut; choose first, then fit the chosen ones",
        ),
    ],
    _wrong_htp,
)


def _memory(at: str = "z", start: str = "v", sign: float = -1, rate: bool = True):
    """A step with memory; the options make its typical mistakes."""

    def step(A: Vector, y: Vector, v: Vector, k: int, eta: float) -> tuple[Vector, Vector]:
        points = {"z": hard_threshold(v, k), "v": v}
        gradient = A.T @ (A @ points[at] - y)
        return points["z"], points[start] + sign * (eta if rate else 1.0) * gradient

    return step


def _gradient_on_support(A: Vector, y: Vector, v: Vector, k: int, eta: float):
    z = hard_threshold(v, k)
    return z, v - eta * np.where(z != 0, A.T @ (A @ z - y), 0)


def _largest_values(A: Vector, y: Vector, v: Vector, k: int, eta: float):
    z = np.where(v >= np.sort(v)[-k], v, 0)
    return z, v - eta * A.T @ (A @ z - y)


def _cut_afterwards(at: str):
    def step(A: Vector, y: Vector, v: Vector, k: int, eta: float) -> tuple[Vector, Vector]:
        v_new = _memory(at)(A, y, v, k, eta)[1]
        return hard_threshold(v_new, k), v_new

    return step


def _memory_cases() -> list[Case]:
    rng = np.random.default_rng(3)
    A, y, v = rng.standard_normal((8, 12)), rng.standard_normal(8), rng.standard_normal(12)
    return [
        Case(
            "the example, A = I, y = (1, 1), v = (2, 0.5), k = 1, eta = 0.1",
            (np.eye(2, dtype=int), np.array([1, 1]), np.array([2, 0.5]), 1, 0.1),
        ),
        Case(
            "rng = default_rng(3); A, y, v = rng.standard_normal((8, 12)), rng.standard_normal(8), "
            "rng.standard_normal(12); k = 3; eta = 0.2",
            (A, y, v, 3, 0.2),
        ),
    ]


def _wrong_memory(answer: object, right: tuple, inputs: tuple) -> str:
    if not np.allclose(answer[0], right[0]):
        return "z is not H_k(v)"
    return "the next v is not v - eta A^T (A z - y)"


table(
    "03.memory_step",
    _memory(),
    _memory_cases(),
    [
        (lambda *a: _memory()(*a)[::-1], "z and v are returned in the wrong order"),
        (
            lambda *a: (a[2], _memory()(*a)[1]),
            "z is not cut; it keeps only the k largest magnitudes of v",
        ),
        (lambda *a: (a[2], _memory("v")(*a)[1]), "nothing is cut: z is H_k(v)"),
        (
            _cut_afterwards("z"),
            "z is cut from the new v; cut first, then take the gradient at this z",
        ),
        (
            _cut_afterwards("v"),
            "z is cut from the new v; cut first, then take the gradient at this z",
        ),
        (_largest_values, "z keeps the largest values; compare magnitudes"),
        (
            _memory(at="v"),
            "the gradient is taken at v, so the misfit never sees the cut; take it at z",
        ),
        (
            _memory(start="z"),
            "the step starts at z: this is IHT, which forgets what it cuts; start at v",
        ),
        (
            _gradient_on_support,
            "the gradient reaches only the kept entries, so the cut ones cannot come back",
        ),
        (
            lambda *a: (_memory()(*a)[0], hard_threshold(_memory()(*a)[1], a[3])),
            "the new v is cut; the memory stays dense",
        ),
        (_memory(sign=1), "the sign is wrong: v moves against the gradient A^T (A z - y)"),
        (_memory(rate=False), "eta is not used"),
        (lambda *a: (_memory()(*a)[0], a[2]), "v did not move"),
        (lambda *a: (_memory()(*a)[0],) * 2, "the new v is z: nothing is remembered"),
        (
            _memory(at="v", start="z"),
            "z and v have changed places: gradient at z, step from v",
        ),
    ],
    _wrong_memory,
    parts=("z", "v"),
)


def _rests(side=np.max, bar=np.min, size_g=np.abs, size_z=np.abs, everywhere=False, start=False):
    """The test for a resting place; the options make its typical mistakes."""

    def answer(A: Vector, y: Vector, support: Vector, ratio: float) -> bool:
        z = _fit(A, y, support)
        g = A.T @ (y if start else y - A @ z)
        on = size_z(z if everywhere else z[support])
        return bool(ratio * side(size_g(np.delete(g, support))) <= bar(on))

    return answer


def _turned(A: Vector, y: Vector, support: Vector, ratio: float) -> bool:
    z = _fit(A, y, support)
    off = np.abs(np.delete(A.T @ (y - A @ z), support))
    return bool(np.max(off) <= ratio * np.min(np.abs(z[support])))


def _strict(A: Vector, y: Vector, support: Vector, ratio: float) -> bool:
    z = _fit(A, y, support)
    off = np.abs(np.delete(A.T @ (y - A @ z), support))
    return bool(ratio * np.max(off) < np.min(np.abs(z[support])))


def _rests_cases() -> list[Case]:
    small, small_y = np.array([[1, 0, 0.6], [0, 1, 0.8]]), np.array([1, 0.5])
    cases = [
        Case(
            f"the example A = [[1, 0, 0.6], [0, 1, 0.8]], y = (1, 0.5), support [0], ratio {ratio}",
            (small, small_y, np.array([0]), ratio),
        )
        for ratio in (1, 4)
    ]
    rng = np.random.default_rng(4)
    A = rng.standard_normal((10, 16)) / np.sqrt(10)
    signal = np.zeros(16)
    signal[[2, 7, 11]] = 1.0, -1.0, 1.0
    y = A @ signal + 0.1 * rng.standard_normal(10)
    supports = [np.array([2, 7, 11])]
    supports += [rng.choice(16, size=3, replace=False) for _ in range(40)]
    made = (
        "rng = default_rng(4); A = rng.standard_normal((10, 16)) / np.sqrt(10); y = A[:, 2] "
        "- A[:, 7] + A[:, 11] + 0.1 * rng.standard_normal(10); "
    )
    cases += [
        Case(f"{made}support {support.tolist()}, ratio {ratio:g}", (A, y, support, ratio))
        for support in supports
        for ratio in (0.05, 0.2, 0.5, 1.0, 2.0, 4.0)
    ]
    exact = np.eye(4)[:, [0, 1, 2, 3, 0]], np.array([2.0, 0, 0, 0]), np.array([0, 1]), 1e6
    return [
        *cases,
        Case("A = I with column 0 once more, y = (2, 0, 0, 0), support [0, 1], ratio 1e6", exact),
    ]


table(
    "03.rests",
    _rests(),
    _rests_cases(),
    [
        (lambda *a: not _rests()(*a), "the answer is the opposite: True means that it rests"),
        (_turned, "the ratio is on the wrong side: ratio * max |g_j| <= min |z_i|"),
        (
            _rests(size_z=np.array),
            "the values of z are compared with their sign; use np.abs(z[S])",
        ),
        (_rests(size_g=np.array), "g is compared with its sign; use np.abs(g) off S"),
        (
            _rests(everywhere=True),
            "it never rests; a minimum over all of z is 0, as z is 0 off S: take z[S]",
        ),
        (_rests(bar=np.max), "the largest |z_i| was taken; the smallest one leaves first"),
        (_rests(side=np.min), "the smallest |g_j| was taken; the largest one enters first"),
        (_rests(start=True), "g is A^T y; it must be the gradient at z, A^T (y - A z)"),
        (lambda *a: _rests()(*a[:3], 1.0), "the ratio is not used"),
        (_strict, "with g = 0 and z_i = 0 the two sides are equal, and it rests: use <="),
    ],
)
