"""Stages of the pipeline and tools. Each module or package is a command: `python -m pipelines.<name>`."""
