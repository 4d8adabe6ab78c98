import numpy as np
import pytest
import torch

from cspkit.__main__ import default_model
from cspkit.asr import (
    Transducer,
    TransducerConfig,
    checkpoint_facts,
    load_transducer,
    save_transducer,
    word_error_rate,
)
from cspkit.asr.decoding import transcribe
from cspkit.teach import digit_bench
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
    (file,) = tmp_path.iterdir()
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
    with pytest.raises(ValueError, match="seeds has 6: expected 0 to 5"):
        speakers.fold(6)
    with pytest.raises(ValueError, match="units is 'phones'"):
        DigitBench(units="phones")
    with pytest.raises(ValueError, match="split is 'days'"):
        DigitBench(split="days")


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
    monkeypatch.setattr(digit_bench, "tune", lambda bench, names, **call: wrote(names, **call))

    def wrote(names, *, out, **call):
        assert names == ["gmp"]
        trial = "digits,gmp,0.95,1,0,{},0.0,{},{{}},{}\n"
        rows = trial.format(0, 0.01, 0.5) + trial.format(1, 0.02, 0.4)
        out.write_text("task,method,sparsity,steps,seed,trial,mu,rate,settings,dev_loss\n" + rows)

    met = []
    monkeypatch.setattr(digit_bench, "finals", lambda bench, *, out, jobs: met.append(out))
    call = {"methods": ["dense", "gmp"], "sparsities": [0.5], "seeds": [0], "steps": 1}
    rows = compare_digits(**call, out=out, tuning=True)
    assert trials.is_file() and met == [trials]
    assert rows.set_index("method")["rate"].to_dict() == {"dense": 0.0, "gmp": 0.02}


def test_dense_models_are_trained_where_that_is_asked_for(tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(DigitBench, "prepare", lambda bench, seeds, jobs: asked.append(bench))
    monkeypatch.setattr(digit_bench, "compare", lambda bench, *_, **__: asked.append(bench))
    compare_digits(["dense"], [0.5], [0], 1, out=tmp_path / "rows.csv", dense=tmp_path)
    assert asked == 2 * [DigitBench(str(tmp_path), embedded=False)]


def test_the_checkpoint_of_a_bench_can_be_loaded_alone(bench):
    bench.prepare([0])
    assert load_transducer(bench.checkpoint(0)).config == bench.config
