import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pandas as pd
import pytest
import torch

from cspkit.__main__ import default_model
from cspkit.arguments import ArgumentError
from cspkit.asr import (
    DigitTask,
    Transducer,
    TransducerConfig,
    checkpoint_facts,
    load_transducer,
    save_transducer,
    word_error_rate,
)
from cspkit.asr.decoding import transcribe
from cspkit.study import read_rows
from cspkit.teach import digit_bench, recogniser_bench
from cspkit.teach.digit_bench import DigitBench, compare_digits


@pytest.fixture
def bench(tmp_path):
    return DigitBench(str(tmp_path), dense_steps=1, width=8)


def test_an_embedded_checkpoint_serves_where_it_is_the_one_asked_for(tmp_path, monkeypatch):
    assert DigitBench().checkpoint(0) == default_model()
    assert DigitBench(embedded=False).checkpoint(0).parts[0] == "build"
    steps = DigitBench().dense_steps
    assert f"--steps {steps}" in checkpoint_facts(default_model())["command"]
    for other in ({"width": 64}, {"dense_steps": steps // 10}, {"split": "speakers"}):
        assert DigitBench(**other).checkpoint(0).parts[0] == "build"
    facts = {"command": f"python -m cspkit train --fold 1 --seed 1 --steps {steps}"}
    monkeypatch.setenv("CSPKIT_DATA", str(tmp_path))
    path = tmp_path / "models" / "dense_fold1.safetensors"
    save_transducer(Transducer(TransducerConfig()), path, **facts)
    assert DigitBench(dense_steps=steps).checkpoint(1) == path
    save_transducer(Transducer(TransducerConfig()), path)
    assert DigitBench(dense_steps=steps).checkpoint(1) != path


def test_a_dense_model_is_trained_once_and_the_same_every_time(bench, tmp_path):
    bench.prepare([1])
    (file,) = tmp_path.glob("*.safetensors")
    written = file.read_bytes()
    task, dense = bench(1)
    assert file.read_bytes() == written
    assert task.fold == checkpoint_facts(file)["fold"] == 1
    assert dense.config.encoder_size == 8
    file.unlink()
    again = bench(1)[1].state_dict()
    assert all(torch.equal(again[n], t) for n, t in dense.state_dict().items())


def test_seeds_are_folds_or_speakers():
    assert [DigitBench().fold(i) for i in range(5)] == [0, 1, 2, 3, 4]
    speakers = DigitBench(split="speakers")
    assert len({speakers.fold(i) for i in range(6)}) == 6
    assert [DigitBench().fold(i) for i in (5, 9)] == [0, 4] and speakers.fold(7) == speakers.fold(1)
    assert DigitBench().checkpoint(7) == DigitBench().checkpoint(2)
    with pytest.raises(ArgumentError, match="an entry of seeds is -1: expected .*>= 0"):
        speakers.fold(-1)
    with pytest.raises(ArgumentError, match="units is 'phones'"):
        DigitBench(units="phones")
    with pytest.raises(ArgumentError, match="split is 'days'"):
        DigitBench(split="days")
    with pytest.raises(ArgumentError, match="dense_steps is 0"):
        DigitBench(dense_steps=0)


def test_a_dense_model_that_two_ask_for_is_trained_once(bench, tmp_path, monkeypatch):
    def slow(self, seed, state_file):
        trained.append(seed)
        time.sleep(0.5)
        return DigitTask(fold=self.fold(seed), config=self.config()).new_model(seed)

    trained = []
    monkeypatch.setattr(DigitBench, "_trained", slow)
    with ThreadPoolExecutor(2) as pool:
        models = [dense.state_dict() for _, dense in pool.map(bench, [1, 1])]
    assert trained == [1]
    assert all(torch.equal(models[0][n], t) for n, t in models[1].items())
    assert {p.name for p in tmp_path.iterdir() if not p.name.startswith(".")} == {
        bench.checkpoint(1).name
    }


def test_a_small_model_has_nearly_the_weights_asked_for(tmp_path):
    bench = DigitBench(str(tmp_path), dense_steps=1)
    small = bench.small(0, 21_534, 1)
    count = sum(p.numel() for p in small.parameters())
    assert abs(count - 21_534) < 0.05 * 21_534
    assert not list(tmp_path.iterdir())


def test_errors_of_utterances_add_up_to_the_word_error_rate():
    task, dense = DigitBench()(0)
    errors, words = task.errors(dense, "dev")
    strings = task.corpus.strings("dev", 0)
    texts = [u.text for u in strings]
    assert errors.sum() / words.sum() == task.evaluate(dense, "dev")["wer"]
    assert words.tolist() == [len(t.split()) for t in texts]
    worst = int(np.argmax(errors))
    heard = transcribe(dense, strings[worst].features)
    assert errors[worst] == round(word_error_rate([texts[worst]], [heard]) * words[worst]) > 0


def test_settings_are_those_of_the_tuning(bench, tmp_path, monkeypatch):
    monkeypatch.setattr(digit_bench, "DigitBench", lambda: bench)
    out = tmp_path / "rows.csv"
    trials = tmp_path / "rows_tuning.csv"
    monkeypatch.setattr(recogniser_bench, "tune", lambda bench, names, **call: wrote(names, **call))

    def wrote(names, *, out, **call):
        assert names == ["gmp"]
        trial = "digits,gmp,0.95,1,0,{},0.0,{},{{}},{}\n"
        rows = trial.format(0, 0.01, 0.5) + trial.format(1, 0.02, 0.4)
        out.write_text("task,method,sparsity,steps,seed,trial,mu,rate,settings,dev_loss\n" + rows)

    met = []

    def repeated(bench, *, out, jobs):
        met.append(out)
        return read_rows(out)

    monkeypatch.setattr(recogniser_bench, "finals", repeated)
    call = {"methods": ["dense", "gmp"], "sparsities": [0.5], "seeds": [0], "steps": 1}
    rows = compare_digits(**call, out=out, tuning=True)
    assert trials.is_file() and met == [trials]
    assert rows.set_index("method")["rate"].to_dict() == {"dense": 0.0, "gmp": 0.02}


def test_dense_models_are_trained_where_that_is_asked_for(tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(DigitBench, "prepare", lambda bench, seeds, jobs: asked.append(bench))
    monkeypatch.setattr(recogniser_bench, "compare", lambda bench, *_, **__: asked.append(bench))
    compare_digits(["dense"], [0.5], [0], 1, out=tmp_path / "rows.csv", dense=tmp_path)
    assert asked == 2 * [DigitBench(str(tmp_path), embedded=False)]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"out": "."}, "out is .*, a folder"),
        ({"out": "old.csv"}, "out is .*old.csv', whose rows do not all name their dense model"),
        ({"out": "new.csv", "tuning": True}, "out is .*new_tuning.csv', whose rows do not all"),
        ({"out": "images.csv"}, "out is .*images.csv', which has the column 'dev_error'"),
    ],
)
def test_what_cannot_be_continued_is_refused_before_dense_models_are_trained(
    tmp_path, monkeypatch, change, message
):
    row = {"task": "t", "method": "gmp", "mu": 0.0, "sparsity": 0.5, "steps": 1, "rate": 0.1,
           "settings": "{}", "seed": 0, "dev_wer": 0.5}  # fmt: skip
    pd.DataFrame([row]).to_csv(tmp_path / "old.csv", index=False)
    pd.DataFrame([row | {"trial": 0}]).to_csv(tmp_path / "new_tuning.csv", index=False)
    images = pd.DataFrame([row | {"dense": "0"}]).rename(columns={"dev_wer": "dev_error"})
    images.to_csv(tmp_path / "images.csv", index=False)
    monkeypatch.setattr(DigitBench, "prepare", lambda *_: pytest.fail("nothing may be trained"))
    call = {"seeds": [0], "out": "rows.csv"} | change
    with pytest.raises(ArgumentError, match=message):
        compare_digits(["gmp"], [0.5], steps=1, **call | {"out": tmp_path / call["out"]})


def test_a_folder_of_models_that_is_none_is_refused_before_training(tmp_path):
    (tmp_path / "models").write_text("a file")
    with pytest.raises(ArgumentError, match="models is .*, but .*models is not a folder"):
        DigitBench(str(tmp_path / "models"), width=8)(0)


def test_the_checkpoint_of_a_bench_can_be_loaded_alone(bench):
    bench.prepare([0])
    assert load_transducer(bench.checkpoint(0)).config == bench.config()
