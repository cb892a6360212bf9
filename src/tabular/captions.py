"""Titles and captions of the figures and tables in the reports of tables, by file name."""

PICTURES = {
    "predicted_vs_actual": (
        "Predicted against actual",
        "The predicted over the actual value of each test row of {name}; on the line both are equal.",
    ),
    "forecast": (
        "Forecast",
        "The test rows of {name} as a series, and the forecasts of the model 1, 4, 16 and 64 rows ahead, from"
        " its own predictions.",
    ),
    "function": (
        "Fitted function",
        "The function, or the regions of the classes, that the model of {name} has learnt, and the data.",
    ),
    "confusion_matrix": (
        "Confusion matrix",
        "The number of test rows of {name} by actual class (rows) and predicted class (columns); correct"
        " predictions are on the diagonal.",
    ),
    "activations": (
        "Activation functions",
        "Each activation function and its derivative between -5 and 5.",
    ),
}

TABLES = {
    "columns": "Columns and their learnt transformation",
    "weights": "Weights",
}
