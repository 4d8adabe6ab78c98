"""Figures that follow sliders in JupyterLab, and stand still everywhere else."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Sequence

import matplotlib.pyplot as plt

from cspkit.arguments import ArgumentError


def explore(draw: Callable[..., None], **choices: Sequence[float]) -> None:
    """Draw a figure with a slider for each of its arguments.

    Where nothing can be moved, such as on a page or in a test, the figure is drawn once, with the
    defaults of `draw`. A Jupyter server names the notebook in the environment variable
    JPY_SESSION_NAME; sliders are shown only if it is set.

    Parameters
    ----------
    draw : callable
        Draws with matplotlib. Each argument has a default.
    **choices : sequence of float
        The values of each argument, in order. The default of the argument is one of them.

    Raises
    ------
    ArgumentError
        If `draw` lacks an argument, or its default is not one of the choices.
    """
    arguments = inspect.signature(draw).parameters
    for name, values in choices.items():
        if name not in arguments or arguments[name].default not in list(values):
            found = arguments[name].default if name in arguments else "missing"
            raise ArgumentError(
                f"draw has the argument {name!r} with the default {found!r}: expected one of "
                f"{list(values)}"
            )
    if not os.environ.get("JPY_SESSION_NAME"):
        draw()
        return

    from ipywidgets import SelectionSlider, interact

    def redraw(**values: float) -> None:
        draw(**values)
        plt.show()

    sliders = {
        name: SelectionSlider(
            options=[(f"{value:g}", value) for value in values],
            value=arguments[name].default,
            description=name,
            continuous_update=False,
        )
        for name, values in choices.items()
    }
    interact(redraw, **sliders)
