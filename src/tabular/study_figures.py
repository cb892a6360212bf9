"""Figures that explain what a study of tables varies, by the last part of the varied key."""

from src.tabular.pictures import plot_activations

FIGURES = {"activation": ("activations.png", plot_activations)}
