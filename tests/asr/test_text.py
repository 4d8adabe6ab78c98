"""Rules of texts, and units: words, characters and pieces of words."""

import pytest

from cspkit.arguments import ArgumentError
from cspkit.asr import TransducerConfig
from cspkit.asr.text import RULES, WORD_START, fewest_pieces, normalised, units_of
from cspkit.asr.transducer_config import config_for

TEXTS = ["the thin thief thought of the thing", "this is the thirtieth thing", "a thing is a thing"]


@pytest.mark.parametrize(
    ("rules", "text", "expected"),
    [
        ("as-is-1", "  One,\tTWO\n three ", "One, TWO three"),
        ("plain-1", "  One,\tTWO\n three ", "one two three"),
        ("plain-1", "Don\u2019t 'quote' dogs' o'clock", "don't quote dogs o'clock"),
        ("plain-1", "\uff21\ufb01 \u00c4rger-nis x_y 3.5", "afi \u00e4rger nis x y 3 5"),
        ("plain-1", "... !", ""),
    ],
)
def test_rules_of_texts(rules, text, expected):
    assert normalised(text, rules) == expected
    assert normalised(expected, rules) == expected


def test_unknown_rules_are_refused():
    with pytest.raises(ArgumentError, match="rules is 'lower': expected one of 'as-is-1'"):
        normalised("a", "lower")
    assert list(RULES) == ["as-is-1", "plain-1"]


def test_words_and_characters():
    assert units_of(["b a", "c b"]) == ("a", "b", "c")
    assert units_of(["no", " yes no"], "characters") == (" ", "e", "n", "o", "s", "y")


def test_pieces_write_every_text_of_the_same_characters():
    units = units_of(TEXTS, "pieces", n_pieces=30)
    config = TransducerConfig(units=units)
    assert len(units) <= 30 and len(set(units)) == len(units)
    assert config.writes_pieces and not config.writes_characters
    for text in [*TEXTS, "foggiest", "a"]:
        assert config.text(config.labels(text)) == text
    assert len(config.labels("thing")) < len("thing")  # in fewer pieces than characters
    with pytest.raises(ArgumentError, match="text is 'zebra': expected a text that the pieces can"):
        config.labels("zebra")


def test_of_all_ways_the_one_with_the_fewest_pieces_is_used():
    pieces = [WORD_START, WORD_START + "ab", "a", "b", "c", "bc", "abc", "cab"]
    index = {piece: i for i, piece in enumerate(pieces)}
    assert fewest_pieces("abc", index) == [WORD_START + "ab", "c"]  # longest first, of two
    assert fewest_pieces("bc cab", index) == [WORD_START, "bc", WORD_START, "cab"]
    assert fewest_pieces("d", index) is None
    assert fewest_pieces("", index) == []


def test_units_fix_the_frame_stacking():
    assert config_for(("yes", "no")).stack == 3
    assert config_for(units_of(["yes no"], "characters")).stack == 2
    assert config_for(units_of(TEXTS, "pieces", n_pieces=20), 16).stack == 2
    assert config_for(("yes", "no"), 16).encoder_size == 16


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (((), "words"), "texts have no word"),
        ((["  "], "characters"), "texts have no word"),
        ((TEXTS, "phones"), "kind is 'phones': expected one of 'words'"),
        ((TEXTS, "pieces", 5), "n_pieces is 5: expected at least 13, the number of different"),
    ],
)
def test_what_gives_no_units_is_refused(call, message):
    texts, kind, *n = call
    with pytest.raises(ArgumentError, match=message):
        units_of(texts, kind, **({"n_pieces": n[0]} if n else {}))
