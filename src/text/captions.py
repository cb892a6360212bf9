"""Titles and descriptions of the pictures and tables in reports on texts, by file name."""

PICTURES = {
    "confusion_matrix": (
        "Confusion matrix",
        "Each row an actual class, each column what {name} answers; the diagonal is right.",
    ),
    "reliability": (
        "Reliability",
        "The share of right answers over the probability of the answer for the test texts of {name}; on the"
        " diagonal they are equal.",
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
}

TABLES = {
    "classes": "Scores by class",
    "most_wrong": "The most wrong texts",
    "class_words": "Words that speak for a class",
    "neighbours": "Nearest neighbours of frequent words",
}
