"""The terminal: one console, the options that commands share, figures as people read them."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, TypeVar

import click
from rich.console import Console

Command = TypeVar("Command", bound=Callable[..., Any])

_UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


def console(*, aside: bool = False) -> Console:
    """The terminal, or a plain stream of wide lines when output is no terminal.

    ``aside`` is for what is said beside a document on standard output: on standard error.

    Without markup: what is printed comes from logs and option names, and has brackets of its own.
    """
    made = Console(highlight=False, markup=False, stderr=aside)
    if made.is_terminal:
        return made
    return Console(highlight=False, markup=False, width=160, stderr=aside)


def as_json_option(command: Command) -> Command:
    """``--json``: print for programs."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON.")(command)


def results_option(command: Command) -> Command:
    """``--results``: where studies keep their results."""
    return click.option(
        "--results",
        type=click.Path(file_okay=False),
        default=None,
        help="Results folder (MEMTOTAL_RESULTS, else ./results).",
    )(command)


class Span(click.ParamType[float]):
    """A length of time such as 90s, 30m, 8h, 1d, 1h30m; a plain number is seconds."""

    name = "time"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """Seconds."""
        if isinstance(value, (int, float)):
            return float(value)
        text = str(value).strip().lower()
        if re.fullmatch(r"\d+(\.\d+)?", text):
            text += "s"
        if not re.fullmatch(r"(\d+(\.\d+)?[smhd])+", text):
            self.fail(f"{value!r} is no length of time; write 90s, 30m, 8h or 1h30m.", param, ctx)
        seconds = sum(
            float(number) * _UNITS[unit] for number, unit in re.findall(r"([\d.]+)([smhd])", text)
        )
        if seconds <= 0:
            self.fail("must be more than nothing.", param, ctx)
        return seconds


class Share(click.ParamType[float]):
    """A part of a whole such as 5%, or 0.05."""

    name = "share"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """0 to 1."""
        text = str(value).strip()
        try:
            part = float(text.removesuffix("%")) / (100.0 if text.endswith("%") else 1.0)
        except ValueError:
            self.fail(f"{value!r} is no share; write 5% or 0.05.", param, ctx)
        if not 0.0 <= part <= 1.0:
            self.fail(f"{value!r} is not between 0% and 100%.", param, ctx)
        return part


class Parameter(click.ParamType[tuple[str, str]]):
    """A parameter of the kernel's command line, NAME=VALUE."""

    name = "parameter"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, str]:
        """(name, value)."""
        name, equals, given = str(value).partition("=")
        if not name or not equals or not given or re.search(r"\s", str(value)):
            self.fail(f"{value!r} is not NAME=VALUE.", param, ctx)
        return name, given


def span(seconds: float) -> str:
    """Seconds as a person says it: 42 s, 12 min, 3 h 05 min."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60} h {minutes % 60:02d} min"


def kb(value: float | None) -> str:
    """Kilobytes with a thousands separator, '' when unknown."""
    return "" if value is None else f"{value:,.0f} kB"
