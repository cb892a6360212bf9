"""Texts: language models that write Tang poems character by character, and word vectors.

Documents are the lines of .txt files or the poems of .json files in the format of chinese-poetry.
"""
