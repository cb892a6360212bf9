"""The form of `pipelines.serve` for an image."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import gradio
from gradio.components import Component
from PIL import Image, ImageOps

from src.core.errors import DataError
from src.core.pictures import require_few_pixels
from src.images.model import ImageModel
from src.images.pictures import read_picture
from src.images.predict import probabilities
from src.images.preprocessing import Preprocessing, from_picture

Form = tuple[list[Component], Callable[..., str]]

CANVAS, STROKE = 280, 24
CLASSES_SHOWN = 3
CLASSES_NAMED = 10


def image_form(model: ImageModel, preprocessing: Preprocessing) -> Form:
    """Fields for a picture file and a drawing, and the function that finds class probabilities or a number.

    A drawing is black on white; it is inverted if the training images are dark.
    """
    names = ", ".join(model.classes[:CLASSES_NAMED]) + (", ..." if len(model.classes) > CLASSES_NAMED else "")
    if preprocessing.quantity is not None:
        gradio.Markdown(f"Finds {preprocessing.quantity.name} in a picture.")
    elif preprocessing.task == "multilabel":
        gradio.Markdown(f"Says which of {len(model.classes)} labels fit a picture: {names}.")
    else:
        gradio.Markdown(f"Says which of {len(model.classes)} classes a picture shows: {names}.")
    with gradio.Row():
        file = gradio.File(label="A picture (PNG, JPEG, GIF, WebP, BMP, TIFF)", type="filepath")
        drawing = gradio.Sketchpad(
            label="or a drawing",
            image_mode="L",
            type="pil",
            canvas_size=(CANVAS, CANVAS),
            fixed_canvas=True,
            brush=gradio.Brush(default_size=STROKE, colors=["#000000"], color_mode="fixed"),
            layers=False,
            transforms=(),
            buttons=[],
        )

    def predict(path: str | None, drawn: dict[str, Any] | None) -> str:
        picture: Image.Image | None = (drawn or {}).get("composite")
        if path is not None:
            picture = _read(Path(path), preprocessing)
        elif picture is None or picture.getextrema() == (255, 255):
            raise DataError("there is no picture: drop a file, or draw")
        elif preprocessing.dark:
            picture = ImageOps.invert(picture)
        image, _ = from_picture(picture, preprocessing)
        if preprocessing.quantity is not None:
            return f"{preprocessing.quantity.name}: {probabilities(model, image[None]).item():.6g}"
        shares, codes = probabilities(model, image[None])[0].topk(min(CLASSES_SHOWN, len(model.classes)))
        pairs = zip(shares.tolist(), codes.tolist(), strict=True)
        return "\n".join(f"{model.classes[code]}: {share:.6f}" for share, code in pairs)

    return [file, drawing], predict


def _read(path: Path, preprocessing: Preprocessing) -> Image.Image:
    """Read a picture; an error names the file without the folder that the page has put it into."""
    require_few_pixels(path)
    try:
        return read_picture(path, preprocessing.decoding)
    except DataError as error:
        raise DataError(str(error).replace(str(path), path.name)) from None


FORMS = {ImageModel: image_form}
