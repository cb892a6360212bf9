"""The forms for poems, words and texts on the page of `pipelines.serve`."""

from collections.abc import Callable
from typing import Any

import gradio
from gradio.components import Component

from src.core.errors import DataError
from src.text.classifier import TextClassifier
from src.text.classify import probabilities
from src.text.compose import Composition, as_prepared, compose_poems
from src.text.model import LanguageModel, WordVectors
from src.text.neighbours import neighbours_of
from src.text.preprocessing import Preprocessing

Form = tuple[list[Component], Callable[..., str]]


MOST_LINES, MOST_POEMS, MOST_NEIGHBOURS = 10, 20, 50
CLASSES_SHOWN = 5


def _whole(label: str, value: int, least: int, most: int) -> gradio.Number:
    return gradio.Number(value, minimum=least, maximum=most, step=1, precision=0, label=label)


def poem_form(model: LanguageModel, preprocessing: Preprocessing) -> Form:
    """Ask for the keys of `Composition`; empty texts get its defaults."""
    default = Composition()
    gradio.Markdown("Writes poems of verses of 5 or 7 characters, as those of the training.")
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
            "lines": _whole("Lines (couplets)", default.lines, 1, MOST_LINES),
            "rhyme": gradio.Checkbox(default.rhyme, label="Rhyme"),
            "tones": gradio.Checkbox(
                default.tones, label="Tones of regulated verse", visible=preprocessing.tones is not None
            ),
            "count": _whole("Poems", default.count, 1, MOST_POEMS),
            "temperature": gradio.Number(
                default.temperature, minimum=0, maximum=2, step=0.1, label="Temperature"
            ),
            "seed": _whole("Seed", default.seed, 0, 2**31 - 1),
        }

    def predict(*values: Any) -> str:
        for field, value in zip(fields.values(), values, strict=True):
            if value is None and isinstance(field, gradio.Number):
                raise DataError(f"{field.label}: a number is missing")
        request = {name: value for name, value in zip(fields, values, strict=True) if value not in (None, "")}
        return "\n".join(
            compose_poems(model, preprocessing, as_prepared(Composition(**request), preprocessing))
        )

    return list(fields.values()), predict


def word_form(model: WordVectors, preprocessing: Preprocessing) -> Form:
    """Ask for words and the number of neighbours of each."""
    gradio.Markdown(
        "Finds the words that are used like a word: those with the largest cosine of the vectors."
    )
    with gradio.Row():
        words = gradio.Textbox(label="Words, with spaces between them")
        count = _whole("Neighbours of each", 10, 1, MOST_NEIGHBOURS)

    def predict(text: str | None, neighbours: int | None) -> str:
        wanted = (text or "").split()
        if neighbours is None:
            raise DataError("Neighbours of each: a number is missing")
        if not wanted:
            raise DataError("no words given")
        found = neighbours_of(model, preprocessing, wanted, neighbours)
        lines = [" ".join(f"{word} {cosine:.4f}" for word, cosine in near) for near in found]
        return "\n".join(f"{word}: {line}" for word, line in zip(wanted, lines, strict=True))

    return [words, count], predict


def class_form(model: TextClassifier, preprocessing: Preprocessing) -> Form:
    """Ask for a text; the answer is the likeliest classes."""
    text = gradio.Textbox(label="Text", lines=3)

    def predict(given: str | None) -> str:
        if not (given or "").strip():
            raise DataError("no text given")
        found, unknown = probabilities(model, preprocessing, [given or ""])
        shares, codes = found[0].topk(min(CLASSES_SHOWN, len(model.classes)))
        pairs = zip(shares.tolist(), codes.tolist(), strict=True)
        lines = [f"{model.classes[code]}: {share:.6f}" for share, code in pairs]
        return "\n".join([*lines, *(["no word of it occurs in the training texts"] if unknown else [])])

    return [text], predict


FORMS: dict[type, Callable[..., Form]] = {
    LanguageModel: poem_form,
    WordVectors: word_form,
    TextClassifier: class_form,
}
