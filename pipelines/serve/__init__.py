"""A page that tries the trained models out: python -m pipelines.serve."""
