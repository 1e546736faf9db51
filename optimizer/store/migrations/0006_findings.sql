-- What is found out about a study after its search: measured savings of single options, the way from
-- the baseline to a winner in steps, and what Kconfig says of the symbols that are on.

-- What the tree's Kconfig files say of a symbol, whatever the configuration.
CREATE TABLE symbols (
    name TEXT PRIMARY KEY,
    type TEXT NOT NULL,
    prompt TEXT NOT NULL,
    menu TEXT NOT NULL,
    help TEXT NOT NULL,
    depends TEXT NOT NULL
) WITHOUT ROWID;

-- What a symbol is in a trial's configuration: holders_json lists what selects it there.
CREATE TABLE symbol_states (
    trial INTEGER NOT NULL REFERENCES trials(number),
    name TEXT NOT NULL REFERENCES symbols(name),
    value TEXT NOT NULL,
    visible INTEGER NOT NULL,
    settable_json TEXT NOT NULL,
    holders_json TEXT NOT NULL,
    choice_json TEXT NOT NULL,
    PRIMARY KEY (trial, name)
) WITHOUT ROWID;

-- Two trials that differ in one option (and what Kconfig ties to it): with has the value, without not.
CREATE TABLE attributions (
    kind TEXT NOT NULL,
    option TEXT NOT NULL,
    value TEXT NOT NULL,
    with_trial INTEGER NOT NULL REFERENCES trials(number),
    without_trial INTEGER NOT NULL REFERENCES trials(number),
    tied_json TEXT NOT NULL,
    PRIMARY KEY (kind, option, value, with_trial, without_trial)
);

-- The way from the baseline to a winner: each trial has all changes of its step and those before it.
CREATE TABLE steps (
    winner INTEGER NOT NULL REFERENCES trials(number),
    position INTEGER NOT NULL,
    title TEXT NOT NULL,
    changes_json TEXT NOT NULL,
    trial INTEGER NOT NULL REFERENCES trials(number),
    PRIMARY KEY (winner, position)
) WITHOUT ROWID;

-- The views below are for reading with datasette or sqlite3; this one says what each of them shows.
CREATE TABLE view_descriptions (
    name TEXT PRIMARY KEY,
    description TEXT NOT NULL
) WITHOUT ROWID;
INSERT INTO view_descriptions (name, description) VALUES
    ('best', 'Trial by trial: its own figure in kB, and the best of all that passed so far.'),
    ('by_option', 'For each value asked of each option: how often it took, how often that passed, and the mean figure.'),
    ('failures', 'Trials that did not pass: the first check that failed, what was seen on the console, and where the log is.'),
    ('outcomes', 'How many trials ended how, and how long they took.'),
    ('run_states', 'Each run of the search: when it began and ended, and why.'),
    ('savings', 'Savings measured by trials that differ in one option: kB of MemTotal and MemAvailable, bytes of the image.'),
    ('steps_measured', 'The way from the baseline to a winner in steps, each with what it added in kB.');

-- saved_* are what the option's value gives over not having it.
CREATE VIEW savings AS
SELECT a.kind, a.option, a.value,
       w.mem_total_kb - o.mem_total_kb AS saved_mem_total_kb,
       w.mem_available_kb - o.mem_available_kb AS saved_mem_available_kb,
       ob.image_bytes - wb.image_bytes AS saved_image_bytes,
       a.with_trial, a.without_trial, wt.outcome AS outcome_with, ot.outcome AS outcome_without
FROM attributions a
JOIN trials wt ON wt.number = a.with_trial
JOIN trials ot ON ot.number = a.without_trial
LEFT JOIN measurements w ON w.trial = a.with_trial
LEFT JOIN measurements o ON o.trial = a.without_trial
LEFT JOIN builds wb ON wb.trial = a.with_trial AND wb.ok
LEFT JOIN builds ob ON ob.trial = a.without_trial AND ob.ok
ORDER BY saved_mem_total_kb DESC, a.option;

CREATE VIEW steps_measured AS
SELECT s.winner, s.position, s.title, s.trial, t.objective,
       t.objective - lag(t.objective, 1, (SELECT objective FROM trials WHERE number = 0))
           OVER (PARTITION BY s.winner ORDER BY s.position) AS saved_kb
FROM steps s JOIN trials t ON t.number = s.trial
ORDER BY s.winner, s.position;
