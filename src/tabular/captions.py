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
    "precision_recall": (
        "Precision and recall",
        "Precision over recall of the rarer class in the test rows of {name} for all thresholds; that of the"
        " model is marked, the line is the share of the class.",
    ),
    "reliability": (
        "Reliability",
        "The share of right answers over the probability of the answer for the test rows of {name}; on the"
        " diagonal they are equal.",
    ),
    "partial_dependence": (
        "Partial dependence",
        "The mean prediction of {name} for test rows whose cells of a column are all set to one value, for"
        " the most important columns.",
    ),
    "activations": (
        "Activation functions",
        "Each activation function and its derivative between -5 and 5.",
    ),
}

TABLES = {
    "importance": "Importance of the columns",
    "worst_rows": "Worst test rows",
    "classes": "Scores by class",
    "groups": "Errors by category",
    "thresholds": "Thresholds",
    "targets": "Scores by target",
    "columns": "Columns and their learnt transformation",
    "weights": "Weights",
}
