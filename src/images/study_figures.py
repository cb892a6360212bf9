"""Figures that explain what a study of images varies, by the last part of the varied key."""

from src.images.pictures import plot_difference_errors

FIGURES = {"gradient": ("differences.png", plot_difference_errors)}
