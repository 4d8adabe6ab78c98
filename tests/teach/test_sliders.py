"""Figures with sliders."""

import ipywidgets
import pytest

from cspkit.arguments import ArgumentError
from cspkit.teach import explore


@pytest.fixture
def drawn():
    return []


@pytest.fixture
def draw(drawn):
    def draw(lam=0.2, k=3):
        drawn.append((lam, k))

    return draw


def test_without_a_server_the_figure_is_drawn_once_with_its_defaults(draw, drawn, monkeypatch):
    monkeypatch.delenv("JPY_SESSION_NAME", raising=False)
    explore(draw, lam=[0.1, 0.2], k=range(5))
    assert drawn == [(0.2, 3)]


def test_with_a_server_a_slider_redraws_the_figure(draw, drawn, monkeypatch):
    monkeypatch.setenv("JPY_SESSION_NAME", "notebook.ipynb")
    made = []
    slider = ipywidgets.SelectionSlider
    monkeypatch.setattr(
        ipywidgets, "SelectionSlider", lambda **options: made.append(slider(**options)) or made[-1]
    )
    explore(draw, lam=[0.1, 0.2], k=range(5))
    assert drawn == [(0.2, 3)]
    assert [s.description for s in made] == ["lam", "k"]
    made[0].value = 0.1
    assert drawn[-1] == (0.1, 3)


@pytest.mark.parametrize("choices", [{"mu": [1.0]}, {"lam": [0.1, 0.3]}])
def test_a_slider_must_fit_the_figure(draw, choices):
    with pytest.raises(ArgumentError, match="expected one of"):
        explore(draw, **choices)
