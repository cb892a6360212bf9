"""Texts: documents one a line in .txt files, or the .json files of the chinese-poetry collection."""
