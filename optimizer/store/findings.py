"""What was found out after the search: measured savings, steps, and what Kconfig says of symbols.

A part of :class:`optimizer.store.database.Database`, which brings the connection.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager
from typing import Any

from optimizer.records import Attribution, AttributionKind, Step, SymbolFacts
from optimizer.store import rows


class Findings(ABC):
    """Methods of :class:`Database` about what follows a search."""

    _db: Any

    @abstractmethod
    def _writing(self) -> AbstractContextManager[None]:
        """A transaction that is written at its end, or not at all."""

    @abstractmethod
    def _reading_rows(self) -> AbstractContextManager[None]:
        """In which a row that does not fit says that the file is damaged."""

    def put_symbols(self, trial: int, facts: Iterable[SymbolFacts]) -> None:
        """Store what Kconfig says of symbols, and what they are in a trial; replaces what was told
        of that trial.

        Raises:
            UserError, MachineFault: as :meth:`Database.put_trial`.
        """
        told = list(facts)
        with self._writing():
            self._db.execute("DELETE FROM symbol_states WHERE trial = ?", [trial])
            self._db.table("symbols").insert_all(
                (
                    {key: rows.storable(value) for key, value in one.items()}
                    for one in (
                        {
                            "name": fact.name,
                            "type": fact.type,
                            "prompt": fact.prompt,
                            "menu": json.dumps(fact.menu),
                            "help": fact.help,
                            "depends": fact.depends,
                        }
                        for fact in told
                    )
                ),
                replace=True,
            )
            self._db.table("symbol_states").insert_all(
                {
                    "trial": trial,
                    "name": rows.storable(fact.name),
                    "value": rows.storable(fact.value),
                    "visible": fact.visible,
                    "settable_json": json.dumps(fact.settable),
                    "holders_json": json.dumps(fact.holders),
                    "choice_json": json.dumps(fact.choice),
                }
                for fact in told
            )

    def symbols(self, trial: int) -> dict[str, SymbolFacts]:
        """What Kconfig says of the symbols of a trial; empty when nothing was stored for it.

        Raises:
            UserError: the file is damaged.
        """
        with self._reading_rows():
            return {
                row["name"]: SymbolFacts(
                    name=row["name"],
                    type=row["type"],
                    prompt=row["prompt"],
                    menu=tuple(json.loads(row["menu"])),
                    help=row["help"],
                    depends=row["depends"],
                    value=row["value"],
                    visible=bool(row["visible"]),
                    settable=tuple(json.loads(row["settable_json"])),
                    holders=tuple(json.loads(row["holders_json"])),
                    choice=tuple(json.loads(row["choice_json"])),
                )
                for row in self._db.query(
                    "SELECT s.*, t.value, t.visible, t.settable_json, t.holders_json, t.choice_json"
                    " FROM symbol_states t JOIN symbols s ON s.name = t.name"
                    " WHERE t.trial = ? ORDER BY s.name",
                    [trial],
                )
            }

    def put_attribution(self, found: Attribution) -> None:
        """Store which two trials tell what a change saves; the same pair once.

        Raises:
            UserError, MachineFault: as :meth:`Database.put_trial`.
        """
        with self._writing():
            self._db.table("attributions").insert(
                {
                    "kind": found.kind.value,
                    "option": rows.storable(found.option),
                    "value": rows.storable(found.value),
                    "with_trial": found.with_trial,
                    "without_trial": found.without_trial,
                    "tied_json": json.dumps(found.tied),
                },
                replace=True,
            )

    def attributions(self) -> list[Attribution]:
        """Every measured change, in the order they were stored.

        Raises:
            UserError: the file is damaged.
        """
        with self._reading_rows():
            return [
                Attribution(
                    kind=AttributionKind(row["kind"]),
                    option=row["option"],
                    value=row["value"],
                    with_trial=row["with_trial"],
                    without_trial=row["without_trial"],
                    tied=_pairs(row["tied_json"]),
                )
                for row in self._db.query("SELECT * FROM attributions ORDER BY rowid")
            ]

    def put_steps(self, winner: int, steps: Sequence[Step]) -> None:
        """Store the way from the baseline to a winner, in place of what was stored for it.

        Raises:
            UserError, MachineFault: as :meth:`Database.put_trial`.
        """
        with self._writing():
            self._db.execute("DELETE FROM steps WHERE winner = ?", [winner])
            self._db.table("steps").insert_all(
                {
                    "winner": winner,
                    "position": step.position,
                    "title": rows.storable(step.title),
                    "changes_json": json.dumps(step.changes),
                    "trial": step.trial,
                }
                for step in steps
            )

    def steps(self, winner: int) -> list[Step]:
        """The way from the baseline to a winner; empty when it was not measured.

        Raises:
            UserError: the file is damaged.
        """
        with self._reading_rows():
            return [
                Step(row["position"], row["title"], _pairs(row["changes_json"]), row["trial"])
                for row in self._db.query(
                    "SELECT * FROM steps WHERE winner = ? ORDER BY position", [winner]
                )
            ]

    def view_descriptions(self) -> dict[str, str]:
        """What each view of the file shows, by name.

        Raises:
            UserError: the file is damaged.
        """
        with self._reading_rows():
            return {
                row["name"]: row["description"]
                for row in self._db.query("SELECT * FROM view_descriptions ORDER BY name")
            }


def _pairs(text: str) -> tuple[tuple[str, str], ...]:
    return tuple((str(one), str(other)) for one, other in json.loads(text))
