"""Word error rate."""

from __future__ import annotations

from collections.abc import Sequence

import jiwer


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
    if len(references) != len(hypotheses) or not references:
        raise ValueError(
            f"references has {len(references)} and hypotheses {len(hypotheses)} utterances: "
            "expected as many of both, at least one"
        )
    for i, reference in enumerate(references):
        if not reference.strip():
            raise ValueError(f"references[{i}] is empty: expected at least one word")
    return jiwer.wer(list(references), list(hypotheses))
