"""A bundle on the page of `pipelines.serve`: what its kind of data asks, a button, the answer."""

from importlib import import_module
from typing import Any

import gradio
import torch

from src.bundle.bundle import Bundle
from src.bundle.predict import ready
from src.core.errors import LockstepError


def add_form(bundle: Bundle) -> None:
    """Add what a bundle's model asks, a button, and its answer or why there is none, to the page.

    Raises:
        LockstepError: the bundle holds no model of this project.
    """
    model = ready(bundle).model
    with gradio.Row():
        button = gradio.Button("Predict", variant="primary")
        answer = gradio.Textbox(label="Answer", lines=2, interactive=False, scale=3)
    forms = import_module(f"src.{bundle.kind}.form").FORMS
    form = next(form for kind, form in forms.items() if isinstance(model, kind))
    inputs, function = form(model, bundle.preprocessing)

    def told(*values: Any) -> str:
        torch.set_num_threads(bundle.configuration["threads"])  # another bundle may have another number
        try:
            return function(*values)
        except LockstepError as error:
            return f"error: {error}"

    # one at a time over all tabs: the number of threads is one for all
    button.click(told, inputs, answer, concurrency_id="model", concurrency_limit=1, api_visibility="private")
