"""What the page of `pipelines.serve` asks for a point of a surface, and what it answers."""

from collections.abc import Callable
from typing import Any

import gradio
import numpy as np
from gradio.components import Component

from src.core.errors import DataError
from src.descent.model import Descent
from src.descent.predict import heights

Form = tuple[list[Component], Callable[..., str]]


def point_form(model: Descent, preprocessing: dict[str, Any]) -> Form:
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


FORMS = {Descent: point_form}
