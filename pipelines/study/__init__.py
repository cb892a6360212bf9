"""Train the cells of a study and compare them: python -m pipelines.study NAME."""
