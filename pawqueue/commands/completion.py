"""`pawqueue completion`: lets the shell complete commands and options."""

import click
from click.shell_completion import get_completion_class

from pawqueue.cli import cli

_VARIABLE = "_PAWQUEUE_COMPLETE"


@click.command(short_help="Let the shell complete commands and options.")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print what makes SHELL complete the commands and options of pawqueue.

    \b
    Examples:
      eval "$(pawqueue completion bash)"                  # in ~/.bashrc
      eval "$(pawqueue completion zsh)"                   # in ~/.zshrc
      pawqueue completion fish > ~/.config/fish/completions/pawqueue.fish
    """  # noqa: D301 - click needs the character
    kind = get_completion_class(shell)
    if kind is None:
        raise click.UsageError(f"{shell} cannot be completed.")
    click.echo(kind(cli, {}, "pawqueue", _VARIABLE).source())
