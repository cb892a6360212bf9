"""`make setup` with an index of small packages: the CPU build of torch, and what is told without one."""

import base64
import hashlib
import io
import os
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LOCKED = {
    "nvidia-cublas": "13.1.1.3",
    "plain": "1.0",
    "setuptools": "84.2.1",
    "torch": "2.14.1",
    "torchmetrics": "1.9.0",
    "torchvision": "0.29.1",
    "triton": "3.8.0",
}

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform == "win32" or not shutil.which("make"), reason="needs make"),
]


PYPROJECT = '[build-system]\nrequires = ["setuptools"]\nbuild-backend = "setuptools.build_meta"\n'
# `setuptools.build_meta`, as far as pip asks for it
BACKEND = """
import zipfile

def build_wheel(folder, settings=None, metadata=None):
    name, info = "old-1.0-py3-none-any.whl", "old-1.0.dist-info"
    with zipfile.ZipFile(f"{folder}/{name}", "w") as archive:
        archive.writestr("old.py", "")
        archive.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\\nName: old\\nVersion: 1.0\\n")
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n")
        files = (*archive.namelist(), f"{info}/RECORD")
        archive.writestr(files[-1], "".join(f"{file},,\\n" for file in files))
    return name
"""


def wheel(index: Path, name: str, version: str, **modules: str) -> str:
    """Add a wheel with an empty package, or with some modules in it, to an index (PEP 503); its sha256."""
    module = name.replace("-", "_")
    path = index / name / f"{module}-{version}-py3-none-any.whl"
    path.parent.mkdir(parents=True, exist_ok=True)
    info = f"{module}-{version}.dist-info"
    files = {
        f"{module}/__init__.py": "",
        **{f"{module}/{name}.py": text for name, text in modules.items()},
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = ""
    for file, text in files.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()
        record += f"{file},sha256={digest},{len(text)}\n"
    with zipfile.ZipFile(path, "w") as archive:
        for file, text in {**files, f"{info}/RECORD": f"{record}{info}/RECORD,,\n"}.items():
            archive.writestr(file, text)
    return listed(path)


def listed(path: Path) -> str:
    """Add a package to the page of its name in the index; its sha256."""
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    with (path.parent / "index.html").open("a") as page:
        page.write(f'<a href="{path.name}#sha256={digest}">{path.name}</a>\n')
    return digest


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A folder with the Makefile and a lock of small packages, which are in the index beside it."""
    folder = tmp_path / "a project"
    folder.mkdir()
    shutil.copyfile(ROOT / "Makefile", folder / "Makefile")
    lock = (
        f"{name}=={version} \\\n    --hash=sha256:{wheel(tmp_path / 'pypi', name, version)}\n"
        for name, version in LOCKED.items()
    )
    (folder / "requirements.lock").write_text("".join(lock))
    local = "" if sys.platform == "darwin" else "+cpu"
    for name in ("torch", "torchvision"):
        wheel(tmp_path / "cpu", name, LOCKED[name] + local)
    return folder


def make(project: Path, *arguments: str) -> tuple[int, str]:
    """Run make without uv, and with no settings of pip but the address of the index."""
    variables = {key: value for key, value in os.environ.items() if not key.startswith(("PIP_", "MAKE"))}
    (tools := project.parent / "tools").mkdir(exist_ok=True)
    for name in ("awk", "cat", "cut", "du", "grep", "make", "rm", "sh", "test", "touch", "uname"):
        if not (tools / name).exists():
            (tools / name).symlink_to(str(shutil.which(name)))
    index = (project.parent / "pypi").as_uri()
    variables |= {"PIP_CONFIG_FILE": os.devnull, "PIP_INDEX_URL": index, "PATH": str(tools)}
    command = ["make", ".venv/packages", f"PYTHON={sys.executable}", *arguments]
    done = subprocess.run(command, cwd=project, env=variables, capture_output=True, text=True)
    return done.returncode, done.stdout + done.stderr


def installed(project: Path) -> set[str]:
    """The names and versions of what is installed, without pip."""
    found = project.glob(".venv/lib/*/site-packages/*.dist-info")
    return {path.stem for path in found if not path.name.startswith("pip-")}


def test_the_cpu_build_is_installed_without_cuda_and_kept(project: Path) -> None:
    index = (project.parent / "cpu").as_uri()
    code, told = make(project, "TORCH=cpu", "TORCH_INDEX=file:///there/is/none")
    assert code == 2
    assert "error: no CPU build of torch from file:///there/is/none, see above" in told
    assert "without TORCH=cpu, make setup installs the build with CUDA" in told
    assert not (project / ".venv/packages").exists()

    code, told = make(project, "TORCH=cpu", f"TORCH_INDEX={index}")
    assert code == 0, told
    local = "" if sys.platform == "darwin" else "+cpu"
    assert f"2/3 torch==2.14.1{local} torchvision==0.29.1{local} from {index}" in told
    assert "about 2.1 GB without CUDA" in told
    kept = {f"torch-2.14.1{local}", f"torchvision-0.29.1{local}"}
    assert installed(project) == kept | {"plain-1.0", "setuptools-84.2.1", "torchmetrics-1.9.0"}

    code, told = make(project)  # as make repro or make test, which do not repeat TORCH=cpu
    assert code == 0
    assert "up to date" in told
    code, told = make(project, "TORCH=cuda")
    assert code == 2
    assert ".venv has the cpu build of torch; for the other one: rm -r .venv && make setup TORCH=cuda" in told


def test_by_default_the_whole_lock_is_installed(project: Path) -> None:
    code, told = make(project)
    assert code == 0, told
    assert installed(project) == {f"{name.replace('-', '_')}-{version}" for name, version in LOCKED.items()}
    assert (project / ".venv/packages").read_text() == "cuda\n"


def test_a_source_is_built_by_the_locked_setuptools(project: Path) -> None:
    index, lock = project.parent / "pypi", project / "requirements.lock"
    locked = wheel(index, "setuptools", "85.0", build_meta=BACKEND)
    wheel(index, "setuptools", "99.0")  # the newest one, which a build in isolation would take
    source = index / "old/old-1.0.tar.gz"
    source.parent.mkdir()
    with tarfile.open(source, "w:gz") as archive:
        for name, text in (
            ("PKG-INFO", "Metadata-Version: 2.1\nName: old\nVersion: 1.0\n"),
            (
                "pyproject.toml",
                '[build-system]\nrequires = ["setuptools"]\nbuild-backend = "setuptools.build_meta"\n',
            ),
        ):
            member = tarfile.TarInfo(f"old-1.0/{name}")
            member.size = len(text)
            archive.addfile(member, io.BytesIO(text.encode()))
    text = re.sub(
        r"setuptools==.*\n.*\n", f"setuptools==85.0 \\\\\n    --hash=sha256:{locked}\n", lock.read_text()
    )
    lock.write_text(f"old==1.0 \\\n    --hash=sha256:{listed(source)}\n{text}")
    code, told = make(project)
    assert code == 0, told
    assert {"old-1.0", "setuptools-85.0"} <= installed(project)


def test_a_changed_package_is_refused(project: Path) -> None:
    lock = project / "requirements.lock"
    text = re.sub("(?<=plain==1.0 .\n    --hash=sha256:).*", "0" * 64, lock.read_text())
    lock.write_text(text)
    code, told = make(project)
    assert code == 2
    assert "DO NOT MATCH THE HASHES" in told
    assert not (project / ".venv/packages").exists()


def test_another_build_is_refused(project: Path) -> None:
    code, told = make(project, "TORCH=gpu")
    assert code == 2
    assert "TORCH is cpu or cuda, not 'gpu'" in told
