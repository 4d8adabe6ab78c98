"""x"""

import numpy as np


def cost_ratio(rows, method, other):
    a = rows[rows["method"] == method]
    b = rows[rows["method"] == other]
    both = a.merge(b, on=["task", "sparsity", "seed"])
    return float(np.median(both["processor_seconds_x"] / both["processor_seconds_y"]))
