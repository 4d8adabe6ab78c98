"""A proximal operator is an argmin: it is compared with a search for one."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize

from cspkit.arguments import ArgumentError
from cspkit.recovery import (
    block_soft_threshold,
    hard_threshold,
    l0_threshold,
    project_l2_ball,
    project_linf_ball,
    soft_threshold,
)

GRID = np.linspace(-6, 6, 120_001)
points = st.floats(-4, 4)
thresholds = st.floats(0, 3)


@settings(max_examples=25, deadline=None)
@given(points, thresholds)
def test_soft_threshold_is_the_argmin_on_a_grid(v, t):
    best = GRID[np.argmin(0.5 * (GRID - v) ** 2 + t * np.abs(GRID))]
    assert soft_threshold(np.array([v]), t)[0] == pytest.approx(best, abs=1e-4)


@settings(max_examples=25, deadline=None)
@given(points, thresholds)
def test_nonnegative_soft_threshold_is_the_argmin_on_a_grid(v, t):
    grid = GRID[GRID >= 0]
    best = grid[np.argmin(0.5 * (grid - v) ** 2 + t * grid)]
    assert soft_threshold(np.array([v]), t, nonnegative=True)[0] == pytest.approx(best, abs=1e-4)


@settings(max_examples=25, deadline=None)
@given(points, thresholds)
def test_l0_threshold_reaches_the_minimum_on_a_grid(v, t):
    def f(x):
        return 0.5 * (x - v) ** 2 + t * (x != 0)

    smallest = min(np.min(f(GRID)), f(0.0))
    assert f(l0_threshold(np.array([v]), t)[0]) <= smallest + 1e-12


def test_block_soft_threshold_is_the_argmin():
    rng = np.random.default_rng(0)
    groups = np.array([0, 0, 1, 1, 1, 2])
    for t in (0.1, 0.7, np.array([0.2, 1.5, 0.4])):
        v = rng.standard_normal(6)

        def f(x, v=v, t=t):
            norms = np.array([np.linalg.norm(x[groups == g]) for g in range(3)])
            return 0.5 * np.sum((x - v) ** 2) + np.sum(t * norms)

        x = block_soft_threshold(v, t, groups)
        found = minimize(f, v, method="Powell", options={"xtol": 1e-10, "ftol": 1e-14})
        assert f(x) <= found.fun + 1e-10
        assert np.linalg.norm(x - found.x) < 1e-3


def test_block_soft_threshold_of_single_entries_is_soft_threshold():
    v = np.random.default_rng(1).standard_normal(9)
    assert block_soft_threshold(v, 0.4, np.arange(9)) == pytest.approx(soft_threshold(v, 0.4))


def test_block_soft_threshold_of_a_zero_group_stays_zero():
    assert np.array_equal(block_soft_threshold(np.zeros(3), 0.0, np.zeros(3, int)), np.zeros(3))


@pytest.mark.parametrize("k", [0, 1, 3, 5, 9])
def test_hard_threshold_beats_every_other_support(k):
    from itertools import combinations

    v = np.array([0.3, -2.0, 2.0, 0.0, 1.0])
    x = hard_threshold(v, k)
    assert np.count_nonzero(x) <= k
    error = np.sum((x - v) ** 2)
    for kept in combinations(range(5), min(k, 5)):
        other = np.zeros(5)
        other[list(kept)] = v[list(kept)]
        assert error <= np.sum((other - v) ** 2) + 1e-15


def test_hard_threshold_keeps_exactly_k_of_equal_magnitudes_and_works_by_column():
    v = np.ones((6, 2)) * [1, -1]
    assert np.count_nonzero(hard_threshold(v, 2), axis=0).tolist() == [2, 2]


@settings(max_examples=25, deadline=None)
@given(st.lists(points, min_size=1, max_size=5), thresholds)
def test_projections_are_the_nearest_points(v, radius):
    v = np.array(v)
    rng = np.random.default_rng(0)
    for project, norm in ((project_l2_ball, 2), (project_linf_ball, np.inf)):
        x = project(v, radius)
        assert np.linalg.norm(x, norm) <= radius + 1e-12
        # The nearest point p of a convex set: <v - p, z - p> <= 0 for every z in the set.
        for _ in range(20):
            z = rng.standard_normal(v.size)
            z *= radius / max(np.linalg.norm(z, norm), 1e-12)
            assert (v - x) @ (z - x) <= 1e-9


@settings(max_examples=25, deadline=None)
@given(st.lists(points, min_size=1, max_size=5), thresholds)
def test_moreau_decomposition(v, t):
    v = np.array(v)
    assert soft_threshold(v, t) + project_linf_ball(v, t) == pytest.approx(v, abs=1e-15)


@pytest.mark.parametrize(
    "prox",
    [
        lambda v: soft_threshold(v, 0.1),
        lambda v: soft_threshold(v, 0.1, nonnegative=True),
        lambda v: hard_threshold(v, 2),
        lambda v: l0_threshold(v, 0.1),
        lambda v: block_soft_threshold(v, 0.1, np.array([0, 0, 1])),
        lambda v: project_l2_ball(v, 0.1),
        lambda v: project_linf_ball(v, 0.1),
    ],
)
def test_float32_stays_float32(prox):
    assert prox(np.array([1, -2, 3], dtype=np.float32)).dtype == np.float32


def test_integers_and_lists_are_floats_inside():
    assert hard_threshold(np.uint8([0, 5, 3]), 1).tolist() == [0, 5, 0]
    assert hard_threshold(np.int8([-128, 5, 3]), 1).tolist() == [-128, 0, 0]
    assert hard_threshold([[1, -3], [2, 2]], 1).tolist() == [[0, -3], [2, 0]]
    assert l0_threshold(np.uint8([16, 1]), 2).tolist() == [16, 0]
    assert l0_threshold([16, 2, -3], 2).tolist() == [16, 0, -3]
    assert soft_threshold(np.uint8([1, 5]), 2).tolist() == [0, 3]
    assert soft_threshold(np.uint8([1, 5]), 2, nonnegative=True).tolist() == [0, 3]
    assert soft_threshold([3, -1], [1, 2]).tolist() == [2, 0]
    assert block_soft_threshold([3, 4], 1, [0, 0]) == pytest.approx([2.4, 3.2])
    assert block_soft_threshold(np.int8([100, 100]), 10, [0, 0])[0] == pytest.approx(
        92.93, abs=0.01
    )
    assert project_l2_ball(np.uint8([200, 200]), 1) == pytest.approx([0.5**0.5] * 2)
    assert project_linf_ball(np.uint8([200, 0]), 1).tolist() == [1, 0]
    assert project_linf_ball([-3, 2], [1, 5]).tolist() == [-1, 2]


@pytest.mark.parametrize(
    "call",
    [
        lambda v, t: soft_threshold(v, t),
        lambda v, t: l0_threshold(v, t),
        lambda v, t: block_soft_threshold(v, t, [0, 0, 1]),
        lambda v, radius: project_l2_ball(v, radius),
        lambda v, radius: project_linf_ball(v, radius),
    ],
)
def test_arguments_without_a_right_answer_are_refused(call):
    name = call.__code__.co_varnames[1]
    for v in ([3 + 4j, 1, 0], [np.nan, 1, 2], [np.inf, 1, 2], ["a", "b", "c"], [1, None, 2]):
        with pytest.raises(ArgumentError, match="^v "):
            call(v, 1)
    for t in (-1, np.nan, 1j, "1", [1, 2, 3, 4, 5], [-1, 2], None):
        with pytest.raises(ArgumentError, match=f"^{name} "):
            call([1.0, 2, 3], t)


def test_bad_k_and_groups_are_named():
    for k in (-1, 2.0, True, None):
        with pytest.raises(ArgumentError, match="^k is"):
            hard_threshold([1, 2, 3], k)
    with pytest.raises(ArgumentError, match="^v is a single number"):
        hard_threshold(3.0, 1)
    for groups in ([0], [0, -1, 0], [0, 2, 2], [0, 0.5, 1], [[0], [0, 1]]):
        with pytest.raises(ArgumentError, match="^groups "):
            block_soft_threshold([1, 2, 3], 1, groups)
    with pytest.raises(ArgumentError, match="^v has shape"):
        block_soft_threshold([[1, 2]], 1, [0, 0])


@pytest.mark.parametrize("size", [1e-170, 1e-30, 1.0, 1e30, 1e170, 1e300])
def test_operators_of_any_size(size):
    groups, v = np.array([0, 0, 1]), np.array([3.0, 4.0, 1e-3])
    assert block_soft_threshold(size * v, 0.5 * size, groups) / size == pytest.approx([2.7, 3.6, 0])
    assert project_l2_ball(size * v, 0.5 * size) / size == pytest.approx(0.1 * v, rel=1e-6)
    assert np.array_equal(project_l2_ball(size * v, 6 * size), size * v)
    assert l0_threshold([size, -size, 0.0], 0.0).tolist() == [size, -size, 0]
    # Each group has its own size.
    mixed = block_soft_threshold([3 * size, 4 * size, 2.0], [0.5 * size, 0.5], groups)
    assert mixed == pytest.approx([2.7 * size, 3.6 * size, 1.5])


def test_infinite_thresholds():
    assert soft_threshold([3.0, -1.0], np.inf).tolist() == [0, 0]
    assert l0_threshold([3.0, -1.0], np.inf).tolist() == [0, 0]
    assert block_soft_threshold([3.0, -1.0], np.inf, [0, 1]).tolist() == [0, 0]
    assert project_linf_ball([3.0, -1.0], np.inf).tolist() == [3, -1]
    assert l0_threshold([1e200, 1e100], 1e308).tolist() == [1e200, 0]


def test_float32_stays_float32_whatever_the_threshold():
    v = np.array([1, -2, 3], dtype=np.float32)
    for t in (np.float64(0.1), np.full(3, 0.1), 1e300):
        assert soft_threshold(v, t).dtype == np.float32
        assert project_linf_ball(v, t).dtype == np.float32
        assert l0_threshold(v, t).dtype == np.float32
