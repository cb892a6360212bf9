"""Titles and descriptions of the pictures and tables in reports on descents, by file name."""

PICTURES = {
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
}

TABLES = {
    "optimizers": "Where the paths end",
}
