"""The command line's entry: the commands, and what becomes of errors."""

from __future__ import annotations

import sys

import click

from optimizer import __version__
from optimizer.cli.cache import cache
from optimizer.cli.doctor import doctor
from optimizer.cli.explain import explain
from optimizer.cli.export import export, import_buildroot
from optimizer.cli.floor import floor
from optimizer.cli.initaudit import init_audit
from optimizer.cli.measure import attribute, make_steps
from optimizer.cli.prior import prior
from optimizer.cli.report import dashboard, report
from optimizer.cli.results import show, status
from optimizer.cli.review import certificate, review, why
from optimizer.cli.run import run
from optimizer.cli.verify import verify
from optimizer.errors import MemtotalError
from optimizer.search.trial import Cancelled

EXIT_BAD_INPUT = 2
EXIT_INTERRUPTED = 130


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="memtotal")
def cli() -> None:
    """Find the kernel configuration that leaves the most RAM to user space and still works.

    STUDY is a study file, the name of one in configs/, or a folder that holds a trials.db.
    """


_COMMANDS = (
    *(doctor, prior, run, status, review, show, why, certificate, report, explain),
    *(init_audit, floor, attribute, make_steps, export, verify, cache, dashboard),
    import_buildroot,
)
for _command in _COMMANDS:
    cli.add_command(_command)


def main() -> None:
    """Run the command; every error on purpose becomes one message and exit code 2."""
    try:
        # Without its standalone mode click hands back the code of an Exit instead of raising it.
        code = cli(standalone_mode=False)
    except click.exceptions.Abort:
        click.echo("Interrupted.", err=True)
        sys.exit(EXIT_INTERRUPTED)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except Cancelled:
        click.echo("Interrupted.", err=True)
        sys.exit(EXIT_INTERRUPTED)
    except MemtotalError as error:
        click.echo(f"memtotal: {error}", err=True)
        sys.exit(EXIT_BAD_INPUT)
    else:
        sys.exit(code or 0)
