"""The package as a user gets it: built, installed with what it requires, and used."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tarfile
import venv
import zipfile
from collections.abc import Iterator
from importlib.metadata import Distribution, distribution, distributions
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement

import eigenmesh
from eigenmesh.demo import stage

ROOT = Path(__file__).parents[1]


def run(*argv: str | Path, cwd: Path, status: int = 0) -> str:
    """What it prints; without the Python path by which tests find the sources."""
    env = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        [str(word) for word in argv], cwd=cwd, env=env, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == status, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def sdist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sdist")
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "sdist", "-d", folder],
        cwd=ROOT,
        capture_output=True,
        timeout=60,
        check=True,
    )
    [file] = folder.iterdir()
    return file


@pytest.fixture(scope="module")
def wheel(sdist: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from the sdist, as an installer does that finds no wheel."""
    folder = tmp_path_factory.mktemp("wheel")
    with tarfile.open(sdist) as archive:
        archive.extractall(folder / "unpacked", filter="data")
    [source] = (folder / "unpacked").iterdir()
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", folder / "dist"],
        cwd=source,
        capture_output=True,
        timeout=60,
        check=True,
    )
    [file] = (folder / "dist").iterdir()
    return file


def required(by: Distribution, seen: set[str]) -> Iterator[Distribution]:
    """What an installer brings along, by what each package says of itself; without extras."""
    for text in by.requires or ():
        requirement = Requirement(text)
        wanted = requirement.marker is None or requirement.marker.evaluate({"extra": ""})
        if wanted and requirement.name not in seen:
            seen.add(requirement.name)
            found = distribution(requirement.name)
            assert requirement.specifier.contains(found.version)
            yield found
            yield from required(found, seen)


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of programs of a fresh environment. The packages that the wheel requires are
    linked there, file by file, from the environment of the tests; no others can be imported."""
    folder = tmp_path_factory.mktemp("installed")
    venv.create(folder, symlinks=True, with_pip=False)
    python = folder / "bin" / "python"
    site = Path(run(python, "-c", "import site; print(site.getsitepackages()[0])", cwd=folder)[:-1])
    run(
        *(sys.executable, "-m", "pip", "--python", python, "install"),
        *("--quiet", "--no-index", "--no-deps", wheel),
        cwd=folder,
    )
    [ours] = distributions(path=[str(site)])
    for one in required(ours, set()):
        for file in one.files or ():
            # Two packages own envoy/__init__.py.
            if ".." not in file.parts and not (place := site / file).exists():
                place.parent.mkdir(parents=True, exist_ok=True)
                place.symlink_to(file.locate())
    return folder / "bin"


def test_the_sdist_has_the_sources_and_no_more(sdist: Path) -> None:
    with tarfile.open(sdist) as archive:
        top = {name.split("/")[1] for name in archive.getnames()}
    meant = {"src", "README.md", "CHANGELOG.md", "LICENSE", "pyproject.toml", "PKG-INFO"}
    assert top - {".gitignore"} == meant


def test_the_wheel_has_the_package_and_no_more(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    ours = {name for name in names if name.startswith("eigenmesh/")}
    source = ROOT / "src"
    assert ours == {
        file.relative_to(source).as_posix()
        for file in source.rglob("*")
        if file.is_file() and "__pycache__" not in file.parts
    }
    assert "eigenmesh/py.typed" in ours
    [info] = {name.split("/")[0] for name in names - ours}
    assert info == f"eigenmesh-{eigenmesh.__version__}.dist-info"
    assert f"{info}/licenses/LICENSE" in names


def test_the_version_is_said_in_one_voice() -> None:
    version = eigenmesh.__version__
    assert re.findall(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(), re.M)[0] == version
    for file in ("docker-compose.yml", "docs/quickstart.md"):
        assert set(re.findall(r"image: eigenmesh:(\S+)", (ROOT / file).read_text())) == {version}


def test_the_first_commands_of_a_user(installed: Path, tmp_path: Path) -> None:
    program = installed / "eigenmesh"
    assert run(program, "--version", cwd=tmp_path) == f"eigenmesh {eigenmesh.__version__}\n"
    assert "Usage" in run(program, "--help", cwd=tmp_path)
    (tmp_path / "envoy.yaml").write_text(yaml.safe_dump(stage.static_bootstrap(stage.Ports())))
    said = run(program, "adopt", "envoy.yaml", "-o", "adopted", cwd=tmp_path)
    assert "will steer: route shop" in said
    assert "valid" in run(program, "check", "adopted/eigenmesh.yaml", cwd=tmp_path)
    run(program, "bootstrap", "-c", "adopted/eigenmesh.yaml", cwd=tmp_path)
    assert "is `eigenmesh run` up" in run(
        program, "ctl", "status", "--address", "127.0.0.1:1", cwd=tmp_path, status=3
    )


def test_every_module_finds_what_it_needs(installed: Path, tmp_path: Path) -> None:
    """Without the extras; and circuits run on the device that the package brings along."""
    code = (
        "import importlib, pkgutil, eigenmesh\n"
        "for one in pkgutil.walk_packages(eigenmesh.__path__, 'eigenmesh.'):\n"
        "    if not one.name.endswith('__main__'):\n"
        "        importlib.import_module(one.name)\n"
        "import pennylane\n"
        "pennylane.device('eigenmesh.qubit', wires=2)\n"
        "print(eigenmesh.__file__)"
    )
    found = run(installed / "python", "-c", code, cwd=tmp_path).splitlines()[-1]
    assert Path(found).is_relative_to(installed.parent)


def test_the_demo_without_its_extra_says_what_to_install(installed: Path, tmp_path: Path) -> None:
    said = run(installed / "eigenmesh", "demo", cwd=tmp_path, status=2)
    assert "pip install 'eigenmesh[demo]'" in said
    assert "Traceback" not in said


def test_a_query_without_its_extra_says_what_to_install(installed: Path, tmp_path: Path) -> None:
    (tmp_path / "envoy.yaml").write_text(yaml.safe_dump(stage.static_bootstrap(stage.Ports())))
    run(installed / "eigenmesh", "adopt", "envoy.yaml", "-o", ".", cwd=tmp_path)
    file = tmp_path / "eigenmesh.yaml"
    settings = yaml.safe_load(file.read_text())
    settings["telemetry"] = {"prometheus": {"url": "http://127.0.0.1:9"}}
    file.write_text(yaml.safe_dump(settings))
    assert "valid" in run(installed / "eigenmesh", "check", file, cwd=tmp_path)
    settings["telemetry"]["prometheus"]["selector"] = 'job="envoy"'
    file.write_text(yaml.safe_dump(settings))
    said = run(installed / "eigenmesh", "check", file, cwd=tmp_path, status=1)
    assert "selector" in said
    assert "pip install 'eigenmesh[prometheus]'" in said


@pytest.mark.parametrize("version", ["3.11", "3.12", "3.13"])
def test_the_sources_compile_on_each_python(version: str) -> None:
    """Without a warning. `make pythons` installs and tries the package on each."""
    there: list[str | Path] = [f"python{version}"]
    there += [*Path.home().glob(f".pyenv/versions/{version}.*/bin/python")]
    code = (
        "import pathlib, sys, warnings\n"
        "warnings.simplefilter('error')\n"
        f"assert sys.version.startswith('{version}.')\n"
        "for file in pathlib.Path('src').rglob('*.py'):\n"
        "    compile(file.read_bytes(), str(file), 'exec')"
    )
    for python in there:
        if shutil.which(python) and run_quietly(python, "--version"):
            run(python, "-c", code, cwd=ROOT)
            return
    pytest.skip(f"no Python {version} here")


def run_quietly(*argv: str | Path) -> bool:
    return subprocess.run(argv, capture_output=True, timeout=60).returncode == 0
