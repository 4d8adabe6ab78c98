import shutil
from collections import Counter

import numpy as np
import pytest

from cspkit.arguments import ArgumentError
from cspkit.asr import Corpus, Utterance, load_spoken_digits
from cspkit.asr.corpus import DIGITS, N_FOLDS, PARTS, data_folder, joined


@pytest.fixture(scope="module")
def corpus():
    return load_spoken_digits()


def test_the_corpus_is_balanced(corpus):
    assert len(corpus.recordings) == 3000
    assert Counter(r.text for r in corpus.recordings) == dict.fromkeys(DIGITS, 300)
    assert set(Counter(r.speaker for r in corpus.recordings).values()) == {500}
    assert Counter(r.take for r in corpus.recordings) == dict.fromkeys(range(50), 60)
    assert len({r.id for r in corpus.recordings}) == 3000


@pytest.mark.parametrize("fold", range(N_FOLDS))
def test_no_recording_is_in_two_parts(corpus, fold):
    ids = [{r.id for r in corpus.split(part, fold)} for part in PARTS]
    assert [len(part) for part in ids] == [2160, 300, 540]
    assert len(set.union(*ids)) == 3000


def test_folds_test_every_recording_once_and_never_the_dev_part(corpus):
    tested = Counter(r.id for fold in range(N_FOLDS) for r in corpus.split("test", fold))
    assert len(tested) == 2700
    assert set(tested.values()) == {1}
    dev = {r.id for r in corpus.split("dev")}
    assert {int(i.rsplit("_", 1)[1]) for i in dev} == {45, 46, 47, 48, 49}
    assert not dev & set(tested)


def test_a_speaker_held_out_is_in_the_test_part_alone(corpus):
    assert len(corpus.speakers()) == 6
    for speaker in corpus.speakers():
        parts = {part: corpus.split(part, speaker) for part in PARTS}
        assert [len(recordings) for recordings in parts.values()] == [2250, 250, 450]
        assert {r.speaker for r in parts["test"]} == {speaker}
        assert speaker not in {r.speaker for r in parts["train"] + parts["dev"]}
        ids = [r.id for recordings in parts.values() for r in recordings]
        assert len(set(ids)) == len(ids)
    with pytest.raises(ArgumentError, match=r"fold is 'nobody': expected one of george"):
        corpus.split("dev", "nobody")


@pytest.mark.parametrize("part", ["dev", "test"])
def test_every_recording_is_in_exactly_three_strings(corpus, part):
    strings = corpus.strings(part, fold=3)
    uses = Counter(i for s in strings for i in s.id.split("+"))
    assert uses == dict.fromkeys((r.id for r in corpus.split(part, fold=3)), 3)
    assert {len(s.text.split()) for s in strings} == {1, 2, 3, 4, 5, 6, 7}
    assert strings[0].id == corpus.strings(part, fold=3)[0].id  # a function of the fold alone


def test_a_joined_string_is_its_recordings_in_order(corpus):
    first, second = [r for r in corpus.recordings if r.speaker == "theo"][:2]
    string = joined([first, second])
    assert string.text == f"{first.text} {second.text}"
    np.testing.assert_array_equal(
        string.features, np.concatenate([first.features, second.features])
    )


def test_joining_two_speakers_is_refused(corpus):
    two = [next(r for r in corpus.recordings if r.speaker == s) for s in ("theo", "lucas")]
    with pytest.raises(ArgumentError, match=r"lucas.*theo"):
        joined(two)


@pytest.mark.parametrize(
    ("part", "fold", "message"),
    [
        ("all", 0, "part is 'all'"),
        (None, 0, "part is None"),
        ("dev", 5, "fold is 5"),
        ("dev", -1, "fold is -1"),
        ("dev", None, "fold is None"),
        ("dev", True, "fold is True"),
    ],
)
def test_unknown_parts_and_folds_are_named(corpus, part, fold, message):
    with pytest.raises(ArgumentError, match=message):
        corpus.split(part, fold)


@pytest.mark.parametrize(
    ("features", "text", "message"),
    [
        (np.full((4, 13), np.nan, np.float32), "one", "NaN"),
        (np.zeros((4, 13), np.float32), "  ", "expected a string with at least one word"),
        (np.zeros((0, 13), np.float32), "one", r"shape \(0, 13\)"),
        (np.zeros((4, 13), np.float32), None, "text of utterance 'x' is None"),
        (np.zeros((4, 13), np.float32), ["one"], r"text of utterance 'x' is \['one'\]"),
        (None, "one", "features of utterance 'x' is a NoneType"),
        (np.full((4, 13), "a"), "one", "features of utterance 'x' is a ndarray of dtype <U1"),
    ],
)
def test_an_utterance_refuses_bad_input(features, text, message):
    with pytest.raises(ArgumentError, match=message):
        Utterance(features, text, "theo", "x")


@pytest.mark.parametrize("damage", ["missing", "damaged", "no sums"])
def test_damaged_data_is_noticed_and_says_what_to_do(tmp_path, monkeypatch, damage):
    shutil.copytree(data_folder() / "digits", tmp_path / "digits")
    monkeypatch.setenv("CSPKIT_DATA", str(tmp_path))
    load_spoken_digits()
    if damage == "missing":
        (tmp_path / "digits" / "features.npz").unlink()
    elif damage == "damaged":
        with (tmp_path / "digits" / "features.npz").open("r+b") as file:
            file.seek(1000)
            file.write(b"\0\0\0\0")
    else:
        (tmp_path / "digits" / "SHA256SUMS").unlink()
    with pytest.raises((FileNotFoundError, ArgumentError), match="git checkout -- data"):
        load_spoken_digits()


def test_a_plus_in_a_name_is_no_sign_of_a_joined_utterance():
    features = np.zeros((8, 13), np.float32)
    corpus = Corpus(
        tuple(Utterance(features[:n], "one", "theo", i) for n, i in ((4, "a+b"), (8, "c")))
    )
    assert corpus.word_ends(corpus.recordings[0]) == [0.1]
    assert corpus.word_ends(Utterance(features, "one one", "theo", "c+c")) == [0.2, 0.4]
    with pytest.raises(ArgumentError, match=r"utterance has the id 'c\+d': .* has no 'd'"):
        corpus.word_ends(Utterance(features, "one one", "theo", "c+d"))
