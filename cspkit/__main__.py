"""The command line of cspkit.

doctor | train | prune | compare | pack | report | manifest | transcribe

Several processes train or prune together: torchrun --nproc-per-node 2 -m cspkit train ...

Exit codes: 0 success; 1 failure; 2 the call was wrong, or a file that it names is unusable;
130 interrupted with Ctrl-C.
"""

from __future__ import annotations

import os
import sys

from cspkit.arguments import ArgumentError
from cspkit.commands import files, recognisers, studies
from cspkit.commands.models import default_model
from cspkit.options import check, parse, with_option

__all__ = ["default_model", "main"]


def main(arguments: list[str] | None = None) -> int:
    """Run one command; return its exit code."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # print an escape if encoding fails
            stream.reconfigure(errors="backslashreplace")
    call = parse(arguments)
    try:
        with recognisers.together(call):
            check(call)
            code = COMMANDS[call.name](call)
        sys.stdout.flush()
        return code
    except ArgumentError as error:
        code, message = 2, with_option(call, str(error))
    except KeyboardInterrupt as error:
        code, message = 130, str(error) or "interrupted"
    except ModuleNotFoundError as error:
        code, message = 1, f"{error}; pip install 'cspkit[teach]' installs what every command needs"
    except BrokenPipeError:  # the reader of the output has ended, for example `head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except (FloatingPointError, OSError) as error:
        code, message = 1, str(error)
    print(f"{call.prog}: {message}", file=sys.stderr)
    return code


COMMANDS = {
    "doctor": files.doctor,
    "train": recognisers.train_command,
    "prune": recognisers.prune_command,
    "compare": studies.compare_command,
    "manifest": files.manifest_command,
    "pack": files.pack_command,
    "report": files.report_command,
    "transcribe": files.transcribe_command,
}

if __name__ == "__main__":
    sys.exit(main())
