"""Tones of characters and patterns of regulated verse."""

import pytest

from src.core.errors import ConfigurationError
from src.text.compose import Composition, compose_poems
from src.text.model import LanguageModel
from src.text.preprocessing import SPECIAL, Preprocessing
from src.text.tones import EITHER, LEVEL, OBLIQUE, is_regulated, pattern, pingshui_rhyme, tone_of
from tests.text.test_compose import Waves

REGULATED = {
    "登鹳雀楼": "白日依山尽，黄河入海流。欲穷千里目，更上一层楼。",
    "早发白帝城": "朝辞白帝彩云间，千里江陵一日还。两岸猿声啼不住，轻舟已过万重山。",
    "春望": "国破山河在，城春草木深。感时花溅泪，恨别鸟惊心。"
    "烽火连三月，家书抵万金。白头搔更短，浑欲不胜簪。",
}
OLD_STYLE = {
    "静夜思": "床前明月光，疑是地上霜。举头望明月，低头思故乡。",
    "春晓": "春眠不觉晓，处处闻啼鸟。夜来风雨声，花落知多少。",
}


def verses(poem: str) -> list[str]:
    return poem.replace("，", " ").replace("。", " ").split()


def tones_of(text: str) -> dict[str, int]:
    return {sign: tone for sign in text if (tone := tone_of(sign)) is not None}


@pytest.mark.parametrize("poem", REGULATED.values(), ids=REGULATED)
def test_regulated_verse_of_the_tang(poem: str) -> None:
    assert is_regulated(verses(poem), tones_of(poem))


@pytest.mark.parametrize("poem", OLD_STYLE.values(), ids=OLD_STYLE)
def test_verse_in_the_old_style_follows_no_pattern(poem: str) -> None:
    assert not is_regulated(verses(poem), tones_of(poem))


def test_one_wrong_tone_is_found() -> None:
    poem = REGULATED["登鹳雀楼"].replace("流", "月")
    assert not is_regulated(verses(poem), tones_of(poem))
    assert not is_regulated(verses(REGULATED["登鹳雀楼"]), {})  # unknown ones fit free places only


def test_tones_of_characters() -> None:
    # entering tones are oblique, though three of these are level in modern Mandarin
    assert [tone_of(sign) for sign in "白一出国"] == [OBLIQUE] * 4
    assert [tone_of(sign) for sign in "山河流楼"] == [LEVEL] * 4
    assert tone_of("过") == tone_of("過") == EITHER
    assert [tone_of(sign) for sign in "啼扫"] == [LEVEL, OBLIQUE]  # by modern Mandarin
    assert [tone_of(token) for token in ("，", "<UNK>", "a", "山河")] == [None] * 4


def test_pingshui_rhymes() -> None:
    assert len({pingshui_rhyme(sign) for sign in "流楼秋愁"}) == 1
    # one rhyme in modern Mandarin, two in the Tang
    assert pingshui_rhyme("东") != pingshui_rhyme("冬")
    assert pingshui_rhyme("東") == pingshui_rhyme("东")
    assert pingshui_rhyme("a") is None


def test_patterns() -> None:
    assert pattern(0, 2, 5) == "中仄平平仄平平仄仄平中平平仄仄中仄仄平平"
    assert pattern(1, 1, 7) == "中仄中平平仄仄中平中仄仄平平"
    # the first verse rhymes, the first one of the third couplet does not
    assert pattern(2, 3, 5)[::5] == "中平中中中平"
    assert pattern(2, 3, 5)[4::5] == "平平仄平仄平"


# ------------------------------------------------------------------------------------- composition

LEVELS, OBLIQUES = "春花秋时知多楼东风", "月了往事少小昨夜又"
VOCABULARY = [*SPECIAL, "，", "。", *LEVELS, *OBLIQUES]
KNOWN = [tone_of(token) for token in VOCABULARY]
PREPROCESSING = Preprocessing(
    tokenizer="char",
    vocabulary=VOCABULARY,
    counts=[0, 2, 0, 0, 0, 0, 9, 9, *range(18, 0, -1)],
    rhymes=[None] * 8 + [0] * 9 + [40] * 9,
    tones=KNOWN,
)


def poems_of(**request: object) -> list[str]:
    model = LanguageModel(PREPROCESSING, Waves).eval()
    return list(compose_poems(model, PREPROCESSING, Composition(tones=True, **request)))  # type: ignore[arg-type]


@pytest.mark.parametrize("length", [5, 7])
def test_poems_follow_a_pattern_and_rhyme_in_a_level_tone(length: int) -> None:
    poems = poems_of(length=length, lines=4, rhyme=True, count=20, seed=1)
    tones = {token: tone for token, tone in zip(VOCABULARY, KNOWN, strict=True) if tone is not None}
    assert all(is_regulated(verses(poem), tones) for poem in poems)
    assert {tones[verse[-1]] for poem in poems for verse in verses(poem)[1::2]} <= {LEVEL, EITHER}
    # both patterns occur: the second character of the poem is oblique or level
    assert len({tones[poem[1]] == LEVEL for poem in poems}) == 2
    assert poems_of(length=length, lines=4, rhyme=True, count=3, seed=1) == poems[:3]


def test_given_characters_choose_the_pattern() -> None:
    level = poems_of(acrostic="春", count=10)
    assert {poem[0] for poem in level} == {"春"}
    with pytest.raises(ConfigurationError, match="the given characters fit no pattern"):
        poems_of(acrostic="月月月月", acrostic_of="verse")


def test_a_model_without_tones() -> None:
    preprocessing = Preprocessing("char", vocabulary=VOCABULARY, counts=PREPROCESSING.counts)
    with pytest.raises(ConfigurationError, match=r"needs prepare\.tones: true"):
        list(compose_poems(LanguageModel(preprocessing, Waves), preprocessing, Composition(tones=True)))
