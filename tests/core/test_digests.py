import os
from pathlib import Path

import pytest

from src.core.digests import folder_digest


@pytest.mark.unix
def test_names_of_files_need_not_be_utf_8(tmp_path: Path) -> None:
    before = folder_digest(tmp_path)
    (tmp_path / os.fsdecode("图.txt".encode("gbk"))).write_text("a")
    assert folder_digest(tmp_path) != before
