"""Where every trial is kept: one SQLite file a study."""

from optimizer.store.database import Activity, Database, Json, Run, Study

__all__ = ["Activity", "Database", "Json", "Run", "Study"]
