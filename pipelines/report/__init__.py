"""One page of all results: python -m pipelines.report."""
