"""Entry point of `python -m pipelines.export`."""

from jsonargparse import auto_cli

from pipelines.export.export import export
from src.core.errors import exit_with_message

if __name__ == "__main__":
    exit_with_message(lambda: auto_cli(export, as_positional=True, prog="python -m pipelines.export"))
