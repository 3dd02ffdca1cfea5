"""The `pawqueue` command: a group whose subcommands are imported when they are called, not when they are listed."""

import importlib.metadata
import signal
import sys
from collections.abc import Callable
from importlib.metadata import EntryPoint
from typing import Any

import click

from pawqueue.errors import ClientError

INTERRUPTED = 130

#: Where services add their commands: each stays with its owner and is loaded only when called.
GROUP = "pawqueue.commands"

#: The commands of the client itself.
_OWN = {
    "completion": "pawqueue.commands.completion:completion",
    "fetch": "pawqueue.commands.fetch:fetch",
    "predict": "pawqueue.commands.predict:predict",
    "submit": "pawqueue.commands.submit:submit",
    "watch": "pawqueue.commands.watch:watch",
    "status": "pawqueue.commands.status:status",
    "cancel": "pawqueue.commands.cancel:cancel",
    "dead": "pawqueue.commands.dead:dead",
}

#: What the list of commands says; asking the command itself would import it.
_SUMMARIES = {
    "submit": "Classify a folder of images into a file of results.",
    "predict": "Classify a few images and print their labels.",
    "watch": "Watch a submission or the service, live.",
    "status": "Show a job or a submission.",
    "fetch": "Fetch the results of submissions or jobs.",
    "cancel": "Withdraw jobs or submissions that have not ended.",
    "completion": "Let the shell complete commands and options.",
    "dead": "Look at the jobs that killed their workers; retry or drop them.",
    "models": "List, compare and promote models.",
    "keys": "Create, list and revoke API keys.",
    "doctor": "Check this installation and say how to mend it.",
}


class LazyCommand(click.Command):
    """Stands for a command in the list; imports it when it is called."""

    def __init__(self, entry: EntryPoint) -> None:
        super().__init__(entry.name, short_help=_SUMMARIES.get(entry.name, f"See pawqueue {entry.name} --help."))
        self._entry = entry

    def make_context(
        self, info_name: str | None, args: list[str], parent: click.Context | None = None, **extra: Any
    ) -> click.Context:
        return self._load().make_context(info_name, args, parent, **extra)

    def _load(self) -> click.Command:
        try:
            command: click.Command = self._entry.load()
        except ImportError as error:
            raise click.UsageError(
                f"`pawqueue {self.name}` needs a package that is not installed here ({error}); "
                "install the requirements of the service that it belongs to."
            ) from error
        return command


class LazyGroup(click.Group):
    """Finds commands in the table above and among the installed entry points."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's interface
        return sorted(_entries())

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        entry = _own(cmd_name) if cmd_name in _OWN else _entries().get(cmd_name)
        return LazyCommand(entry) if entry else None


def _own(name: str) -> EntryPoint:
    """A command of the client, for which no installed package needs to be read."""
    return EntryPoint(name, _OWN[name], GROUP)


def _entries() -> dict[str, EntryPoint]:
    found = {entry.name: entry for entry in importlib.metadata.entry_points(group=GROUP)}
    return found | {name: _own(name) for name in _OWN}


@click.group(
    cls=LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Environment: PAWQUEUE_URL (address of the gateway), PAWQUEUE_API_KEY, NO_COLOR.",
)
@click.version_option(package_name="pawqueue")
def cli() -> None:
    """Classify images through a Pawqueue gateway.

    \b
    Examples:
      pawqueue predict cat.jpg
      pawqueue submit photos --out results.csv
      pawqueue watch
      pawqueue status 019abc12-3456-7890-abcd-ef0123456789
    """  # noqa: D301 - click needs the character


def main() -> None:
    """Run the command and leave with its exit code."""
    # A supervisor's or a shell's request to end is met like Ctrl-C.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    sys.exit(run(lambda: cli.main(prog_name="pawqueue", standalone_mode=False)))


def run(command: Callable[[], Any]) -> int:
    """Call `command` and turn what it raises into one sentence and an exit code."""
    try:
        code = command()
    except click.ClickException as error:
        error.show()
        return error.exit_code if error.exit_code != 1 else 2
    except (click.Abort, KeyboardInterrupt):
        click.echo("Interrupted.", err=True)
        return INTERRUPTED
    except (ClientError, OSError) as error:
        click.echo(f"Error: {_sentence(error)}", err=True)
        return 2
    return code if isinstance(code, int) else 0


def _sentence(error: Exception) -> str:
    if isinstance(error, OSError) and error.filename is not None:
        return f"{error.filename}: {error.strerror}."
    return str(error)
