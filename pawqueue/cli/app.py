"""The `pawqueue` command group; each subcommand is imported only when it is needed."""

import errno
import importlib.metadata
import signal
import sys
from collections.abc import Callable
from importlib.metadata import EntryPoint
from typing import Any

import click

from contract.tracing import open_provider
from pawqueue.client.errors import ClientError

#: Exit code after Ctrl-C or SIGTERM.
INTERRUPTED = 130
#: The entry point group through which services add their own commands.
GROUP = "pawqueue.commands"

_OWN = (
    *("cancel", "completion", "dead", "feedback", "fetch", "models", "predict", "purge", "status", "submit", "watch"),
    "webhooks",
)
#: Help texts of the services' commands. Importing these commands takes a second, and fails without their packages.
_SERVICE_HELP = {
    "keys": "Create, list and revoke API keys.",
    "doctor": "Check this installation and suggest fixes.",
}


class CommandGroup(click.Group):
    """Loads the client's commands from `pawqueue.cli`, and others from installed entry points."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's interface
        return sorted({*_OWN, *_service_commands()})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        if cmd_name in _OWN:
            own: click.Command = EntryPoint(cmd_name, f"pawqueue.cli.{cmd_name}:{cmd_name}", GROUP).load()
            return own
        entry = _service_commands().get(cmd_name)
        return ServiceCommand(entry, _SERVICE_HELP.get(cmd_name)) if entry else None


class ServiceCommand(click.Command):
    """A command of a service, imported when it is run."""

    def __init__(self, entry: EntryPoint, short_help: str | None = None) -> None:
        super().__init__(entry.name, short_help=short_help or "See its --help.")
        self._entry = entry

    def make_context(
        self, info_name: str | None, args: list[str], parent: click.Context | None = None, **extra: Any
    ) -> click.Context:
        return self.load().make_context(info_name, args, parent, **extra)

    def load(self) -> click.Command:
        """Import the command itself; UsageError if its packages are missing."""
        try:
            command: click.Command = self._entry.load()
        except ImportError as error:
            raise click.UsageError(
                f"`pawqueue {self.name}` needs a package that is not installed ({error}). "
                "Install the requirements of its service."
            ) from error
        return command


def _service_commands() -> dict[str, EntryPoint]:
    return {entry.name: entry for entry in importlib.metadata.entry_points(group=GROUP)}


@click.group(
    cls=CommandGroup,
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
    if provider := open_provider("client"):
        from opentelemetry import trace  # noqa: PLC0415 - an extra

        trace.set_tracer_provider(provider)
        click.get_current_context().call_on_close(provider.shutdown)


def main() -> None:
    """Run the command and exit with its exit code."""
    # SIGTERM stops a command like Ctrl-C.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    sys.exit(run(lambda: cli.main(prog_name="pawqueue", standalone_mode=False)))


def run(command: Callable[[], Any]) -> int:
    """Call `command` and return its exit code; expected errors are printed as one line."""
    try:
        code = command()
    except click.ClickException as error:
        error.show()
        # 1 means that some images have no prediction.
        return error.exit_code if error.exit_code != 1 else 2
    except (click.Abort, KeyboardInterrupt):
        click.echo("Interrupted.", err=True)
        return INTERRUPTED
    except (ClientError, OSError) as error:
        click.echo(f"Error: {_message(error)}", err=True)
        return 2
    return code if isinstance(code, int) else 0


def is_disk_full(error: BaseException) -> bool:
    """Whether a write failed because the disk is full, or the user's share of it."""
    return isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)


def _message(error: Exception) -> str:
    if is_disk_full(error):
        return "The disk of the output is full. Free some space, then run the command again."
    if isinstance(error, OSError) and error.filename is not None:
        return f"{error.filename}: {error.strerror}."
    return str(error)
