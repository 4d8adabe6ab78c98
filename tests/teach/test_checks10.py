import pytest
import torch

from cspkit.teach import verdict

TOTAL = 331264


def ramp(t, n, s, p):
    return s * (1 - (1 - t / n) ** p) if t < n else s


def right_threshold(V, k):
    flat, Z = V.flatten(), torch.zeros(V.numel())
    places = flat.abs().topk(k).indices
    Z[places] = flat[places]
    return Z.view_as(V)


def changes_V(V, k):
    V[:] = right_threshold(V, k)
    return V


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (lambda t, n, s, p, total: total - round(ramp(t, n, s, p) * total), "right"),
        (lambda t, n, s, p, total: round(ramp(t, n, s, p) * total), "number of zeros"),
        (lambda t, n, s, p, total: (1 - ramp(t, n, s, p)) * total, "is an int"),
        (
            lambda t, n, s, p, total: total - round(s * (1 - (1 - t / n) ** p) * total),
            "after step n",
        ),
        (lambda t, n, s, p, total: total - round(ramp(t, n, s, 3) * total), "p has no effect"),
        (lambda t, n, s, p, total: total - round(s * total), "at step 0"),
    ],
)
def test_kept(answer, says):
    assert says in verdict("10.kept", answer)


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (right_threshold, "right"),
        (changes_V, "V itself was changed"),
        (lambda V, k: right_threshold(V, k).abs(), "sign is lost"),
        (lambda V, k: V * (V.topk(k).values[-1] <= V), "largest values"),
        (lambda V, k: V * (V.abs() <= V.abs().topk(k, largest=False).values[-1]), "smallest"),
        (lambda V, k: V[V.abs().topk(k).indices], "places are lost"),
        (lambda V, k: right_threshold(V, k).flatten(), "keep the shape"),
        (lambda V, k: V * (V.abs() >= V.abs().flatten().topk(k).values[-1]), "exactly k"),
        (lambda V, k: V.clone(), "expected [0, -2, 0, 1]"),
        (lambda V, k: V.tolist(), "expected a tensor"),
    ],
)
def test_hard_threshold(answer, says):
    assert says in verdict("10.hard_threshold", answer)
