"""Titles and descriptions of the pictures and tables in reports on texts, by file name."""

PICTURES = {
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
    "neighbours": "Nearest neighbours of frequent words",
}
