"""Which texts fit a question best: Okapi BM25 over words without their endings."""

from __future__ import annotations

import math
import re
from collections import Counter
from typing import TYPE_CHECKING, Final

import attrs

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["Index", "terms"]

_WORD: Final = re.compile(r"[a-z0-9]+")
_STOP: Final = frozenset(
    _WORD.findall(
        "a about an and are as at be behind but by do does for from has have how i in is it its me not of on or our re s "
        "please so t tell than that the their them there they this to us was we what when which who why will with you your"
    )
)
_SATURATION: Final = 1.4  # how soon one more mention of a word stops counting (BM25's k1)
_LENGTH: Final = 0.6  # how much a long text must say more often (BM25's b)


def terms(text: str) -> list[str]:
    """Return the words of a text that say what it is about, so that `jokes` meets `joke` and `traveler` `traveller`."""
    words = _WORD.findall(text.lower().replace("'", " ").replace("\u2019", " "))
    return [_stem(word) for word in words if word not in _STOP]


def _stem(word: str) -> str:
    """Return a word without its ending and without double letters; not English, but the same for its relatives."""
    for ending in ("ers", "ing", "er", "ed", "es", "s", "e"):
        if word.endswith(ending) and len(word) - len(ending) >= 3:
            word = word.removesuffix(ending)
            break
    return re.sub(r"(.)\1", r"\1", word)


@attrs.frozen
class Index:
    """Texts, ready to be compared with questions.

    Attributes:
        documents: How often each text says each word.
        rarity: How much a word tells; the rarer, the more.
        mean_length: Words in an average text.
    """

    documents: tuple[Counter[str], ...]
    rarity: Mapping[str, float]
    mean_length: float

    @classmethod
    def of(cls, texts: Sequence[str], rarity: Mapping[str, float] | None = None) -> Index:
        """Index some texts, with the rarity that words have among them or elsewhere."""
        documents = tuple(Counter(terms(text)) for text in texts)
        holding = Counter(term for document in documents for term in document)
        own = {term: math.log(1 + (len(documents) - count + 0.5) / (count + 0.5)) for term, count in holding.items()}
        return cls(
            documents,
            own if rarity is None else rarity,
            sum(document.total() for document in documents) / max(1, len(documents)),
        )

    def scores(self, question: str) -> list[float]:
        """Return how well each text fits a question, in the order of the texts; 0 if not at all."""
        asked = set(terms(question))
        return [sum(self._weight(document, term) for term in asked) for document in self.documents]

    def _weight(self, document: Counter[str], term: str) -> float:
        """Return what one word of the question is worth in one text."""
        often = document[term]
        longer = 1 - _LENGTH + _LENGTH * document.total() / (self.mean_length or 1)
        return self.rarity.get(term, 0.0) * often * (_SATURATION + 1) / (often + _SATURATION * longer)
