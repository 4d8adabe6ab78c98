"""The task of any corpus: batches, curriculum, what is left out, and training."""

import json

import numpy as np
import pytest
import soundfile
import torch
from speech_folder import TONES, write_manifest_of

from cspkit.arguments import ArgumentError
from cspkit.asr import Corpus, SpeechTask, Utterance, load_spoken_digits
from cspkit.asr.text import units_of
from cspkit.asr.transducer_config import config_for
from cspkit.asr.word_cuts import LEAST, span, word_cuts
from cspkit.training import train

CONFIG = config_for(tuple(sorted(TONES)), 16)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    folder = tmp_path_factory.mktemp("speech")
    return Corpus.from_manifest(write_manifest_of(folder, 30), cache=folder / "cache")


def first_batches(task, n, seed=0):
    batches = task.batches("train", np.random.default_rng(seed))
    return [next(batches) for _ in range(n)]


def texts(batch, config=CONFIG):
    pairs = zip(batch.targets, batch.target_lengths, strict=True)
    return [config.text(labels[:n].tolist()) for labels, n in pairs]


def test_an_epoch_has_every_utterance_once(corpus):
    task = SpeechTask(corpus, CONFIG, batch_size=7, augmentation=None)
    n = len(corpus.split("train"))
    heard = sum((texts(batch) for batch in first_batches(task, n)), [])  # seven epochs
    expected = sorted(corpus.split("train").texts())
    epochs = [heard[i : i + n] for i in range(0, 7 * n, n)]
    assert all(sorted(a) != sorted(b) or a != b for a, b in zip(epochs, epochs[1:], strict=False))
    assert sorted(heard) == sorted(7 * expected)


def test_batches_depend_on_the_generator_only(corpus):
    task = SpeechTask(corpus, CONFIG, batch_size=4)
    one, two, other = (first_batches(task, 3, seed) for seed in (0, 0, 1))
    assert all(torch.equal(a.features, b.features) for a, b in zip(one, two, strict=True))
    assert not all(a.features.shape == b.features.shape for a, b in zip(one, other, strict=True))


def test_a_start_at_a_later_batch_gives_the_same_batches(corpus):
    task = SpeechTask(corpus, CONFIG, batch_size=4, curriculum=20)
    early = first_batches(task, 8)
    task.first_batch = 5
    for late, same in zip(first_batches(task, 3), early[5:], strict=True):
        assert torch.equal(late.features, same.features)


def test_a_run_that_goes_on_reads_only_the_batches_that_are_left(corpus, tmp_path, monkeypatch):
    def run(stop, state_file=None):
        task, read = SpeechTask(corpus, CONFIG, batch_size=4, curriculum=20), []
        drawn = task._drawn
        monkeypatch.setattr(task, "_drawn", lambda *a: read.append(1) or drawn(*a))
        model = task.new_model(0)

        def watch(row):
            if row["step"] == stop:
                raise KeyboardInterrupt

        options = {"state_file": state_file, "state_every": 1, "on_step": watch}
        try:
            train(model, task, 6, rng=np.random.default_rng(0), **options)
        except KeyboardInterrupt:
            pass
        assert task.first_batch == 0
        return len(read), model.state_dict()

    whole = run(None)
    run(3, tmp_path / "state")
    rest = run(None, tmp_path / "state")
    assert whole[0] == 24 and rest[0] == 12  # three steps were written
    assert all(torch.equal(whole[1][name], tensor) for name, tensor in rest[1].items())


def test_in_chunks_the_loss_the_divergence_and_their_gradients_are_the_same(corpus):
    found = []
    for chunked in (False, True):
        task = SpeechTask(corpus, CONFIG, batch_size=6, chunked=chunked)
        model, reference = (task.new_model(seed).double() for seed in (0, 1))
        batch = first_batches(task, 1)[0]
        batch = batch._replace(features=batch.features.double())
        loss, outputs = task.loss(model, batch)
        D = task.divergence(task.reference_outputs(reference, batch), outputs, batch)
        (loss + D).backward()
        found.append((loss.detach(), D.detach(), *(p.grad for p in model.parameters())))
    for whole, chunks in zip(*found, strict=True):
        torch.testing.assert_close(chunks, whole, rtol=1e-9, atol=1e-12)
    assert not SpeechTask(corpus, CONFIG).chunked
    many = config_for((*CONFIG.units, *map(str, range(100))), 8)
    assert SpeechTask(corpus, many).chunked


def test_batches_of_similar_lengths_have_few_frames_and_miss_no_utterance(tmp_path):
    path = write_manifest_of(tmp_path, 40, n_words=(1, 9))
    with pytest.raises(ArgumentError, match="line 1 of .* has no duration"):
        SpeechTask(Corpus.from_manifest(path), CONFIG, most_frames=400)
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    for line in lines:
        line["duration"] = soundfile.info(tmp_path / line["audio_filepath"]).duration
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    corpus = Corpus.from_manifest(path, cache=tmp_path / "cache")
    training = corpus.split("train")
    assert training.frames().tolist() == [len(u.features) for u in training]
    task = SpeechTask(corpus, CONFIG, most_frames=400, augmentation=None)
    heard, padding, sizes = [], [], []
    batches = task.batches("train", np.random.default_rng(0))
    while len(heard) < len(training):
        batch = next(batches)
        heard += texts(batch)
        sizes.append(len(batch.targets))
        N, T, _ = batch.features.shape
        assert N * T <= 400
        padding.append(1 - int(batch.feature_lengths.sum()) / (N * T))
    assert sorted(heard) == sorted(training.texts())
    assert np.mean(padding) < 0.15 and len(set(sizes)) > 2
    task.first_batch = 2
    again = first_batches(SpeechTask(corpus, CONFIG, most_frames=400, augmentation=None), 4)[2:]
    for late, same in zip(first_batches(task, 2), again, strict=True):
        assert torch.equal(late.features, same.features)
    with pytest.raises(ArgumentError, match="most_frames is 9 with a corpus in memory"):
        SpeechTask(load_spoken_digits(), CONFIG, most_frames=9)


@pytest.mark.parametrize("world", [2, 3])
def test_the_shares_of_all_processes_are_the_whole_batch(corpus, world):
    whole = first_batches(SpeechTask(corpus, CONFIG, batch_size=7), 3)
    shares = []
    for rank in range(world):
        task = SpeechTask(corpus, CONFIG, batch_size=7)
        task.shard = rank, world
        shares.append(first_batches(task, 3))
    for i, batch in enumerate(whole):
        parts = [share[i] for share in shares]
        rows = [f[:n] for p in parts for f, n in zip(p.features, p.feature_lengths, strict=True)]
        own = [f[:n] for f, n in zip(batch.features, batch.feature_lengths, strict=True)]
        for found in (rows, own):
            found.sort(key=lambda f: (len(f), float(f.sum())))
        assert all(torch.equal(a, b) for a, b in zip(rows, own, strict=True))
        assert sum(len(p.compared) for p in parts) == len(batch.compared) == 4


def test_the_curriculum_goes_from_words_to_utterances(corpus):
    task = SpeechTask(corpus, CONFIG, batch_size=8, curriculum=100, augmentation=None)
    batches = task.batches("train", np.random.default_rng(0))
    longest = [max(len(text.split()) for text in texts(next(batches))) for _ in range(60)]
    assert longest[:10] == [1] * 10
    assert max(longest[10:30]) == 3 and max(longest[30:]) == 4
    whole = SpeechTask(corpus, CONFIG, batch_size=8, augmentation=None)
    assert all(len(text.split()) > 1 for batch in first_batches(whole, 9) for text in texts(batch))


def test_words_are_cut_in_the_pauses(corpus):
    for utterance in corpus.split("train"):
        cuts = word_cuts(utterance)
        energy = utterance.features[:, 0]
        low, high = np.percentile(energy, (10, 90))
        assert len(cuts) == len(utterance.text.split()) + 1
        assert (cuts[0], cuts[-1]) == (0, len(energy))
        assert np.all(energy[cuts[1:-1]] < low + 0.35 * (high - low))


def test_cuts_of_joined_digits_are_nearer_than_equal_shares():
    corpus = load_spoken_digits()
    found, equal = [], []
    for string in corpus.strings("dev")[:80]:
        ends = np.array(corpus.word_ends(string)[:-1]) / 0.025
        n = len(string.text.split())
        if n > 1:
            found.append(np.abs(word_cuts(string)[1:-1] - ends).mean())
            shares = len(string.features) * np.arange(1, n) / n
            equal.append(np.abs(shares - ends).mean())
    assert np.mean(found) < 2.0 < np.mean(equal)  # frames of 25 ms


def test_too_few_frames_for_the_words_give_no_cuts():
    features = np.random.default_rng(0).standard_normal((2 * LEAST - 1, 13))
    assert word_cuts(Utterance(features, "one two", "", "a")) is None
    assert word_cuts(Utterance(features, "one", "", "a")).tolist() == [0, 2 * LEAST - 1]
    silence = Utterance(np.zeros((30, 13)), "one two three", "", "a")
    assert word_cuts(silence).tolist()[0] == 0 and np.all(np.diff(word_cuts(silence)) >= LEAST)


def test_a_span_has_the_frames_and_words_between_its_cuts():
    utterance = Utterance(np.arange(20.0)[:, None], "a b c", "s", "id")
    part = span(utterance, np.array([0, 4, 12, 20]), 1, 2)
    assert part.text == "b c" and part.features[:, 0].tolist() == list(range(4, 20))
    for first, n in ((2, 2), (-1, 1), (0, 0)):
        with pytest.raises(ArgumentError, match="expected words of an utterance of 3 words"):
            span(utterance, np.array([0, 4, 12, 20]), first, n)


def test_what_cannot_be_used_is_left_out_and_counted(tmp_path):
    path = write_manifest_of(tmp_path, 12)
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    fields = ["train"] * 8 + ["dev"] * 2 + ["test"] * 2
    lines = [line | {"part": part} for line, part in zip(lines, fields, strict=True)]
    lines[1]["audio_filepath"] = "missing.wav"
    lines[3]["text"] = "red mauve"
    lines[5]["text"] = "red " * 400
    lines[8]["text"] = "mauve"
    lines[10]["audio_filepath"] = "missing.wav"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    task = SpeechTask(Corpus.from_manifest(path, by="part"), CONFIG, batch_size=4)
    heard = {text for batch in first_batches(task, 10) for text in texts(batch)}
    assert heard == {lines[i]["text"] for i in (0, 2, 4, 6, 7)}
    assert {place for part, place in task.faults if part == "train"} == {1, 3, 5}
    assert "missing.wav: no such file" in task.faults["train", 1]
    assert "text has the unit 'mauve'" in task.faults["train", 3]
    assert "400 units in" in task.faults["train", 5]
    model = task.new_model(0)
    _, words = task.errors(model, "dev")
    assert len(words) == 2  # a word that the model does not know is an error of the model
    _, words = task.errors(model, "test")
    assert len(words) == 1 and ("test", 0) in task.faults
    assert task.evaluate(model, "dev")["loss"] > 0


def test_a_corpus_of_which_nothing_can_be_used_is_refused(tmp_path):
    path = write_manifest_of(tmp_path, 6)
    corpus = Corpus.from_manifest(path)
    with pytest.raises(ArgumentError, match="no utterance to train with: .*has the unit"):
        first_batches(SpeechTask(corpus, config_for(("one", "two"))), 1)
    for file in tmp_path.glob("*.wav"):
        file.unlink()
    with pytest.raises(ArgumentError, match="no utterance to train with: .*no such file"):
        SpeechTask(Corpus.from_manifest(path), CONFIG)


def test_a_recogniser_of_made_up_speech_is_trained_and_makes_few_errors(tmp_path):
    corpus = Corpus.from_manifest(write_manifest_of(tmp_path, 40, n_words=(1, 3)))
    task = SpeechTask(corpus, config_for(CONFIG.units, 48), batch_size=8, curriculum=250)
    model = task.new_model(0)
    train(model, task, 250, rate=5e-3, rng=np.random.default_rng(0))
    assert task.evaluate(model, "test")["wer"] < 0.3


def test_pieces_of_words_are_learned_too(corpus):
    config = config_for(units_of(corpus.texts(0), "pieces", n_pieces=16), 24)
    task = SpeechTask(corpus, config, batch_size=8)
    model = task.new_model(0)
    before = task.evaluate(model, "dev")["loss"]
    train(model, task, 20, rate=1e-2, rng=np.random.default_rng(0))
    assert task.evaluate(model, "dev")["loss"] < 0.7 * before
