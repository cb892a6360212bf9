"""The form of `pipelines.serve` for a point on a surface."""

from collections.abc import Callable

import gradio
import numpy as np
from gradio.components import Component

from src.core.errors import DataError
from src.descent.model import Descent
from src.descent.predict import heights
from src.descent.preprocessing import Preprocessing

Form = tuple[list[Component], Callable[..., str]]


def point_form(model: Descent, preprocessing: Preprocessing) -> Form:
    """Fields for x1 and x2, filled with the starting point, and the function that computes the height."""
    gradio.Markdown("Computes the height of the surface at a point.")
    with gradio.Row():
        fields: list[Component] = [
            gradio.Number(value, label=f"x{number}") for number, value in enumerate(preprocessing.start, 1)
        ]

    def predict(*point: float | None) -> str:
        if None in point:
            raise DataError("x1 and x2 must be numbers")
        return f"height: {heights(model, np.array([point], dtype=float))[0]:.10g}"

    return fields, predict


FORMS = {Descent: point_form}
