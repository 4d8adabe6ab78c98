"""Checks of the exercises of notebook 09, pruning as people do it."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn

from cspkit.teach.check import NOTHING, Verdict, as_array, exercise


def _layers() -> dict[str, Tensor]:
    """Two matrices of different scale, their rows of different scale too."""
    generator = torch.Generator().manual_seed(9)
    wide = torch.randn(4, 10, generator=generator) * torch.tensor([[1.0], [2.0], [4.0], [8.0]])
    return {"wide": wide, "small": 0.01 * torch.randn(5, 6, generator=generator)}


def _cut(scores: Tensor, k: int) -> Tensor:
    mask = torch.zeros(scores.numel(), dtype=torch.bool)
    mask[scores.flatten().topk(k).indices] = True
    return mask.view_as(scores)


@exercise("09.uniform_masks")
def uniform_masks(answer: Callable[[dict[str, Tensor], float], dict[str, Tensor]]) -> Verdict:
    """Check masks layer by layer, with layers of different scale and with equal weights."""
    for s in (0.75, 0.4):
        layers = _layers()
        given = {name: w.clone() for name, w in layers.items()}
        masks = answer(given, s)
        wrong = _no_masks(masks, layers)
        if wrong:
            return wrong
        if not all(torch.equal(given[name], w) for name, w in layers.items()):
            return "the weights themselves were changed; return masks only"
        right = {n: _cut(w.abs(), round((1 - s) * w.numel())) for n, w in layers.items()}
        if not all(torch.equal(masks[name], mask) for name, mask in right.items()):
            return _wrong_masks(masks, layers, right, s)
    equal = answer({"equal": torch.ones(2, 4)}, 0.5)["equal"]
    if int(equal.sum()) != 4:
        return f"of 8 equal weights {int(equal.sum())} are kept, not 4: use neither >= nor >"
    return None


def _no_masks(masks: object, layers: dict[str, Tensor]) -> Verdict:
    if masks is None:
        return NOTHING
    if not isinstance(masks, dict) or set(masks) != set(layers):
        return f"expected a dict with the keys {sorted(layers)}"
    for name, w in layers.items():
        mask = masks[name]
        if not isinstance(mask, torch.Tensor) or mask.dtype != torch.bool:
            kind = mask.dtype if isinstance(mask, torch.Tensor) else type(mask).__name__
            return f"a mask is a tensor of bool, this is {kind}"
        if mask.shape != w.shape:
            shapes = f"{tuple(w.shape)} has a mask of shape {tuple(mask.shape)}"
            return f"a matrix {shapes}: view_as(w) gives the shape back"
    return None


def _wrong_masks(
    masks: dict[str, Tensor], layers: dict[str, Tensor], right: dict[str, Tensor], s: float
) -> str:
    def same(other: dict[str, Tensor]) -> bool:
        return all(torch.equal(masks[name], mask) for name, mask in other.items())

    sizes = torch.cat([w.abs().flatten() for w in layers.values()])
    together = _cut(sizes, round((1 - s) * len(sizes))).split([w.numel() for w in layers.values()])
    if same({n: m.view_as(layers[n]) for n, m in zip(layers, together, strict=True)}):
        return "one threshold for all layers is the global budget; each layer needs its own"
    if same({n: ~m for n, m in right.items()}):
        return "True is what is kept; here it is what is cut"
    if same({n: _cut(-w.abs(), int(right[n].sum())) for n, w in layers.items()}):
        return "the smallest weights are kept, not the largest"
    if same({n: _cut(w, int(right[n].sum())) for n, w in layers.items()}):
        return "the largest values are kept, not the largest magnitudes"
    if same({n: _cut(w.abs(), round(s * w.numel())) for n, w in layers.items()}):
        return "a share s is kept; s is the share that is cut"
    rows = {n: torch.stack([_cut(r.abs(), round((1 - s) * len(r))) for r in w]) for n, w in
            layers.items()}  # fmt: skip
    if same(rows):
        return "the same share of every row is cut; one threshold per matrix is asked for"
    for name, mask in right.items():
        if int(masks[name].sum()) != int(mask.sum()):
            kept = f"{int(masks[name].sum())} of {mask.numel()} weights are kept"
            return f"with s = {s}, {kept}, expected {int(mask.sum())}"
    return "the number of kept weights is right, but they are not the largest"


GRADIENTS = torch.tensor([[1.0, -2.0, 0.5, 3.0], [-1.0, 0.2, 2.0, -0.4]])


@exercise("09.masked_step")
def masked_step(answer: Callable[[nn.Parameter, Tensor, torch.optim.Adam], None]) -> Verdict:
    """Check values, and the memory of Adam, after dense steps that give it momentum."""
    mask = torch.tensor([[True, False, True, False], [False, True, True, False]])
    weight, adam = _with_momentum()
    twin, plain = _with_momentum()
    start = weight.detach().clone()
    for _ in range(3):
        weight.grad, twin.grad = GRADIENTS.clone(), GRADIENTS * mask
        answer(weight, mask, adam)
        plain.step()
    now = weight.detach()
    if torch.equal(now, start):
        return "no weight has moved: call adam.step(), and write into weight.data"
    if torch.equal(now[mask], start[mask]) and not torch.equal(now[~mask], start[~mask]):
        return "the mask is read the wrong way round: True is what is kept, and learns"
    if bool((now[~mask] == 0).all()):
        return "cut weights became zero; they keep the value that they had"
    if not torch.equal(now[~mask], start[~mask]):
        return "cut weights have moved: a mask on the gradient does not stop Adam's momentum"
    mine, right = adam.state[weight], plain.state[twin]
    cleared = bool((mine["exp_avg"][~mask] == 0).all())  # is not asked for, and does no harm
    mean = right["exp_avg"] * mask if cleared else right["exp_avg"]
    squares = torch.allclose(mine["exp_avg_sq"][mask], right["exp_avg_sq"][mask])
    squares &= bool((mine["exp_avg_sq"] <= right["exp_avg_sq"] + 1e-6).all())
    if not (squares and torch.allclose(mine["exp_avg"], mean)):
        return (
            "the gradient of cut weights got into Adam's memory: mask weight.grad before the step"
        )
    if not torch.allclose(now[mask], twin.detach()[mask]):
        return "kept weights do not move as Adam moves them: one plain step is asked for"
    return None


def _with_momentum() -> tuple[nn.Parameter, torch.optim.Adam]:
    """A weight (2, 4) after three dense steps, and its optimizer."""
    weight = nn.Parameter(torch.linspace(-2, 2, 8).view(2, 4))
    adam = torch.optim.Adam([weight], lr=0.1)
    for _ in range(3):
        weight.grad = GRADIENTS.clone()
        adam.step()
    return weight, adam


@exercise("09.returns")
def returns(answer: Callable[[np.ndarray], np.ndarray]) -> Verdict:
    """Check the number of returns on hand-made and on random lives."""
    lives = np.array([[1, 0, 0, 1, 0, 1, 1], [1, 1, 1, 1, 1, 1, 1], [1, 0, 0, 0, 0, 0, 0],
                      [0, 1, 1, 1, 0, 0, 0], [1, 0, 1, 0, 1, 1, 0]], dtype=bool).T  # fmt: skip
    chance = np.random.default_rng(9).random((11, 40)) < 0.5
    for masks in (lives, chance):
        given = masks.copy()
        n = masks.shape[1]
        result = answer(given)
        if np.shape(result) == () and result is not None:
            return "this is one number; a number for each weight is asked for"
        if np.shape(result) in ((len(masks),), (len(masks) - 1,)):
            return "the sum runs over the weights; sum over the steps, axis 0"
        counted, wrong = as_array(result, (n,))
        if wrong:
            return wrong
        if not np.array_equal(given, masks):
            return "masks was modified in place"
        back = (~masks[:-1] & masks[1:]).sum(axis=0)
        if not np.array_equal(counted, back):
            return _wrong_returns(counted, masks, back)
    return None


def _wrong_returns(counted: np.ndarray, masks: np.ndarray, back: np.ndarray) -> str:
    known = (
        (back > 0, "this says whether a weight came back; count how often"),
        ((masks[:-1] & ~masks[1:]).sum(axis=0), "these are the cuts, kept and then cut"),
        ((masks[:-1] != masks[1:]).sum(axis=0), "all changes are counted; a cut is no return"),
        ((~masks).sum(axis=0), "these are the steps for which a weight was cut"),
        (masks.sum(axis=0), "these are the steps for which a weight was kept"),
        (masks[-1] & ~masks.all(axis=0), "only weights that are kept at the end are counted"),
        ((~masks[:-1] & masks[1:] & masks[-1]).sum(axis=0),
         "a return counts even if the weight is cut again later"),
    )  # fmt: skip
    for value, sentence in known:
        if np.array_equal(counted, value):
            return sentence
    i = int(np.flatnonzero(counted != back)[0])
    life = masks[:, i].astype(int).tolist()
    return f"the life {life} has {back[i]} returns, not {counted[i]:g}"


@exercise("09.soft_to")
def soft_to(answer: Callable[[Tensor, int], Tensor]) -> Verdict:
    """Check a soft threshold with its tau, for several k."""
    generator = torch.Generator().manual_seed(4)
    cases = [(torch.tensor([3.0, -2.0, 1.0, 0.5]), 2), (torch.tensor([0.1, 0.9, -0.4]), 1)]
    cases += [(torch.randn(30, generator=generator), k) for k in (0, 7, 29)]
    for V, k in cases:
        given = V.clone()
        Z = answer(given, k)
        if Z is None:
            return NOTHING
        if not isinstance(Z, torch.Tensor) or Z.shape != V.shape:
            shape = tuple(Z.shape) if isinstance(Z, torch.Tensor) else type(Z).__name__
            return f"expected a tensor of shape {tuple(V.shape)}, got {shape}"
        if not torch.equal(given, V):
            return "V was changed in place; return a new tensor"
        right = _soft(V, float(V.abs().sort(descending=True).values[k]))
        if not torch.allclose(Z, right, atol=1e-6):
            return _wrong_soft(Z, V, k, right)
    return None


def _soft(V: Tensor, tau: float) -> Tensor:
    return torch.sign(V) * (V.abs() - tau).clamp(min=0)


def _wrong_soft(Z: Tensor, V: Tensor, k: int, right: Tensor) -> str:
    sizes = V.abs().sort(descending=True).values
    known = [
        (V * (right != 0), "this is the hard threshold: the survivors must lose tau as well"),
        (right.abs(), "the sign of negative entries is lost"),
        (_soft(V, 0.0), "nothing is cut: this is V"),
        (torch.sign(V) * (V.abs() - float(sizes[k])), "magnitudes below tau become negative"),
    ]
    if k >= 1:
        tau = float(sizes[k - 1])
        known.append((_soft(V, tau), "tau is one rank too large: it kills the k-th largest, too"))
    if k + 1 < len(V):
        tau = float(sizes[k + 1])
        known.append((_soft(V, tau), f"tau is one rank too small: {k + 1} entries are left"))
    for value, sentence in known:
        if torch.allclose(Z, value, atol=1e-6):
            return sentence
    left = int((Z != 0).sum())
    if left != k:
        return f"{left} entries are left, expected {k}"
    if torch.equal(Z != 0, right != 0) and bool((Z.abs() <= right.abs() + 1e-6).all()):
        return "the support is right, but tau is not the smallest: too much is taken off"
    return f"for V = {[round(float(v), 2) for v in V[:4]]} ... and k = {k} the values are wrong"


def _narang(t: int, start: int, ramp: int, end: int, q: float, ratio: float = 1.5) -> float:
    theta = q / (ramp - start + ratio * (end - ramp))
    return theta * (np.clip(t - start, 0, ramp - start) + ratio * np.clip(t - ramp, 0, end - ramp))


@exercise("09.narang_threshold")
def narang_threshold(answer: Callable[[int, int, int, int, float], float]) -> Verdict:
    """Check the threshold before, on, between and after its two pieces."""
    for start, ramp, end, q in ((0, 20, 40, 1.0), (10, 25, 50, 0.3)):
        steps = (start, (start + ramp) // 2, ramp, ramp + 7, end, end + 30, max(start - 4, 0))
        got = []
        for t in steps:
            value, wrong = as_array(answer(t, start, ramp, end, q), ())
            if wrong:
                return wrong
            got.append(float(value))
        right = [_narang(t, start, ramp, end, q) for t in steps]
        if not np.allclose(got, right, rtol=1e-6, atol=1e-12):
            return _wrong_narang(got, right, steps, (start, ramp, end, q))
    return None


def _wrong_narang(got: list[float], right: list[float], steps, setting) -> str:
    start, ramp, end, q = setting
    at = dict(zip(steps, got, strict=True))
    if np.allclose(got, [_narang(t, start, ramp, end, q, 1.0) for t in steps]):
        return "one slope all the way: from ramp on it is 1.5 theta"
    if not np.isclose(at[end], q):
        return f"at end it is {at[end]:.4g}, expected q = {q}"
    if not np.isclose(at[end + 30], q):
        return f"after end it is {at[end + 30]:.4g}; it stays at q = {q}"
    if at[steps[-1]] < 0:
        return f"before start it is {at[steps[-1]]:.4g}, expected 0"
    wrong = next(i for i in range(len(steps)) if not np.isclose(got[i], right[i]))
    where = f"start {start}, ramp {ramp}, end {end}"
    return f"at step {steps[wrong]} ({where}) it is {got[wrong]:.4g}, expected {right[wrong]:.4g}"
