"""The rhymes of modern Mandarin."""

# 中华新韵 (2005): fourteen rhymes by pinyin final; "-i" is the final that pinyin spells i after z, c, s, zh,
# ch, sh and r
RHYMES = (
    "a ia ua",
    "o e uo",
    "ie ve ue",
    "ai uai",
    "ei uei",
    "ao iao",
    "ou iou",
    "an ian uan van",
    "en in uen vn",
    "ang iang uang",
    "eng ing ueng ong iong",
    "i er v",
    "-i",
    "u",
)
RHYME_OF = {final: number for number, finals in enumerate(RHYMES) for final in finals.split()}


def rhyme_of(token: str) -> int | None:
    """Return the number of a character's rhyme, by its most frequent reading; None for any other token."""
    from pypinyin import Style, pinyin  # only poems need it

    if len(token) != 1 or not token.isalpha():
        return None
    final = pinyin(token, style=Style.FINALS, errors="ignore", strict=True)
    if not final:
        return None
    initial = pinyin(token, style=Style.INITIALS, strict=True)[0][0]
    spelt = final[0][0].replace("ü", "v")
    if spelt == "i" and initial in ("z", "c", "s", "zh", "ch", "sh", "r"):
        return RHYME_OF["-i"]
    return RHYME_OF.get(spelt)
