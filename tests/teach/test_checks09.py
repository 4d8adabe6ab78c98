"""The checks of notebook 09 accept the right answer and name each typical mistake."""

import numpy as np
import pytest
import torch
from answers import answer_tests

from cspkit.pruning.narang import Narang
from cspkit.teach import verdict


def largest(scores, k):
    mask = torch.zeros(scores.numel(), dtype=torch.bool)
    mask[scores.flatten().topk(k).indices] = True
    return mask.view_as(scores)


def uniform(score=torch.abs, share=lambda s: 1 - s, then=lambda mask: mask, whole=round):
    """The right masks, with switches for mistakes."""

    def answer(W, s):
        return {n: then(largest(score(w), whole(share(s) * w.numel()))) for n, w in W.items()}

    return answer


def one_threshold(W, s):
    sizes = torch.cat([w.abs().flatten() for w in W.values()])
    kept = largest(sizes, round((1 - s) * len(sizes))).split([w.numel() for w in W.values()])
    return {n: part.view_as(W[n]) for n, part in zip(W, kept, strict=True)}


def by_row(W, s):
    rows = {n: torch.atleast_2d(w) for n, w in W.items()}
    return {
        n: torch.stack([largest(r.abs(), round((1 - s) * len(r))) for r in of]).view_as(W[n])
        for n, of in rows.items()
    }


def with_ties(W, s):
    values = {n: w.abs().flatten().topk(round((1 - s) * w.numel())).values for n, w in W.items()}
    return {n: w.abs() >= values[n][-1] for n, w in W.items()}


def cuts_the_weights(W, s):
    masks = uniform()(W, s)
    for name, w in W.items():
        w *= masks[name]
    return masks


def cut_off(W, s):
    return {n: largest(w.abs(), w.numel() - int(s * w.numel())) for n, w in W.items()}


def returns_weights(W, s):
    return {n: W[n] * mask for n, mask in uniform()(W, s).items()}


def sorts(W, s):
    """Another right answer, with NumPy."""
    masks = {}
    for n, w in W.items():
        mask = np.ones(w.numel(), dtype=bool)
        mask[np.argsort(np.abs(w.numpy()).ravel())[: round(s * w.numel())]] = False
        masks[n] = mask.reshape(w.shape)
    return masks


def some_others(W, s):
    return {n: mask.flatten().roll(1).view_as(mask) for n, mask in uniform()(W, s).items()}


def step(mask_gradient=True, put_back=True, times=1):
    """The right step, with switches for mistakes."""

    def answer(weight, mask, adam):
        before = weight.detach().clone()
        if mask_gradient:
            weight.grad.mul_(mask)
        for _ in range(times):
            adam.step()
        if put_back:
            weight.data.copy_(torch.where(mask, weight.data, before))

    return answer


def forgets_to_clone(weight, mask, adam):
    before = weight.detach()
    weight.grad.mul_(mask)
    adam.step()
    weight.data.copy_(torch.where(mask, weight.data, before))


def names_a_new_tensor(weight, mask, adam):
    before = weight.detach().clone()
    weight.grad.mul_(mask)
    adam.step()
    weight = torch.where(mask, weight, before)


def returns_a_new_tensor(weight, mask, adam):
    before = weight.detach().clone()
    weight.grad.mul_(mask)
    adam.step()
    return torch.where(mask, weight, before)


def keeps_by_index(weight, mask, adam):
    """Another right answer."""
    before = weight.data[~mask]
    weight.grad[~mask] = 0
    adam.step()
    weight.data[~mask] = before


def sets_to_zero(weight, mask, adam):
    step()(weight, mask, adam)
    weight.data.mul_(mask)


def clears_memory(weight, mask, adam):
    step()(weight, mask, adam)
    adam.state[weight]["exp_avg"].mul_(mask)


def wrong_way_round(weight, mask, adam):
    step()(weight, ~mask, adam)


def no_step(weight, mask, adam):
    weight.grad.mul_(mask)


def counts(of):
    """Sum over the steps of a function of two rows, before and after."""
    return lambda masks: of(masks[:-1], masks[1:]).sum(axis=0)


def came_back(before, after):
    return ~before & after


def overwrites_masks(masks):
    result = counts(came_back)(masks)
    masks[:] = False
    return result


def soft(rank=0, extra=0.0, sign=torch.sign, floor=0.0):
    """The right threshold, with switches for mistakes."""

    def answer(V, k):
        sizes = V.abs().sort(descending=True).values
        tau = float(sizes[min(max(k + rank, 0), len(V) - 1)])
        if 0 < k:
            tau += extra * float(sizes[k - 1] - sizes[k])
        return sign(V) * (V.abs() - tau).clamp(min=floor)

    return answer


def kth(values, k):
    return values.sort(descending=True).values[k]


def soft_at(tau):
    return lambda w, k: w.sign() * (w.abs() - tau(w, k)).clamp(min=0)


def overwrites_w(w, k):
    w.copy_(soft()(w, k))
    return w


def hard(V, k):
    return V * largest(V.abs(), k)


def narang(ratio=1.5, hold=True, wait=True, scale=1.0):
    """The right threshold, with switches for mistakes."""

    def answer(t, start, ramp, end, q):
        theta = scale * q / (ramp - start + ratio * (end - ramp))
        t = min(t, end) if hold else t
        slow = min(t, ramp) - start
        return theta * ((max(slow, 0) if wait else slow) + ratio * max(t - ramp, 0))

    return answer


def pieces_exchanged(t, start, ramp, end, q):
    return q - narang()(start + end - t, start, start + end - ramp, end, q)


UNIFORM, STEP, RETURNS = "09.uniform_masks", "09.masked_step", "09.returns"
SOFT, NARANG = "09.soft_to", "09.narang_threshold"
RIGHT = {
    UNIFORM: uniform(),
    STEP: step(),
    RETURNS: counts(came_back),
    SOFT: soft(),
    NARANG: narang(),
}
WRONG = [
    (UNIFORM, one_threshold, "is the global budget"),
    (UNIFORM, uniform(then=lambda mask: ~mask), "that the weight is cut"),
    (UNIFORM, uniform(score=lambda w: -w.abs()), "the smallest weights are kept"),
    (UNIFORM, uniform(score=lambda w: w), "not the largest magnitudes"),
    (UNIFORM, uniform(share=lambda s: s), "s is the share that is cut"),
    (UNIFORM, uniform(whole=int), "round it"),
    (UNIFORM, cut_off, "round it"),
    (UNIFORM, by_row, "of every row"),
    (UNIFORM, with_ties, "neither >= nor >"),
    (UNIFORM, cuts_the_weights, "in place"),
    (UNIFORM, returns_weights, "return masks"),
    (UNIFORM, some_others, "they are not the largest"),
    (UNIFORM, uniform(share=lambda s: 1 - s + 0.1), "weights, expected"),
    (UNIFORM, uniform(then=torch.flatten), "view_as"),
    (UNIFORM, lambda W, s: list(uniform()(W, s).values()), "a dict with the keys"),
    (STEP, step(put_back=False), "Adam's momentum moves them"),
    (STEP, names_a_new_tensor, "only names a new tensor"),
    (STEP, returns_a_new_tensor, "into weight.data"),
    (STEP, forgets_to_clone, "copy the old values with .clone()"),
    (STEP, step(mask_gradient=False), "into Adam's memory"),
    (STEP, step(mask_gradient=False, put_back=False), "their gradient is not masked"),
    (STEP, step(times=2), "called twice"),
    (STEP, step(times=3), "not those of one plain step"),
    (STEP, sets_to_zero, "must keep their value"),
    (STEP, wrong_way_round, "wrong way round"),
    (STEP, no_step, "no weight has moved"),
    (RETURNS, lambda masks: counts(came_back)(masks) > 0, "count how often"),
    (RETURNS, counts(lambda a, b: a & ~b), "these are the cuts"),
    (RETURNS, counts(lambda a, b: a != b), "all changes are counted"),
    (RETURNS, lambda masks: (~masks).sum(axis=0), "steps for which a weight was cut"),
    (RETURNS, lambda masks: masks.sum(axis=0), "steps for which a weight was kept"),
    (RETURNS, lambda masks: masks[-1] & ~masks.all(axis=0), "kept at the end"),
    (RETURNS, lambda m: (~m[:-1] & m[1:] & m[-1]).sum(axis=0), "cut again later"),
    (RETURNS, lambda masks: (~masks[:-1] & masks[1:]).sum(), "for each weight"),
    (RETURNS, lambda masks: (~masks[:-1] & masks[1:]).sum(axis=1), "axis 0"),
    (RETURNS, lambda masks: masks.sum(axis=1), "sum over the steps, axis 0"),
    (RETURNS, overwrites_masks, "in place"),
    (RETURNS, lambda masks: counts(came_back)(masks) + 1,
     "the example, masks = np.array([[1, 0, 0, 1, 0, 1]]).T == 1"),
    (SOFT, hard, "this is the hard threshold"),
    (SOFT, soft(sign=torch.ones_like), "sign of negative entries"),
    (SOFT, soft(rank=-1), "also cuts the k-th largest"),
    (SOFT, soft_at(lambda w, k: w.abs().sort(descending=True).values[k - 1]), "one rank too large"),
    (SOFT, soft_at(lambda w, k: w.abs().sort().values[k]), "ascending order"),
    (SOFT, soft_at(lambda w, k: w.sort(descending=True).values[k]), "from the magnitudes"),
    (SOFT, lambda w, k: (w - kth(w.abs(), k)).clamp(min=0), "all negative entries are cut"),
    (SOFT, lambda w, k: w.sign() * (w - kth(w, k)).clamp(min=0), "magnitudes are missing"),
    (SOFT, lambda w, k: (w - kth(w, k)).clamp(min=0), "magnitudes are missing"),
    (SOFT, soft(rank=1), "k + 1 entries are left"),
    (SOFT, soft(floor=-torch.inf), "become negative"),
    (SOFT, soft(extra=0.5), "tau is not the smallest"),
    (SOFT, lambda w, k: w.clone(), "nothing is cut"),
    (SOFT, lambda w, k: 2 * soft()(w, k), "expected [ 2., -1.,  0.,  0.]"),
    (SOFT, lambda w, k: 0 * w, "nonzeros: 0, expected"),
    (SOFT, lambda w, k: soft()(w, k)[None], "the answer has shape (1, 4)"),
    (SOFT, lambda w, k: w.numpy(), "returns an ndarray, expected a tensor"),
    (SOFT, overwrites_w, "in place"),
    (NARANG, narang(ratio=1.0), "one slope all the way"),
    (NARANG, lambda t, *a: narang()(min(t, a[1]), *a) + max(0, min(t, a[2]) - a[1]) * a[3]
     / (a[1] - a[0] + 1.5 * (a[2] - a[1])), "the slope stays the same"),
    (NARANG, narang(hold=False), "must stay at q"),
    (NARANG, narang(wait=False), "before start"),
    (NARANG, lambda t, *a: narang()(t, *a) if t < a[2] else 0.0, "from end on it is q"),
    (NARANG, narang(scale=2.0), "expected 0.4"),
    (NARANG, pieces_exchanged, "t = 20, start = 0, ramp = 20, end = 40, q = 1"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "answer"),
    [(UNIFORM, sorts), (STEP, keeps_by_index), (SOFT, lambda w, k: soft()(w, k).tolist()),
     (RETURNS, lambda m: [int(n) for n in counts(came_back)(m)]),
     (NARANG, lambda *a: np.float64(narang()(*a)))],
)  # fmt: skip
def test_a_right_answer_in_another_form(name, answer):
    assert verdict(name, answer).startswith(f"right: {name}")


@pytest.mark.parametrize(
    ("name", "value"), [(RETURNS, 0.123), (SOFT, torch.tensor(0.123)), (NARANG, 0.123)]
)
def test_the_example_is_tried_first_and_shown(name, value):
    assert "the example" in verdict(name, lambda *_: value)


def test_the_memory_of_what_is_cut_may_be_cleared():
    assert verdict(STEP, clears_memory).startswith(f"right: {STEP}")


test_right, test_wrong, test_unsolved, test_nothing = answer_tests(RIGHT, WRONG, in_place={STEP})


def test_the_threshold_in_two_pieces_is_that_of_the_method():
    weights = {"w": torch.nn.Parameter(torch.linspace(-1, 1, 200).view(10, 20))}
    pruner = Narang(weights, 0.9, 40, quantile=0.5, start=0.1, ramp=0.3, end=0.6)
    q = float(pruner.threshold("w", 24))
    given = [float(pruner.threshold("w", t)) for t in range(4, 40)]
    expected = [narang()(t, 4, 12, 24, q) for t in range(4, 40)]
    assert np.allclose(given, expected, rtol=1e-5)
