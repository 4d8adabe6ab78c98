"""How nbval runs the notebooks: no progress bars, and stderr is not compared."""

import os

os.environ.setdefault("CSPKIT_PROGRESS", "0")


def pytest_collectstart(collector):
    if hasattr(collector, "skip_compare"):  # a notebook of nbval
        collector.skip_compare += ("stderr",)
