"""Corpora of manifests: their parts, and what is refused."""

import json
import warnings

import numpy as np
import pytest
import soundfile
from speech_folder import write_manifest_of

from cspkit.arguments import ArgumentError
from cspkit.asr import Corpus
from cspkit.asr.corpus import PARTS
from cspkit.asr.manifest import Manifest
from cspkit.asr.manifest_corpus import lines_of

NAMES = ("ann", "bob", "cat", "dan", "eve", "fay", "gil")


def written(path, speakers, **fields):
    rows = [
        {"audio_filepath": f"{i}.wav", "text": f"word {i}", "speaker": s}
        | {n: v[i] for n, v in fields.items()}
        for i, s in enumerate(speakers)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.mark.parametrize("by", ["speaker", "random"])
def test_parts_are_disjoint_and_the_folds_test_on_every_line_once(tmp_path, by):
    speakers = np.random.default_rng(0).choice(NAMES, 200)
    corpus = Corpus.from_manifest(written(tmp_path / "m.jsonl", speakers), by=by)
    tested = []
    for fold in range(5):
        lines = {part: corpus.split(part, fold).lines.tolist() for part in PARTS}
        assert sorted(sum(lines.values(), [])) == list(range(200))
        assert 10 <= len(lines["dev"]) <= 60 and len(lines["train"]) >= 80
        tested += lines["test"]
        heard = {part: {speakers[i] for i in lines[part]} for part in PARTS}
        if by == "speaker":
            assert not heard["train"] & heard["test"] and not heard["train"] & heard["dev"]
            assert not heard["dev"] & heard["test"]
        else:
            assert len(lines["test"]) == 40 and len(lines["dev"]) in (16, 17)
    assert sorted(tested) == list(range(200))


def test_the_split_is_by_speaker_if_every_speaker_is_known(tmp_path):
    many = written(tmp_path / "a.jsonl", ["ann", "bob", "cat", "dan"] * 5)
    assert Corpus.from_manifest(many).by == "speaker"
    for speakers in (["ann", "bob"] * 5, ["ann", "bob", "cat", ""] * 5):
        assert Corpus.from_manifest(written(tmp_path / "b.jsonl", speakers)).by == "random"


def test_a_field_may_name_the_parts(tmp_path):
    parts = ["train", "test", "validation", "train", "dev"]
    path = written(tmp_path / "m.jsonl", ["ann"] * 5, part=parts)
    corpus = Corpus.from_manifest(path, by="part")
    assert [corpus.split(p).lines.tolist() for p in PARTS] == [[0, 3], [2, 4], [1]]
    assert list(corpus.texts()) == ["word 0", "word 3"]
    with pytest.raises(ArgumentError, match="fold is 1: expected 0, since the corpus names its"):
        corpus.split("test", 1)
    with pytest.raises(ArgumentError, match="by is 'set', but line 1 of .* has '' in it: expected"):
        Corpus.from_manifest(path, by="set")


def test_each_part_may_have_its_own_manifest(tmp_path):
    files = [written(tmp_path / f"{part}.jsonl", [part] * 3) for part in PARTS]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        corpus = Corpus.from_manifest(*files)
    assert [corpus.split(part).manifest.path for part in PARTS] == files
    both = written(tmp_path / "other.jsonl", ["train", "x"])
    with pytest.warns(UserWarning, match="1 speakers of .* also speak in the test part.* 'train'"):
        Corpus.from_manifest(files[0], files[1], both)


def test_texts_follow_the_rules_of_the_corpus(tmp_path):
    path = tmp_path / "m.jsonl"
    row = {"audio_filepath": "a.wav", "text": "Hello,  World"}
    path.write_text((json.dumps(row) + "\n") * 3 + '{"audio_filepath": "a.wav", "text": "!"}\n')
    assert set(Corpus.from_manifest(path).texts()) <= {"Hello, World", "!"}
    plain = Corpus.from_manifest(path, rules="plain-1")
    assert set(plain.texts()) == {"hello world"} and plain.rules == "plain-1"
    assert plain.recordings.manifest.n_faults == 1  # nothing is left of the last text


@pytest.mark.parametrize(
    ("speakers", "options", "message"),
    [
        ([], {}, "m.jsonl has no line that can be used: it is empty"),
        (["ann", "bob"] * 3, {"by": "speaker"}, "by is 'speaker', but .* has 2 speakers: expected"),
        (["ann", "bob", "cat", ""], {"by": "speaker"}, "but lines of .* have no speaker"),
        (["ann"] * 2, {}, "has 2 lines: expected 3"),
        (["ann"] * 5, {"dev": "m.jsonl"}, "dev is .* and test is None: expected both or none"),
        (["ann"] * 5, {"rules": "x"}, "rules is 'x'"),
    ],
)
def test_what_cannot_be_split_is_refused(tmp_path, monkeypatch, speakers, options, message):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ArgumentError, match=message):
        Corpus.from_manifest(written(tmp_path / "m.jsonl", speakers), **options)


def test_with_three_speakers_there_are_three_folds(tmp_path):
    manifest = Manifest(written(tmp_path / "m.jsonl", ["ann", "bob", "cat"] * 4))
    tested = [lines_of(manifest, "speaker", fold)["test"].tolist() for fold in range(3)]
    assert sorted(sum(tested, [])) == list(range(12))
    with pytest.raises(ArgumentError, match="fold is 3, but .* has 3 speakers"):
        lines_of(manifest, "speaker", 3)


def test_folders_like_librispeech_become_a_corpus(tmp_path):
    rng = np.random.default_rng(0)
    for part, speaker in zip(PARTS, ("19", "26", "27"), strict=True):
        folder = tmp_path / part / speaker / "198"
        folder.mkdir(parents=True)
        lines = ""
        for i in range(2):
            name = f"{speaker}-198-000{i}"
            soundfile.write(folder / f"{name}.flac", 0.1 * rng.standard_normal(16000), 16000)
            lines += f"{name} NORTHANGER ABBEY {part.upper()}\n"
        (folder / f"{speaker}-198.trans.txt").write_text(lines)
    folders = [tmp_path / part for part in PARTS]
    corpus = Corpus.from_librispeech(*folders, manifests=tmp_path / "manifests")
    assert [len(corpus.split(part)) for part in PARTS] == [2, 2, 2]
    assert corpus.split("test")[1].text == "northanger abbey test"
    assert corpus.split("dev")[0].features.shape == (41, 13)
    assert corpus.speakers() == ["19"]


def test_made_up_speech_is_what_its_manifest_says(tmp_path):
    corpus = Corpus.from_manifest(write_manifest_of(tmp_path, 10), cache=tmp_path / "cache")
    assert {u.speaker for u in corpus.split("train")} == {""}
    assert sum(len(corpus.split(part)) for part in PARTS) == 10
