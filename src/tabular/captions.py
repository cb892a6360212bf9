"""Titles and descriptions of the pictures and tables in reports on tables, by file name."""

PICTURES = {
    "predicted_vs_actual": (
        "Predicted against actual",
        "A point for each test row of {name}: the predicted over the actual value, beside the diagonal on"
        " which both are equal.",
    ),
    "forecast": (
        "Forecast",
        "The test rows of {name} as a series, and what the model foretells 1, 4, 16 and 64 steps ahead from"
        " its own answers.",
    ),
    "function": (
        "What the model has learnt",
        "The function or the regions of the classes that the model of {name} has learnt, with the points of"
        " the data.",
    ),
    "confusion_matrix": (
        "Confusion matrix",
        "How many test examples of each actual class of {name} (rows) get each answer (columns); right"
        " answers stand on the diagonal.",
    ),
    "activations": (
        "The activation functions",
        "A panel an activation function: its curve and its derivative between -5 and 5.",
    ),
}

TABLES = {
    "columns": "Columns, and what was learnt of them",
    "weights": "Weights",
}
