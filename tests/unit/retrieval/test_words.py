"""How texts are cut into words: English as ever, CJK as Lucene cuts it, one form of what can be written in several."""

import unicodedata

import bm25s
import pytest
import Stemmer
from hypothesis import given
from hypothesis import strategies as st

from winnow.retrieval import words
from winnow.retrieval.words import split_words


def split(text, language="english"):
    return split_words([text], language)[0]


@given(st.lists(st.text(st.characters(max_codepoint=127)), max_size=3))
def test_words_of_ascii_texts_are_those_of_bm25s(texts):
    stemmer = Stemmer.Stemmer("english")

    expected = bm25s.tokenize(texts, stopwords="en", stemmer=stemmer, return_ids=False, show_progress=False)

    assert split_words(texts, "english") == expected


@given(st.text(st.characters(max_codepoint=127)))
def test_one_letter_of_another_alphabet_beside_ascii_changes_none_of_its_words(text):
    assert split(f"{text} ж", "none") == split(text, "none")


@pytest.mark.parametrize(
    ("text", "expected"),
    # By the rules that Lucene documents for CJKBigramFilter and CJKWidthFilter, worked out by hand.
    [
        ("猫は川で魚をとる。", "猫は は川 川で で魚 魚を をと とる"),
        ("さくらABCもみじ", "さく くら abc もみ みじ"),
        ("さくらabのxもみじ き", "さく くら ab の もみ みじ き"),
        ("我们在河边看书。", "我们 们在 在河 河边 边看 看书"),
        ("東京は日本の首都です", "東京 京は は日 日本 本の の首 首都 都で です"),
        ("Python入門、2024年", "python 入門 2024 年"),
        ("らーめん スーパー", "らー ーめ めん スー ーパ パー"),
        ("한국어 책", "한국 국어 책"),
        ("人々 〇", "人々 〇"),
        ("𠮷野家", "𠮷野 野家"),
        ("중国あア", "중国 国あ あア"),
        ("ｶﾞｲﾄﾞ Ｐｙｔｈｏｎ３", "ガイ イド python3"),
        ("葛\U000e0100飾", "葛飾"),
        ("東", "東"),
    ],
)
def test_cjk_is_cut_as_lucene_cuts_it_whatever_the_language(text, expected):
    for language in ("english", "none", "german"):
        assert split(text, language) == expected.split()


def test_every_letter_of_these_scripts_is_cut_so():
    named = ("CJK UNIFIED IDEOGRAPH", "HIRAGANA LETTER", "KATAKANA LETTER", "HANGUL SYLLABLE")
    letters = [chr(code) for code in range(0x20000) if unicodedata.name(chr(code), "").startswith(named)]
    letters = [letter for letter in letters if unicodedata.normalize("NFC", letter) == letter]

    assert len(letters) > 30_000
    assert [letter for letter in letters if split(letter) != [letter]] == []


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        ("café", "cafe\u0301", ["café"]),
        ("CAFÉ", "CAFE\u0301", ["café"]),
        ("Ångström", "A\u030angstro\u0308m", ["ångström"]),
        ("가나", "\u1100\u1161\u1102\u1161", ["가나"]),
        ("ガイド", "カ\u3099イト\u3099", ["ガイ", "イド"]),
        ("神戸", "\ufa19戸", ["神戸"]),
        ("kooperieren", "ko\u00adoperieren", ["kooperieren"]),
        ("m² µm", "m² µm", ["m²", "µm"]),
    ],
)
def test_texts_that_look_alike_have_the_same_words(one, other, expected):
    assert split(one, "none") == split(other, "none") == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [("हिन्दी भाषा", ["हिन्दी", "भाषा"]), ("தமிழ் மொழி", ["தமிழ்", "மொழி"]), ("كِتَاب", ["كِتَاب"])],
)
def test_signs_that_stand_above_or_below_a_letter_do_not_cut_words(text, expected):
    assert split(text, "none") == expected


@pytest.mark.parametrize(
    ("language", "text", "expected"),
    [
        ("english", "the changing files", ["chang", "file"]),
        ("german", "die Häuser und das Haus", ["haus", "haus"]),
        ("french", "les chevaux et le cheval", ["cheval", "cheval"]),
        ("russian", "и книги книга", ["книг", "книг"]),
        ("turkish", "IŞIK İSTANBUL", ["ışık", "istanbul"]),
        ("none", "the changing files", ["the", "changing", "files"]),
    ],
)
def test_a_language_has_its_own_stop_words_and_stems(language, text, expected):
    assert split(text, language) == expected


def test_every_language_of_the_setting_has_a_stemmer():
    languages = set(words.Language.__args__) - {"none"}

    assert languages == set(Stemmer.algorithms()) - {"porter", "dutch_porter"}
    assert words._STOP_WORDS.keys() <= languages
