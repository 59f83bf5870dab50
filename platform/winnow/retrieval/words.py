"""The words of a text, as BM25 counts them: one place, because what is stored and what is asked must be cut alike.

Words are runs of letters, digits and underscores, at least two, in lower case and composed (NFC); stop words are left
out and the others stemmed, by the rules of one language. Chinese, Japanese and Korean, whatever the language, is cut
as Lucene's CJKAnalyzer does it: half- and full-width forms are made one, and each two neighbours among its characters
are a word, or one that has no neighbour.
"""

import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence

import regex
import Stemmer
from bm25s import stopwords

from winnow.retrieval.config import Language

# Lucene counts the long-vowel mark among the Katakana; to Unicode it belongs to no script.
_CJK = r"\p{Script=Han}\p{Script=Hiragana}\p{Script=Katakana}\p{Script=Hangul}ー"
_WORD = regex.compile(rf"(?V1)([{_CJK}]+)|[[\p{{L}}\p{{N}}\p{{M}}_]--[{_CJK}]]{{2,}}")
_ASCII_WORD = re.compile(r"\w{2,}", re.ASCII)
"""The same for texts that hold nothing else, in a fifth of the time."""

_WIDTHS = re.compile("[\uff01-\uff5e\uff65-\uff9f]+")
"""Full-width ASCII and half-width Katakana."""
_INVISIBLE = re.compile("[\u00ad\ufe00-\ufe0f\U000e0100-\U000e01ef]")
"""Soft hyphens and variation selectors, which say how a character is drawn."""
_STOP_WORDS: Mapping[str, frozenset[str]] = {
    "danish": frozenset(stopwords.STOPWORDS_DANISH),
    "dutch": frozenset(stopwords.STOPWORDS_DUTCH),
    "english": frozenset(stopwords.STOPWORDS_EN),
    "french": frozenset(stopwords.STOPWORDS_FRENCH),
    "german": frozenset(stopwords.STOPWORDS_GERMAN),
    "italian": frozenset(stopwords.STOPWORDS_ITALIAN),
    "norwegian": frozenset(stopwords.STOPWORDS_NORWEGIAN),
    "portuguese": frozenset(stopwords.STOPWORDS_PORTUGUESE),
    "russian": frozenset(stopwords.STOPWORDS_RUSSIAN),
    "spanish": frozenset(stopwords.STOPWORDS_SPANISH),
    "swedish": frozenset(stopwords.STOPWORDS_SWEDISH),
    "turkish": frozenset(stopwords.STOPWORDS_TURKISH),
}
"""Those that bm25s has; in other languages every word counts."""
_DOTTED = str.maketrans("İI", "iı")


def split_words(texts: Sequence[str], language: Language) -> list[list[str]]:
    """The words of each text, in order.

    >>> split_words(["Two otters", "東京は cafe\u0301s"], "english")
    [['two', 'otter'], ['東京', '京は', 'café']]
    """
    stop_words = _STOP_WORDS.get(language, frozenset())
    rows = [[word for word in _words(text, language) if word not in stop_words] for text in texts]
    if language == "none":
        return rows
    distinct = list(dict.fromkeys(word for row in rows for word in row))
    # A stemmer is not safe to share between threads, and cheap to make.
    stems = dict(zip(distinct, Stemmer.Stemmer(language).stemWords(distinct), strict=True))
    return [[stems[word] for word in row] for row in rows]


def _words(text: str, language: Language) -> Iterator[str]:
    text = (text.translate(_DOTTED) if language == "turkish" else text).lower()
    if text.isascii():
        yield from _ASCII_WORD.findall(text)
        return
    text = _WIDTHS.sub(lambda found: unicodedata.normalize("NFKC", found[0]), _INVISIBLE.sub("", text))
    for found in _WORD.finditer(unicodedata.normalize("NFC", text)):
        if found[1] is None:
            yield found[0]
        else:
            yield from _bigrams(found[1])


def _bigrams(run: str) -> Iterator[str]:
    if len(run) == 1:
        yield run
    for start in range(len(run) - 1):
        yield run[start : start + 2]
