import json
import os
import subprocess
from hashlib import sha256
from pathlib import Path

import pytest
import torch

from src.training.provenance import provenance


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The working folder has a file in no repository."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    Path("dvc.lock").write_text("stages: {}\n")


def git(*arguments: str) -> str:
    identity = ("-c", "user.name=Test", "-c", "user.email=test@example.org")
    return subprocess.run(["git", *identity, *arguments], check=True, capture_output=True, text=True).stdout


def test_code_data_versions_and_machine_are_recorded() -> None:
    git("init", "--quiet")
    git("add", "dvc.lock")
    git("commit", "--quiet", "--message", "Start")
    found = provenance("ab12", torch.device("cpu"))
    assert found["git_commit"] == git("rev-parse", "HEAD").strip()
    assert found["git_dirty"] is False
    assert found["dvc.lock"] == sha256(b"stages: {}\n").hexdigest()
    assert found["requirements.lock"] is None
    assert found["prepared_sha256"] == "ab12"
    assert found["versions"]["torch"] == torch.__version__.partition("+")[0]
    assert found["threads"] == torch.get_num_threads()
    assert found["device"] == "cpu"
    assert json.loads(json.dumps(found)) == found
    Path("dvc.lock").write_text("stages: {a: b}\n")
    assert provenance("ab12", torch.device("cpu"))["git_dirty"] is True


def test_without_a_repository_or_git_there_is_no_commit(monkeypatch: pytest.MonkeyPatch) -> None:
    for path in (os.environ["PATH"], os.devnull):
        monkeypatch.setenv("PATH", path)
        found = provenance("ab12", torch.device("cpu"))
        assert (found["git_commit"], found["git_dirty"]) == (None, None)
