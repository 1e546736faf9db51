"""The report in a real browser: a thousand trials, with text that tries to break out of it."""

from __future__ import annotations

import dataclasses
import random
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

from optimizer.records import (
    Assignment,
    BootResult,
    BootState,
    BuildResult,
    CheckResult,
    Measurement,
    Outcome,
    ResolvedConfig,
    Step,
    SymbolFacts,
    Trial,
)
from optimizer.review.certificate import Evidence, certify
from optimizer.review.ledger import ledger
from optimizer.review.prices import prices
from optimizer.review.report import Subject, render
from optimizer.settings import load_marks

TRIALS = 1000
EVIL = (
    "</script><script>window.broken = 1</script><img src=x onerror='window.broken = 1'>\"'&{{7*7}}"
)
OPTIONS = ["BUG", "MULTIUSER", "KALLSYMS", *(f"OPTION_{number:03}" for number in range(300))]
NEEDED = {"OPTION_007", "OPTION_100"}
LINE = (
    "Memory: 24436K/32768K available ({code}K kernel code, 186K rwdata, 1264K rodata, 208K init, "
    "120K bss, 8332K reserved)"
)


def trial(number: int, off: set[str]) -> Trial:
    failed = off & NEEDED
    saved = 4 * sum(OPTIONS.index(name) % 7 for name in off)
    config = "".join(
        f"# CONFIG_{name} is not set\n" if name in off else f"CONFIG_{name}=y\n" for name in OPTIONS
    )
    total = 25_620 + saved
    return Trial(
        number=number,
        outcome=Outcome.SMOKE_FAILED if failed else Outcome.PASSED,
        sampler="elimination",
        params={},
        assignment=Assignment(dict.fromkeys(off, "n")),
        effective={name: "n" if name in off else "y" for name in OPTIONS},
        resolved=ResolvedConfig(f"{number}", config, f"# {EVIL}\n{config}"),
        objective=None if failed else float(total),
        build=BuildResult(
            True,
            9.0,
            3,
            Path("build.log"),
            config,
            image_bytes=2_000_000 - saved * 900,
            sections={".text": 4_000_000 - saved * 1000},
        ),
        boot=BootResult(
            BootState.READY,
            1.0,
            Path("console.log"),
            checks=(CheckResult("board", "network", not failed, 0.1, EVIL if failed else ""),),
        ),
        measurement=Measurement(total, total - 900, {}, LINE.format(code=5011 - saved)),
        reason=f"board/network: {EVIL}" if failed else "",
        started_at=f"2024-05-01T{number // 60 % 24:02}:{number % 60:02}:00+00:00",
        seconds=60.0,
        tools={"kernel": f"6.1 {EVIL}"},
    )


def subject(count: int) -> Subject:
    """A study of so many trials, as a search with a taste for the good would leave it."""
    chance = random.Random(1)
    trials = [trial(0, set())]
    harmless = sorted(set(OPTIONS) - NEEDED)
    for number in range(1, count):
        off = set(chance.sample(harmless, chance.randrange(1, 280)))
        if chance.random() < 0.4:
            off.add(chance.choice(sorted(NEEDED)))
        trials.append(trial(number, off))
    winner = max((one for one in trials if one.objective), key=lambda one: one.rank)
    facts = {
        name: SymbolFacts(name, "bool", f"Prompt of {name} {EVIL}", ("Menu",), f"Help. {EVIL}",
                          value=winner.effective[name], visible=True, settable=("n", "y"))
        for name in OPTIONS
    }  # fmt: skip
    marks = load_marks()
    priced = prices(trials, winner, [], facts=facts, marks=marks)
    lines = certify(Evidence(trials, winner, facts=facts, prices=priced, marks=marks))
    return Subject(
        study="outside", name="outside.toml", version="0", objective="mem_total",
        kernel=f"6.1 {EVIL}", compiler="gcc <12>", emulator="QEMU & co", settings=f"# {EVIL}",
        trials=trials, baseline=trials[0], winner=winner, prices=priced, certificate=lines,
        steps=[], ledger=ledger(trials[0], winner),
        facts={"compiler": f"gcc {EVIL}"},
    )  # fmt: skip


@pytest.fixture(scope="module")
def page_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("report") / "report.html"
    path.write_text(render(subject(TRIALS)), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    program = shutil.which("chromium")
    assert program, "no chromium: `make test` installs it"
    with sync_playwright() as playwright:
        # No sandbox of its own: tests may run as root, and open only this file.
        started = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield started
        started.close()


class Opened:
    """The page as opened, and all that it said or asked for."""

    def __init__(self, page: Page, path: Path) -> None:
        self.page = page
        self.said: list[str] = []
        self.requests: list[str] = []
        page.on("console", lambda message: self.said.append(message.text))
        page.on("pageerror", lambda error: self.said.append(str(error)))
        page.on("dialog", lambda dialog: self.said.append(dialog.message))
        page.on("request", lambda request: self.requests.append(request.url))
        page.goto(path.as_uri())


@pytest.fixture
def opened(browser: Browser, page_file: Path) -> Iterator[Opened]:
    context = browser.new_context(viewport={"width": 1100, "height": 900}, offline=True)
    found = Opened(context.new_page(), page_file)
    yield found
    # Whatever a test did, the page asked for nothing and complained of nothing.
    assert found.requests == [page_file.as_uri()]
    assert found.said == []
    assert found.page.evaluate("window.broken") is None
    context.close()


def rows(page: Page, table: str) -> list[str]:
    """The first cells of the rows that can be seen."""
    return page.locator(f"#{table} tbody tr:visible th").all_inner_texts()


def test_a_thousand_trials_are_less_than_three_megabytes(page_file: Path) -> None:
    assert page_file.stat().st_size < 3_000_000


def test_everything_is_there(opened: Opened) -> None:
    page = opened.page
    for title in ("history", "way", "ledger", "savings", "certificate", "failures", "reproduce"):
        assert page.locator(f"h2#{title}").is_visible()
    assert page.locator("figure div.wide svg:visible").count() == 4
    assert page.locator("figure div.narrow svg:visible").count() == 0
    assert len(rows(page, "savings-table")) == len(OPTIONS)
    assert "MULTIUSER" in page.locator("section", has_text="before you flash").inner_text()


def test_text_from_outside_stays_text(opened: Opened) -> None:
    page = opened.page
    assert EVIL in page.locator("#reproduce ~ details pre").first.text_content()
    page.locator("#failures ~ details summary").first.click()
    seen = page.locator("#failures ~ details[open] li code").first.inner_text()
    assert seen == " ".join(EVIL.split())
    assert page.locator("main img").count() == 0
    assert page.locator("script").count() == 1


def test_search_narrows_the_table(opened: Opened) -> None:
    page = opened.page
    search = page.locator("#savings-tools input")
    search.fill("kallsyms")
    assert rows(page, "savings-table") == ["KALLSYMS"]
    assert page.locator("#savings-tools output").inner_text() == f"1 of {len(OPTIONS)}"
    # The certificate has a search of its own.
    assert len(rows(page, "certificate-table")) > 1
    search.fill("no such option")
    assert rows(page, "savings-table") == []
    search.fill("")
    assert len(rows(page, "savings-table")) == len(OPTIONS)


def test_the_certificate_is_filtered_by_reason(opened: Opened) -> None:
    page = opened.page
    page.locator("#certificate-tools select").select_option("needed")
    assert set(rows(page, "certificate-table")) == NEEDED
    page.locator("#certificate-tools select").select_option("")
    assert len(rows(page, "certificate-table")) > len(NEEDED)


def test_a_click_sorts_by_number_and_by_name(opened: Opened) -> None:
    page = opened.page

    def numbers() -> list[float]:
        cells = page.locator("#savings-table tbody td:nth-child(4)")
        return [
            float(one)
            for one in cells.evaluate_all("all => all.map(one => one.dataset.value)")
            if one
        ]

    page.get_by_role("button", name="option").first.click()
    names = rows(page, "savings-table")
    assert names == sorted(names)
    button = page.get_by_role("button", name="saves")
    button.click()
    assert numbers() == sorted(numbers(), reverse=True)
    button.click()
    assert numbers() == sorted(numbers())
    head = page.locator("#savings-table th", has_text="saves")
    assert head.get_attribute("aria-sort") == "ascending"


def test_it_can_be_used_by_keyboard(opened: Opened) -> None:
    page = opened.page
    page.keyboard.press("Tab")
    assert page.locator(":focus").inner_text() == "To the savings"
    assert page.locator("a.skip").is_visible()
    page.keyboard.press("Enter")
    assert page.url.endswith("#savings")
    page.keyboard.press("Tab")
    page.keyboard.type("option_100")
    assert rows(page, "savings-table") == ["OPTION_100"]
    for _ in range(3):  # the filter, the table, the first column's head
        page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    head = page.locator("#savings-table th", has_text="option").first
    assert head.get_attribute("aria-sort") == "ascending"


def test_light_and_dark(browser: Browser, page_file: Path) -> None:
    def paper(page: Page) -> str:
        return page.evaluate("getComputedStyle(document.documentElement).backgroundColor")

    seen = {}
    for scheme in ("light", "dark"):
        context = browser.new_context(color_scheme=scheme)  # type: ignore[arg-type]
        opened = Opened(context.new_page(), page_file)
        seen[scheme] = paper(opened.page)
        drawn = "getComputedStyle(document.querySelector('figure .wide svg text')).fill"
        seen[f"{scheme} text"] = opened.page.evaluate(drawn)
        opened.page.locator("#theme").click()
        seen[f"not {scheme}"] = paper(opened.page)
        context.close()
    assert (seen["light"], seen["dark"]) == ("rgb(255, 255, 255)", "rgb(20, 23, 27)")
    assert (seen["not light"], seen["not dark"]) == (seen["dark"], seen["light"])
    assert seen["light text"] != seen["dark text"]


@pytest.mark.parametrize("width", [360, 390])
def test_it_fits_a_phone(browser: Browser, page_file: Path, width: int) -> None:
    context = browser.new_context(viewport={"width": width, "height": 800}, is_mobile=True)
    page = Opened(context.new_page(), page_file).page
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.locator("figure div.narrow svg:visible").count() == 4
    assert page.locator("figure div.wide svg:visible").count() == 0
    page.locator("#savings-tools input").fill("bug")
    assert rows(page, "savings-table") == ["BUG"]
    context.close()


def test_paper_has_everything_and_no_buttons(browser: Browser, page_file: Path) -> None:
    context = browser.new_context(color_scheme="dark")
    page = Opened(context.new_page(), page_file).page
    page.locator("#savings-tools input").fill("kallsyms")
    page.emulate_media(media="print", color_scheme="dark")
    assert page.locator("nav:visible, .tools:visible").count() == 0
    assert len(rows(page, "savings-table")) == len(OPTIONS)
    paper = page.evaluate("getComputedStyle(document.documentElement).backgroundColor")
    assert paper == "rgb(255, 255, 255)"
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert page.locator("details:not([open])").count() == 0
    context.close()


def test_a_study_of_one_trial_has_a_page(browser: Browser, tmp_path: Path) -> None:
    path = tmp_path / "one.html"
    path.write_text(render(subject(1)), encoding="utf-8")
    context = browser.new_context()
    opened = Opened(context.new_page(), path)
    assert "+0 kB" in opened.page.locator("h1").inner_text()
    assert opened.page.locator("#failures ~ p").inner_text() == "Nothing failed."
    assert opened.said == []
    context.close()


def test_a_log_that_does_not_tell_the_ram_leaves_its_bars_out() -> None:
    about = subject(3)
    silent = dataclasses.replace(about.winner.measurement, memory_line="")  # type: ignore[type-var]
    assert ledger(about.baseline, dataclasses.replace(about.winner, measurement=silent)) == []
    text = render(dataclasses.replace(about, ledger=[]))
    assert "line is not there" in text
    assert len(re.findall(r'<div class="wide"', text)) == 3


def test_what_figures_show_is_escaped_too(browser: Browser, tmp_path: Path) -> None:
    about = subject(3)
    step = Step(1, f"{EVIL} $\\frac$ menu", (("BUG", "n"),), about.winner.number)
    path = tmp_path / "steps.html"
    path.write_text(render(dataclasses.replace(about, steps=[step])), encoding="utf-8")
    context = browser.new_context()
    opened = Opened(context.new_page(), path)
    assert opened.page.locator("#way ~ figure .wide svg text", has_text="</script>").count() == 1
    assert opened.said == []
    assert opened.requests == [path.as_uri()]
    context.close()
