import math

import numpy as np
import pandas as pd
import pytest

from cspkit.arguments import ArgumentError
from cspkit.asr import (
    Score,
    bootstrap_interval,
    confusions,
    relative_degradation,
    score,
    scores_by_group,
    scores_by_word,
    word_error_rate,
)
from cspkit.asr.scoring import utterance_errors

SPOKEN = ["one two three", "six", "four five six", "nine one"]
HEARD = ["one one three four", "", "four five six", "five one"]
# one substitution (two -> one) and one insertion (four); one deletion; none; nine -> five


def test_errors_are_counted_by_kind():
    assert score(SPOKEN, HEARD) == Score(substitutions=2, deletions=1, insertions=1, words=9)
    assert score(SPOKEN, HEARD).wer == word_error_rate(SPOKEN, HEARD) == pytest.approx(4 / 9)
    assert score(SPOKEN, SPOKEN) == Score(0, 0, 0, 9)


def test_confusions_show_what_was_heard():
    table = confusions(SPOKEN, HEARD)
    assert table.loc["two", "one"] == 1
    assert table.loc["nine", "five"] == 1
    assert table.loc["six", "-"] == 1
    assert table.loc["-", "four"] == 1
    assert table.loc["one", "one"] == 2
    assert table.to_numpy().sum() == 9 + 1
    spoken = table.sum(axis=1).drop("-")
    assert spoken["six"] == 2 and spoken["five"] == 1
    ordered = confusions(
        SPOKEN, HEARD, words=["nine", "six", "five", "four", "three", "two", "one"]
    )
    assert list(ordered.index) == ["nine", "six", "five", "four", "three", "two", "one", "-"]
    assert ordered.loc["nine", "five"] == 1


def test_scores_of_words_add_up_to_the_whole():
    by_word = scores_by_word(SPOKEN, HEARD)
    assert by_word["two"] == Score(1, 0, 0, 1)
    assert by_word["six"] == Score(0, 1, 0, 2)
    assert by_word["four"] == Score(0, 0, 1, 1)
    assert sum(s.errors for s in by_word.values()) == score(SPOKEN, HEARD).errors
    assert sum(s.words for s in by_word.values()) == 9
    assert math.isnan(scores_by_word(["one"], ["one two"])["two"].wer)


def test_scores_of_groups_are_those_of_their_utterances():
    by_group = scores_by_group(SPOKEN, HEARD, ["theo", "lucas", "theo", "lucas"])
    assert list(by_group) == ["lucas", "theo"]
    assert by_group["theo"] == Score(1, 0, 1, 6)
    assert by_group["lucas"] == Score(1, 1, 0, 3)


def test_the_interval_covers_the_rate_as_often_as_it_says():
    # Utterances of one word, wrong with probability 0.2: the binomial interval is known.
    rng, covered = np.random.default_rng(0), 0
    for _ in range(200):
        heard = ["one" if right else "two" for right in rng.random(100) > 0.2]
        low, high = bootstrap_interval(["one"] * 100, heard, rng, n=200)
        covered += low <= 0.2 <= high
    assert 0.89 <= covered / 200 <= 0.98


def test_the_interval_is_over_utterances_and_narrows_with_their_number():
    rng = np.random.default_rng(0)
    one = ["one two three four", "one two three four"]
    heard = ["one two three four", ""]
    low, high = bootstrap_interval(one, heard, rng)
    assert (low, high) == (0.0, 1.0)  # eight words, but only two utterances
    # An utterance that is drawn brings its words, too: nine of ten right, or one of one wrong.
    digits = "one two three four five six seven eight nine"
    interval = bootstrap_interval(["one", digits], ["two", digits], rng)
    assert interval == (0.0, 1.0)
    low, high = bootstrap_interval(50 * one, 50 * heard, rng)
    assert 0.38 < low < 0.43 and 0.57 < high < 0.62
    narrow = bootstrap_interval(50 * one, 50 * heard, rng, level=0.5)
    assert low < narrow[0] < narrow[1] < high


def test_a_difference_is_taken_over_the_same_draws():
    same = bootstrap_interval(SPOKEN, HEARD, np.random.default_rng(0), baseline=HEARD)
    assert same == (0.0, 0.0)
    references, worse = ["one"] * 100, ["one"] * 90 + ["two"] * 10
    low, high = bootstrap_interval(references, worse, np.random.default_rng(0), baseline=references)
    assert 0.03 < low < 0.06 and 0.14 < high < 0.18


def test_degradation_is_relative():
    references = ["one"] * 10
    dense, pruned = ["two"] * 2 + ["one"] * 8, ["two"] * 3 + ["one"] * 7
    assert relative_degradation(references, pruned, dense) == pytest.approx(0.5)
    assert relative_degradation(references, references, dense) == -1
    assert relative_degradation(references, pruned, references) == math.inf
    assert relative_degradation(references, references, references) == 0


def test_words_are_what_stands_between_white_space():
    assert score(["one\ttwo\n"], [" one  two"]) == Score(0, 0, 0, 2)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: score(["one"], []), "1 and hypotheses 0"),
        (lambda: score([], []), "at least one"),
        (lambda: score("one", ["one"]), "references is 'one': expected a sequence"),
        (lambda: confusions(["one"], "one"), "hypotheses is 'one': expected a sequence"),
        (lambda: confusions([" "], ["one"]), r"references\[0\] is empty"),
        (lambda: scores_by_group(SPOKEN, HEARD, ["theo"]), "groups has 1 entries: expected 4"),
        (lambda: confusions(SPOKEN, HEARD, words=["one"]), "words lacks 'five'"),
        (lambda: bootstrap_interval(SPOKEN, HEARD, np.random.default_rng(0), n=0), "n is 0"),
        (
            lambda: bootstrap_interval(SPOKEN, HEARD, np.random.default_rng(0), level=95),
            "level is 95",
        ),
        (
            lambda: bootstrap_interval(SPOKEN, HEARD, np.random.default_rng(0), baseline=["one"]),
            "4 and baseline 1",
        ),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(ArgumentError, match=message):
        call()


COLUMNS = {
    "column": lambda texts: pd.Series(texts, index=range(7, 7 + len(texts))),
    "column of strings": lambda texts: pd.Series(texts, index=list("dcba"), dtype="string"),
    "array": np.array,
    "array of objects": lambda texts: np.array(texts, dtype=object),
    "tuple": tuple,
    "iterator": iter,
}


@pytest.mark.parametrize("kind", COLUMNS)
def test_columns_and_arrays_are_scored_like_lists(kind):
    of = COLUMNS[kind]
    groups = ["theo", "lucas", "theo", "lucas"]

    def both():
        return of(SPOKEN), of(HEARD)

    assert word_error_rate(*both()) == word_error_rate(SPOKEN, HEARD)
    assert score(*both()) == score(SPOKEN, HEARD)
    assert confusions(*both()).equals(confusions(SPOKEN, HEARD))
    assert scores_by_word(*both()) == scores_by_word(SPOKEN, HEARD)
    assert scores_by_group(*both(), of(groups)) == scores_by_group(SPOKEN, HEARD, groups)
    assert utterance_errors(*both()).tolist() == [2, 1, 0, 1]
    assert relative_degradation(*both(), of(SPOKEN)) == math.inf
    intervals = [
        bootstrap_interval(*pair, np.random.default_rng(0), 50, baseline=baseline)
        for pair, baseline in ((both(), of(SPOKEN)), ((SPOKEN, HEARD), SPOKEN))
    ]
    assert intervals[0] == intervals[1]


def test_columns_are_paired_by_position_and_tables_may_be_filtered():
    table = pd.DataFrame(
        {"ref": ["six", *SPOKEN], "hyp": ["one", *HEARD], "take": [3, 1, 1, 2, 10]}
    )
    part = table[table["take"] != 3]
    assert word_error_rate(part.ref, part.hyp) == pytest.approx(4 / 9)
    assert word_error_rate(part.ref, part.hyp.iloc[::-1]) > word_error_rate(part.ref, part.hyp)
    assert list(scores_by_group(part.ref, part.hyp, part["take"])) == [1, 2, 10]
    words = pd.Series(["one", "two", "three", "four", "five", "six", "nine"])
    assert list(confusions(part.ref, part.hyp, words).index) == [*words, "-"]


@pytest.mark.parametrize(
    ("bad", "shown"),
    [
        (None, "(None|nan)"),
        (math.nan, "nan"),
        (pd.NA, "(<NA>|nan)"),
        (["one", "two"], r"\['one', 'two'\]"),
        (7, "7"),
        (b"one", "b'one'"),
    ],
)
def test_an_entry_that_is_no_string_is_named_with_its_row(bad, shown):
    spoiled = [*SPOKEN[:2], bad, SPOKEN[3]]
    rng = np.random.default_rng(0)
    for of in (list, lambda texts: pd.Series(texts, index=list("abcd"))):
        for call, name in (
            (lambda texts: word_error_rate(texts, HEARD), "references"),
            (lambda texts: score(SPOKEN, texts), "hypotheses"),
            (lambda texts: utterance_errors(SPOKEN, texts), "hypotheses"),
            (lambda texts: confusions(SPOKEN, texts), "hypotheses"),
            (lambda texts: scores_by_word(texts, HEARD), "references"),
            (lambda texts: scores_by_group(texts, HEARD, HEARD), "references"),
            (lambda texts: bootstrap_interval(texts, HEARD, rng), "references"),
            (lambda texts: bootstrap_interval(SPOKEN, HEARD, rng, baseline=texts), "baseline"),
            (lambda texts: relative_degradation(SPOKEN, HEARD, texts), "baseline"),
            (lambda texts: confusions(SPOKEN, HEARD, texts), "words"),
        ):
            with pytest.raises(ArgumentError, match=rf"{name}\[2\] is {shown}: expected a string"):
                call(of(spoiled))
    if not isinstance(bad, int):
        with pytest.raises(ArgumentError, match=rf"groups\[2\] is {shown}"):
            scores_by_group(SPOKEN, HEARD, spoiled)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: score(None, HEARD), "references is a NoneType: expected a sequence"),
        (lambda: score(b"one", HEARD), "references is a bytes"),
        (lambda: score({"one": 1}, ["one"]), "references is a dict"),
        (lambda: score(SPOKEN, set(HEARD)), "hypotheses is a set"),
        (lambda: score(pd.DataFrame({"one": [1]}), ["one"]), "references is a DataFrame"),
        (lambda: score(np.array("one"), ["one"]), "references is a ndarray"),
        (lambda: confusions(SPOKEN, HEARD, "one"), "words is 'one'"),
        (lambda: confusions(["one"], ["one"], ["one", "one"]), "expected every word once"),
        (lambda: bootstrap_interval(SPOKEN, HEARD, 0), "rng is 0: expected np.random.default_rng"),
        (lambda: bootstrap_interval(SPOKEN, HEARD, np.random.default_rng(0), n=None), "n is None"),
        (lambda: bootstrap_interval(SPOKEN, HEARD, np.random.default_rng(0), n=2.5), "n is 2.5"),
        (
            lambda: bootstrap_interval(SPOKEN, HEARD, np.random.default_rng(0), level=None),
            "level is None",
        ),
        (
            lambda: bootstrap_interval(SPOKEN, HEARD, np.random.default_rng(0), level=1),
            r"level is 1: expected a number in \(0, 1\)",
        ),
        (lambda: relative_degradation(["one"], ["one"], []), "1 and baseline 0"),
    ],
)
def test_what_is_no_set_of_texts_is_named(call, message):
    with pytest.raises(ArgumentError, match=message):
        call()


def test_a_spoken_marker_is_counted_as_the_word_it_is():
    table = confusions(["twenty - five"], ["twenty five"])
    assert list(table.index) == list(table.columns) == ["-", "five", "twenty", "--"]
    assert table.to_numpy().tolist() == [[0, 0, 0, 1], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 0]]
    heard = confusions(["one"], ["one -"])
    assert heard.loc["--", "-"] == 1 and heard.to_numpy().sum() == 2
    assert confusions(["- --"], ["-"]).index[-1] == "---"
    by_word = scores_by_word(["twenty - five"], ["twenty five"])
    assert by_word["-"] == Score(0, 1, 0, 1)
    assert set(by_word) == {"-", "five", "twenty"}
    assert scores_by_word(["one"], ["one -"])["-"] == Score(0, 0, 1, 0)
