"""Texts: language models that write poems, word vectors, and classifiers.

Documents are the lines of .txt files or the poems of .json files in the format of chinese-poetry; for
classifiers the rows of .csv, .tsv, .json or .jsonl files, or .txt files in one folder per class.
"""
