"""Word error rate, its confidence interval, and which words are confused."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from numbers import Integral

import jiwer
import numpy as np
import pandas as pd

from cspkit.arguments import ArgumentError, count, fraction
from cspkit.bootstrap import utterance_bootstrap

Texts = Sequence[str] | np.ndarray | pd.Series


@dataclass(frozen=True)
class Score:
    """Number of errors of each kind, over a set of utterances.

    Attributes
    ----------
    substitutions, deletions, insertions : int
        Words recognised as another word, words not recognised, and recognised words that nobody
        spoke.
    words : int
        Number of words in the references.
    """

    substitutions: int
    deletions: int
    insertions: int
    words: int

    @property
    def errors(self) -> int:
        """Number of errors of all kinds."""
        return self.substitutions + self.deletions + self.insertions

    @property
    def wer(self) -> float:
        """Word error rate as a fraction; nan if there are no words."""
        return self.errors / self.words if self.words else float("nan")


def word_error_rate(references: Texts, hypotheses: Texts) -> float:
    """Return the word error rate of a set of utterances, as a fraction.

        (substitutions + deletions + insertions) / words in the references

    Parameters
    ----------
    references, hypotheses : sequence of str
        One string of words for each utterance: a list, a NumPy array or a column of a pandas
        table. Utterances are paired by position; the index of a column has no effect. A
        hypothesis may be empty, a reference may not.

    Returns
    -------
    float
        0 is perfect. Insertions can make it larger than 1.

    Raises
    ------
    ArgumentError
        If the numbers of utterances differ, if there are none, if an entry is not a string, or
        if a reference is empty. The message gives the index of the entry, counted from 0.
    """
    return score(references, hypotheses).wer


def score(references: Texts, hypotheses: Texts) -> Score:
    """Count the errors of each kind, in the alignment with the fewest errors.

    Parameters
    ----------
    references, hypotheses : sequence of str
        As for `word_error_rate`.

    Returns
    -------
    Score

    Raises
    ------
    ArgumentError
        For the same reasons as `word_error_rate`.
    """
    counted = _aligned(references, hypotheses)
    return Score(
        substitutions=counted.substitutions,
        deletions=counted.deletions,
        insertions=counted.insertions,
        words=counted.hits + counted.substitutions + counted.deletions,
    )


def bootstrap_interval(
    references: Texts,
    hypotheses: Texts,
    rng: np.random.Generator,
    n: int = 1000,
    *,
    level: float = 0.95,
    baseline: Sequence[str] | None = None,
) -> tuple[float, float]:
    """Return a bootstrap percentile interval of the word error rate.

    It resamples utterances with replacement. It does not resample words, because the errors of
    an utterance are not independent of each other.

    Parameters
    ----------
    references, hypotheses : sequence of str
        As for `word_error_rate`.
    rng : np.random.Generator
    n : int
        Number of resampled sets.
    level : float
        Probability covered by the interval, in (0, 1).
    baseline : sequence of str, optional
        Hypotheses of another model for the same utterances. The result is then an interval of
        the difference (WER - WER of the baseline). Both rates use the same draws of utterances.

    Returns
    -------
    low, high : float

    Raises
    ------
    ArgumentError
        For the same reasons as `word_error_rate`; if `n` or `level` is out of range; or if `rng`
        is not a Generator.

    References
    ----------
    Bisani and Ney, "Bootstrap estimates for confidence intervals in ASR performance evaluation",
    ICASSP 2004, doi:10.1109/ICASSP.2004.1326009.
    """
    count("n", n)
    if fraction("level", level) in (0, 1):
        raise ArgumentError(f"level is {level!r}: expected a number in (0, 1)")
    if not isinstance(rng, np.random.Generator):
        raise ArgumentError(f"rng is {rng!r}: expected np.random.default_rng(SEED)")
    references = _texts("references", references)
    errors = _errors(references, hypotheses)
    if baseline is not None:
        errors = errors - _errors(references, baseline, "baseline")
    words = np.array([len(reference.split()) for reference in references])
    rates = np.concatenate(list(utterance_bootstrap(errors[:, None], words, rng, n)))
    low, high = np.quantile(rates, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def utterance_errors(references: Texts, hypotheses: Texts) -> np.ndarray:
    """Count the errors of each utterance.

    Parameters
    ----------
    references, hypotheses : sequence of str
        As for `word_error_rate`.

    Returns
    -------
    ndarray of int, shape (N,)
        The sum of the errors, divided by the number of words in the references, is the word error
        rate.

    Raises
    ------
    ArgumentError
        For the same reasons as `word_error_rate`.
    """
    return _errors(references, hypotheses)


def relative_degradation(references: Texts, hypotheses: Texts, baseline: Texts) -> float:
    """Return how many more errors a model makes than a baseline, as a fraction.

        (WER - WER of the baseline) / WER of the baseline

    Parameters
    ----------
    references, hypotheses, baseline : sequence of str
        The spoken words, the words that the model recognised, and the words that the baseline
        recognised.

    Returns
    -------
    float
        0.1 means ten per cent more errors than the baseline; a negative number means fewer. If
        the baseline makes no errors, the result is `inf`, or 0 if the model makes none either.

    Raises
    ------
    ArgumentError
        For the same reasons as `word_error_rate`.
    """
    references = _texts("references", references)
    errors = int(_errors(references, hypotheses).sum())
    baseline_errors = int(_errors(references, baseline, "baseline").sum())
    if baseline_errors == 0:
        return 0.0 if errors == 0 else float("inf")
    return (errors - baseline_errors) / baseline_errors


def scores_by_group(
    references: Texts, hypotheses: Texts, groups: Sequence[str] | np.ndarray | pd.Series
) -> dict[str, Score]:
    """Score each group of utterances separately, for example each speaker.

    Parameters
    ----------
    references, hypotheses : sequence of str
        As for `word_error_rate`.
    groups : sequence of str or int
        The group of each utterance.

    Returns
    -------
    dict
        The Score of every group, in sorted order.

    Raises
    ------
    ArgumentError
        For the same reasons as `word_error_rate`, or if `groups` has another length, or has an
        entry that is neither a string nor a whole number.
    """
    references, hypotheses = _pair(references, hypotheses)
    groups = _entries("groups", groups, str | Integral, "a string or a whole number")
    if len(groups) != len(references):
        raise ArgumentError(f"groups has {len(groups)} entries: expected {len(references)}")
    members: dict[str, list[int]] = defaultdict(list)
    for i, group in enumerate(groups):
        members[group].append(i)
    return {
        group: score(
            [references[i] for i in members[group]], [hypotheses[i] for i in members[group]]
        )
        for group in sorted(members, key=lambda name: (isinstance(name, str), name))
    }


def scores_by_word(references: Texts, hypotheses: Texts) -> dict[str, Score]:
    """Score each word separately, for example each digit.

    A substitution or a deletion counts for the word that was spoken. An insertion counts for the
    word that was heard.

    Parameters
    ----------
    references, hypotheses : sequence of str
        As for `word_error_rate`.

    Returns
    -------
    dict
        The Score of every word, in alphabetical order. Its `wer` is nan if nobody spoke the word.

    Raises
    ------
    ArgumentError
        For the same reasons as `word_error_rate`.
    """
    table = confusions(references, hypotheses)
    counts = table.to_numpy()
    spoken, hits = counts.sum(axis=1), counts.diagonal()
    scores = {}
    for i, word in enumerate(table.index[:-1]):
        deletions, insertions = int(counts[i, -1]), int(counts[-1, i])
        substitutions = int(spoken[i] - hits[i]) - deletions
        scores[word] = Score(substitutions, deletions, insertions, int(spoken[i]))
    return scores


def confusions(
    references: Texts, hypotheses: Texts, words: Sequence[str] | np.ndarray | None = None
) -> pd.DataFrame:
    """Count how often each spoken word was heard as each word.

    Parameters
    ----------
    references, hypotheses : sequence of str
        As for `word_error_rate`.
    words : sequence of str, optional
        Order of rows and columns. The default is all words that occur, in alphabetical order.

    Returns
    -------
    DataFrame
        A row for every spoken word, a column for every heard word. The last column counts
        deletions, and the last row counts insertions. This column and this row are named "-".
        If "-" is one of the words, they are named "--", and so on.

    Raises
    ------
    ArgumentError
        For the same reasons as `word_error_rate`, or if `words` lacks a word that occurs, or
        contains a word twice.
    """
    pairs = Counter(_pairs(references, hypotheses))
    occurring = {word for pair in pairs for word in pair if word is not None}
    words = sorted(occurring) if words is None else _texts("words", words)
    if unknown := occurring - set(words):
        raise ArgumentError(f"words lacks {min(unknown)!r}: expected every word that occurs")
    if len(set(words)) < len(words):
        raise ArgumentError(f"words is {words!r}: expected every word once")
    no_word = "-"
    while no_word in words:
        no_word += "-"
    place = {word: i for i, word in enumerate([*words, None])}
    counts = np.zeros((len(place), len(place)), dtype=np.int64)
    for (spoken, heard), number in pairs.items():
        counts[place[spoken], place[heard]] = number
    index, columns = (pd.Index([*words, no_word], name=name) for name in ("spoken", "heard"))
    return pd.DataFrame(counts, index, columns)


def _pairs(references: Texts, hypotheses: Texts) -> Iterator[tuple[str | None, str | None]]:
    """Yield the spoken and the heard word at each place of the alignment; None if there is none."""
    counted = _aligned(references, hypotheses)
    utterances = zip(counted.references, counted.hypotheses, counted.alignments, strict=True)
    for reference, hypothesis, chunks in utterances:
        for chunk in chunks:
            spoken = reference[chunk.ref_start_idx : chunk.ref_end_idx]
            heard = hypothesis[chunk.hyp_start_idx : chunk.hyp_end_idx]
            length = max(len(spoken), len(heard))  # equal lengths, or one list is empty
            yield from zip(spoken or [None] * length, heard or [None] * length, strict=True)


def _errors(references: Texts, hypotheses: Texts, name: str = "hypotheses") -> np.ndarray:
    """Return the number of errors of each utterance. `name` is used in error messages."""

    def length(chunk: jiwer.AlignmentChunk) -> int:
        spoken = chunk.ref_end_idx - chunk.ref_start_idx
        return max(spoken, chunk.hyp_end_idx - chunk.hyp_start_idx)

    alignments = _aligned(references, hypotheses, name).alignments
    return np.array([sum(length(c) for c in chunks if c.type != "equal") for chunks in alignments])


def _aligned(references: Texts, hypotheses: Texts, name: str = "hypotheses") -> jiwer.WordOutput:
    # jiwer splits only at spaces, so every kind of white space becomes a space.
    pair = _pair(references, hypotheses, name)
    return jiwer.process_words(*([" ".join(text.split()) for text in texts] for texts in pair))


def _pair(
    references: Texts, hypotheses: Texts, name: str = "hypotheses"
) -> tuple[list[str], list[str]]:
    """Check references and hypotheses, and return them as lists."""
    references, hypotheses = _texts("references", references), _texts(name, hypotheses)
    if len(references) != len(hypotheses) or not references:
        raise ArgumentError(
            f"references has {len(references)} and {name} {len(hypotheses)} utterances: "
            "expected equal numbers, at least one"
        )
    for i, reference in enumerate(references):
        if not reference.strip():
            raise ArgumentError(f"references[{i}] is empty: expected at least one word")
    return references, hypotheses


def _texts(name: str, texts: Texts) -> list[str]:
    return _entries(name, texts, str, "a string")


def _entries(name: str, entries: object, kind: type, expected: str) -> list:
    """Return the entries of a sequence, an array or a column as a list."""
    if isinstance(entries, str | bytes | Mapping | Set | pd.DataFrame) or not np.iterable(entries):
        shown = repr(entries) if isinstance(entries, str) else f"a {type(entries).__name__}"
        raise ArgumentError(f"{name} is {shown}: expected a sequence, an array or a column")
    entries = list(entries)
    for i, entry in enumerate(entries):
        if not isinstance(entry, kind):
            raise ArgumentError(f"{name}[{i}] is {entry!r}: expected {expected}")
    return entries
