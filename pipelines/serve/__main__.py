"""Entry point of `python -m pipelines.serve`."""

from pipelines.serve.serve import main
from src.core.errors import exit_with_message

if __name__ == "__main__":
    exit_with_message(main)
