"""One look for all figures of the workbook."""

from __future__ import annotations

import matplotlib.pyplot as plt
from IPython import get_ipython

# The palette of Okabe and Ito, which colour-blind readers can distinguish.
BLUE, ORANGE, GREEN, RED, PURPLE, GREY = (
    "#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#666666",
)  # fmt: skip
SKY, BLACK = "#56B4E9", "#000000"

# One colour a method, in all notebooks. Dashed grey is the theory or the dense model.
METHOD = {
    "l1": BLACK, "lasso": BLUE, "ISTA": SKY, "FISTA": GREEN, "scikit-learn": GREY,
    "OMP": ORANGE, "CoSaMP": GREEN, "IHT": SKY, "HTP": PURPLE, "AMP": RED,
    "dense": GREY, "gmp": ORANGE, "csp": BLUE,
    "oneshot": PURPLE, "l1-prox": GREEN,
    "memory": BLUE, "magnitude": GREY, "score": SKY, "corrected": GREEN,
}  # fmt: skip


def style() -> None:
    """Set the defaults of matplotlib: palette, font sizes, light grid, no frame on two sides.

    In a notebook, the pictures of figures also get a text for readers who do not see them.
    """
    plt.rcParams.update(
        {
            "axes.prop_cycle": plt.cycler(color=[BLUE, ORANGE, GREEN, RED, PURPLE, GREY]),
            "axes.grid": True,
            "axes.spines.right": False,
            "axes.spines.top": False,
            "axes.titlesize": 11,
            "figure.constrained_layout.use": True,
            "figure.dpi": 100,
            "figure.figsize": (7.0, 3.2),
            "font.size": 10,
            "grid.alpha": 0.3,
            "legend.frameon": False,
            "lines.linewidth": 1.6,
        }
    )

    if shell := get_ipython():
        shell.display_formatter.mimebundle_formatter.for_type(
            plt.Figure, lambda figure: ({}, {"image/png": {"alt": description(figure)}})
        )


def description(figure: plt.Figure) -> str:
    """Say in words what a figure shows: the titles, axes and curves of its panels."""
    panels = [[figure.get_suptitle()]]
    for axes in figure.axes:
        across, up = axes.get_xlabel(), axes.get_ylabel()
        curves = "; ".join(dict.fromkeys(axes.get_legend_handles_labels()[1]))
        panels.append(
            [
                axes.get_title(),
                f"{up} against {across}" if up and across else up or across,
                f"with {curves}" if curves else "",
            ]
        )
    texts = (", ".join(filter(None, parts)) for parts in panels)
    return ". ".join(" ".join(text.replace("$", "").split()) for text in texts if text)


def reference_line(axes: plt.Axes, value: float, label: str) -> None:
    """Draw a dashed horizontal line. In all figures it shows a theory or the dense model."""
    axes.axhline(value, color=GREY, linestyle="--", linewidth=1.2, label=label)
