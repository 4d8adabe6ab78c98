"""Checks of the exercises of notebook 09, pruning as people do it."""

from __future__ import annotations

from collections.abc import Callable
from operator import itemgetter

import numpy as np
import torch
from torch import Tensor, nn

from cspkit.teach.cases import Case, table
from cspkit.teach.check import NOTHING, Verdict, exercise


def _largest(scores: Tensor, k: int) -> Tensor:
    mask = torch.zeros(scores.numel(), dtype=torch.bool)
    mask[scores.flatten().topk(k).indices] = True
    return mask.view_as(scores)


def _uniform(
    score: Callable[[Tensor], Tensor] = torch.abs,
    count: Callable[[float, int], int] = lambda s, n: round((1 - s) * n),
):
    """The masks of two layers; the options make typical mistakes."""
    return lambda a, b, s: tuple(_largest(score(w), count(s, w.numel())) for w in (a, b))


def _one_threshold(a: Tensor, b: Tensor, s: float) -> tuple[Tensor, ...]:
    both = _uniform()(torch.cat([a.flatten(), b.flatten()]), b, s)[0]
    return both[: a.numel()].view_as(a), both[a.numel() :].view_as(b)


def _by_row(a: Tensor, b: Tensor, s: float) -> tuple[Tensor, ...]:
    rows = [[_uniform()(row, row, s)[0] for row in torch.atleast_2d(w)] for w in (a, b)]
    return torch.stack(rows[0]).view_as(a), torch.stack(rows[1]).view_as(b)


def _uniform_cases() -> list[Case]:
    example = torch.tensor([1, -2, 3, 4]), torch.tensor([0.1, 0.2]), 0.5
    rng = np.random.default_rng(9)
    a = torch.tensor(rng.standard_normal((4, 10)) * [[1], [2], [4], [8]])
    b = torch.tensor(0.01 * rng.standard_normal((5, 6)))
    made = (
        "rng = default_rng(9); a = rng.standard_normal((4, 10)) * [[1], [2], [4], [8]]; "
        "b = 0.01 * rng.standard_normal((5, 6)); s = "
    )
    return [Case("the example, a = (1, -2, 3, 4), b = (0.1, 0.2), s = 0.5", example)] + [
        Case(f"{made}{s}", (a, b, s)) for s in (0.4, 0.73)
    ]


def _wrong_uniform(answer: object, right: tuple, inputs: tuple) -> str:
    kept, expected = ([int(np.sum(np.asarray(m))) for m in masks] for masks in (answer, right))
    if kept != expected:
        return f"the layers keep {kept} weights, expected {expected}; use round"
    return "the numbers of kept weights are right, but they are not the largest"


TRUNCATED = "the number of weights is cut off to an integer; round it"
_compared = table("09.uniform_masks", _uniform(), _uniform_cases(), [
    (_one_threshold, "one threshold for all layers is the global budget; each layer needs its own"),
    (lambda *a: tuple(~mask for mask in _uniform()(*a)),
     "True means that a weight is kept; here it means that the weight is cut"),
    (_uniform(lambda w: -w.abs()), "the smallest weights are kept, not the largest"),
    (_uniform(lambda w: w), "the largest values are kept, not the largest magnitudes"),
    (_uniform(count=lambda s, n: round(s * n)), "a share s is kept; s is the share that is cut"),
    (_by_row, "the same share of every row is cut; use one threshold per matrix"),
    (_uniform(count=lambda s, n: int((1 - s) * n)), TRUNCATED),
    (_uniform(count=lambda s, n: n - int(s * n)), TRUNCATED),
    (lambda *a: tuple(mask.flatten() for mask in _uniform()(*a)),
     "a mask has the shape of its matrix; view_as(w) gives the shape back"),
    (lambda a, b, s: tuple(w * m for w, m in zip((a, b), _uniform()(a, b, s), strict=True)),
     "the weights are returned; return masks, True where a weight is kept"),
], _wrong_uniform, parts=("the mask of a", "the mask of b"))  # fmt: skip


@exercise("09.uniform_masks")
def uniform_masks(answer: Callable[[dict[str, Tensor], float], dict[str, Tensor]]) -> Verdict:
    """Ask for an exact number among equal weights, which has several answers, and compare."""
    masks = answer({"a": torch.ones(2), "b": torch.ones(2, 4)}, 0.5)
    if masks is None:
        return NOTHING
    if not isinstance(masks, dict) or set(masks) != {"a", "b"}:
        return "the function must return a dict with the keys of W, here 'a' and 'b'"
    wrong = _compared(lambda a, b, s: itemgetter("a", "b")(answer({"b": b, "a": a}, s)))
    if wrong is None and (kept := int(masks["b"].sum())) != 4:
        return f"of 8 equal weights {kept} are kept, expected 4: use neither >= nor >"
    return wrong


GRADIENTS = torch.tensor([[1.0, -2.0, 0.5, 3.0], [-1.0, 0.2, 2.0, -0.4]])
Step = Callable[[nn.Parameter, Tensor, torch.optim.Adam], object]


def _trained(step: Step):
    """What three dense steps and three of `step` leave: values, Adam's memory, what leaked."""

    def after(start: Tensor, mask: Tensor) -> tuple[Tensor, ...]:
        weight = nn.Parameter(start.clone())
        adam = torch.optim.Adam([weight], lr=0.1)
        for t in range(6):
            weight.grad = GRADIENTS.clone()
            if t < 3:
                adam.step()
                squares = adam.state[weight]["exp_avg_sq"].clone()
            else:
                step(weight, mask, adam)
        memory = adam.state[weight]
        # Without new gradients the squares only shrink. A step may also clear what is cut.
        leaked = ~mask & (memory["exp_avg_sq"] > squares)
        return weight.detach(), memory["exp_avg"][mask], leaked

    return after


def _step(mask_of: Callable = lambda mask: mask, put_back: bool = True, times=1, rest=1.0) -> Step:
    """One step under a mask; the options make its typical mistakes."""

    def step(weight: nn.Parameter, mask: Tensor, adam: torch.optim.Adam) -> None:
        before = weight.detach().clone()
        weight.grad.mul_(mask_of(mask))
        for _ in range(times):
            adam.step()
        if put_back:
            weight.data.copy_(torch.where(mask, weight.data, rest * before))

    return step


_same_steps = table("09.masked_step", _trained(_step()), [
    Case(f"weights from -2 to 2, shape (2, 4), after dense steps of Adam; mask {mask}",
         (torch.linspace(-2, 2, 8).view(2, 4), torch.tensor(mask)))
    for mask in ([[False] * 4] * 2, [[True, False, True, False], [False, True, True, False]])
], [
    (_trained(lambda *_: None), "no weight has moved: call adam.step(), write into weight.data"),
    (_trained(lambda weight, mask, adam: _step()(weight, ~mask, adam)),
     "the mask is read the wrong way round: True is what is kept, and learns"),
    (_trained(_step(rest=0.0)), "cut weights became zero; they must keep their value"),
    (_trained(_step(put_back=False)),
     "cut weights have moved: Adam's momentum moves them, so put their old values back; if you do, "
     "remember them with .clone(), since the step also changes weight.detach() and weight.data"),
    (_trained(_step(torch.ones_like, put_back=False)),
     "cut weights have moved: their gradient is not masked, and their old values, remembered with "
     ".clone(), are not put back"),
    (_trained(_step(torch.ones_like)),
     "the gradient of cut weights got into Adam's memory: mask weight.grad before the step"),
    (_trained(_step(times=2)), "adam.step() was called twice; make one step"),
], "the kept weights or Adam's running means are not those of one plain step",
   parts=("the weights", "Adam's memory of what is kept", "of what is cut"))  # fmt: skip


@exercise("09.masked_step")
def masked_step(answer: Step) -> Verdict:
    """Compare values and Adam's memory after dense steps that give it momentum."""
    return _same_steps(_trained(answer))


def _sum(of: Callable[[np.ndarray, np.ndarray], np.ndarray], axis: int | None = 0):
    """Sum over the steps of a function of two rows, before and after."""
    return lambda masks: of(masks[:-1], masks[1:]).sum(axis=axis)


def _lives() -> list[Case]:
    lives = {life: np.array([[digit == "1"] for digit in life]) for life in
             ("100101", "1001011", "1111111", "1000000", "0111000", "1010110")}  # fmt: skip
    cases = [Case(f"the life [{', '.join(life)}]", (masks,)) for life, masks in lives.items()]
    cases[0] = cases[0]._replace(where=f"the example, {cases[0].where}")
    chance = np.random.default_rng(9).random((11, 40)) < 0.5
    return [*cases, Case("default_rng(9).random((11, 40)) < 0.5", (chance,))]


ALONG = "the sum runs over the weights; sum over the steps, axis 0"
table("09.returns", _sum(lambda a, b: ~a & b), _lives(), [
    (lambda m: (~m[:-1] & m[1:]).any(axis=0), "this says whether it came back; count how often"),
    (_sum(lambda a, b: a & ~b), "these are the cuts, kept and then cut"),
    (_sum(lambda a, b: a != b), "all changes are counted; a cut is no return"),
    (lambda m: (~m).sum(axis=0), "these are the steps for which a weight was cut"),
    (lambda m: m.sum(axis=0), "these are the steps for which a weight was kept"),
    (lambda m: m[-1] & ~m.all(axis=0), "only weights that are kept at the end are counted"),
    (lambda m: (~m[:-1] & m[1:] & m[-1]).sum(axis=0),
     "a return counts even if the weight is cut again later"),
    (_sum(lambda a, b: ~a & b, None), "this is one number; a number for each weight is expected"),
    (_sum(lambda a, b: ~a & b, 1), ALONG),
    (lambda m: m.sum(axis=1), ALONG),
])  # fmt: skip


def _soft(rank: int = 0, sign: Callable = torch.sign, least: float = 0.0):
    """The soft threshold that leaves k; the options make its typical mistakes."""

    def answer(w: Tensor, k: int) -> Tensor:
        tau = w.abs().sort(descending=True).values[min(max(k + rank, 0), len(w) - 1)]
        return sign(w) * (w.abs() - tau).clamp(min=least)

    return answer


def _soft_cases() -> list[Case]:
    w = torch.tensor(np.random.default_rng(4).standard_normal(30))
    return [
        Case("the example, w = (3, -2, 1, 0.5), k = 2", (torch.tensor([3.0, -2.0, 1.0, 0.5]), 2)),
        Case("w = (0.1, 0.9, -0.4), k = 1", (torch.tensor([0.1, 0.9, -0.4]), 1)),
        *(Case(f"w = default_rng(4).standard_normal(30), k = {k}", (w, k)) for k in (0, 7, 29)),
    ]


def _wrong_soft(answer: object, right: Tensor, inputs: tuple) -> str:
    size, expected = np.abs(np.asarray(answer)), np.abs(right.numpy())
    if (left := np.count_nonzero(size)) != inputs[1]:
        return f"{left} entries are left, expected {inputs[1]}"
    if np.all((size > 0) == (expected > 0)) and np.all(size <= expected + 1e-6):
        return "the right entries are left, but tau is not the smallest: too much is taken off"
    return ""


table("09.soft_to", _soft(), _soft_cases(), [
    (lambda w, k: w * _largest(w.abs(), k),
     "this is the hard threshold: the survivors must lose tau as well"),
    (_soft(sign=torch.ones_like), "the sign of negative entries is lost"),
    (lambda w, k: w, "nothing is cut: this is w"),
    (_soft(least=-torch.inf), "magnitudes below tau become negative"),
    (_soft(rank=-1), "tau is one rank too large: it also cuts the k-th largest"),
    (_soft(rank=1), "tau is one rank too small: k + 1 entries are left"),
], _wrong_soft)  # fmt: skip


def _narang(ratio: float = 1.5, hold: bool = True, wait: bool = True, slope: float | None = None):
    """The threshold in two pieces; the options make its typical mistakes."""

    def answer(t: int, start: int, ramp: int, end: int, q: float) -> float:
        theta = q / (ramp - start + ratio * (end - ramp))
        first = min(t, ramp) - start
        second = max((min(t, end) if hold else t) - ramp, 0)
        return theta * ((max(first, 0) if wait else first) + (slope or ratio) * second)

    return answer


def _narang_cases() -> list[Case]:
    example = [(t, 0, 20, 40, 1.0) for t in (20, 40, 50, 0, 10, 27)]
    other = [(t, 10, 25, 50, 0.3) for t in (25, 50, 80, 6, 17, 32)]
    shown = "t, start, ramp, end, q = "
    return [Case(f"the example, {shown}{given}", given) for given in example[:3]] + [
        Case(f"{shown}{given}", given) for given in example[3:] + other
    ]


def _wrong_narang(answer: object, right: float, inputs: tuple) -> str:
    t, start, _, end, _ = inputs
    return "from end on it is q" if t >= end else "before start it is 0" if t < start else ""


table("09.narang_threshold", _narang(), _narang_cases(), [
    (_narang(ratio=1.0), "there is one slope all the way: from ramp on it is 1.5 theta"),
    (_narang(slope=1.0), "theta is right, but from ramp on the slope is 1.5 theta"),
    (_narang(hold=False), "the threshold rises after end; it must stay at q"),
    (_narang(wait=False), "the threshold is negative before start; it must be 0"),
], _wrong_narang)  # fmt: skip
