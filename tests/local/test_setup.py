"""The setup that `make` runs, in a copy of the project where uv and Python are stubs that log their calls."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.services import ROOT

COPIED = ("Makefile", "pyproject.toml", "requirements", "deploy/local/setup.sh")
#: A stub of uv. It creates an environment with the Python stub, and cannot install while a file `offline` exists.
UV = """#!/bin/sh
echo "uv $* index=${UV_DEFAULT_INDEX:-} cert=${SSL_CERT_FILE:-}" >>calls
case $1-${2:-} in
python-find) test ! -e no-python && echo /usr/bin/python3.12 ;;
venv-*)
    test ! -e no-python || exit 1
    mkdir -p .venv/bin && cp python-stub .venv/bin/python && touch .venv/pyvenv.cfg
    ;;
pip-install)
    test ! -e offline || { echo "error: no network" >&2; exit 1; }
    case $* in *redis.txt*) touch redis-server ;; esac
    ;;
esac
"""
#: A stub of the Python in the environment. It finds the project's `redis-server`, if that exists.
PYTHON = """#!/bin/sh
test "$1" = -c && exit
echo "python $*" >>calls
if [ "$2" = deploy.local.redis_server ]; then
    test -e redis-server && echo "$PWD/redis-server" || { echo "No redis-server found." >&2; exit 1; }
fi
"""
#: A stub of the Python on the machine. The files `no-pip` and `no-venv` make these modules unavailable.
SYSTEM_PYTHON = """#!/bin/sh
case $* in
-mpip*) test ! -e no-pip || exit 1; shift; exec ./pip "$@" ;;
-mvenv*) test ! -e no-venv || exit 1; mkdir -p .cache/pip/bin; cp venv-python .cache/pip/bin/python; exit 0 ;;
esac
exec {python} "$@"
"""
VENV_PYTHON = """#!/bin/sh
shift
exec ./pip "$@"
"""
#: A stub of pip. It prints the configuration in `pip-config`, and installs the stub of uv.
PIP = """#!/bin/sh
case $* in
config*) cat pip-config 2>/dev/null || true ;;
*--require-hashes*) mkdir -p .cache/uv/bin && cp uv-stub .cache/uv/bin/uv ;;
esac
"""


class Project:
    """A copy of the project without packages."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for name in COPIED:
            copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            copy(ROOT / name, folder / name)
        self.script("python-stub", PYTHON)
        self.script("system-python", SYSTEM_PYTHON.format(python=Path(sys.executable).resolve()))
        self.script("venv-python", VENV_PYTHON)
        self.script("pip", PIP)
        self.script("uv-stub", UV)
        self.script(".cache/uv/bin/uv", UV)
        shutil.copy(folder / "requirements" / "uv.txt", folder / ".cache" / "uv")
        (folder / "redis-server").touch()

    def script(self, name: str, text: str) -> Path:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        path.chmod(0o755)
        return path

    def start(self, *command: str, **environ: str) -> "subprocess.Popen[str]":
        inherited = {
            name: value for name, value in os.environ.items() if not name.startswith(("PIP_", "UV_", "MAKE", "SSL_"))
        }
        variables = {**inherited, "HOME": str(self.folder), "PYTHON": "./system-python", **environ}
        return subprocess.Popen(
            command, cwd=self.folder, env=variables, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )

    def run(self, *command: str, **environ: str) -> tuple[int, str]:
        """Run a command; returns its exit status and error output."""
        process = self.start(*command, **environ)
        _, errors = process.communicate(timeout=60)
        return process.returncode, errors

    def make(self, target: str = "demo", **environ: str) -> tuple[int, str]:
        """Run a `make` target; returns its exit status and error output."""
        return self.run("make", target, **environ)

    def calls(self) -> list[str]:
        """The calls to uv and Python since this method was last called, without lookups."""
        log = self.folder / "calls"
        lines = log.read_text().splitlines() if log.exists() else []
        log.unlink(missing_ok=True)
        return [line for line in lines if not line.startswith(("uv python", "python -m deploy.local.redis"))]

    def steps(self) -> list[str]:
        """The same calls, each as one word: `venv`, `packages`, `redis`, `project`, or the last word of the command."""
        names = {"uv venv": "venv", "redis.txt": "redis", "--editable": "project", "pip install": "packages"}
        calls = self.calls()
        return [next((name for mark, name in names.items() if mark in call), call.split()[-1]) for call in calls]


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """A project in which `make` has never run."""
    return Project(tmp_path / "project")


@pytest.fixture(scope="module")
def shared_project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    project = Project(tmp_path_factory.mktemp("shared") / "project")
    (project.folder / "redis-server").unlink()
    assert project.make() == (0, "")
    assert project.steps() == ["venv", "packages", "project", "redis", "results.csv"]
    return project


@pytest.fixture
def ready(shared_project: Project) -> Project:
    """A project in which `make demo` has run."""
    (shared_project.folder / "redis-server").touch()
    (shared_project.folder / "offline").unlink(missing_ok=True)
    shared_project.calls()
    return shared_project


def test_a_second_make_only_runs_the_command(ready: Project) -> None:
    assert ready.make() == (0, "")
    assert ready.steps() == ["results.csv"]


def test_development_needs_more_packages_than_the_demo(ready: Project) -> None:
    ready.make("test-unit-edge")
    calls = ready.calls()
    assert "requirements/dev.txt" in calls[0]
    assert "requirements/gateway.txt" in calls[0]
    assert not any("venv --" in call for call in calls)


def test_a_changed_lock_file_is_installed(ready: Project) -> None:
    (ready.folder / "requirements" / "gateway.txt").write_text("flask==9\n")

    ready.make()
    assert ready.steps() == ["packages", "project", "results.csv"]


def test_a_package_added_to_the_project_is_installed(ready: Project) -> None:
    (ready.folder / "dashboard").mkdir()
    (ready.folder / "dashboard" / "__init__.py").touch()

    ready.make()
    assert ready.steps() == ["packages", "project", "results.csv"]


def test_a_moved_folder_gets_a_new_environment(ready: Project) -> None:
    ready.folder = ready.folder.rename(ready.folder.with_name("moved"))

    ready.make()
    assert ready.steps() == ["venv", "packages", "project", "results.csv"]


def test_an_uninstalled_redis_is_installed_again(ready: Project) -> None:
    (ready.folder / "redis-server").unlink()

    ready.make()
    assert ready.steps() == ["redis", "results.csv"]


def test_a_missing_redis_is_reported(ready: Project) -> None:
    (ready.folder / "redis-server").unlink()
    (ready.folder / "offline").touch()

    status, errors = ready.make()
    assert status != 0
    assert "No redis-server found." in errors


def test_no_redis_is_installed_if_a_redis_url_is_set(ready: Project) -> None:
    (ready.folder / "redis-server").unlink()

    assert ready.make(PAWQUEUE_REDIS_URL="redis://elsewhere")[0] == 0
    assert ready.steps() == ["results.csv"]


def test_training_needs_no_redis(ready: Project) -> None:
    (ready.folder / "redis-server").unlink()

    assert ready.make("train")[0] == 0
    assert ready.steps() == ["packages", "project", "training.run"]


def test_an_environment_that_another_tool_created_is_used(project: Project) -> None:
    project.script(".venv/bin/python", PYTHON)
    project.script(".venv/pyvenv.cfg", "")

    project.make()
    assert project.steps() == ["packages", "project", "results.csv"]


def test_an_environment_with_an_unsupported_python_is_replaced(project: Project) -> None:
    project.script(".venv/bin/python", "#!/bin/sh\nexit 1\n")
    project.script(".venv/pyvenv.cfg", "")

    project.make()
    assert project.steps()[0] == "venv"


def test_a_failed_setup_explains_the_fix_and_the_next_make_repairs_it(project: Project) -> None:
    (project.folder / "offline").touch()
    status, errors = project.make()
    assert status != 0
    assert "error: no network" in errors
    assert "Check the network and the disk space, then run make again." in errors
    assert "results.csv" not in project.steps()

    (project.folder / "offline").unlink()
    assert project.make()[0] == 0
    assert project.steps() == ["packages", "project", "results.csv"]


def test_two_concurrent_makes_create_one_environment(project: Project) -> None:
    both = [project.start("make", "demo"), project.start("make", "up")]
    for process in both:
        process.communicate(timeout=60)

    assert [process.returncode for process in both] == [0, 0]
    assert project.steps().count("venv") == 1


#: Makes the stub log the package index and the certificate that are passed to uv.
UV_VERSION = ("sh", "deploy/local/setup.sh", "uv", "--version")


@pytest.mark.parametrize("setting", ["global.index-url", "install.index-url", ":env:.index-url"])
def test_uv_uses_the_package_index_and_certificate_of_pip(project: Project, setting: str) -> None:
    config = f"{setting}='https://mirror.example/simple'\nglobal.cert='/etc/mirror.pem'\n"
    (project.folder / "pip-config").write_text(config)

    project.run(*UV_VERSION)
    assert project.calls() == ["uv --version index=https://mirror.example/simple cert=/etc/mirror.pem"]


def test_the_settings_of_uv_take_precedence_over_those_of_pip(project: Project) -> None:
    (project.folder / "pip-config").write_text("global.index-url='https://mirror.example/simple'\n")

    project.run(*UV_VERSION, UV_DEFAULT_INDEX="https://own.example/simple")
    assert project.calls() == ["uv --version index=https://own.example/simple cert="]


def test_without_a_supported_python_the_error_names_the_package_to_install(project: Project) -> None:
    (project.folder / "no-python").touch()

    status, errors = project.make()
    assert status != 0
    assert "Python 3.11, 3.12 or 3.13 was not found and could not be downloaded." in errors
    assert "apt-get install python3.12, or brew install python@3.12" in errors


def test_without_any_python_the_error_names_the_package_to_install(project: Project, tmp_path: Path) -> None:
    tools = tmp_path / "tools"
    tools.mkdir()
    for name in ("make", "sh", "cat", "dirname", "sed"):
        (tools / name).symlink_to(str(shutil.which(name)))

    status, errors = project.make(PATH=str(tools), PYTHON="no-such-python")
    assert status != 0
    assert "No Python 3.8 or newer found. Install one (apt-get install python3, or brew install python)" in errors


@pytest.mark.parametrize("missing", ["no-pip", "no-venv"])
def test_either_pip_or_venv_is_enough(project: Project, missing: str) -> None:
    shutil.rmtree(project.folder / ".cache")
    (project.folder / missing).touch()

    status, errors = project.make()
    assert status == 0, errors
    assert project.steps() == ["venv", "packages", "project", "results.csv"]


def test_an_incomplete_pip_environment_is_recreated(project: Project) -> None:
    shutil.rmtree(project.folder / ".cache")
    (project.folder / "no-pip").touch()
    project.script(".cache/pip/bin/python", "#!/bin/sh\nexit 1\n")

    status, errors = project.make()
    assert status == 0, errors


def test_without_pip_and_venv_an_installed_uv_is_used(project: Project) -> None:
    shutil.rmtree(project.folder / ".cache")
    (project.folder / "no-pip").touch()
    (project.folder / "no-venv").touch()
    project.script("tools/uv", UV)

    status, errors = project.make(PATH=f"{project.folder / 'tools'}:{os.environ['PATH']}")
    assert status == 0, errors
    assert project.steps() == ["venv", "packages", "project", "results.csv"]


def test_without_pip_venv_and_uv_the_error_names_the_package_to_install(project: Project, tmp_path: Path) -> None:
    shutil.rmtree(project.folder / ".cache")
    (project.folder / "no-pip").touch()
    (project.folder / "no-venv").touch()
    tools = tmp_path / "tools"
    tools.mkdir()
    for name in ("make", "sh", "cat", "dirname", "sed", "rm", "cmp", "mkdir"):
        (tools / name).symlink_to(str(shutil.which(name)))

    status, errors = project.make(PATH=str(tools))
    assert status != 0
    assert "has neither pip nor venv. Install one (apt-get install python3-venv), then run make again." in errors


def test_a_script_finds_the_package_although_a_clone_of_the_project_is_next_to_it(tmp_path: Path) -> None:
    (tmp_path / "pawqueue").mkdir()
    code = "import pawqueue; print(pawqueue.Pawqueue.__name__)"
    environ = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    run = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=environ, capture_output=True, text=True, check=False
    )
    assert (run.stdout, run.stderr) == ("Pawqueue\n", "")


def test_a_changed_setup_script_runs_again(ready: Project) -> None:
    script = ready.folder / "deploy" / "local" / "setup.sh"
    script.write_text(script.read_text() + "# changed\n")

    ready.make()
    assert ready.steps() == ["packages", "project", "results.csv"]


def test_lock_files_name_no_package_index() -> None:
    for lock in (ROOT / "requirements").glob("*.txt"):
        assert "://" not in lock.read_text(), f"{lock.name}: remove the URL"
