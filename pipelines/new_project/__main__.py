"""Entry point of `python -m pipelines.new_project`."""

from pathlib import Path

from jsonargparse import ArgumentParser

from pipelines.new_project.new_project import EXAMPLES, new_project
from pipelines.parameters import every_kind
from src.core.errors import exit_with_message

DESCRIPTION = """Write a project of your own: its name, the kinds of data that you choose with their tests,
dependencies and locked packages, one example task a kind or none, and a git repository with a first
commit."""


def main() -> None:
    """Entry point."""
    parser = ArgumentParser(prog="python -m pipelines.new_project", description=DESCRIPTION)
    parser.add_argument("folder", type=Path, help="The folder of the new project; absent or empty.")
    parser.add_argument("--kinds", type=str, required=True, help=f"Of: {','.join(every_kind())}.")
    parser.add_argument("--examples", choices=EXAMPLES, default="one", help="Example tasks of each kind.")
    parser.add_argument("--name", type=str | None, help="Of the project; by default that of the folder.")
    found = parser.parse_args()
    kinds = [kind.strip() for kind in found["kinds"].split(",")]
    new_project(found["folder"].expanduser(), kinds, found["examples"], found["name"])


if __name__ == "__main__":
    exit_with_message(main)
