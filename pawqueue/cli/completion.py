"""`pawqueue completion`: prints shell completion scripts."""

import click
from click.shell_completion import get_completion_class

from pawqueue.cli.app import cli


@click.command(short_help="Print a shell completion script.")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print a script that makes SHELL complete the commands and options of pawqueue.

    \b
    Examples:
      eval "$(pawqueue completion bash)"                  # in ~/.bashrc
      eval "$(pawqueue completion zsh)"                   # in ~/.zshrc
      pawqueue completion fish > ~/.config/fish/completions/pawqueue.fish
    """  # noqa: D301 - click needs the character
    kind = get_completion_class(shell)
    if kind is None:
        raise click.UsageError(f"There is no completion for {shell}.")
    click.echo(kind(cli, {}, "pawqueue", "_PAWQUEUE_COMPLETE").source())
