import contextlib
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cspkit.arguments import ArgumentError
from cspkit.pruning.budget import (
    BUDGETS,
    keep_largest,
    layer_counts,
    masks_of_largest,
)
from cspkit.pruning.schedule import polynomial_sparsity


def test_the_schedule_starts_at_zero_ends_at_s_and_rises():
    s = [polynomial_sparsity(t, 100, 0.9, 6) for t in range(120)]
    assert s[0] == 0
    assert s[100:] == [0.9] * 20
    assert np.all(np.diff(s[:101]) > 0)
    assert s[50] == pytest.approx(0.9 * (1 - 0.5**6))


@pytest.mark.parametrize("k", [0, 1, 7, 12])
def test_keep_largest_keeps_exactly_k_even_with_ties(k):
    values = torch.tensor([[3.0, 1.0, 1.0, 1.0], [2.0, 1.0, 0.0, 0.0], [1.0, 3.0, 0.0, 0.0]])
    mask = keep_largest(values, k)
    assert int(mask.sum()) == k
    if 0 < k < 12:
        assert values[mask].min() >= values[~mask].max()


@pytest.mark.parametrize("kind", ["normal", "ties", "sorted", "periodic"])
@pytest.mark.parametrize("k", [1, 40, 3000, 30_001, 59_999, 60_000])
def test_the_largest_of_many_are_exact(kind, k):
    torch.manual_seed(0)
    values = torch.randn(60_000)
    if kind == "ties":
        values = values.round(decimals=1)
    elif kind == "sorted":
        values = values.sort().values
    elif kind == "periodic":
        values = (torch.arange(60_000) % 37).float()
    expected = torch.zeros(60_000, dtype=torch.bool)
    expected[values.argsort(descending=True, stable=True)[:k]] = True
    assert torch.equal(keep_largest(values, k), expected)


@pytest.mark.parametrize("budget", ["global", "uniform"])
@pytest.mark.parametrize("sparsity", [0.0, 0.333, 0.9, 0.9991])
def test_budgets_are_exact_to_one_weight(budget, sparsity):
    torch.manual_seed(0)
    weights = {"a": torch.randn(7, 11), "b": torch.randn(13, 3), "c": 9 * torch.randn(5, 5)}
    masks = masks_of_largest(weights, sparsity, budget)
    total = 7 * 11 + 13 * 3 + 5 * 5
    assert sum(int(m.sum()) for m in masks.values()) == total - round(sparsity * total)
    if budget == "uniform":
        for name, mask in masks.items():
            n = weights[name].numel()
            assert abs(int((~mask).sum()) - sparsity * n) <= 1
    else:
        kept = torch.cat([weights[n][m].abs() for n, m in masks.items()])
        cut = torch.cat([weights[n][~m].abs() for n, m in masks.items()])
        assert len(cut) == 0 or len(kept) == 0 or kept.min() >= cut.max()


@settings(max_examples=80, deadline=None)
@given(
    shapes=st.lists(st.tuples(st.integers(1, 12), st.integers(1, 12)), min_size=1, max_size=6),
    sparsity=st.floats(0, 1, exclude_max=True),
    budget=st.sampled_from(BUDGETS),
    floor=st.sampled_from([0.0, 1e-6, 0.1, 0.5]),
)
def test_every_budget_is_exact_and_no_layer_goes_below_its_floor(shapes, sparsity, budget, floor):
    torch.manual_seed(0)
    weights = {str(i): torch.randn(shape) for i, shape in enumerate(shapes)}
    total = sum(w.numel() for w in weights.values())
    n_kept = total - round(sparsity * total)
    least = [math.ceil(floor * w.numel()) for w in weights.values()]
    if sum(least) > n_kept:
        with pytest.raises(ValueError, match=f"expected at most .*floor = {floor} keeps"):
            masks_of_largest(weights, sparsity, budget, floor)
        return
    masks = masks_of_largest(weights, sparsity, budget, floor)
    kept = [int(mask.sum()) for mask in masks.values()]
    assert sum(kept) == n_kept
    assert all(k >= n for k, n in zip(kept, least, strict=True))
    for name, mask in masks.items():
        values = weights[name].abs()
        assert mask.all() or not mask.any() or values[mask].min() >= values[~mask].max()


def test_a_floor_keeps_a_layer_of_small_weights_alive():
    weights = {"small": 1e-3 * torch.ones(10, 10), "large": torch.randn(10, 10)}
    assert not masks_of_largest(weights, 0.9, "global")["small"].any()
    assert int(masks_of_largest(weights, 0.9, "global", 1e-6)["small"].sum()) == 1
    masks = masks_of_largest(weights, 0.9, "global", 0.05)
    assert [int(m.sum()) for m in masks.values()] == [5, 15]


def test_erk_densities_are_proportional_to_inputs_plus_outputs_over_their_product():
    shapes = {"a": (400, 100), "b": (200, 300), "c": (64, 32, 5)}
    n_kept = 10_000
    counts = layer_counts(shapes, n_kept, "erk")
    assert sum(counts.values()) == n_kept
    raw = {n: sum(shape) / math.prod(shape) for n, shape in shapes.items()}
    ratios = [counts[n] / math.prod(shapes[n]) / raw[n] for n in shapes]
    assert max(ratios) / min(ratios) == pytest.approx(1, abs=5e-3)


def test_erk_keeps_a_small_layer_whole_and_shares_the_rest():
    shapes = {"small": (4, 4), "a": (100, 50), "b": (200, 25)}
    counts = layer_counts(shapes, 1000, "erk")
    assert counts["small"] == 16
    assert sum(counts.values()) == 1000
    assert counts["a"] / counts["b"] == pytest.approx(150 / 225, abs=2e-3)


def test_erk_with_a_floor_and_a_cap_at_once():
    shapes = {"small": (3, 3), "large": (200, 200), "a": (20, 20)}
    least = {"small": 0, "large": 700, "a": 0}
    counts = layer_counts(shapes, 730, "erk", least)
    assert counts["large"] == 700
    assert counts["small"] + counts["a"] == 30


@pytest.mark.parametrize("n", [100, 60_000])
@pytest.mark.parametrize("n_nan", [1, 30])
def test_nan_is_refused_or_never_kept(n, n_nan):
    torch.manual_seed(0)
    for start in range(5):  # on the sampled entries, or beside them
        values = torch.rand(n)
        values[start : start + n_nan] = math.nan
        mask = None
        with contextlib.suppress(ArgumentError):
            mask = keep_largest(values, n // 20)
        if mask is not None:
            assert int(mask.sum()) == n // 20
            assert values[mask].isfinite().all()
