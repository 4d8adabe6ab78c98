"""Before anything is installed: is Python new enough, is there room? Runs on any Python 3."""

import shutil
import sys

if sys.version_info < (3, 11):
    sys.exit(
        "cspkit needs Python 3.11 or later, this is %d.%d: call `make PYTHON=python3.11 ...`"
        % sys.version_info[:2]
    )
free = shutil.disk_usage(".").free / 1e9
if free < 3:
    sys.exit("cspkit needs 3 GB of disk to install, %.1f GB are free here" % free)
