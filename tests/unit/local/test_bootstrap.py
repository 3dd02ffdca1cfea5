"""The set-up: what it does, what it leaves alone, and what it says when something is missing."""

import ast
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from deploy.local import bootstrap, stamps, uv
from deploy.local.steps import StepError
from deploy.local.uv import SetupError

ROOT = Path(__file__).parents[3]
OLD_PYTHON_FILES = ("bootstrap", "stamps", "steps", "uv")


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the lock files of this project, and nothing installed."""
    shutil.copytree(ROOT / "requirements", tmp_path / "requirements")
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    _move_to(tmp_path, monkeypatch)
    return tmp_path


def _move_to(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    places = {"ROOT": folder, "VENV": folder / ".venv", "VENV_PYTHON": folder / ".venv" / "bin" / "python"}
    cache = folder / ".cache"
    more = {"LOCKS": folder / "requirements", "_STAMPS": folder / ".venv" / ".stamps"}
    more |= {"CACHE": cache, "UV_VENV": cache / "uv-venv", "UV_FOLDER": cache / "uv-folder"}
    for module in (stamps, bootstrap, uv):
        for name, value in (places | more).items():
            if hasattr(module, name):
                monkeypatch.setattr(module, name, value)


@pytest.fixture
def steps(project: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the steps taken; none of them is really done, but an environment appears."""
    taken: list[str] = []

    def step(text: str, command: Sequence[str], *_: Any) -> None:
        taken.append(text.split(" ", maxsplit=1)[0])
        if "venv" in command:
            Path(command[-1], "bin").mkdir(parents=True)
            Path(command[-1], "bin", "python").touch()

    for module in (bootstrap, uv):
        monkeypatch.setattr(module, "step", step)
    monkeypatch.setattr(bootstrap, "bring_uv", lambda: project / "uv")
    monkeypatch.setattr(bootstrap, "_output", lambda _: str(project / "redis-server"))
    (project / "redis-server").touch()
    return taken


def test_the_first_run_does_everything_and_the_second_nothing(steps: list[str]) -> None:
    bootstrap.prepare("run")
    assert steps == ["Python", "packages", "this"]

    bootstrap.prepare("run")
    assert steps == ["Python", "packages", "this"]


def test_testing_needs_more_packages_than_running(steps: list[str]) -> None:
    bootstrap.prepare("run")

    assert not bootstrap.is_prepared("develop")
    bootstrap.prepare("develop")
    assert steps[3:] == ["packages"]


def test_a_changed_lock_file_is_installed(steps: list[str], project: Path) -> None:
    bootstrap.prepare("run")
    (project / "requirements" / "gateway.txt").write_text("flask==9\n")

    bootstrap.prepare("run")
    assert steps[3:] == ["packages"]


def test_a_new_package_of_the_project_is_installed(steps: list[str], project: Path) -> None:
    bootstrap.prepare("run")
    (project / "dashboard").mkdir()
    (project / "dashboard" / "__init__.py").touch()

    bootstrap.prepare("run")
    assert steps[3:] == ["this"]


def test_a_moved_folder_gets_a_new_environment(
    steps: list[str], project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bootstrap.prepare("run")
    moved = project / "moved"
    moved.mkdir()
    for name in ("requirements", "pyproject.toml", ".venv"):
        shutil.move(project / name, moved)
    _move_to(moved, monkeypatch)

    bootstrap.prepare("run")
    assert steps[3:] == ["Python", "packages", "this"]


def test_a_redis_that_went_away_is_looked_for_again(steps: list[str], project: Path) -> None:
    bootstrap.prepare("run")
    (project / "redis-server").unlink()

    assert not bootstrap.is_prepared("run")


def test_without_any_redis_the_command_to_install_one_is_said(
    steps: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bootstrap, "_output", lambda _: "")

    with pytest.raises(SetupError, match="apt-get install redis-server, or brew install redis"):
        bootstrap.prepare("run")
    assert steps[-1] == "Redis"


def test_a_redis_given_by_its_address_needs_none_here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PAWQUEUE_REDIS_URL", "redis://elsewhere")

    assert not bootstrap.needs_redis("run")
    assert bootstrap.needs_redis("develop")
    assert not bootstrap.needs_redis("train")


def test_the_best_python_here_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bootstrap, "_output", lambda words: "/bin/python3.13" if words[-1] == "3.13" else "")

    assert bootstrap.find_python("uv") == "/bin/python3.13"


def test_without_any_python_the_command_to_install_one_is_said(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise StepError("error: no download for this platform")

    monkeypatch.setattr(bootstrap, "_output", lambda _: "")
    monkeypatch.setattr(bootstrap, "step", fail)

    with pytest.raises(SetupError, match=r"No Python 3.11, 3.12 or 3.13 was found.*apt-get install python3.12"):
        bootstrap.make_venv("uv", {})


def test_an_environment_with_another_python_is_not_adopted(steps: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    stamps.VENV_PYTHON.parent.mkdir(parents=True)
    stamps.VENV_PYTHON.touch()

    monkeypatch.setattr(bootstrap, "_output", lambda _: "3.9")
    assert not bootstrap.adopt_venv()
    monkeypatch.setattr(bootstrap, "_output", lambda _: "3.12")
    assert bootstrap.adopt_venv()


def _python_without(modules: str, folder: Path) -> str:
    """A Python that fails when asked for one of the modules."""
    script = folder / "python"
    script.write_text(f'#!/bin/sh\ncase "$2" in {modules}) exit 1;; esac\nexec {sys.executable} "$@"\n')
    script.chmod(0o755)
    return str(script)


def test_without_venv_and_pip_a_uv_of_the_system_serves(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = project / "uv"
    found.write_text("#!/bin/sh\n")
    found.chmod(0o755)
    monkeypatch.setattr(sys, "executable", _python_without("venv|pip", project))
    monkeypatch.setenv("PATH", str(project))

    assert uv.bring_uv() == found


def test_without_venv_pip_and_uv_one_sentence_says_what_to_install(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", _python_without("venv|pip", project))
    monkeypatch.setenv("PATH", str(project / "nothing"))

    with pytest.raises(SetupError, match=r"has neither venv nor pip: install them \(apt-get install python3-venv\)"):
        uv.bring_uv()


def test_without_venv_pip_installs_uv_into_a_folder(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", _python_without("venv", project))
    monkeypatch.setattr(uv, "_answers", lambda _: "pip 24")
    commands: list[Sequence[str]] = []

    def step(_text: str, command: Sequence[str], *_: Any) -> None:
        if "venv" in command:
            raise StepError("ensurepip is not available")
        commands.append(command)
        (uv.UV_FOLDER / "bin").mkdir(parents=True)

    monkeypatch.setattr(uv, "step", step)

    assert uv.bring_uv() == uv.UV_FOLDER / "bin" / "uv"
    assert "--require-hashes" in commands[0]


def test_uv_gets_the_index_that_pip_is_told_to_use(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uv, "_has_uv_file", lambda: False)
    monkeypatch.setattr(uv, "_pip_settings", lambda: "global.index-url='https://mirror.example/simple'\n")
    monkeypatch.delenv("UV_DEFAULT_INDEX", raising=False)

    assert uv.uv_environment()["UV_DEFAULT_INDEX"] == "https://mirror.example/simple"


def test_uv_keeps_settings_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uv, "_pip_settings", lambda: "global.index-url='https://mirror.example/simple'\n")
    monkeypatch.setenv("UV_DEFAULT_INDEX", "https://own.example/simple")

    assert uv.uv_environment()["UV_DEFAULT_INDEX"] == "https://own.example/simple"


@pytest.mark.parametrize("name", OLD_PYTHON_FILES)
def test_the_set_up_runs_on_an_old_python_with_its_standard_library(name: str) -> None:
    tree = ast.parse((ROOT / "deploy" / "local" / f"{name}.py").read_text(), feature_version=(3, 8))

    imported = {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    imported |= {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    own = {"deploy.local", *(f"deploy.local.{file}" for file in OLD_PYTHON_FILES)}
    assert imported - own <= set(sys.stdlib_module_names)


def test_lock_files_name_no_registry() -> None:
    for lock in (ROOT / "requirements").glob("*.txt"):
        assert "://" not in lock.read_text(), f"{lock.name}: take out the address"
