import os
from pathlib import Path

import pytest

from src.core import digests
from src.core.digests import folder_digest, own_data_digest


@pytest.mark.unix
def test_names_of_files_need_not_be_utf_8(tmp_path: Path) -> None:
    before = folder_digest(tmp_path)
    (tmp_path / os.fsdecode("图.txt".encode("gbk"))).write_text("a")
    assert folder_digest(tmp_path) != before


@pytest.mark.parametrize("whole", [1 << 30, 3], ids=["contents", "names and sizes"])
def test_the_data_of_an_own_data_module_have_a_digest(
    whole: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(digests, "WHOLE_BYTES", whole)
    assert own_data_digest("sound") is None
    Path("params.yaml").write_text("models: {sound: data/sound, house: data/prepared/house}\n")
    assert own_data_digest("sound") is None
    Path("data/sound").mkdir(parents=True)
    Path("data/prepared/house").mkdir(parents=True)
    Path("data/sound/a.wav").write_text("1234")
    before = own_data_digest("sound")
    assert before is not None
    assert [own_data_digest(name) for name in ("sound", "house", "other")] == [before, None, None]
    Path("data/sound/a.wav").write_text("4321")
    assert (own_data_digest("sound") == before) == (whole == 3)
    Path("data/sound/b.wav").write_text("")
    assert own_data_digest("sound") != before
