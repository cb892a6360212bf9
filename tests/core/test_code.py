"""The digest of the code that a result depends on."""

from collections.abc import Callable
from hashlib import sha256
from importlib.metadata import PackageNotFoundError
from pathlib import Path

import pytest

from src.core import code
from src.core.code import code_digest, files_of, modules_named

FILES = {
    "src/__init__.py": '"""The project."""\n',
    "src/core/__init__.py": '"""Common code."""\n',
    "src/core/sums.py": '"""Sums."""\n\ndef add(a, b):\n    return a + b\n',
    "src/boxes/__init__.py": '"""A kind of data."""\n',
    "src/boxes/model.py": "from src.boxes.layers import Layer\nfrom src.core.sums import add\n",
    "src/boxes/layers.py": "class Layer:\n    def forward(self, x):\n        from src.boxes import late\n",
    "src/boxes/late.py": "import math\n",
    "src/boxes/types.py": "Number = float\n",
    "src/boxes/typed.py": (
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from src.boxes.types import Number\n"
    ),
    "src/boxes/predict.py": "print('unrelated')\n",
    "requirements.lock": "numpy==2\n",
}
Digest = Callable[..., str]


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A small project in place of this one."""
    for name, text in FILES.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text, encoding="utf-8")
    monkeypatch.setattr(code, "ROOT", tmp_path)
    return tmp_path


@pytest.fixture
def digest_with(project: Path) -> Digest:
    """The digest of src.boxes.model after a change of one file, as a new process sees it."""

    def digest(name: str = "requirements.lock", text: str | None = None) -> str:
        (project / name).write_text(FILES.get(name, "") if text is None else text, encoding="utf-8")
        code_digest.cache_clear()
        code._parsed.cache_clear()
        code._text_digest.cache_clear()
        return code_digest("src.boxes.model")

    return digest


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("src/core/sums.py", "def add(a, b):\n    return a + b\n"),
        ("src/core/sums.py", '"""Other words."""\ndef add(a, b):\n    """Add."""\n    return a + b  # why\n'),
        (
            "src/core/sums.py",
            '"""Sums."""\n\n\ndef add(a, b):\n\n    """Of\n\n    two."""\n    return a + b\n',
        ),
        ("src/__init__.py", '"""The same project, in other words."""\n'),
        ("src/boxes/predict.py", "print('not imported')\n"),
        ("src/boxes/types.py", "Number = int\n"),
        ("src/boxes/new.py", "import math\n"),
    ],
    ids=[
        "no docstring",
        "docstrings and comments",
        "empty lines",
        "package",
        "not imported",
        "types",
        "new file",
    ],
)
def test_these_changes_are_not_changes_of_code(digest_with: Digest, name: str, text: str) -> None:
    assert digest_with() == digest_with(name, text)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("src/core/sums.py", '"""Sums."""\n\ndef add(a, b):\n    return b + a\n'),
        ("src/boxes/layers.py", "class Layer:\n    pass\n"),
        ("src/boxes/late.py", "import cmath\n"),
        ("src/__init__.py", "import torch\n"),
        ("requirements.lock", "numpy==3\n"),
    ],
    ids=["common code", "own file of a kind", "imported in a function", "package", "locked packages"],
)
def test_these_changes_are_changes_of_code(digest_with: Digest, name: str, text: str) -> None:
    before = digest_with()
    assert digest_with(name, text) != before
    assert digest_with(name) == before


def test_the_version_of_a_package_that_a_configuration_names_is_code(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    installed = {"my_package": "1.0", "torchvision": "0.2+cpu"}

    def version(name: str) -> str:
        if name not in installed:
            raise PackageNotFoundError(name)
        return installed[name]

    monkeypatch.setattr(code, "packages_distributions", lambda: {"mine": ["my_package"]})
    monkeypatch.setattr(code, "version", version)

    def digests() -> list[str]:
        code_digest.cache_clear()
        return [
            code_digest("src.boxes.model", *more)
            for more in ([], ["torch.nn"], ["mine.models"], ["torchvision.models"], ["absent.models"])
        ]

    before = digests()
    assert before[0] == before[1] == before[4]
    assert len({*before}) == 3
    installed |= {"my_package": "1.1", "torchvision": "0.2+cu130"}
    after = digests()
    assert [old == new for old, new in zip(before, after, strict=True)] == [True, True, False, True, True]


def test_a_result_depends_on_the_files_that_its_module_imports(project: Path) -> None:
    names = ("src/boxes/layers.py", "src/boxes/late.py", "src/boxes/model.py", "src/core/sums.py")
    # a package that holds nothing but its docstring is left out
    assert files_of("src.boxes.model") == {Path(name) for name in names}
    assert files_of("src.boxes.typed") == {Path("src/boxes/typed.py")}
    assert files_of("torch.nn") == set()


def test_a_configuration_names_modules() -> None:
    network = {"class_path": "src.boxes.layers.Layer", "init_args": {"act": {"class_path": "torch.nn.ReLU"}}}
    configuration = {"model": {"class_path": "src.boxes.model.Box", "init_args": {"network": network}}}
    configuration["trainer"] = {"callbacks": [{"class_path": "lightning.pytorch.callbacks.EarlyStopping"}]}
    configuration["data"] = "src.boxes.data.Boxes"
    assert modules_named(configuration) == {
        "src.boxes.model",
        "src.boxes.layers",
        "src.boxes.data",
        "torch.nn",
        "lightning.pytorch.callbacks",
    }


def test_a_digest_is_of_the_text_without_comments_and_docstrings(tmp_path: Path) -> None:
    path = tmp_path / "a.py"
    path.write_text(
        '"""A."""\n# why\nx = "# no comment"  # é\n\ndef f():\n    """F: "é"."""; return """a"""\n'
    )
    left = 'x = "# no comment"\ndef f():\n    ; return """a"""'
    assert code._text_digest(path) == sha256(left.encode()).hexdigest()


@pytest.mark.parametrize(
    "line", ["from .layers import Layer", "from . import layers", "from ..boxes.layers import Layer"]
)
def test_relative_imports_are_code(line: str, project: Path) -> None:
    (project / "src/boxes/model.py").write_text(f"{line}\n", encoding="utf-8")
    code._parsed.cache_clear()
    assert Path("src/boxes/layers.py") in files_of("src.boxes.model")
