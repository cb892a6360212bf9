"""Stages of the pipeline and tools. Each module or package is a command: `python -m pipelines.<name>`."""

import src  # noqa: F401 - prepares the process, and explains a missing environment
