-- Where each trial's RAM went. unexplained_bytes is 0 when the ledger closes, NULL when RAM given or
-- MemTotal is not known; notes is a JSON list of what is not known and why.
CREATE TABLE ledgers (
    trial INTEGER PRIMARY KEY REFERENCES trials(number),
    given_bytes INTEGER,
    mem_total_bytes INTEGER,
    mem_free_bytes INTEGER,
    mem_available_bytes INTEGER,
    unexplained_bytes INTEGER,
    method TEXT NOT NULL,
    notes TEXT NOT NULL
);

-- part: reserved (RAM given to MemTotal), freed (memo: reserved and given back), taken (MemTotal to
-- MemFree), held (MemFree to MemAvailable; negative where memory is added).
CREATE TABLE ledger_entries (
    trial INTEGER NOT NULL REFERENCES ledgers(trial),
    position INTEGER NOT NULL,
    part TEXT NOT NULL,
    name TEXT NOT NULL,
    bytes INTEGER NOT NULL,
    source TEXT NOT NULL,
    PRIMARY KEY (trial, position)
) WITHOUT ROWID;

-- A line a trial and name: what to sort and compare in a browser.
CREATE VIEW ledger_by_name AS
SELECT trial, part, name, sum(bytes) / 1024.0 AS kb
FROM ledger_entries GROUP BY trial, part, name ORDER BY trial, part, kb DESC;
