"""One look for all figures of the workbook."""

from __future__ import annotations

import matplotlib.pyplot as plt

# The palette of Okabe and Ito, which colour-blind readers can distinguish.
BLUE, ORANGE, GREEN, RED, PURPLE, GREY = (
    "#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#666666",
)  # fmt: skip
SKY, BROWN = "#56B4E9", "#8C510A"

# One colour a method, in all notebooks.
METHOD = {
    "l1": BLUE, "lasso": BLUE, "ISTA": SKY, "FISTA": GREEN, "scikit-learn": GREY,
    "OMP": ORANGE, "CoSaMP": BROWN, "IHT": PURPLE, "HTP": RED, "AMP": BROWN, "memory": GREEN,
    "magnitude": GREY, "score": SKY, "corrected": BROWN,
    "dense": GREY, "gmp": ORANGE, "csp": BLUE,
}  # fmt: skip


def style() -> None:
    """Set the defaults of matplotlib: palette, font sizes, light grid, no frame on two sides."""
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


def reference_line(axes: plt.Axes, value: float, label: str) -> None:
    """Draw a dashed horizontal line. In all figures it shows a theory or the dense model."""
    axes.axhline(value, color=GREY, linestyle="--", linewidth=1.2, label=label)
