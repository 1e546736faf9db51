"""The report's figures as SVG to put into a page. The only importer of matplotlib.

Their colours are the page's: each is drawn in a colour that stands for a CSS variable, and is
replaced by that. Text stays text. Each figure comes in two widths; the page shows the one that
fits.
"""

from __future__ import annotations

import io
import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from optimizer.review.ledger import LedgerPart

# Placeholder -> the variable of the page's style that takes its place.
_COLOURS = {
    "ink": "#010101",
    "muted": "#020202",
    "grid": "#030303",
    "accent": "#040404",
    "good": "#050505",
    "bad": "#060606",
    "part-1": "#070707",
    "part-2": "#080808",
    "part-3": "#090909",
    "part-4": "#0a0a0a",
    "part-5": "#0b0b0b",
    "part-6": "#0c0c0c",
}
_WIDTHS = {"wide": 8.6, "narrow": 3.7}
_SETTINGS: dict[Any, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "memtotal",
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "font.family": "sans-serif",
    "font.size": 9.5,
    "text.parse_math": False,
    "text.color": _COLOURS["ink"],
    "axes.labelcolor": _COLOURS["muted"],
    "axes.edgecolor": _COLOURS["grid"],
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.color": _COLOURS["muted"],
    "ytick.color": _COLOURS["muted"],
    "grid.color": _COLOURS["grid"],
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    "legend.labelcolor": _COLOURS["ink"],
}


@dataclass(frozen=True)
class Plot:
    """A figure in both widths, as SVG elements."""

    name: str
    wide: str
    narrow: str
    label: str


@dataclass(frozen=True)
class Point:
    """A trial in the history: its number, hours since the first began, its figure or None.

    ``later`` is one that the search did not ask for: it measures what was found.
    """

    trial: int
    hours: float
    kb: float | None
    later: bool = False


@dataclass(frozen=True)
class Bar:
    """One bar of the waterfall: what it adds, in kB."""

    title: str
    kb: float


def history(points: Sequence[Point], over: str) -> Plot:
    """The best figure so far, and each trial's own.

    Args:
        points: in the order of the trials.
        over: ``trials`` or ``hours``.
    """
    xs = [point.trial if over == "trials" else point.hours for point in points]
    best: list[float] = []
    for point in points:
        known = [*best[-1:], *([point.kb] if point.kb is not None else [])]
        best.append(max(known) if known else math.nan)
    placed = list(zip(xs, points, strict=True))
    good = [(x, one.kb) for x, one in placed if one.kb is not None and not one.later]
    later = [(x, one.kb) for x, one in placed if one.kb is not None and one.later]
    failed = [x for x, one in placed if one.kb is None]

    def draw(axes: Axes, width: str) -> None:
        axes.step(
            xs, best, where="post", color=_COLOURS["accent"], linewidth=2, label="best so far"
        )
        axes.plot(
            [x for x, _ in good], [kb for _, kb in good], "o", markersize=3.5,
            color=_COLOURS["good"], label="passed", linestyle="none",
        )  # fmt: skip
        if later:
            axes.plot(
                [x for x, _ in later], [kb for _, kb in later], "o", markersize=2.5,
                color=_COLOURS["muted"], label="measured later", linestyle="none",
            )  # fmt: skip
        if failed and good:
            low = min(kb for _, kb in good)
            axes.plot(
                failed, [low] * len(failed), "x", markersize=4, color=_COLOURS["bad"],
                label="failed", linestyle="none", clip_on=False,
            )  # fmt: skip
        axes.set_xlabel("trial" if over == "trials" else "hours")
        if over == "trials":
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        _thousands(axes)
        axes.grid(axis="y")
        axes.legend(
            loc="lower right", bbox_to_anchor=(1, 1), ncols=4 if width == "wide" else 2,
            fontsize=8.5, borderaxespad=0.2,
        )  # fmt: skip

    reached = [one for one in best if not math.isnan(one)]
    label = (
        f"Best figure over {over}: from {reached[0]:,.0f} kB to {reached[-1]:,.0f} kB"
        if reached
        else f"Best figure over {over}: nothing passed"
    )
    return _plot(f"history-{over}", draw, 3.0, label)


def waterfall(start_kb: float, bars: Sequence[Bar], end_kb: float) -> Plot:
    """From the baseline's figure to the winner's, bar by bar.

    Args:
        start_kb: the baseline's.
        bars: what each adds; they sum to the difference.
        end_kb: the winner's.
    """
    rows = len(bars) + 2

    def draw(axes: Axes, width: str) -> None:
        reached = start_kb
        titles = ["baseline", *(_short(bar.title, width) for bar in bars), "winner"]
        floor = min(start_kb, end_kb, start_kb + min((bar.kb for bar in bars), default=0.0))
        floor -= max(abs(end_kb - start_kb), 1.0) * 0.15
        axes.barh(0, start_kb - floor, left=floor, color=_COLOURS["muted"], height=0.62)
        for row, bar in enumerate(bars, 1):
            colour = _COLOURS["good"] if bar.kb >= 0 else _COLOURS["bad"]
            axes.barh(row, bar.kb, left=reached, color=colour, height=0.62)
            axes.text(
                max(reached, reached + bar.kb), row, f" {bar.kb:+,.0f}", va="center", fontsize=8.5
            )
            reached += bar.kb
        axes.barh(rows - 1, end_kb - floor, left=floor, color=_COLOURS["accent"], height=0.62)
        axes.text(end_kb, rows - 1, f" {end_kb:,.0f}", va="center", fontsize=8.5)
        axes.set_yticks(range(rows), titles)
        axes.invert_yaxis()
        axes.set_xlim(floor, floor + (max(start_kb, end_kb) - floor) * 1.13)
        axes.tick_params(axis="y", length=0, labelcolor=_COLOURS["ink"])
        axes.xaxis.set_major_locator(MaxNLocator(4 if width == "narrow" else 7))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
        axes.set_xlabel("kB")
        axes.grid(axis="x")
        axes.set_axisbelow(True)

    label = f"From {start_kb:,.0f} kB to {end_kb:,.0f} kB in {len(bars)} steps"
    return _plot("waterfall", draw, 0.7 + 0.29 * rows, label)


def stacked(parts: Sequence[LedgerPart]) -> Plot:
    """The RAM before and after, part by part."""
    shown = list(parts)

    def draw(axes: Axes, width: str) -> None:
        left = [0.0, 0.0]
        for index, part in enumerate(shown):
            values = [part.before_kb, part.after_kb]
            colour = _COLOURS[f"part-{index % 6 + 1}"]
            axes.barh([0, 1], values, left=left, color=colour, height=0.6, label=part.name)
            left = [start + value for start, value in zip(left, values, strict=True)]
        axes.set_yticks([0, 1], ["before", "after"])
        axes.invert_yaxis()
        axes.set_xlim(0, max(*left, 1.0))
        axes.tick_params(axis="y", length=0, labelcolor=_COLOURS["ink"])
        axes.xaxis.set_major_locator(MaxNLocator(4 if width == "narrow" else 8))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
        axes.set_xlabel("kB of RAM")
        axes.legend(
            loc="upper left", bbox_to_anchor=(0, -0.32 if width == "wide" else -0.3),
            ncols=3 if width == "wide" else 1, fontsize=8.5, borderaxespad=0,
        )  # fmt: skip

    label = "; ".join(
        f"{part.name}: {part.before_kb:,.0f} kB before, {part.after_kb:,.0f} kB after"
        for part in shown
    )
    return _plot("ledger", draw, 2.6, label, narrow_more=1.0)


def _plot(
    name: str,
    draw: Callable[[Axes, str], None],
    height: float,
    label: str,
    narrow_more: float = 0.0,
) -> Plot:
    found = {}
    with mpl.rc_context(_SETTINGS):
        for width, inches in _WIDTHS.items():
            tall = height + (narrow_more if width == "narrow" else 0.0)
            figure = Figure(figsize=(inches, tall), layout="constrained")
            draw(figure.add_subplot(), width)
            sheet = io.StringIO()
            FigureCanvasSVG(figure)
            figure.savefig(
                sheet, format="svg",
                metadata={"Date": None, "Creator": None, "Format": None, "Type": None},
            )  # fmt: skip
            found[width] = _inline(sheet.getvalue(), f"{name}-{width}")
    return Plot(name, found["wide"], found["narrow"], label)


def _inline(svg: str, prefix: str) -> str:
    """An SVG file as an element of a page: its own ids, the page's colours, no prologue."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r'\bid="', f'id="{prefix}-', svg)
    svg = re.sub(r"url\(#", f"url(#{prefix}-", svg)
    svg = re.sub(r'href="#', f'href="#{prefix}-', svg)
    for variable, colour in _COLOURS.items():
        svg = svg.replace(colour, f"var(--{variable})")
    # The page says how large it is; the view box keeps the proportions.
    return re.sub(
        r'(<svg[^>]*?) width="[^"]*"',
        r"\1",
        re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", svg, count=1),
        count=1,
    ).strip()


def _thousands(axes: Axes) -> None:
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    axes.set_ylabel("kB")


def _short(title: str, width: str) -> str:
    most = 46 if width == "wide" else 17
    return title if len(title) <= most else title[: most - 1].rstrip() + "…"
