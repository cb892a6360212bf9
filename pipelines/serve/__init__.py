"""A page to try the trained models: python -m pipelines.serve."""
