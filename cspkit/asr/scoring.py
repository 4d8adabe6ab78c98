"""Word error rate, how sure it is, and which words go wrong."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import jiwer
import numpy as np
import pandas as pd

NOTHING = "-"  # what is heard of a deleted word, and spoken of an inserted one


@dataclass(frozen=True)
class Score:
    """Errors of a recogniser over a set of utterances, by their kind.

    Attributes
    ----------
    substitutions, deletions, insertions : int
        Words heard as another word, words not heard, words heard that nobody spoke.
    words : int
        Words of the references.
    """

    substitutions: int
    deletions: int
    insertions: int
    words: int

    @property
    def errors(self) -> int:
        """All errors."""
        return self.substitutions + self.deletions + self.insertions

    @property
    def wer(self) -> float:
        """Word error rate as a fraction; `nan` over no words."""
        return self.errors / self.words if self.words else float("nan")


def word_error_rate(references: Sequence[str], hypotheses: Sequence[str]) -> float:
    """Word error rate over a set of utterances, as a fraction.

        (substitutions + deletions + insertions) / words in the references

    Parameters
    ----------
    references, hypotheses : sequence of str
        One string of words per utterance; a hypothesis may be empty, a reference may not.

    Returns
    -------
    float
        0 is perfect; insertions can make it larger than 1.

    Raises
    ------
    ValueError
        If the numbers of utterances differ, there are none, or a reference is empty.
    """
    return score(references, hypotheses).wer


def score(references: Sequence[str], hypotheses: Sequence[str]) -> Score:
    """Count the errors of the alignment that has the fewest of them.

    Parameters
    ----------
    references, hypotheses : sequence of str
        As for `word_error_rate`.

    Returns
    -------
    Score

    Raises
    ------
    ValueError
        As `word_error_rate` does.
    """
    _validate(references, hypotheses)
    counted = _aligned(references, hypotheses)
    return Score(
        substitutions=counted.substitutions,
        deletions=counted.deletions,
        insertions=counted.insertions,
        words=counted.hits + counted.substitutions + counted.deletions,
    )


def bootstrap_interval(
    references: Sequence[str],
    hypotheses: Sequence[str],
    rng: np.random.Generator,
    n: int = 1000,
    *,
    level: float = 0.95,
    baseline: Sequence[str] | None = None,
) -> tuple[float, float]:
    """Percentile interval of the word error rate, from utterances drawn anew with replacement.

    Errors come in clusters, since one bad utterance has several: so utterances are drawn, not
    words.

    Parameters
    ----------
    references, hypotheses : sequence of str
        As for `word_error_rate`.
    rng : np.random.Generator
    n : int
        Number of resampled sets.
    level : float
        Probability that the interval covers, in (0, 1).
    baseline : sequence of str, optional
        Hypotheses of another model for the same utterances. The interval is then that of the
        difference, WER less the WER of the baseline, over the same draws for both.

    Returns
    -------
    low, high : float

    Raises
    ------
    ValueError
        As `word_error_rate` does, or if `n` or `level` is out of range.

    References
    ----------
    Bisani and Ney, "Bootstrap estimates for confidence intervals in ASR performance evaluation",
    ICASSP 2004, doi:10.1109/ICASSP.2004.1326009.
    """
    if n < 1:
        raise ValueError(f"n is {n!r}: expected at least 1")
    if not 0 < level < 1:
        raise ValueError(f"level is {level!r}: expected a number between 0 and 1")
    errors = utterance_errors(references, hypotheses)
    if baseline is not None:
        errors = errors - utterance_errors(references, baseline)
    words = np.array([len(reference.split()) for reference in references])
    draws = rng.multinomial(len(words), np.full(len(words), 1 / len(words)), size=n)
    low, high = np.quantile(draws @ errors / (draws @ words), [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def utterance_errors(references: Sequence[str], hypotheses: Sequence[str]) -> np.ndarray:
    """Count the errors of each utterance.

    Parameters
    ----------
    references, hypotheses : sequence of str
        As for `word_error_rate`.

    Returns
    -------
    ndarray of int, shape (N,)
        Their sum over the words of the references is the word error rate.

    Raises
    ------
    ValueError
        As `word_error_rate` does.
    """
    _validate(references, hypotheses)
    counted = _aligned(references, hypotheses)
    return np.array(
        [
            sum(
                max(c.ref_end_idx - c.ref_start_idx, c.hyp_end_idx - c.hyp_start_idx)
                for c in chunks
                if c.type != "equal"
            )
            for chunks in counted.alignments
        ]
    )


def relative_degradation(
    references: Sequence[str], hypotheses: Sequence[str], baseline: Sequence[str]
) -> float:
    """How much worse a model is than another, relative to the other.

        (WER - WER of the baseline) / WER of the baseline

    Parameters
    ----------
    references, hypotheses, baseline : sequence of str
        Transcripts, the words of the model, and those of the reference model.

    Returns
    -------
    float
        0.1 is ten per cent more errors, negative is better than the reference model. Where that
        makes no error: `inf`, or 0 if the model makes none either.

    Raises
    ------
    ValueError
        As `word_error_rate` does.
    """
    ours, theirs = score(references, hypotheses).errors, score(references, baseline).errors
    if theirs == 0:
        return 0.0 if ours == 0 else float("inf")
    return (ours - theirs) / theirs


def scores_by_group(
    references: Sequence[str], hypotheses: Sequence[str], groups: Sequence[str]
) -> dict[str, Score]:
    """Score each group of utterances, the speakers for example, by itself.

    Parameters
    ----------
    references, hypotheses : sequence of str
        As for `word_error_rate`.
    groups : sequence of str
        The group of each utterance.

    Returns
    -------
    dict
        The Score of every group, in alphabetical order.

    Raises
    ------
    ValueError
        As `word_error_rate` does, or if there are not as many groups as utterances.
    """
    _validate(references, hypotheses)
    if len(groups) != len(references):
        raise ValueError(f"groups has {len(groups)} entries: expected {len(references)}")
    members: dict[str, list[int]] = defaultdict(list)
    for i, group in enumerate(groups):
        members[group].append(i)
    return {
        group: score([references[i] for i in chosen], [hypotheses[i] for i in chosen])
        for group, chosen in sorted(members.items())
    }


def scores_by_word(references: Sequence[str], hypotheses: Sequence[str]) -> dict[str, Score]:
    """Score each word, the digits for example, by itself.

    A substitution or a deletion counts for the word that was spoken, an insertion for the word
    that was heard.

    Parameters
    ----------
    references, hypotheses : sequence of str
        As for `word_error_rate`.

    Returns
    -------
    dict
        The Score of every word, in alphabetical order; a word that was never spoken has a
        `wer` of nan.

    Raises
    ------
    ValueError
        As `word_error_rate` does.
    """
    table = confusions(references, hypotheses)
    scores = {}
    for word in table.index.drop(NOTHING):
        spoken = int(table.loc[word].sum())
        deletions = int(table.loc[word, NOTHING])
        hits = int(table.loc[word, word])
        insertions = int(table.loc[NOTHING, word])
        scores[word] = Score(spoken - hits - deletions, deletions, insertions, spoken)
    return scores


def confusions(
    references: Sequence[str], hypotheses: Sequence[str], words: Sequence[str] | None = None
) -> pd.DataFrame:
    """Count how often each word was heard as each.

    Parameters
    ----------
    references, hypotheses : sequence of str
        As for `word_error_rate`.
    words : sequence of str, optional
        Order of rows and columns; all words that occur, alphabetically, where it is not given.

    Returns
    -------
    DataFrame
        A row for every spoken word, a column for every heard one. The last column, "-", counts
        deletions, the last row, "-", insertions.

    Raises
    ------
    ValueError
        As `word_error_rate` does, or if a word occurs that is not in `words`.
    """
    pairs = list(_pairs(references, hypotheses))
    occurring = {word for pair in pairs for word in pair} - {NOTHING}
    if words is None:
        words = sorted(occurring)
    if unknown := occurring - set(words):
        raise ValueError(f"words lacks {min(unknown)!r}, which occurs: expected every word")
    table = pd.DataFrame(0, index=[*words, NOTHING], columns=[*words, NOTHING])
    for spoken, heard in pairs:
        table.loc[spoken, heard] += 1
    return table.rename_axis(index="spoken", columns="heard")


def _pairs(references: Sequence[str], hypotheses: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Spoken and heard word of every place of the alignment; NOTHING stands for no word."""
    _validate(references, hypotheses)
    counted = _aligned(references, hypotheses)
    utterances = zip(counted.references, counted.hypotheses, counted.alignments, strict=True)
    for reference, hypothesis, chunks in utterances:
        for chunk in chunks:
            spoken = reference[chunk.ref_start_idx : chunk.ref_end_idx]
            heard = hypothesis[chunk.hyp_start_idx : chunk.hyp_end_idx]
            length = max(len(spoken), len(heard))  # one of them is empty, or both are as long
            yield from zip(spoken or [NOTHING] * length, heard or [NOTHING] * length, strict=True)


def _aligned(references: Sequence[str], hypotheses: Sequence[str]) -> jiwer.WordOutput:
    # jiwer splits at spaces alone; words are what stands between white space of any kind.
    texts = ([" ".join(text.split()) for text in part] for part in (references, hypotheses))
    return jiwer.process_words(*texts)


def _validate(references: Sequence[str], hypotheses: Sequence[str]) -> None:
    for name, texts in (("references", references), ("hypotheses", hypotheses)):
        if isinstance(texts, str):
            raise ValueError(f"{name} is {texts!r}: expected a sequence of strings")
    if len(references) != len(hypotheses) or not references:
        raise ValueError(
            f"references has {len(references)} and hypotheses {len(hypotheses)} utterances: "
            "expected as many of both, at least one"
        )
    for i, reference in enumerate(references):
        if not reference.strip():
            raise ValueError(f"references[{i}] is empty: expected at least one word")
