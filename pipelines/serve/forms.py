"""The form of a bundle on the page of `pipelines.serve`: inputs, a button, the answer."""

import logging
from collections.abc import Callable
from typing import Any

import gradio
import torch

from src.bundle.bundle import Bundle
from src.core.errors import reported_error

logger = logging.getLogger(__name__)

LONGEST_TEXT = 2000  # characters


def add_form(bundle: Bundle, form: Callable[..., Any]) -> None:
    """Add the form of a bundle's model to the page.

    Args:
        bundle: with its model loaded.
        form: of the kind of data, for the class of the model.
    """
    inputs, function = form(bundle.model, bundle.preprocessing)
    with gradio.Row():
        button = gradio.Button("Predict", variant="primary")
        answer = gradio.Textbox(label="Answer", lines=2, interactive=False, scale=3)

    def reply(*values: Any) -> str:
        torch.set_num_threads(bundle.configuration["threads"])  # each bundle has its own number
        return answered(function, *values)

    # one at a time over all tabs: they share the number of threads
    button.click(reply, inputs, answer, concurrency_id="model", concurrency_limit=1, api_visibility="private")


def answered(function: Callable[..., str], *values: Any) -> str:
    """The answer to what was entered, or a sentence that says why there is none."""
    if any(isinstance(value, str) and len(value) > LONGEST_TEXT for value in values):
        return f"error: a text may have at most {LONGEST_TEXT:,} characters"
    try:
        return function(*values)
    except Exception as error:
        if known := reported_error(error):
            return f"error: {known}"
        logger.exception("a request failed")
        return f"error: the model cannot answer this ({type(error).__name__}); the page's terminal shows why"
