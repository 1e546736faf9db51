"""What becomes of an assignment, on a tree small enough to know the answer."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from optimizer.errors import UserError
from optimizer.kernel.kconfig import SymbolTree, config_digest, kernel_version
from optimizer.records import Assignment
from optimizer.settings import environment


def load(tree: Path, defconfig: Path) -> SymbolTree:
    symbols = SymbolTree(tree, "test", "", environment())
    symbols.load_base(defconfig)
    return symbols


def test_version_is_read_from_the_makefile(tree: Path) -> None:
    assert kernel_version(tree) == "6.1.7"


def test_a_folder_that_is_no_kernel_tree_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="not a kernel source tree"):
        kernel_version(tmp_path)


def test_an_unknown_architecture_names_the_known_ones(tree: Path) -> None:
    with pytest.raises(UserError, match="It has: test"):
        SymbolTree(tree, "vax", "", environment())


def test_a_missing_compiler_is_the_users_to_mend(tree: Path) -> None:
    with pytest.raises(UserError, match="memtotal doctor"):
        SymbolTree(tree, "test", "no-such-arch-", environment())


def test_shell_calls_leave_the_tree_and_the_environment_alone(
    tree: Path, defconfig: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ARCH", "mine")
    before = sorted(tree.rglob("*"))
    symbols = load(tree, defconfig)
    assert symbols.values(Assignment({}), ["ANSWER"]) == {"ANSWER": "forty two"}
    assert sorted(tree.rglob("*")) == before
    assert os.environ["ARCH"] == "mine"


def test_what_was_asked_and_taken_is_not_refused(tree: Path, defconfig: Path) -> None:
    resolved = load(tree, defconfig).resolve(Assignment({"CARD": "n", "LOG_SHIFT": "12"}))
    assert resolved.refused == ()
    assert "# CONFIG_CARD is not set" in resolved.text
    assert "CONFIG_LOG_SHIFT=12" in resolved.text
    assert "CONFIG_LOG_SHIFT=12" in resolved.defconfig
    assert "CONFIG_BUS" not in resolved.defconfig


def test_every_refusal_has_its_reason(tree: Path, defconfig: Path) -> None:
    asked = {"HELPER": "n", "HIDDEN_KNOB": "n", "NO_SUCH": "y", "LOG_SHIFT": "99"}
    refused = {one.symbol: one for one in load(tree, defconfig).resolve(Assignment(asked)).refused}
    assert refused["HELPER"].reason == "selected by CARD"
    assert "not visible" in refused["HIDDEN_KNOB"].reason
    assert "no such symbol" in refused["NO_SUCH"].reason
    assert "range (12, 25)" in refused["LOG_SHIFT"].reason
    assert refused.keys() == asked.keys()


def test_a_choice_follows_its_member(tree: Path, defconfig: Path) -> None:
    symbols = load(tree, defconfig)
    assert symbols.values(Assignment({"SMALL": "y"}), ["BIG", "SMALL"]) == {
        "BIG": "n",
        "SMALL": "y",
    }
    assert symbols.values(Assignment({}), ["BIG", "SMALL"]) == {"BIG": "y", "SMALL": "n"}


def test_an_assignment_leaves_no_trace_on_the_next(tree: Path, defconfig: Path) -> None:
    symbols = load(tree, defconfig)
    baseline = symbols.resolve(Assignment({})).digest
    for asked in (
        {"BUS": "n"},
        {"SMALL": "y"},
        {"MODULES": "n"},
        {"EXPERT": "y", "LOG_SHIFT": "12"},
    ):
        assert symbols.resolve(Assignment(asked)).digest != baseline
        assert symbols.resolve(Assignment({})).digest == baseline


def test_without_modules_a_module_does_not_move_into_the_image(tree: Path, defconfig: Path) -> None:
    symbols = load(tree, defconfig)
    assert symbols.values(Assignment({}), ["PLUG"]) == {"PLUG": "m"}
    assert symbols.values(Assignment({"MODULES": "n"}), ["PLUG"]) == {"PLUG": "n"}
    assert symbols.values(Assignment({}), ["PLUG"]) == {"PLUG": "m"}


def test_an_option_tells_what_holds_it(tree: Path, defconfig: Path) -> None:
    options = {one.name: one for one in load(tree, defconfig).options(Assignment({}))}
    assert options["HELPER"].selected_by == ("CARD",)
    assert options["HELPER"].settable == ("y",)
    assert options["CARD"].menu == ("Drivers", "A bus")
    assert options["BIG"].choice == ("BIG", "SMALL")
    assert options["LOG_SHIFT"].legal == (12, 25)
    assert not options["HIDDEN_KNOB"].visible


def test_a_broken_defconfig_is_named_with_its_line(tree: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    broken.write_text("CONFIG_BUS=y\nCONFIG CARD=y\n")
    with pytest.raises(UserError, match=r"broken:2: 'CONFIG CARD=y' is not a setting"):
        load(tree, broken)


@pytest.mark.parametrize("content", [b"\xff\xfe\x00", None])
def test_an_unreadable_defconfig_is_refused(
    tree: Path, tmp_path: Path, content: bytes | None
) -> None:
    path = tmp_path / "unreadable"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UserError, match="cannot be read"):
        load(tree, path)


def test_the_digest_is_of_the_settings_alone() -> None:
    one = "# made today\nCONFIG_A=y\n# CONFIG_B is not set\n"
    same = "# CONFIG_B is not set\n\nCONFIG_A=y\n# made tomorrow\n"
    other = "CONFIG_A=y\nCONFIG_B=y\n"
    assert config_digest(one) == config_digest(same) != config_digest(other)


def test_identity_changes_with_any_kconfig_file(tree: Path, defconfig: Path) -> None:
    before = load(tree, defconfig).identity
    with (tree / "Kconfig").open("a") as stream:
        stream.write('\nconfig MORE\n\tbool "More"\n')
    after = load(tree, defconfig).identity
    assert before != after
    assert before.startswith("6.1.7-")


def test_what_kconfig_says_of_a_symbol(tree: Path, defconfig: Path) -> None:
    (tree / "Kconfig").write_text(
        (tree / "Kconfig").read_text()
        + 'config TALKS\n\tbool "Talks"\n\tdepends on BUS && CARD\n\thelp\n\t  It says much.\n'
    )
    symbols = load(tree, defconfig)
    told = {one.name: one for one in symbols.facts(Assignment({}), ["TALKS", "NOWHERE"])}
    assert "NOWHERE" not in told
    talks = told["TALKS"]
    assert (talks.prompt, talks.help, talks.depends) == ("Talks", "It says much.", "BUS && CARD")
    assert (talks.value, talks.visible, talks.settable) == ("n", True, ("n", "y"))
    # CARD selects it: off is not among what it can be.
    helper = told["HELPER"]
    assert (helper.holders, helper.settable, helper.menu) == (("CARD",), ("y",), ("Drivers",))
    assert told["BIG"].choice == ("BIG", "SMALL")
    after = {one.name: one for one in symbols.facts(Assignment({"CARD": "n"}), ["HELPER"])}
    assert after["HELPER"].holders == ()
    assert "CARD" not in after
