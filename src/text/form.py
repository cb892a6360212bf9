"""The forms for poems and for words on the page of `pipelines.serve`."""

from collections.abc import Callable
from typing import Any

import gradio
from gradio.components import Component

from src.core.errors import DataError
from src.text.compose import Composition, as_prepared, compose_poems
from src.text.model import LanguageModel, WordVectors
from src.text.neighbours import neighbours_of
from src.text.preprocessing import Preprocessing

Form = tuple[list[Component], Callable[..., str]]


def poem_form(model: LanguageModel, preprocessing: Preprocessing) -> Form:
    """Ask for the keys of `Composition`; empty fields get its defaults."""
    default = Composition()
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
        return "\n".join(
            compose_poems(model, preprocessing, as_prepared(Composition(**request), preprocessing))
        )

    return list(fields.values()), predict


def word_form(model: WordVectors, preprocessing: Preprocessing) -> Form:
    """Ask for words and the number of neighbours of each."""
    with gradio.Row():
        words = gradio.Textbox(label="Words, with spaces between them")
        count = gradio.Slider(1, 50, 10, step=1, label="Neighbours of each")

    def predict(text: str, neighbours: int) -> str:
        wanted = text.split()
        if not wanted:
            raise DataError("no words given")
        found = neighbours_of(model, preprocessing, wanted, neighbours)
        lines = [" ".join(f"{word} {cosine:.4f}" for word, cosine in near) for near in found]
        return "\n".join(f"{word}: {line}" for word, line in zip(wanted, lines, strict=True))

    return [words, count], predict


FORMS: dict[type, Callable[..., Form]] = {LanguageModel: poem_form, WordVectors: word_form}
