"""What the page of `pipelines.serve` asks and shows for each kind of model, by the functions of `predict`."""

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gradio
import numpy as np
import pandas as pd
import torch
from gradio.components import Component
from PIL import Image, ImageOps

from src.descent.model import Descent
from src.descent.predict import heights
from src.images.model import ImageModel
from src.images.predict import probabilities
from src.images.preprocessing import from_picture, read_picture
from src.predict import open_bundle
from src.shared.bundle import read_configuration
from src.shared.errors import DataError, LockstepError
from src.tabular.model import TabularModel
from src.tabular.predict import predictions
from src.text.model import LanguageModel, WordVectors
from src.text.predict import compose_poems, neighbours_of
from src.text.preprocessing import Composition, TextEncoder

Form = tuple[list[Component], Callable[..., str]]

MISSING = "(missing)"
CANVAS, STROKE = 280, 24
CLASSES_SHOWN = 3


def add_form(bundle: Path) -> None:
    """Add what a bundle's model asks, a button, and its answer or why there is none, to the page.

    Raises:
        LockstepError: as `open_bundle`.
    """
    model, preprocessing = open_bundle(bundle)
    threads = read_configuration(bundle)["threads"]
    with gradio.Row():
        button = gradio.Button("Predict", variant="primary")
        answer = gradio.Textbox(label="Answer", lines=2, interactive=False, scale=3)
    form = next(form for kind, form in FORMS.items() if isinstance(model, kind))
    inputs, function = form(model, preprocessing)

    def told(*values: Any) -> str:
        torch.set_num_threads(threads)  # another bundle may have another number
        try:
            return function(*values)
        except LockstepError as error:
            return f"error: {error}"

    # one at a time over all tabs: the number of threads is one for all
    button.click(told, inputs, answer, concurrency_id="model", concurrency_limit=1, api_visibility="private")


def _table_form(model: TabularModel, preprocessing: dict[str, Any]) -> Form:
    """A field a column, filled with the median or the commonest category of the training rows."""
    target, columns = preprocessing["target"]["name"], preprocessing["columns"]
    fields: list[Component] = []
    with gradio.Row():
        for column in columns:
            name, typical = column["name"], column["typical"]
            label = preprocessing["labels"].get(name, {}).get("en", name)
            if column["kind"] == "numeric":
                fields.append(gradio.Number(typical, label=label, min_width=200))
                continue
            choices = [MISSING if one is None else one for one in (*column["categories"], *column["rare"])]
            value = MISSING if typical is None else typical
            fields.append(gradio.Dropdown(choices, value=value, label=label, min_width=200))

    def predict(*values: Any) -> str:
        row = {column["name"]: value for column, value in zip(columns, values, strict=True)}
        row = {name: np.nan if value in (None, MISSING) else value for name, value in row.items()}
        if preprocessing["id"]:
            row[preprocessing["id"]] = ""
        (answer,) = predictions(model, preprocessing, [pd.DataFrame([row])], Path("the form"), Counter())
        names = [name for name in answer if name in (target, "probability")]
        return "\n".join(f"{name}: {answer[name].iloc[0]!s}" for name in names)

    return fields, predict


def _image_form(model: ImageModel, preprocessing: dict[str, Any]) -> Form:
    """A picture file, or a drawing in black on white, made white on black where the data are dark."""
    with gradio.Row():
        file = gradio.File(label="A picture (PNG or JPEG)", type="filepath")
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
    dark = np.mean(preprocessing["mean"]) < preprocessing["brightest"] / 2

    def predict(path: str | None, drawn: dict[str, Any] | None) -> str:
        picture: Image.Image | None = (drawn or {}).get("composite")
        if path is not None:
            picture = _read(Path(path))
        elif picture is None or picture.getextrema() == (255, 255):
            raise DataError("there is no picture: drop a file, or draw")
        elif dark:
            picture = ImageOps.invert(picture)
        image, _ = from_picture(picture, preprocessing)
        shares, codes = probabilities(model, image[None])[0].topk(min(CLASSES_SHOWN, len(model.classes)))
        pairs = zip(shares.tolist(), codes.tolist(), strict=True)
        return "\n".join(f"{model.classes[code]}: {share:.6f}" for share, code in pairs)

    return [file, drawing], predict


def _read(path: Path) -> Image.Image:
    """A picture; an error names the file, not the folder that the page put it into."""
    try:
        return read_picture(path)
    except DataError as error:
        raise DataError(str(error).replace(str(path), path.name)) from None


def _poem_form(model: LanguageModel, preprocessing: dict[str, Any]) -> Form:
    """The keys of `Composition`; what is left empty is its default."""
    default, encoder = Composition(), TextEncoder(preprocessing)
    with gradio.Row():
        fields: dict[str, Component] = {
            "start": gradio.Textbox(label="First character", min_width=220),
            "acrostic": gradio.Textbox(label="Acrostic (藏头诗)", min_width=220),
            "acrostic_of": gradio.Radio(
                ["line", "verse"], value=default.acrostic_of, label="Acrostic of", min_width=220
            ),
            "length": gradio.Radio(
                [5, 7], value=default.length, label="Characters of a verse", min_width=220
            ),
            "lines": gradio.Slider(1, 10, default.lines, step=1, label="Lines (couplets)"),
            "rhyme": gradio.Checkbox(default.rhyme, label="Rhyme"),
            "count": gradio.Slider(1, 20, default.count, step=1, label="Poems"),
            "temperature": gradio.Slider(0, 2, default.temperature, label="Temperature"),
            "seed": gradio.Number(default.seed, precision=0, label="Seed"),
        }

    def predict(*values: Any) -> str:
        request = {name: value for name, value in zip(fields, values, strict=True) if value not in (None, "")}
        return "\n".join(compose_poems(model, encoder, Composition(**request)))

    return list(fields.values()), predict


def _word_form(model: WordVectors, preprocessing: dict[str, Any]) -> Form:
    """Words, and how many neighbours of each are wanted."""
    encoder = TextEncoder(preprocessing)
    with gradio.Row():
        words = gradio.Textbox(label="Words, with spaces between them")
        count = gradio.Slider(1, 50, 10, step=1, label="Neighbours of each")

    def predict(text: str, neighbours: int) -> str:
        wanted = text.split()
        if not wanted:
            raise DataError("there are no words")
        found = neighbours_of(model, encoder, wanted, neighbours)
        lines = [" ".join(f"{word} {cosine:.4f}" for word, cosine in near) for near in found]
        return "\n".join(f"{word}: {line}" for word, line in zip(wanted, lines, strict=True))

    return [words, count], predict


def _point_form(model: Descent, preprocessing: dict[str, Any]) -> Form:
    """A point of the surface, at first the start."""
    with gradio.Row():
        fields: list[Component] = [
            gradio.Number(value, label=f"x{number}") for number, value in enumerate(preprocessing["start"], 1)
        ]

    def predict(*point: float | None) -> str:
        if None in point:
            raise DataError("x1 and x2 must be numbers")
        return f"height: {heights(model, np.array([point], dtype=float))[0]:.10g}"

    return fields, predict


FORMS: dict[type, Callable[..., Form]] = {
    TabularModel: _table_form,
    ImageModel: _image_form,
    LanguageModel: _poem_form,
    WordVectors: _word_form,
    Descent: _point_form,
}
