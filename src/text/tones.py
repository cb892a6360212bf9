"""Level and oblique tones (平仄) of characters, and the patterns of regulated verse (近体诗).

Wang Li, 诗词格律 (1962), chapter 2.
"""

from collections.abc import Mapping, Sequence
from functools import cache

from src.text.pingshui import RHYMES

LEVEL, OBLIQUE, EITHER = range(3)
LEVEL_RHYMES = 30

# verses of five characters: 平 level, 仄 oblique, 中 either. The first place is free but before a single
# level tone in the middle (孤平).
FIRST, SECOND, THIRD, FOURTH = "中仄平平仄", "平平仄仄平", "中平平仄仄", "中仄仄平平"
LONGER = {FIRST: "中平", SECOND: "中仄", THIRD: "中仄", FOURTH: "中平"}  # before these, for seven characters
# pairs of couplets in turn; the first verse of the last two ends in a level tone, as it rhymes
OPENINGS = (
    ((FIRST, SECOND), (THIRD, FOURTH)),
    ((THIRD, FOURTH), (FIRST, SECOND)),
    ((FOURTH, SECOND), (THIRD, FOURTH)),
    ((SECOND, FOURTH), (FIRST, SECOND)),
)
WITHOUT_FIRST_RHYME = 2  # of the openings


@cache
def _numbers() -> dict[str, list[int]]:
    """The rhymes of each character, traditional or simplified, level ones first."""
    import opencc  # only poems need it

    simplified = opencc.OpenCC("t2s")
    found: dict[str, list[int]] = {}
    for number, characters in enumerate(RHYMES.values()):
        # converted one by one: as a text, characters would be converted by their neighbours
        for character in {sign: None for one in characters for sign in (one, simplified.convert(one))}:
            found.setdefault(character, []).append(number)
    return found


def pingshui_rhyme(token: str) -> int | None:
    """The number of a character's Pingshui rhyme, a level one if it has several; None for others."""
    return _numbers().get(token, [None])[0]


def tone_of(token: str) -> int | None:
    """LEVEL, OBLIQUE or EITHER for a character with both; None for any other token.

    A character that the Pingshui rhymes do not list, mostly since they write it otherwise, has the tone of
    its first reading in modern Mandarin: 21 of the 1,516 characters of the sample.
    """
    if len(token) != 1 or not token.isalpha():
        return None
    levels = {number < LEVEL_RHYMES for number in _numbers().get(token, [])}
    if not levels:
        levels = _modern(token)
    if len(levels) != 1:
        return EITHER if levels else None
    return LEVEL if levels.pop() else OBLIQUE


def _modern(character: str) -> set[bool]:
    """Whether the tone of a character is level (the first or second) in modern Mandarin; empty if unknown."""
    from pypinyin import Style, pinyin

    found = pinyin(character, style=Style.TONE3, errors="ignore")
    return {found[0][0][-1] in "12"} if found else set()


def pattern(opening: int, lines: int, length: int) -> str:
    """The tones of a poem, in 平, 仄 and 中, without punctuation.

    Args:
        opening: of OPENINGS.
        lines: couplets.
        length: of a verse, 5 or 7.
    """
    first, second = OPENINGS[opening]
    couplets = [second if line % 2 else first for line in range(lines)]
    # after the first couplet, a verse that does not rhyme ends in an oblique tone
    oblique = {FOURTH: FIRST, SECOND: THIRD}.get(first[0], first[0])
    couplets[2::2] = [(oblique, first[1])] * len(couplets[2::2])
    verses = [verse for couplet in couplets for verse in couplet]
    return "".join(LONGER[verse] * (length == 7) + verse for verse in verses)


def fits(tone: int | None, wanted: str) -> bool:
    """Whether a tone can stand at a place of a pattern; an unknown tone at free places only."""
    return wanted == "中" or tone == EITHER or tone == (LEVEL if wanted == "平" else OBLIQUE)


def is_regulated(verses: Sequence[str], tones: Mapping[str, int]) -> bool:
    """Whether the tones of a poem follow one of the four patterns.

    Args:
        verses: all of 5 or all of 7 characters.
        tones: of characters.
    """
    text, lines = "".join(verses), len(verses) // 2
    return any(
        all(fits(tones.get(sign), wanted) for sign, wanted in zip(text, places, strict=True))
        for places in (pattern(opening, lines, len(verses[0])) for opening in range(len(OPENINGS)))
    )
