"""`pawqueue models`: its commands belong to training and the importer, and are imported when they are needed."""

import importlib.metadata
from importlib.metadata import EntryPoint

import click

from pawqueue.cli.app import GROUP, ServiceCommand

_HELP = {
    "compare": "Compare two models.",
    "import": "Make a bundle from a Keras image classifier.",
    "list": "List the registered versions, and the bundle to serve.",
    "promote": "Promote a model.",
}


class ModelCommands(click.Group):
    """Loads its commands from installed entry points."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's interface
        return sorted(_entries())

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        entry = _entries().get(cmd_name)
        return ServiceCommand(entry, _HELP.get(cmd_name)) if entry else None


def _entries() -> dict[str, EntryPoint]:
    return {entry.name: entry for entry in importlib.metadata.entry_points(group=f"{GROUP}.models")}


@click.group(cls=ModelCommands, short_help="Import, list, compare and promote models.")
def models() -> None:
    """Import, list, compare and promote models.

    \b
    Examples:
      pawqueue models import pets.keras --name pets --labels cat,dog
      pawqueue models list
      pawqueue models compare build/bundle champion
      pawqueue models promote 3
    """  # noqa: D301 - click needs the character
