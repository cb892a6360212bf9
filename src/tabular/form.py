"""The form of `pipelines.serve` for one row of a table."""

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gradio
import numpy as np
import pandas as pd
from gradio.components import Component

from src.tabular.columns import CategoricalColumn, Column, DateColumn, TextColumn
from src.tabular.model import TabularModel
from src.tabular.number_columns import BooleanColumn, NumericColumn, OrderedColumn
from src.tabular.predict import predictions
from src.tabular.preprocessing import Preprocessing

Form = tuple[list[Component], Callable[..., str]]

MISSING = "(missing)"


def table_form(model: TabularModel, preprocessing: Preprocessing) -> Form:
    """Build the form: one field per column, with the median or the most frequent category as its default.

    Returns:
        The fields, and the function from their values to the text of the prediction.
    """
    columns = preprocessing.columns
    fields: list[Component] = []
    target = ", ".join(preprocessing.label(one.name) for one in preprocessing.targets)
    gradio.Markdown(f"Predicts {target} of one row from the other {len(columns)} columns.")
    with gradio.Row():
        for column in columns:
            label = preprocessing.label(column.name)
            if isinstance(column, TextColumn | DateColumn):
                fields.append(gradio.Textbox(column.typical or "", label=label, min_width=200))
            elif type(column) is NumericColumn:
                fields.append(gradio.Number(column.typical, label=label, min_width=200))
            else:
                choices, value = _choices(column)
                fields.append(gradio.Dropdown(choices, value=value, label=label, min_width=200))

    def predict(*values: Any) -> str:
        row = {column.name: value for column, value in zip(columns, values, strict=True)}
        row = {name: np.nan if value in (None, "", MISSING) else value for name, value in row.items()}
        if preprocessing.id:
            row[preprocessing.id] = ""
        (answer,) = predictions(model, preprocessing, [pd.DataFrame([row])], Path("the form"), Counter())
        names = list(answer)[1:]  # without the id
        return "\n".join(f"{name}: {answer[name].iloc[0]!s}" for name in names)

    return fields, predict


def _choices(column: Column) -> tuple[list[str], str]:
    """The texts that a column may have, and the typical one."""
    if isinstance(column, BooleanColumn):
        choices = ["no", "yes"]
        return [*choices, MISSING], choices[int(column.typical)]
    if isinstance(column, OrderedColumn):
        return [*column.order, MISSING], column.order[round(column.typical)]
    assert isinstance(column, CategoricalColumn)
    texts = [MISSING if one is None else one for one in (*column.categories, *column.rare)]
    return texts, MISSING if column.typical is None else column.typical


FORMS = {TabularModel: table_form}
