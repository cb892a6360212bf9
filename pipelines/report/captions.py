"""What the pictures and tables of reports/ show, by file name: a title, and words for who cannot see it."""

PICTURES = {
    "learning_curve": (
        "Learning curve",
        "Training and validation loss of {name} over {epochs} epochs, on a logarithmic scale; the lowest"
        " validation loss, {lowest}, is marked at epoch {best}.",
    ),
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
    "most_wrong": (
        "Most wrong",
        "The test images of {name} with the surest wrong answers, each under its answer, the share of belief"
        " in it and, in brackets, the actual class.",
    ),
    "sheet": ("Some of the data", "Training images of {name}, each under its class."),
    "feature_maps": (
        "What the layers see",
        "A test image of {name} and, a row a layer, what the first channels make of it.",
    ),
    "perplexity": (
        "Perplexity beside baselines",
        "Bars: the perplexity of a test token for the model of {name} and its baselines; lower is better.",
    ),
    "words": (
        "Map of words",
        "The most frequent words of {name} in a plane; words that stand close have vectors of a similar"
        " direction.",
    ),
    "path": (
        "The way down",
        "Contour lines of the surface of {name} and the path of the trained point from its start towards"
        " the minimum, a star.",
    ),
    "optimizers": (
        "Paths of optimizers",
        "Contour lines of the surface of {name}, a panel an optimizer, with the path from the same start.",
    ),
    "schedules": (
        "Learning-rate schedules",
        "A column a schedule: above, the learning rate over the steps; below, the path that it leads down"
        " the surface of {name}.",
    ),
    "metric": (
        "Mean and 95 % interval",
        "A row a cell of the study {name}: the mean of the metric as a point with its 95 % interval; a dotted"
        " line marks the first cell. The table has the numbers.",
    ),
    "curves": (
        "Validation loss",
        "The validation loss over the epochs, on a logarithmic scale, a line a cell of the study {name}, as a"
        " mean over its runs.",
    ),
    "weights": ("Trained weights", "A histogram of the trained weights of each cell of the study {name}."),
    "gradients": (
        "Gradient norms",
        "The norm of each layer's gradient in the first epoch, on a logarithmic scale, from the input to the"
        " output, for the cells of the study {name}.",
    ),
    "activations": (
        "The activation functions",
        "A panel an activation function: its curve and its derivative between -5 and 5.",
    ),
    "differences": (
        "Errors of differences",
        "How far gradients by finite differences are from the true ones, over the size of the step.",
    ),
}

TABLES = {
    "columns": "Columns, and what was learnt of them",
    "classes": "Scores of each class",
    "weights": "Weights",
    "gradients": "Three ways to a gradient",
    "optimizers": "Where the paths end",
    "neighbours": "Nearest neighbours of frequent words",
    "cells": "Cells",
}
