"""The samplers on landscapes whose best is known."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from optimizer.records import BootResult, BootState, Outcome, Trial
from optimizer.search.elimination import UNLIKELY, NothingLeftError
from optimizer.search.knowledge import BOOT, BUILD, Belief
from optimizer.search.objectives import objectives, pareto_front
from optimizer.search.samplers import SAMPLERS
from optimizer.search.space import Space
from optimizer.search.study import Study
from optimizer.settings import OptionSettings
from tests.unit.search.landscape import BASELINE_KB, OPTIONS, Landscape, space_of, write_tree


@pytest.fixture(scope="module")
def space(tmp_path_factory: pytest.TempPathFactory) -> Space:
    """64 options in 8 groups, two choices, an integer."""
    return space_of(write_tree(tmp_path_factory.mktemp("landscape") / "tree", 8, 7))


def grown(
    folder: Path, groups: int, members: int, more: str, options: OptionSettings = OPTIONS
) -> Space:
    """The space of such a tree with more at its end."""
    tree = write_tree(folder / "tree", groups, members)
    with (tree / "Kconfig").open("a") as kconfig:
        kconfig.write(more)
    return space_of(tree, options)


def elimination(space: Space, beliefs: dict[str, Belief] | None = None) -> Study:
    return Study(space, "elimination", 0, beliefs or {}, [])


def best(trials: list[Trial]) -> Trial:
    return max(
        (one for one in trials if one.outcome is Outcome.PASSED), key=lambda one: one.objective or 0
    )


@pytest.mark.parametrize(("needed", "seed"), [(0, 1), (1, 2), (3, 3), (3, 4), (10, 5), (25, 6)])
def test_elimination_finds_the_best_and_then_stops(space: Space, needed: int, seed: int) -> None:
    landscape = Landscape.random(space, needed, seed)
    trials = landscape.search(elimination(space), trials=400)
    assert len(trials) < 400, "it never said that nothing is left"
    assert best(trials).objective == landscape.most


@pytest.mark.parametrize(("needed", "seed"), [(3, 11), (10, 12)])
def test_elimination_needs_fewer_builds_than_one_at_a_time(
    space: Space, needed: int, seed: int
) -> None:
    landscape = Landscape.random(space, needed, seed)
    trials = landscape.search(elimination(space), trials=400)
    assert len(trials) < len(space.candidates)


def test_elimination_never_asks_for_the_same_variant_twice(space: Space) -> None:
    trials = Landscape.random(space, 10, 21).search(elimination(space), trials=400)
    digests = [one.resolved.digest for one in trials]
    assert len(set(digests)) == len(digests)


def test_elimination_ends_with_nothing_more_to_remove(space: Space) -> None:
    landscape = Landscape.random(space, 10, 22)
    winner = best(landscape.search(elimination(space), trials=400))
    for one in space.candidates:
        if winner.effective[one.name] == one.baseline and one.kind == "bool":
            change = dict(winner.params) | {one.name: one.alternatives[0]}
            without = landscape.evaluate(999, change)
            worse = without.objective is not None and without.objective <= (winner.objective or 0)
            assert without.outcome is not Outcome.PASSED or worse, one.name


def test_a_choice_that_costs_ram_is_not_kept(space: Space) -> None:
    landscape = Landscape.random(space, 3, 23)
    winner = best(landscape.search(elimination(space), trials=400))
    assert winner.effective["SLOW|QUICK"] == "SLOW"
    assert winner.effective["FAST|LEAN"] == "LEAN"


def test_good_beliefs_save_builds(space: Space) -> None:
    landscape = Landscape.random(space, 10, 24)
    beliefs = {
        one.name: Belief(
            {BOOT: 0.9 if one.name in landscape.needed else 0.01},
            max(landscape.savings[one.name, one.alternatives[0]], 1.0),
        )
        for one in space.candidates
    }
    informed = landscape.search(elimination(space, beliefs), trials=400)
    blind = Landscape.random(space, 10, 24).search(elimination(space), trials=400)
    assert best(informed).objective == best(blind).objective == landscape.most
    assert len(informed) < len(blind)


def test_wrong_beliefs_cost_builds_but_not_the_result(space: Space) -> None:
    landscape = Landscape.random(space, 5, 25)
    beliefs = {
        one.name: Belief({BOOT: 0.001 if one.name in landscape.needed else 0.7})
        for one in space.candidates
    }
    assert best(landscape.search(elimination(space, beliefs), 600)).objective == landscape.most


@pytest.mark.parametrize("left_at_first", [True, False])
def test_a_study_goes_on_when_its_lists_of_options_change(
    tmp_path: Path, left_at_first: bool
) -> None:
    folder = write_tree(tmp_path / "tree", 4, 3)
    fewer = OPTIONS.model_copy(update={"leave": ("G1_M1", "SLOW", "BUFFER")})
    spaces = [space_of(folder, fewer), space_of(folder)]
    if not left_at_first:
        spaces.reverse()
    landscape = Landscape.random(space_of(folder), 2, 5)
    first = replace(landscape, space=spaces[0])
    past = [
        first.evaluate(0, {}),
        *first.search(Study(spaces[0], "elimination", 0, {}, []), trials=9),
    ]
    then = replace(landscape, space=spaces[1])
    done = then.search(Study(spaces[1], "elimination", 0, {}, past), trials=200, first=10)
    assert 0 < len(done) < 200
    asked = {one.effective.get("BUFFER") for one in done}
    assert (asked == {None}) is not left_at_first


HIDING = """
config ADVANCED
\tbool "Advanced tables"
\tdefault y
config TABLES
\tbool "Tables" if ADVANCED
\tdefault y
"""


@pytest.mark.parametrize("seed", range(4))
def test_an_option_whose_prompt_hides_behind_another_goes_alone(tmp_path: Path, seed: int) -> None:
    space = grown(tmp_path, 4, 3, HIDING)
    landscape = Landscape.random(space, 2, seed)
    landscape.needed -= {"ADVANCED", "TABLES"}
    landscape.savings |= {("ADVANCED", "n"): 4.0, ("TABLES", "n"): 40.0}
    beliefs = {"ADVANCED": Belief(saving_kb=5.0), "TABLES": Belief(saving_kb=30.0)}
    done = landscape.search(Study(space, "elimination", 0, beliefs, []), trials=200)
    assert len(done) < 60, "it went on with what Kconfig takes back"
    assert best(done).effective["TABLES"] == "n"
    assert best(done).effective["ADVANCED"] == "y"


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_a_resumed_study_asks_what_an_uninterrupted_one_asks(space: Space, sampler: str) -> None:
    whole = Landscape.random(space, 3, 31).search(Study(space, sampler, 7, {}, []), trials=14)
    landscape = Landscape.random(space, 3, 31)
    first = landscape.search(Study(space, sampler, 7, {}, []), trials=6)
    past = [landscape.evaluate(0, {}), *first]
    rest = landscape.search(Study(space, sampler, 7, {}, past), trials=8, first=7)
    assert [one.params for one in first + rest] == [one.params for one in whole]


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_every_sampler_stays_inside_the_space(space: Space, sampler: str) -> None:
    trials = Landscape.random(space, 3, 32).search(Study(space, sampler, 1, {}, []), trials=12)
    assert len(trials) == 12
    for trial in trials:
        assert trial.params.keys() == space.baseline.keys()
        for name, value in trial.params.items():
            assert value in space.candidate(name).values


@pytest.mark.parametrize("sampler", ["tpe", "random", "nsga2"])
def test_the_seed_decides_what_random_samplers_ask(space: Space, sampler: str) -> None:
    def ask(seed: int) -> dict[str, str]:
        return Study(space, sampler, seed, {}, []).ask(1)

    assert ask(1) == ask(1)
    assert ask(1) != ask(2)


def test_two_objectives_give_a_front(space: Space) -> None:
    wanted = objectives(["mem_total", "image_bytes"])
    landscape = Landscape.random(space, 3, 81)
    study = Study(space, "elimination", 0, {}, [], wanted)
    done = landscape.search(study, trials=400)
    assert len(done) < 400, "it never said that nothing is left"
    front = pareto_front(wanted, [one for one in done if one.outcome is Outcome.PASSED])
    ticks = {one.effective["SLOW|QUICK"] for one in front}
    assert ticks == {"SLOW", "QUICK"}, "one costs RAM, the other image"
    assert max(one.objective or 0 for one in front) == landscape.most


def test_what_failed_once_by_accident_is_tried_again(space: Space) -> None:
    """A host that was busy twice in a row must not cost an option for good."""
    landscape = Landscape.random(space, 3, 91)
    study = elimination(space)
    study.tell(landscape.evaluate(0, {}))
    done: list[Trial] = []
    unlucky = 0
    for number in range(1, 400):
        try:
            trial = landscape.evaluate(number, study.ask(number))
        except NothingLeftError:
            break
        if trial.outcome is Outcome.PASSED and number == 3:
            unlucky = number
            trial = replace(trial, outcome=Outcome.BOOT_FAILED, objective=None, measurement=None)
            trial = replace(trial, boot=BootResult(BootState.HANG, 60.0, Path("console.log")))
        done.append(trial)
        study.tell(trial)
    assert unlucky, "the third trial was to pass"
    # Not all of them can be had back: the same variant is never built twice.
    assert (best(done).objective or 0) >= 0.99 * landscape.most


def test_what_is_being_tried_is_not_asked_for_again(space: Space) -> None:
    study = elimination(space)
    first, second = study.ask(1), study.ask(2)
    changed = [
        {name for name, value in params.items() if value != space.baseline[name]}
        for params in (first, second)
    ]
    assert changed[0]
    assert changed[1]
    assert changed[0].isdisjoint(changed[1])


@pytest.mark.parametrize("slots", [2, 4])
@pytest.mark.parametrize("seed", [61, 62, 63])
def test_several_slots_reach_the_best_too(space: Space, slots: int, seed: int) -> None:
    landscape = Landscape.random(space, 3, seed)
    study = elimination(space)
    study.tell(landscape.evaluate(0, {}))
    running: list[Trial] = []
    done: list[Trial] = []
    for number in range(1, 400):
        try:
            running.append(landscape.evaluate(number, study.ask(number)))
        except NothingLeftError:
            if not running:
                break
        if len(running) == slots or number % 3 == 0:
            # The youngest first: slots do not finish in the order they began.
            done.append(running.pop())
            study.tell(done[-1])
    assert not running
    assert best(done).objective == landscape.most


def test_a_value_that_kconfig_refuses_does_not_end_the_search(tmp_path: Path) -> None:
    tree = write_tree(tmp_path / "tree", 2, 1)
    with (tree / "Kconfig").open("a") as stream:
        stream.write(
            'choice\n\tprompt "Refusing"\n\tdefault P1\nconfig P1\n\tbool "One"\n'
            'config P2\n\tbool "Two"\n\tdepends on G0\nconfig P3\n\tbool "Three"\nendchoice\n'
        )
    refusing = space_of(tree)
    landscape = Landscape.random(refusing, 0, 71)
    landscape.savings["P1|P2|P3", "P3"] = 60.0
    landscape.savings["SLOW|QUICK", "QUICK"] = 60.0
    winner = best(landscape.search(elimination(refusing), trials=100))
    assert winner.effective["P1|P2|P3"] == "P3"
    assert winner.effective["SLOW|QUICK"] == "QUICK"


def test_a_variant_that_works_but_is_worse_is_not_built_on(space: Space) -> None:
    landscape = Landscape.random(space, 0, 41)
    landscape.savings["G0", "n"] = -9000.0
    winner = best(landscape.search(elimination(space), trials=400))
    assert winner.effective["G0"] == "y"
    assert (winner.objective or 0) > BASELINE_KB


def test_a_group_whose_members_gain_nothing_alone_may_gain_as_a_whole(space: Space) -> None:
    landscape = Landscape.random(space, 0, 41)
    members = [name for name, _value in space.candidate("G1").drops]
    landscape.savings |= {(name, "n"): -5.0 for name in members}
    landscape.savings["G1", "n"] = 5.0 * len(members) + 8.0
    study = elimination(space)
    study.tell(landscape.evaluate(0, {}))
    for number, name in enumerate(members, 1):
        study.tell(landscape.evaluate(number, space.baseline | {name: "n"}))
    winner = best(landscape.search(study, trials=400, first=len(members) + 1))
    assert winner.effective["G1"] == "n"


def test_a_choice_that_fell_with_its_group_is_not_asked_for_again(space: Space) -> None:
    landscape = Landscape.random(space, 0, 51)
    winner = best(landscape.search(elimination(space), trials=400))
    assert winner.effective["G0"] == "n"
    assert winner.effective["OPEN|SHUT"] == "n"
    assert winner.objective == landscape.most


@pytest.mark.parametrize("doubt_kb", [2.0, 0.01])
def test_what_is_switched_on_stays_only_when_that_was_measured(
    tmp_path: Path, doubt_kb: float
) -> None:
    """It came along with others, and hardly anybody doubted that it saves. It does not."""
    space = grown(
        tmp_path,
        6,
        5,
        'config EXTRA\n\tbool "Extra"\n',
        OPTIONS.model_copy(update={"turn_on": (*OPTIONS.turn_on, "EXTRA")}),
    )
    landscape = Landscape.random(space, 0, 31)
    landscape.savings["EXTRA", "y"] = -20.0
    study = elimination(space, {"EXTRA": Belief({BOOT: 0.001}, 60.0, doubt_kb)})
    trials = landscape.search(study, trials=400)
    assert any(one.effective["EXTRA"] == "y" for one in trials if one.outcome is Outcome.PASSED)
    assert best(trials).effective["EXTRA"] == "n"
    assert best(trials).objective == landscape.most


def test_what_costs_what_others_saved_is_taken_back_before_single_alternatives(
    tmp_path: Path,
) -> None:
    more = 'config EXTRA\n\tbool "Extra"\n'
    options = OPTIONS.model_copy(update={"turn_on": (*OPTIONS.turn_on, "EXTRA")})
    space = grown(tmp_path, 6, 5, more, options)
    landscape = Landscape.random(space, 0, 31)
    landscape.savings["EXTRA", "y"] = -20.0
    believed = {
        one.name: Belief({BOOT: 0.001}, landscape.savings[one.name, one.alternatives[0]], 4.0)
        for one in space.candidates
    }
    believed["EXTRA"] = Belief({BOOT: 0.001}, 20.0, 60.0)
    trials = landscape.search(elimination(space, believed), trials=400)
    on = [number for number, one in enumerate(trials) if one.effective["EXTRA"] == "y"]
    tick = [number for number, one in enumerate(trials) if one.effective["SLOW|QUICK"] == "QUICK"]
    assert on
    assert max(on) < min(tick)


def test_what_hardly_works_does_not_keep_others_out_of_a_batch(space: Space) -> None:
    landscape = Landscape.random(space, 0, 31)
    landscape.needed = {"G0_M0"}
    believed = {one.name: Belief({BOOT: 0.1}, 8.0, 8.0) for one in space.candidates}
    believed["G0_M0"] = Belief(dict.fromkeys((BUILD, BOOT, "net/ping"), 0.95), 1000.0, 8.0)
    trials = landscape.search(elimination(space, believed), trials=400)
    assert best(trials).objective == landscape.most
    assert trials[1].effective["G0_M0"] == "y"
    assert list(trials[1].effective.values()).count("n") > 2


def test_an_integer_whose_value_surely_breaks_something_gives_way_to_the_next_one(
    space: Space,
) -> None:
    landscape = Landscape.random(space, 0, 31)
    believed = {"BUFFER": Belief({BOOT: 0.3}, 1000.0), "G0_M0": Belief({BOOT: 0.0001}, 8.0)}
    study = elimination(space, believed)
    study.tell(landscape.evaluate(0, {}))
    landscape.needed = {"BUFFER"}
    study.tell(landscape.evaluate(1, space.baseline | {"BUFFER": "12", "G0_M0": "n"}))
    assert UNLIKELY <= study.knowledge().risk(("BUFFER", "12")) < 1.0
    assert study.ask(2)["BUFFER"] == "13"


TABLES = """
choice
\tprompt "Table"
\tdefault BIG
config BIG
\tbool "Big"
config SMALL
\tbool "Small"
config NONE
\tbool "None"
config ODD
\tbool "Odd"
endchoice
"""


def test_after_an_alternative_that_gains_the_next_one_is_tried_too(tmp_path: Path) -> None:
    space = grown(tmp_path, 2, 2, TABLES)
    landscape = Landscape.random(space, 0, 31)
    table = "BIG|SMALL|NONE|ODD"
    landscape.savings |= {(table, "SMALL"): 12.0, (table, "NONE"): 20.0, (table, "ODD"): 16.0}
    trials = landscape.search(elimination(space), trials=100)
    asked = [one.effective[table] for one in trials]
    assert list(dict.fromkeys(asked)) == ["BIG", "SMALL", "NONE", "ODD"]
    assert asked.count("ODD") == 1
    assert best(trials).effective[table] == "NONE"


def test_what_nobody_hinted_at_in_a_choice_is_not_expected_to_save(tmp_path: Path) -> None:
    """The study names one alternative; the others may as well cost, and are tried alone."""
    space = grown(tmp_path, 6, 5, TABLES, OPTIONS.model_copy(update={"turn_on": ("LEAN", "NONE")}))
    landscape = Landscape.random(space, 3, 31)
    table = "BIG|SMALL|NONE|ODD"
    assert space.candidate(table).alternatives == ("NONE", "SMALL", "ODD")
    landscape.savings |= dict.fromkeys(((table, one) for one in ("NONE", "SMALL", "ODD")), -8.0)
    trials = landscape.search(elimination(space), trials=200)
    rest = [one for one in trials if one.effective[table] in ("SMALL", "ODD")]
    assert len(rest) == 2
    for trial in rest:
        earlier = [one for one in trials[: trials.index(trial)] if one.outcome is Outcome.PASSED]
        assert any(
            {name for name in one.effective if one.effective[name] != trial.effective[name]}
            == {table}
            for one in earlier
        ), "something else was changed with it"
    assert best(trials).effective[table] == "BIG"


@pytest.mark.parametrize("worst", ["NONE", "SMALL"])
def test_a_choice_in_which_all_cost_ends_where_it_began(tmp_path: Path, worst: str) -> None:
    """One came along with others that save. That the next one costs less makes neither good."""
    space = grown(tmp_path, 6, 5, TABLES, OPTIONS.model_copy(update={"turn_on": ("LEAN", "NONE")}))
    landscape = Landscape.random(space, 0, 31)
    table = "BIG|SMALL|NONE|ODD"
    landscape.savings |= {(table, one): -4.0 for one in ("NONE", "SMALL", "ODD")}
    landscape.savings[table, worst] = -8.0
    study = elimination(space, {table: Belief({BOOT: 0.001}, 60.0, 60.0)})
    trials = landscape.search(study, trials=400)
    assert any(one.effective[table] == "NONE" for one in trials)
    assert best(trials).effective[table] == "BIG"
    assert best(trials).objective == landscape.most


def test_of_two_with_the_same_figure_the_smaller_image_is_built_on(space: Space) -> None:
    """The sampler ends at the variant that the product takes for the winner."""
    landscape = Landscape.random(space, 0, 31)
    for one in space.candidates:
        landscape.savings |= {(one.name, value): 0.0 for value in one.alternatives}
    study = elimination(space)
    first = landscape.evaluate(0, {})
    study.tell(first)
    params = study.ask(1)
    trial = landscape.evaluate(1, params)
    assert trial.build is not None
    for image_bytes, kept in ((3_000_001, False), (2_999_999, True)):
        again = Study(space, "elimination", 0, {}, [])
        again.tell(first)
        build = replace(trial.build, image_bytes=image_bytes)
        again.tell(replace(trial, build=build))
        assert (again.knowledge().best_number == 1) is kept


HELD = """
config STORE
\tbool "Store"
\tdefault y
config USER
\tbool "User"
\tdefault y
\tselect STORE
"""


def test_an_option_goes_in_one_build_with_what_selects_it(tmp_path: Path) -> None:
    """Alone the store is selected by its user, so without the user it is not even asked for."""
    space = grown(tmp_path, 2, 2, HELD)
    assert space.candidate("STORE").holders == {("USER", "n")}
    landscape = Landscape.random(space, 0, 31)
    landscape.savings |= {("STORE", "n"): 40.0, ("USER", "n"): 0.0}
    # For its own sake nobody would drop the user now.
    beliefs = {"STORE": Belief({BOOT: 0.01}, 40.0), "USER": Belief({BOOT: 0.01}, 0.01, 0.01)}
    first = landscape.search(elimination(space, beliefs), trials=1)[0]
    assert (first.effective["USER"], first.effective["STORE"]) == ("n", "n")


def test_what_holds_an_option_and_is_needed_keeps_it(tmp_path: Path) -> None:
    space = grown(tmp_path, 2, 2, HELD)
    landscape = Landscape.random(space, 0, 31)
    landscape.needed = {"USER"}
    trials = landscape.search(elimination(space), trials=100)
    assert len(trials) < 60
    assert best(trials).effective["STORE"] == "y"
    assert best(trials).objective == landscape.most


SERVED = """
config HELPER
\tbool
config FIRST
\tbool "First"
\tdefault y
\tselect HELPER
config SECOND
\tbool "Second"
\tdefault y
\tselect HELPER
config SERVER
\tbool "Server"
\tdepends on HELPER
\tdefault y
"""


def test_what_holds_up_something_needed_stays_out_of_batches(tmp_path: Path) -> None:
    """The server falls with the second of the two that select its helper, whichever goes first.
    That does not show from the start, where both are there."""
    space = grown(tmp_path, 6, 5, SERVED)
    landscape = Landscape.random(space, 0, 31)
    landscape.needed = {"SERVER"}
    landscape.savings |= {("FIRST", "n"): 60.0, ("SERVER", "n"): 60.0, ("G1_M1", "n"): -50.0}
    study = elimination(space, {"FIRST": Belief({BOOT: 0.001}, 60.0)})
    # One of two is needed, the server it must be: the other works, although nobody wants it.
    told: list[dict[str, str]] = [
        {},
        {"SECOND": "n"},
        {"SECOND": "n", "SERVER": "n", "G1_M1": "n"},
        {"SECOND": "n", "G1_M1": "n"},
    ]
    for number, params in enumerate(told):
        study.tell(landscape.evaluate(number, space.baseline | params))
    asked = space.effective(study.ask(len(told)))
    assert sum(value == "n" for value in asked.values()) > 3
    assert asked["SERVER"] == asked["FIRST"] == "y"
