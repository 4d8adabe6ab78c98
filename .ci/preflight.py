"""Check Python and disk space before anything is installed. Runs on any Python 3."""

import os
import shutil
import sys

if sys.version_info < (3, 11):
    sys.exit(
        "cspkit needs Python 3.11 or later, but this is %d.%d: call `make PYTHON=python3.11 ...`"
        % sys.version_info[:2]
    )
# On Linux pip may install the build of torch for GPUs, which is large.
needed = 8 if sys.platform == "linux" else 3
free = shutil.disk_usage(".").free / 1e9
if free < needed and not os.path.isdir(".venv"):
    sys.exit(
        "cspkit needs %d GB of disk to install, but only %.1f GB are free here: make room, or "
        "clone it to another disk" % (needed, free)
    )
