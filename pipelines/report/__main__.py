"""Entry point of `python -m pipelines.report`."""

from jsonargparse import auto_cli

from pipelines.report.report import report
from src.core.errors import exit_with_message

if __name__ == "__main__":
    exit_with_message(lambda: auto_cli(report, as_positional=True, prog="python -m pipelines.report"))
