"""Entry point of `python -m pipelines.study`."""

from jsonargparse import auto_cli

from pipelines.study.run import study
from src.core.errors import exit_with_message

if __name__ == "__main__":
    exit_with_message(lambda: auto_cli(study, as_positional=True, prog="python -m pipelines.study"))
