"""A search landscape on a real Kconfig tree: options that save, options that are needed."""

from __future__ import annotations

import random
from dataclasses import dataclass
from pathlib import Path

from optimizer.kernel.kconfig import SymbolTree
from optimizer.records import BootResult, BootState, BuildResult, Measurement, Outcome, Trial
from optimizer.search.elimination import NothingLeftError
from optimizer.search.loop import Variant
from optimizer.search.space import Space, build_space
from optimizer.search.study import Study
from optimizer.settings import OptionSettings, environment

BASELINE_KB = 10_000.0


def write_tree(folder: Path, groups: int, members: int) -> Path:
    """A tree of menus, each a parent and its dependents, all on; two choices and an integer."""
    lines = ['mainmenu "Landscape"', 'config EXPERT\n\tbool "Experts"']
    for group in range(groups):
        lines.append(f'config G{group}\n\tbool "Group {group}"\n\tdefault y')
        for member in range(members):
            lines.append(
                f'config G{group}_M{member}\n\tbool "Member {member}"\n'
                f"\tdepends on G{group}\n\tdefault y"
            )
    lines.append(
        'choice\n\tprompt "Size"\n\tdefault FAST\n'
        'config FAST\n\tbool "Fast"\nconfig LEAN\n\tbool "Lean"\nendchoice'
    )
    lines.append(
        'choice\n\tprompt "Tick"\n\tdefault SLOW\n'
        'config SLOW\n\tbool "Slow"\nconfig QUICK\n\tbool "Quick"\nendchoice'
    )
    lines.append(
        'choice\n\tprompt "Mode of the first group"\n\tdepends on G0\n\tdefault OPEN\n'
        'config OPEN\n\tbool "Open"\nconfig SHUT\n\tbool "Shut"\nendchoice'
    )
    lines.append('config DEPTH\n\tint "Depth of the first group"\n\tdepends on G0\n\tdefault 8')
    lines.append('config BUFFER\n\tint "Buffer"\n\trange 12 17\n\tdefault 17')
    (folder / "arch" / "test").mkdir(parents=True)
    (folder / "arch" / "test" / "Kconfig").write_text("")
    (folder / "Makefile").write_text("VERSION = 1\nPATCHLEVEL = 0\n")
    (folder / "Kconfig").write_text("\n".join(lines) + "\n")
    return folder


OPTIONS = OptionSettings.model_validate(
    {"gate": ["EXPERT"], "turn_on": ["LEAN"], "ranges": {"BUFFER": [12, 17], "DEPTH": [2, 8]}}
)


def space_of(folder: Path, options: OptionSettings = OPTIONS) -> Space:
    """The search space of such a tree."""
    tree = SymbolTree(folder, "test", "", environment())
    defconfig = folder / "empty_defconfig"
    defconfig.write_text("")
    tree.load_base(defconfig)
    return build_space(tree, options)


@dataclass
class Landscape:
    """What each change saves in kB, and which options must stay for anything to work."""

    space: Space
    savings: dict[tuple[str, str], float]
    needed: set[str]
    built: int = 0

    @classmethod
    def random(cls, space: Space, needed: int, seed: int) -> Landscape:
        """Savings and needs drawn at random; the second choice (Tick) costs RAM when changed."""
        draw = random.Random(seed)
        savings: dict[tuple[str, str], float] = {}
        for one in space.candidates:
            for rank, value in enumerate(one.alternatives):
                saving = float(draw.choice((4, 8, 12, 40, 100)))
                savings[one.name, value] = -8.0 if not one.hinted else saving - 4.0 * rank
        bools = [one.name for one in space.candidates if one.kind == "bool"]
        return cls(space, savings, set(draw.sample(bools, needed)))

    def saving(self, name: str, value: str) -> float:
        """Of a change; what fell with its parent saves as much as its best value."""
        if (name, value) in self.savings:
            return self.savings[name, value]
        return max(
            0.0, *(self.savings[name, one] for one in self.space.candidate(name).alternatives)
        )

    @property
    def most(self) -> float:
        """The greatest objective of all: each change that harms nothing and saves."""
        start = self.space.effective({})
        params = {
            one.name: one.alternatives[0]
            for one in self.space.candidates
            if not ({one.name, *dict(one.drops)} & self.needed)
            and self.savings[one.name, one.alternatives[0]] > 0
        }
        effective = self.space.effective(params)
        return BASELINE_KB + sum(
            self.saving(name, value) for name, value in effective.items() if value != start[name]
        )

    def evaluate(self, number: int, params: dict[str, str]) -> Trial:
        """The trial that building and booting those params would give."""
        self.built += 1
        start = self.space.effective({})
        effective = self.space.effective(params)
        changed = {name: value for name, value in effective.items() if value != start[name]}
        works = not self.needed & changed.keys()
        assignment = self.space.assignment(params)
        variant = Variant(
            number, "test", params, assignment, effective, self.space.tree.resolve(assignment)
        )
        saved = sum(self.saving(name, value) for name, value in changed.items())
        figure = int(BASELINE_KB + saved)
        return Trial(
            build=BuildResult(
                True,
                1.0,
                1,
                Path("build.log"),
                variant.resolved.text,
                # The image shrinks as the kernel in RAM does; a quick tick makes it smaller still.
                image_bytes=3_000_000
                - 1024 * int(saved)
                - 65536 * (changed.get("SLOW|QUICK") == "QUICK"),
            ),
            boot=BootResult(
                BootState.READY if works else BootState.PANIC, 1.0, Path("console.log")
            ),
            measurement=Measurement(figure, None, {}, "") if works else None,
            number=number,
            outcome=Outcome.PASSED if works else Outcome.BOOT_FAILED,
            sampler="test",
            params=params,
            assignment=assignment,
            effective=effective,
            resolved=variant.resolved,
            objective=float(figure) if works else None,
        )

    def search(self, study: Study, trials: int, first: int = 1) -> list[Trial]:
        """Tell the baseline, then ask and tell until so many trials or nothing is left.

        ``first`` greater than 1 goes on with a study that knows what came before.
        """
        done = []
        if first == 1:
            study.tell(self.evaluate(0, {}))
        for number in range(first, first + trials):
            try:
                params = study.ask(number)
            except NothingLeftError:
                break
            done.append(self.evaluate(number, params))
            study.tell(done[-1])
        return done
