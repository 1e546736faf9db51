"""What a trace says of the candidates."""

from __future__ import annotations

from pathlib import Path

import pytest

from optimizer.kernel.elf import Function
from optimizer.kernel.ownership import ObjectFile
from optimizer.search import prior
from optimizer.search.knowledge import objects_compiled
from optimizer.search.prior import Traces
from optimizer.search.space import Space
from tests.unit.search.landscape import space_of, write_tree

FUNCTIONS = [
    Function(0x1000, 0x100, "start", init=False),
    Function(0x1100, 0x80, "probe", init=False),
    Function(0x2000, 0x40, "late_init", init=True),
]
TRACE = """----------------
IN: start
0x00001010:  e3a00000  mov      r0, #0
0x00001014:  e59f1004  ldr      r1, [pc, #4]

----------------
IN:
0x00002000:  e3a00000  mov      r0, #0
0x00002040:  e3a00000  mov      r0, #0
0xffff0000:  e3a00000  mov      r0, #0
0x00000004:  0x1180 is not an address of a line
"""


def test_executed_functions_are_those_whose_addresses_ran(tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    trace.write_text(TRACE)
    assert prior.executed(trace, FUNCTIONS, 0, trace.stat().st_size) == {"start", "late_init"}


def test_an_empty_trace_tells_of_nothing(tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    trace.write_bytes(b"")
    assert prior.executed(trace, FUNCTIONS, 0, 0) == frozenset()


@pytest.fixture
def space(tmp_path: Path) -> Space:
    return space_of(write_tree(tmp_path / "tree", 5, 1))


def made_of(option: str, size: int, *functions: str) -> ObjectFile:
    return ObjectFile(f"{option}.o", frozenset({option}), size, frozenset(functions))


def untraced(*objects: ObjectFile, flags: frozenset[str] = frozenset()) -> Traces:
    return Traces(objects, (), {}, flags)


def test_what_ran_decides_how_likely_an_option_is_needed(space: Space) -> None:
    objects = [
        made_of("G0", 9000, "used"),
        made_of("G1", 9000, "busy", "unused_1"),
        made_of("G2", 9000, "seen", *(f"unused_{number}" for number in range(20))),
        made_of("G3", 9000, "registered", "unused_2"),
        made_of("G4", 9000, "dead"),
    ]
    functions = [Function(1, 1, "registered", init=True)]
    traces = Traces(
        tuple(objects),
        tuple(functions),
        ran={
            "boot": frozenset({"busy", "seen", "registered"}),
            "suite/check": frozenset({"used"}),
        },
    )
    found = prior.beliefs(space, traces)
    order = [found[name].needed for name in ("G0", "G1", "G2", "G3", "G4")]
    assert order == sorted(order, reverse=True)
    assert len(set(order)) == 5


def test_an_option_that_a_check_types_the_name_of_is_likely_needed_for_it(
    space: Space, monkeypatch: pytest.MonkeyPatch
) -> None:
    objects = (made_of("G0", 900, "ran", "idle"), made_of("G1", 900, "dead"))
    ran = {"boot": frozenset({"ran"}), "suite/one": frozenset(), "suite/two": frozenset()}
    typed = {"suite/one": "mount -t g0:data g1", "suite/two": "ls"}
    plain = prior.beliefs(space, Traces(objects, (), ran))
    assert prior.beliefs(space, Traces(objects, (), ran, commands=typed)) == plain, "too short"
    monkeypatch.setattr(prior, "SHORTEST_WORD", 2)
    found = prior.beliefs(space, Traces(objects, (), ran, commands=typed))
    assert found["G0"].needs["suite/one"] == pytest.approx(prior.NEEDED_BY_NAME)
    assert found["G0"].needs["suite/two"] == plain["G0"].needs["suite/two"]
    assert found["G1"] == plain["G1"], "of it nothing ran"


def test_a_parent_saves_what_its_dependents_do_not(space: Space) -> None:
    objects = [made_of("G0", 9000), made_of("G0_M0", 2000)]
    found = prior.beliefs(space, untraced(*objects))
    assert found["G0"].saving_kb == 9000 / 1024
    assert found["G0_M0"].saving_kb == 2000 / 1024


def test_every_candidate_gets_a_belief_that_makes_sense(space: Space) -> None:
    found = prior.beliefs(space, untraced())
    assert found.keys() == space.baseline.keys()
    for belief in found.values():
        assert 0 < belief.needed < 1
        assert belief.saving_kb > 0


def test_what_mentions_an_option_is_compiled_again_unless_it_goes(space: Space) -> None:
    objects = (
        ObjectFile("a.o", frozenset({"G0"}), 100, frozenset(), frozenset({"G0", "G1"})),
        ObjectFile("b.o", frozenset(), 100, frozenset(), frozenset({"G0", "G1_M0"})),
        ObjectFile("c.o", frozenset(), 100, frozenset(), frozenset()),
    )
    found = prior.beliefs(space, untraced(*objects))
    assert found["G0"].objects == 1  # b.o; a.o goes
    assert found["G1"].objects == 2  # a.o, and b.o for the member that falls
    assert found["G2"].objects == 0
    assert objects_compiled(found, ["G0", "G2", "none"]) == 1
    assert objects_compiled(found, ["G0", "G1"]) == 2, "b.o is compiled once"


def test_an_option_of_the_compiler_compiles_everything_again(space: Space) -> None:
    objects = (made_of("G0", 100), made_of("G1", 100))
    found = prior.beliefs(space, untraced(*objects, flags=frozenset({"LEAN"})))
    assert found["FAST|LEAN"].objects == 2
    assert found["G2"].objects == 0


@pytest.mark.parametrize("flag", ["LEAN", "FAST"])
def test_a_choice_of_how_all_is_compiled_saves_a_share_of_it(space: Space, flag: str) -> None:
    """Whichever member the Makefile asks for."""
    objects = (made_of("G0", 2_000_000), made_of("G1", 2_000_000))
    found = prior.beliefs(space, untraced(*objects, flags=frozenset({flag})))
    assert found["FAST|LEAN"].saving_kb == prior.FLAG_SAVING_SHARE * 4_000_000 / 1024.0


@pytest.mark.parametrize(
    ("mentions", "flags", "expected"),
    [
        (0, frozenset(), prior.NOTHING_KB),
        (1, frozenset(), prior.ALTERNATIVE_FEW_KB),
        (3, frozenset(), prior.ALTERNATIVE_MANY_KB),
        (0, frozenset({"QUICK"}), prior.ALTERNATIVE_FLAG_KB),
    ],
)
def test_how_far_an_alternative_reaches_tells_what_to_expect_of_it(
    space: Space, mentions: int, flags: frozenset[str], expected: float
) -> None:
    objects = [
        ObjectFile(
            f"{number}.o",
            frozenset(),
            100,
            frozenset(),
            frozenset({"QUICK"}) if number < mentions else frozenset(),
        )
        for number in range(4)
    ]
    found = prior.beliefs(space, untraced(*objects, flags=flags))
    assert found["SLOW|QUICK"].saving_kb == expected
