"""The contact sheet of training images in data/prepared/<task>/.

C channels, H height, W width
"""

from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from src.images.pictures import WHITE, Pixels, as_picture

SHEET = (2, 9)
SHEET_ZOOM = 84


def draw_sheet(images: Pixels, captions: list[str], largest: int, path: Path) -> None:
    """Draw the first training images, 2 x 9 as in the course, each below its class or number."""
    rows, columns = SHEET
    line, font = 14, ImageFont.load_default(11)
    sheet = Image.new("RGB", (columns * SHEET_ZOOM, rows * (SHEET_ZOOM + line)), "white")
    draw = ImageDraw.Draw(sheet)
    brightest = max(largest, 1)
    for number, (image, caption) in enumerate(zip(images, captions, strict=True)):
        left, top = number % columns * SHEET_ZOOM, number // columns * (SHEET_ZOOM + line)
        draw.text((left + 2, top), caption, fill="black", font=font)
        shown = (image.astype(float) * (WHITE / brightest)).astype(np.uint8)
        picture = as_picture(shown).resize((SHEET_ZOOM - 4, SHEET_ZOOM - 4), Image.Resampling.NEAREST)
        sheet.paste(picture.convert("RGB"), (left + 2, top + line))
    sheet.save(path)
