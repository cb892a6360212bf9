"""Titles and descriptions of the pictures and tables in reports on images, by file name."""

PICTURES = {
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
    "differences": (
        "Errors of differences",
        "How far gradients by finite differences are from the true ones, over the size of the step.",
    ),
}

TABLES = {
    "classes": "Scores of each class",
    "gradients": "Three ways to a gradient",
}
