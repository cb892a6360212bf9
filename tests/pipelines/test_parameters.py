"""params.yaml as its readers find it."""

from pathlib import Path

import pytest

from pipelines.parameters import read_parameters
from src.core.errors import ConfigurationError


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("# 参数\ntasks: {}\n".encode("gbk"), "params.yaml is not UTF-8: .*save it as UTF-8"),
        (b"tasks: {}\nday: 2020-13-45\n", "params.yaml is not valid YAML: month must be in 1..12"),
        (b"tasks: [\n", "params.yaml is not valid YAML"),
        (b"other: 1\n", "has no section 'tasks'"),
    ],
)
def test_what_cannot_be_read_is_told(
    content: bytes, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("params.yaml").write_bytes(content)
    with pytest.raises(ConfigurationError, match=message):
        read_parameters()
