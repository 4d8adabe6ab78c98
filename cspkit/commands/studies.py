"""`cspkit compare`."""

from __future__ import annotations

import argparse
import json
from contextlib import nullcontext
from pathlib import Path

from cspkit.arguments import ArgumentError
from cspkit.commands.models import interrupt_says, of_project
from cspkit.commands.recognisers import data_of


def compare_command(call: argparse.Namespace) -> int:
    from cspkit.files import check_output

    check_output(call.out, "--out")
    if call.tune:
        check_output(call.out.with_name(f"{call.out.stem}_tuning.csv"), "--out with --tune")
    if call.train_dense is not None:
        check_output(call.train_dense / "model", "a file in --train-dense")
    if call.keep is not None:
        check_output(call.keep / "model", "a file in --keep")
    if (call.scheduler is not None) != (call.backend == "dask"):
        raise ArgumentError(
            f"--backend is {call.backend!r} and --scheduler is {call.scheduler!r}: expected both "
            "--backend dask and the address of a Dask scheduler, or neither of them"
        )

    from cspkit.study import cluster, entry, summary, table
    from cspkit.study.entries import UNPRUNED
    from cspkit.teach.kept_models import kept_models, table_of_models

    finished = f"interrupted; finished runs are in {call.out}: repeat the call to continue"
    computers = nullcontext() if call.scheduler is None else cluster(call.scheduler)
    with interrupt_says(finished), computers:
        rows = _compared(
            call,
            methods=call.methods or (["dense", "gmp", "csp"] if call.quick else None),
            sparsities=call.sparsities or ([0.95] if call.quick else [0.8, 0.9, 0.95, 0.98]),
            seeds=call.seeds or ([0] if call.quick else [0, 1, 2, 3, 4]),
            steps=call.steps or (150 if call.quick else 600),
            out=call.out,
            jobs=call.jobs,
            tuning=call.tune,
        )
    asked = [entry(name).name for name in call.methods or ["csp"]]
    against = next((m for m in sorted(asked, key="csp".__ne__) if m not in UNPRUNED), "csp")
    if call.json:
        lines = json.loads(summary(rows, against=against).to_json(orient="records"))
        kept = [] if call.keep is None else kept_models(call.keep).reset_index(names="model")
        files = [] if call.keep is None else json.loads(kept.to_json(orient="records"))
        print(json.dumps({"out": str(call.out), "summary": lines, "models": files}))
    else:
        print(table(rows, against=against))
        if call.keep is not None:
            print(f"\n{table_of_models(kept_models(call.keep))}")
        print(f"written: {call.out}")
    return 0


def _compared(call: argparse.Namespace, **study):
    """Run the study on the embedded corpus, or on that of --manifest."""
    from cspkit.asr import load_spoken_digits
    from cspkit.teach.digit_bench import compare_digits
    from cspkit.teach.recogniser_bench import compare_recognisers
    from cspkit.teach.speech_bench import SpeechBench

    data = data_of(call)
    if data is None:
        of_project(load_spoken_digits)
        return compare_digits(**study, dense=call.train_dense, keep=call.keep)
    folder = (call.train_dense or Path("build")).absolute()  # a worker may have another one
    kept = None if call.keep is None else str(call.keep.absolute())
    sizes = {"width": call.width, "dense_steps": call.dense_steps}
    bench = SpeechBench(models=str(folder), kept=kept, **sizes, data=data)
    return compare_recognisers(bench, **study)
