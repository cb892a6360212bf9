"""Guesses of encodings."""

import pytest

from src.core.encodings import guess_encoding

SIMPLIFIED = "姓名,体重\n张伟,70\n李娜,52\n"
TRADITIONAL = "姓名,體重\n張偉,70\n李娜,52\n"
FRENCH = "L'été, naïve Noël: à côté. \u201cOui\u201d, 5 €\n"


@pytest.mark.parametrize(
    ("text", "encoding"),
    [
        ("abc", "utf-8"),
        (SIMPLIFIED, "utf-8"),
        (SIMPLIFIED, "utf-8-sig"),
        (SIMPLIFIED, "utf-16"),
        (SIMPLIFIED, "utf-32"),
        (SIMPLIFIED, "gb18030"),
        (TRADITIONAL, "gb18030"),
        (TRADITIONAL, "big5"),
        ("床前明月光，疑是地上霜。", "gb18030"),
        ("白日依山盡，黃河入海流。", "big5"),
        (FRENCH, "cp1252"),
        ("Größe,Straße\n1,Öl\nMÜLLER,x\n", "cp1252"),
        ("a" * 300_000 + "春天", "gb18030"),
    ],
)
def test_the_encoding_of_a_text_is_found(text: str, encoding: str) -> None:
    assert guess_encoding(text.encode(encoding)) == encoding


@pytest.mark.parametrize(
    "data",
    [
        bytes(range(256)),
        "日本語の文章です".encode("shift_jis"),
        "Привет, как дела".encode("cp1251"),
        "春天".encode("gb18030") + b"\xff",
        "春天".encode("utf-16")[:-1],
        b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR",
    ],
)
def test_what_fits_no_encoding_is_not_guessed(data: bytes) -> None:
    assert guess_encoding(data) is None
