"""The workflow of GitHub: what it runs exists, and code of a pull request gets no token that may write."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[1]
WORKFLOWS: dict[str, dict[str, Any]] = {
    path.name: yaml.safe_load(path.read_text(encoding="utf-8"))
    for path in sorted((ROOT / ".github/workflows").glob("*.yml"))
}

each_workflow = pytest.mark.parametrize("name", WORKFLOWS)


@each_workflow
def test_actions_are_pinned_by_commit(name: str) -> None:
    for job in WORKFLOWS[name]["jobs"].values():
        for step in job["steps"]:
            assert re.fullmatch(r"[\w-]+/[\w-]+@[0-9a-f]{40}", step.get("uses", f"a/b@{'0' * 40}"))


@each_workflow
def test_what_a_job_runs_exists(name: str) -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for job in WORKFLOWS[name]["jobs"].values():
        matrix = [
            entry.get("command", "") for entry in job.get("strategy", {}).get("matrix", {}).get("include", [])
        ]
        for command in [*(step.get("run", "") for step in job["steps"]), *matrix]:
            for target in re.findall(r"\bmake (\S+)", command):
                assert f"\n{target}:" in makefile, target
            for module in re.findall(r"-m (pipelines\.\w+)", command):
                assert (ROOT / f"{module.replace('.', '/')}.py").is_file(), module


@each_workflow
def test_a_job_that_may_write_runs_no_code_of_the_repository(name: str) -> None:
    assert WORKFLOWS[name]["permissions"] == {"contents": "read"}
    for job in WORKFLOWS[name]["jobs"].values():
        uses = [step.get("uses", "").partition("@")[0] for step in job["steps"]]
        if "permissions" in job:
            assert job["permissions"] == {"pull-requests": "write"}
            assert "actions/checkout" not in uses
            assert (
                "github.event.pull_request.head.repo.full_name == github.repository" in job["if"]
            )  # no fork
        else:
            (checkout,) = [
                step for step in job["steps"] if step.get("uses", "").startswith("actions/checkout@")
            ]
            assert checkout["with"]["persist-credentials"] is False
