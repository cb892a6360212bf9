"""The form of a bundle on the page of `pipelines.serve`: inputs, a button, the answer."""

from importlib import import_module
from typing import Any

import gradio
import torch

from src.bundle.bundle import Bundle
from src.bundle.predict import ready
from src.core.errors import LockstepError


def add_form(bundle: Bundle) -> None:
    """Add the form of a bundle's model to the page.

    Raises:
        LockstepError: the bundle does not hold a model of this project.
    """
    model = ready(bundle).model
    with gradio.Row():
        button = gradio.Button("Predict", variant="primary")
        answer = gradio.Textbox(label="Answer", lines=2, interactive=False, scale=3)
    forms = import_module(f"src.{bundle.kind}.form").FORMS
    form = next(form for kind, form in forms.items() if isinstance(model, kind))
    inputs, function = form(model, bundle.preprocessing)

    def reply(*values: Any) -> str:
        torch.set_num_threads(bundle.configuration["threads"])  # each bundle has its own number
        try:
            return function(*values)
        except LockstepError as error:
            return f"error: {error}"

    # one at a time over all tabs: they share the number of threads
    button.click(reply, inputs, answer, concurrency_id="model", concurrency_limit=1, api_visibility="private")
