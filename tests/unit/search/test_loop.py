"""The search loop with slots that build nothing: faults, cancelling, twins, numbers."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import pytest
from fakes.world import World, wait_until

from optimizer.errors import MachineFault, UserError
from optimizer.kernel.kconfig import SymbolTree
from optimizer.process import Deadline
from optimizer.records import BuildResult, Outcome, Trial
from optimizer.search.knowledge import Belief, objects_compiled
from optimizer.search.loop import Ending, Limits, Search
from optimizer.search.samplers import SAMPLERS
from optimizer.search.space import Space, build_space
from optimizer.search.trial import Cancelled, PhaseReport, Slot, Variant
from optimizer.settings import OptionSettings, StudySettings, load_study
from optimizer.store import Database

Answer = Callable[[Variant], Trial]


def passed(variant: Variant) -> Trial:
    """Each option that is off gains 10 kB."""
    off = sum(line.endswith(" is not set") for line in variant.resolved.text.splitlines())
    return trial_of(variant, Outcome.PASSED, 1000.0 + 10 * off)


def trial_of(variant: Variant, outcome: Outcome, objective: float | None = None) -> Trial:
    return Trial(
        number=variant.number,
        outcome=outcome,
        sampler=variant.sampler,
        params=variant.params,
        assignment=variant.assignment,
        effective=variant.effective,
        resolved=variant.resolved,
        objective=objective,
        build=BuildResult(True, 1.0, 1, Path("/nowhere/build.log"), variant.resolved.text),
        started_at="2026-01-01T00:00:00+00:00",
    )


@dataclass
class FakeSlot:
    """A slot whose trials end as a function says; it knows what it was given."""

    answer: Answer = passed
    given: list[int] = field(default_factory=list)
    tree: Path = Path("/nowhere")

    def evaluate(
        self, variant: Variant, log_dir: Path, on_phase: PhaseReport, cancel: threading.Event
    ) -> Trial:
        self.given.append(variant.number)
        on_phase("build", "1")
        if cancel.is_set():
            raise Cancelled
        return self.answer(variant)


@dataclass
class Told:
    """A reporter that remembers."""

    troubles: list[tuple[int, str]] = field(default_factory=list)
    finished_trials: list[int] = field(default_factory=list)
    phases: set[tuple[int, str]] = field(default_factory=set)
    expected: dict[int, int | None] = field(default_factory=dict)

    def started(self, number: int, slot: int, expected: int | None = None) -> None:
        self.expected[number] = expected

    def phase(self, number: int, slot: int, phase: str, detail: str) -> None:
        self.phases.add((number, phase))

    def finished(self, trial: Trial, best: Trial | None) -> None:
        self.finished_trials.append(trial.number)

    def trouble(self, number: int, message: str) -> None:
        self.troubles.append((number, message))


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return World(tmp_path_factory.mktemp("loop") / "world")


@pytest.fixture(scope="module")
def settings(world: World) -> StudySettings:
    return load_study(str(world.study))


@pytest.fixture(scope="module")
def tree(world: World) -> SymbolTree:
    made = SymbolTree(world.tree, "arm", "fake-", world.environment)
    made.load_base(world.tree / "arch/arm/configs/test_defconfig")
    return made


@pytest.fixture(scope="module")
def space(tree: SymbolTree) -> Space:
    names = ["SWAP", "BUG", "NET", "INET", "SOUND", "KALLSYMS", "RTC"]
    return build_space(tree, OptionSettings.model_validate({"gate": ["EXPERT"], "try": names}))


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    with Database.open(tmp_path / "trials.db", create=True) as opened:
        yield opened


@dataclass
class Bench:
    """Everything a search needs; makes any number of searches on one database."""

    settings: StudySettings
    database: Database
    folder: Path
    space: Space
    told: Told = field(default_factory=Told)

    def search(self, *slots: FakeSlot) -> Search:
        return Search(
            self.settings,
            self.database,
            self.space,
            cast("Sequence[Slot]", slots or [FakeSlot()]),
            self.folder / "logs",
            self.told,
        )

    def run(
        self, *slots: FakeSlot, trials: int | None = None, sampler: str = "random", seed: int = 0
    ) -> Ending:
        search = self.search(*slots)
        search.measure_baseline()
        return search.run(sampler, seed, {}, Limits(Deadline(None), trials))

    @property
    def numbers(self) -> list[int]:
        return [trial.number for trial in self.database.trials()]

    def digests(self) -> list[str]:
        return [trial.resolved.digest for trial in self.database.trials()]


@pytest.fixture
def bench(settings: StudySettings, database: Database, tmp_path: Path, space: Space) -> Bench:
    return Bench(settings, database, tmp_path, space)


def failing(times: dict[int, int], error: Exception) -> Answer:
    """Trials that fail so many times each, and pass after that."""
    left = dict(times)

    def answer(variant: Variant) -> Trial:
        if left.get(variant.number, 0) > 0:
            left[variant.number] -= 1
            raise error
        return passed(variant)

    return answer


def test_the_limit_counts_the_baseline_and_what_was_stored_before(bench: Bench) -> None:
    ending = bench.run(trials=4)
    assert (ending.reason, ending.interrupted) == ("4 trials are done", False)
    bench.run(trials=6)
    assert bench.numbers == list(range(6))
    assert bench.told.finished_trials == list(range(6))


def test_the_baseline_is_measured_once(bench: Bench) -> None:
    slot = FakeSlot()
    for _ in range(2):
        bench.search(slot).measure_baseline()
    assert slot.given == [0]


def test_a_baseline_that_does_not_pass_is_not_stored(bench: Bench) -> None:
    slot = FakeSlot(lambda variant: trial_of(variant, Outcome.BOOT_FAILED))
    with pytest.raises(UserError, match="The unmodified defconfig does not boot"):
        bench.search(slot).measure_baseline()
    assert bench.numbers == []


def test_one_machine_fault_is_tried_again_and_leaves_no_trace(bench: Bench) -> None:
    slot = FakeSlot(failing({0: 1, 2: 1}, MachineFault("the disk was full")))
    bench.run(slot, trials=4)
    assert bench.numbers == [0, 1, 2, 3]
    assert [slot.given.count(number) for number in range(3)] == [2, 1, 2]
    assert bench.told.troubles == [(0, "the disk was full"), (2, "the disk was full")]
    assert {trial.outcome for trial in bench.database.trials()} <= {
        Outcome.PASSED,
        Outcome.DUPLICATE,
    }


def test_two_machine_faults_stop_the_run_and_the_number_is_used_again(bench: Bench) -> None:
    slot = FakeSlot(failing({2: 2}, MachineFault("the disk is full")))
    with pytest.raises(MachineFault, match="the disk is full"):
        bench.run(slot, trials=4)
    assert bench.numbers == [0, 1]
    assert bench.database.activity() == []
    bench.run(FakeSlot(), trials=4)
    assert bench.numbers == [0, 1, 2, 3]


def test_a_fault_in_one_slot_does_not_lose_what_the_other_finished(bench: Bench) -> None:
    failed = threading.Event()

    def first(variant: Variant) -> Trial:
        if variant.number == 0:
            return passed(variant)
        failed.set()
        raise MachineFault("no memory")

    def second(variant: Variant) -> Trial:
        assert failed.wait(60)
        return passed(variant)

    bench.search().measure_baseline()
    with pytest.raises(MachineFault):
        bench.run(FakeSlot(first), FakeSlot(second), trials=20, seed=3)
    numbers = bench.numbers
    bench.run(FakeSlot(), trials=6, seed=3)
    assert set(numbers) <= set(bench.numbers)
    assert bench.numbers == list(range(max(6, len(bench.numbers))))


def test_an_error_of_the_user_stops_the_run_at_once(bench: Bench) -> None:
    slot = FakeSlot(failing({1: 1}, UserError("the emulator is gone")))
    with pytest.raises(UserError, match="the emulator is gone"):
        bench.run(slot, trials=4)
    assert slot.given == [0, 1]


def test_stopping_gives_up_what_is_under_way(bench: Bench) -> None:
    begun = threading.Event()
    found: list[Ending] = []
    searches: list[Search] = []

    def answer(variant: Variant) -> Trial:
        if variant.number < 2:
            return passed(variant)
        begun.set()
        # As a slot does: it looks at the request, and what it was doing does not count.
        wait_until(lambda: searches[0]._cancel.is_set())
        raise Cancelled

    searches.append(bench.search(FakeSlot(answer)))
    searches[0].measure_baseline()
    stopper = threading.Thread(target=lambda: (begun.wait(60), searches[0].stop()))
    stopper.start()
    found.append(searches[0].run("random", 0, {}, Limits(Deadline(None), 9)))
    stopper.join()
    assert found == [Ending("interrupted", interrupted=True)]
    assert bench.numbers == [0, 1]
    assert bench.database.activity() == []
    bench.run(FakeSlot(), trials=3)
    assert bench.numbers == [0, 1, 2]


def test_a_budget_that_is_used_up_starts_nothing(bench: Bench) -> None:
    search = bench.search()
    search.measure_baseline()
    assert search.run("random", 0, {}, Limits(Deadline(0), None)).reason == "the budget is used up"
    assert bench.numbers == [0]


def test_a_twin_waits_for_the_other_and_is_not_built(bench: Bench, tree: SymbolTree) -> None:
    """Two configurations are possible, so two slots soon ask for one that is being built."""
    options = {"gate": ["EXPERT"], "try": ["SWAP", "DEBUG_KERNEL"]}
    bench.space = build_space(tree, OptionSettings.model_validate(options))
    slots = FakeSlot(), FakeSlot()
    bench.run(*slots, trials=12)
    stored = bench.database.trials()
    assert [trial.number for trial in stored] == list(range(12))
    built = [trial for trial in stored if trial.outcome is Outcome.PASSED]
    assert sorted(slots[0].given + slots[1].given) == [trial.number for trial in built]
    assert len(built) == 3
    by_number = {trial.number: trial for trial in stored}
    for trial in stored:
        if trial.outcome is Outcome.DUPLICATE:
            assert trial.duplicate_of is not None
            twin = by_number[trial.duplicate_of]
            assert trial.resolved.digest == twin.resolved.digest
            assert trial.objective == twin.objective


def test_a_sampler_that_only_repeats_itself_ends_the_run(bench: Bench, tree: SymbolTree) -> None:
    options = {"gate": ["EXPERT"], "try": ["SWAP"]}
    bench.space = build_space(tree, OptionSettings.model_validate(options))
    slot = FakeSlot()
    assert bench.run(slot).reason.startswith("the last 200 variants asked for were ")
    assert len(slot.given) == 3


def test_elimination_ends_when_nothing_is_left(bench: Bench) -> None:
    slot = FakeSlot()
    ending = bench.run(slot, sampler="elimination")
    assert ending.reason.startswith("nothing is left that could gain more than a page")
    best = bench.database.best()
    assert best is not None
    assert set(bench.database.trial(best).effective.values()) == {"n"}


def test_how_much_will_be_compiled_is_told_beforehand(bench: Bench) -> None:
    beliefs = {
        one.name: Belief(compiled=0b111 << number)
        for number, one in enumerate(bench.space.candidates)
    }
    search = bench.search()
    search.measure_baseline()
    search.run("random", 0, beliefs, Limits(Deadline(None), 4))
    assert bench.told.expected[0] is None, "nobody knows what is in the slot's tree"
    built = [bench.database.trial(number) for number in sorted(bench.told.expected)]
    assert len(built) > 2
    for before, after in itertools.pairwise(built):
        changed = {
            name for name in after.effective if after.effective[name] != before.effective[name]
        }
        assert bench.told.expected[after.number] == objects_compiled(beliefs, changed)


def test_a_hole_that_a_killed_run_left_is_filled(bench: Bench) -> None:
    """With two slots the later trial may be stored before the earlier one's run is killed."""
    release = threading.Event()

    def slow(variant: Variant) -> Trial:
        if variant.number == 0:
            return passed(variant)
        assert release.wait(60)
        raise MachineFault("killed")

    def quick(variant: Variant) -> Trial:
        if variant.number >= 3:
            release.set()
            raise MachineFault("killed")
        return passed(variant)

    with pytest.raises(MachineFault):
        bench.run(FakeSlot(slow), FakeSlot(quick), trials=9, seed=3)
    assert 1 not in bench.numbers
    assert 2 in bench.numbers
    bench.run(FakeSlot(), trials=5, seed=3)
    assert bench.numbers == list(range(5))


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_a_resumed_run_asks_what_an_uninterrupted_one_asks(
    bench: Bench, settings: StudySettings, tmp_path: Path, sampler: str
) -> None:
    for trials in (3, 4, 7):
        bench.run(trials=trials, sampler=sampler, seed=5)
    with Database.open(tmp_path / "whole" / "trials.db", create=True) as other:
        whole = Bench(settings, other, tmp_path, bench.space)
        whole.run(trials=7, sampler=sampler, seed=5)
        assert whole.digests() == bench.digests()


@pytest.mark.parametrize("sampler", ["tpe", "random", "nsga2"])
def test_another_seed_asks_for_other_variants(
    bench: Bench, settings: StudySettings, tmp_path: Path, sampler: str
) -> None:
    bench.run(trials=6, sampler=sampler, seed=5)
    with Database.open(tmp_path / "other" / "trials.db", create=True) as other:
        different = Bench(settings, other, tmp_path, bench.space)
        different.run(trials=6, sampler=sampler, seed=6)
        assert different.digests() != bench.digests()


def test_what_is_going_on_can_be_read_meanwhile(bench: Bench) -> None:
    seen: list[tuple[int, str]] = []

    def answer(variant: Variant) -> Trial:
        if variant.number == 1:
            wait_until(bench.database.activity)
            seen.extend((one.trial, one.phase) for one in bench.database.activity())
        return passed(variant)

    bench.run(FakeSlot(answer), trials=2)
    assert (1, "build") in seen
    assert bench.database.activity() == []
    assert (1, "build") in bench.told.phases
