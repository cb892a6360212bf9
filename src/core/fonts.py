"""Fonts for names that matplotlib's own font, DejaVu Sans, cannot draw, such as Chinese ones."""

import logging
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.figure import Figure

logger = logging.getLogger(__name__)

# simplified Chinese first: a font of another language draws some characters in another form
PREFERRED = (
    *("Noto Sans CJK SC", "Noto Sans SC", "Source Han Sans SC", "Source Han Sans CN"),
    *("PingFang SC", "Hiragino Sans GB", "Heiti SC", "STHeiti"),
    *("Microsoft YaHei", "DengXian", "SimHei"),
    *("WenQuanYi Micro Hei", "WenQuanYi Zen Hei", "Droid Sans Fallback", "Arial Unicode MS"),
)


@cache
def font_for(text: str) -> tuple[str, int] | None:
    """The font file, and the number of the face in it, that can draw a text.

    Args:
        text: it may have characters of every script.

    Returns:
        None if DejaVu Sans draws it, or if no installed font does, of which a warning tells.
    """
    from matplotlib import font_manager
    from matplotlib.ft2font import FT2Font

    characters = {ord(character) for character in text if character.isprintable()}
    if characters <= set(FT2Font(font_manager.findfont("DejaVu Sans")).get_charmap()):
        return None
    faces = []
    for path in font_manager.findSystemFonts():
        try:
            of_file = [FT2Font(path, face_index=number) for number in range(FT2Font(path).num_faces)]
        except (RuntimeError, OSError):  # a damaged file
            continue
        for number, face in enumerate(of_file):
            if not face.scalable:  # pictures of one size, such as those of Noto Color Emoji
                continue
            rank = PREFERRED.index(face.family_name) if face.family_name in PREFERRED else len(PREFERRED)
            faces.append((rank, face.style_name != "Regular", "Sans" not in face.family_name, path, number))
    for *_, path, number in sorted(faces):
        if characters <= set(FT2Font(path, face_index=number).get_charmap()):
            return path, number
    logger.warning(
        "no installed font has the characters of '%s', pictures show boxes; "
        "install a Chinese font, on Debian and Ubuntu: apt install fonts-noto-cjk",
        text,
    )
    return None


def choose_fonts(figure: "Figure") -> None:
    """Give the texts of a figure that DejaVu Sans cannot draw a font that can.

    Args:
        figure: its axes have their labels already.
    """
    from matplotlib.font_manager import FontPath
    from matplotlib.text import Text

    for axes in figure.axes:
        axes.get_xticklabels(), axes.get_yticklabels()  # names of categories stand in the labels only now
    for text in figure.findobj(Text):
        font = None if text.get_text().isascii() else font_for(text.get_text())
        if font is not None:
            text.get_fontproperties().set_file(FontPath(*font))
