"""A plugin for nbval: run every cell twice, and compare the outputs of the second run.

    python -m pytest -p tests.run_twice --nbval-lax ... notebooks/*.ipynb

A reader runs a cell again. It must give the same result, and leave the cells after it as they were.
"""

from nbval.kernel import RunningKernel

TIMEOUT = 240  # seconds

_once = RunningKernel.execute_cell_input


def _twice(self, cell_input, allow_stdin=None):
    first = _once(self, cell_input, allow_stdin)
    self.await_reply(first, timeout=TIMEOUT)
    self.await_idle(first, TIMEOUT)
    return _once(self, cell_input, allow_stdin)


RunningKernel.execute_cell_input = _twice
