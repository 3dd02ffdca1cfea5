"""`pawqueue doctor`: checks the installation and the gateway, and prints how to fix what is wrong."""

import json
import os
from collections.abc import Iterator

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from contract.settings import SettingsError, load_settings
from deploy.local.checks import Finding, Level, check_machine, check_ports
from deploy.local.gateway_checks import check_gateway
from deploy.local.services import gateway_url
from pawqueue.cli.options import api_key_option, json_option

#: Sign and color of each level.
_SIGNS = {Level.OK: ("ok", "green"), Level.WARNING: ("warning", "yellow"), Level.PROBLEM: ("PROBLEM", "red")}


@click.command(short_help="Check this installation and print how to fix it.")
@click.option("--url", envvar="PAWQUEUE_URL", show_envvar=True, help="The gateway; default: from the settings.")
@api_key_option
@json_option
def doctor(url: str | None, api_key: str | None, *, as_json: bool) -> int:
    """Check Python, packages, settings, disk, model, Redis, ports, gateway and workers. Nothing is changed.

    Exit code: 0 if there is no problem, 1 if there is one.

    \b
    Examples:
      pawqueue doctor
      pawqueue doctor --url http://10.0.0.5:8000
      pawqueue doctor --json | jq '.[] | select(.level == "problem")'
    """  # noqa: D301 - click needs the backslash
    findings = list(examine(dict(os.environ), url, api_key))
    if as_json:
        click.echo(json.dumps([finding.to_dict() for finding in findings], indent=2))
    else:
        _show(Console(), findings)
    return 1 if any(finding.level is Level.PROBLEM for finding in findings) else 0


def examine(environ: dict[str, str], url: str | None, api_key: str | None) -> Iterator[Finding]:
    """All findings, ordered so that each depends only on earlier ones."""
    machine = list(check_machine(environ))
    try:
        settings = load_settings(environ)
    except SettingsError:
        settings = load_settings({})
    answers = list(check_gateway(url or gateway_url(settings), api_key))
    accepts = any(answer.check == "queue" and answer.level is Level.OK for answer in answers)
    for finding in machine:
        yield _not_needed_here(finding) if url and accepts and finding.check == "Redis" else finding
    if answers[0].level is Level.PROBLEM and not url:
        yield check_ports(settings)
    yield from answers


def _not_needed_here(finding: Finding) -> Finding:
    """The finding about Redis as a warning, because a gateway on another machine uses a different Redis."""
    if finding.level is not Level.PROBLEM:
        return finding
    return Finding(finding.check, Level.WARNING, f"{finding.text}; the gateway at --url uses a different Redis")


def _show(console: Console, findings: list[Finding]) -> None:
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(no_wrap=True)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for finding in findings:
        sign, style = _SIGNS[finding.level]
        text = Text(finding.text)
        if finding.mend:
            text.append(f"\n-> {finding.mend}", style=style)
        table.add_row(Text(sign, style=style), finding.check, text)
    console.print(table)
    console.print(_verdict(findings), highlight=False)


def _verdict(findings: list[Finding]) -> str:
    problems = sum(finding.level is Level.PROBLEM for finding in findings)
    if problems:
        return f"{problems} of {len(findings)} checks found a problem. Fix the first one, then run this again."
    warnings = sum(finding.level is Level.WARNING for finding in findings)
    return f"No problems{f', {warnings} warning(s)' if warnings else ''}."
