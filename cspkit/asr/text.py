"""Normalisation of texts, and the units that a recogniser writes."""

from __future__ import annotations

import io
import re
import unicodedata
from collections.abc import Callable, Iterable

from cspkit.arguments import ArgumentError, count, one_of

KINDS = ("words", "characters", "pieces")
WORD_START = "\u2581"  # the first character of a piece that begins a word


def _as_is(text: str) -> str:
    return text


def _plain(text: str) -> str:
    text = unicodedata.normalize("NFKC", text).lower().replace("\u2019", "'")
    text = re.sub(r"(?<!\w)'|'(?!\w)", " ", text)
    return re.sub(r"[^\w' ]|_", " ", text)


# A change of a rule gets a new name, so that error rates by different rules are not confused.
RULES: dict[str, Callable[[str], str]] = {"as-is-1": _as_is, "plain-1": _plain}


def normalised(text: str, rules: str = "as-is-1") -> str:
    """Return a text with single spaces, after the rules of a name.

    An error rate is only comparable with others of the same rules, so their name is recorded beside
    it.

    Parameters
    ----------
    text : str
    rules : {"as-is-1", "plain-1"}
        "as-is-1" only replaces each run of white space by one space. "plain-1" also applies the
        Unicode normal form NFKC, makes all letters small, and replaces everything by a space
        except letters, digits, and apostrophes inside a word.

    Raises
    ------
    ArgumentError
        If there are no such rules.
    """
    return " ".join(RULES[one_of("rules", rules, tuple(RULES))](text).split())


def units_of(texts: Iterable[str], kind: str = "words", *, n_pieces: int = 500) -> tuple[str, ...]:
    """Return the units for a recogniser of these texts.

    Parameters
    ----------
    texts : iterable of str
        Normalised texts of the training part.
    kind : {"words", "characters", "pieces"}
        "words": every word that occurs. "characters": every character that occurs, and the space.
        "pieces": parts of words that occur often, found by sentencepiece (type "unigram"), with
        every single character among them. A piece that begins with the character U+2581 begins a
        word.
    n_pieces : int
        Largest number of pieces.

    Returns
    -------
    tuple of str
        For `TransducerConfig(units=...)`.

    Raises
    ------
    ArgumentError
        If there is no text, if `kind` is another string, or if the texts have more different
        characters than `n_pieces`.

    References
    ----------
    Kudo and Richardson, "SentencePiece: a simple and language independent subword tokenizer and
    detokenizer for neural text processing", EMNLP 2018, arXiv:1808.06226.
    """
    one_of("kind", kind, KINDS)
    texts = [" ".join(text.split()) for text in texts]
    words = {word for text in texts for word in text.split()}
    if not words:
        raise ArgumentError("texts have no word: expected the texts of the training part")
    if kind == "words":
        return tuple(sorted(words))
    characters = sorted({character for word in words for character in word})
    if kind == "characters":
        return (" ", *characters)
    return _pieces(texts, characters, count("n_pieces", n_pieces))


def _pieces(texts: list[str], characters: list[str], n_pieces: int) -> tuple[str, ...]:
    import sentencepiece

    single = [WORD_START, *(c for c in characters if c != WORD_START)]
    if n_pieces < len(single):
        raise ArgumentError(
            f"n_pieces is {n_pieces}: expected at least {len(single)}, the number of different "
            "characters"
        )
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(texts),
        model_writer=model,
        model_type="unigram",
        vocab_size=n_pieces + 1,  # with the unknown piece, which is left out
        hard_vocab_limit=False,
        character_coverage=1.0,
        normalization_rule_name="identity",
        bos_id=-1,
        eos_id=-1,
        num_threads=1,
        minloglevel=2,
    )
    found = sentencepiece.SentencePieceProcessor(model_proto=model.getvalue())
    pieces = [
        found.id_to_piece(i) for i in range(found.get_piece_size()) if not found.is_unknown(i)
    ]
    frequent = [piece for piece in pieces if len(piece) > 1][: n_pieces - len(single)]
    return (*sorted(single), *frequent)


def fewest_pieces(text: str, index: dict[str, int]) -> list[str] | None:
    """Cut a text into as few pieces as possible; of these ways, with the longest pieces first.

    Parameters
    ----------
    text : str
        With single spaces.
    index : dict of str to int
        Its keys are the pieces.

    Returns
    -------
    list of str or None
        None if the pieces cannot write the text.

    References
    ----------
    Schmidt et al., "Tokenization is more than compression", EMNLP 2024, arXiv:2402.18376.
    """
    pieces = []
    longest = max(map(len, index))
    for word in text.split():
        word = WORD_START + word
        n = len(word)
        fewest = [0.0] * (n + 1)  # pieces from each place to the end of the word
        ends = [n] * n
        for start in range(n - 1, -1, -1):
            known = [e for e in range(min(n, start + longest), start, -1) if word[start:e] in index]
            best = min(known, key=lambda end: fewest[end], default=None)
            fewest[start] = float("inf") if best is None else 1 + fewest[best]
            ends[start] = best or n
        if fewest[0] == float("inf"):
            return None
        start = 0
        while start < n:
            pieces.append(word[start : ends[start]])
            start = ends[start]
    return pieces
