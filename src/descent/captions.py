"""Titles and descriptions of the pictures and tables in reports on descents, by file name."""

PICTURES = {
    "path": (
        "Path",
        "Contour lines of the surface of {name} and the path of the trained point from its start; the star"
        " is the minimum.",
    ),
    "optimizers": (
        "Paths of optimizers",
        "Contour lines of the surface of {name}, with the path of each optimizer from the same start.",
    ),
    "schedules": (
        "Learning-rate schedules",
        "One column per schedule: the learning rate over the steps, and below the path on the surface of"
        " {name}.",
    ),
}

TABLES = {
    "optimizers": "End of each path",
}
