"""The stages and tools of the pipeline: each runs as `python -m pipelines.<name>`."""

import src  # noqa: F401 - prepares the process, and explains a missing environment
