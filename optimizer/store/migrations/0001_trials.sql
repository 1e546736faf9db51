-- The first schema. A released migration is never edited: what must change goes into the next file.
-- "MEMT" in ASCII: tells this file from any other SQLite database.
PRAGMA application_id = 1296387412;

-- What makes the figures of this file comparable with each other. One row.
CREATE TABLE studies (
    name TEXT PRIMARY KEY,
    study_digest TEXT NOT NULL,
    tree TEXT NOT NULL,
    compiler TEXT NOT NULL,
    emulator TEXT NOT NULL,
    bound_at TEXT NOT NULL
);

-- The study file and the search space it led to; a new row when either changed.
CREATE TABLE study_settings (
    id INTEGER PRIMARY KEY,
    study TEXT NOT NULL REFERENCES studies(name),
    settings_toml TEXT NOT NULL,
    candidates_json TEXT NOT NULL,
    bound_at TEXT NOT NULL
);

CREATE TABLE runs (
    id INTEGER PRIMARY KEY,
    started_at TEXT NOT NULL,
    ended_at TEXT,
    stop_reason TEXT,
    pid INTEGER NOT NULL,
    budget_seconds REAL,
    budget_trials INTEGER,
    sampler TEXT NOT NULL,
    seed INTEGER NOT NULL,
    jobs INTEGER NOT NULL,
    cores INTEGER NOT NULL,
    memory_gb REAL NOT NULL
);

CREATE TABLE activity (
    slot INTEGER PRIMARY KEY,
    trial INTEGER NOT NULL,
    phase TEXT NOT NULL,
    detail TEXT NOT NULL,
    pid INTEGER NOT NULL,
    updated_at TEXT NOT NULL
);

-- Whole .config files, each once: text_zlib is the UTF-8 text compressed with zlib.
CREATE TABLE config_texts (
    sha256 TEXT PRIMARY KEY,
    text_bytes INTEGER NOT NULL,
    text_zlib BLOB NOT NULL
);

-- digest covers the settings alone; two rows share one when only comments differ.
CREATE TABLE configs (
    id INTEGER PRIMARY KEY,
    digest TEXT NOT NULL,
    text_sha256 TEXT NOT NULL REFERENCES config_texts(sha256),
    defconfig TEXT NOT NULL
);
CREATE INDEX configs_by_digest ON configs (digest);

CREATE TABLE trials (
    number INTEGER PRIMARY KEY,
    outcome TEXT NOT NULL,
    objective REAL,
    reason TEXT NOT NULL,
    duplicate_of INTEGER REFERENCES trials(number),
    sampler TEXT NOT NULL,
    started_at TEXT NOT NULL,
    seconds REAL NOT NULL,
    log_dir TEXT,
    config INTEGER NOT NULL REFERENCES configs(id),
    params_json TEXT NOT NULL
);
CREATE INDEX trials_by_outcome ON trials (outcome, objective);
CREATE INDEX trials_by_config ON trials (config);

-- asked is NULL for a candidate nothing was asked of, effective is NULL for what is no candidate.
CREATE TABLE assignments (
    trial INTEGER NOT NULL REFERENCES trials(number),
    symbol TEXT NOT NULL,
    asked TEXT,
    effective TEXT,
    PRIMARY KEY (trial, symbol)
) WITHOUT ROWID;

CREATE TABLE refusals (
    trial INTEGER NOT NULL REFERENCES trials(number),
    position INTEGER NOT NULL,
    symbol TEXT NOT NULL,
    asked TEXT NOT NULL,
    got TEXT NOT NULL,
    reason TEXT NOT NULL,
    PRIMARY KEY (trial, position)
) WITHOUT ROWID;

CREATE TABLE builds (
    trial INTEGER PRIMARY KEY REFERENCES trials(number),
    ok INTEGER NOT NULL,
    timed_out INTEGER NOT NULL,
    seconds REAL NOT NULL,
    objects INTEGER NOT NULL,
    image_bytes INTEGER NOT NULL,
    vmlinux_bytes INTEGER NOT NULL,
    log TEXT NOT NULL,
    image TEXT,
    text_sha256 TEXT NOT NULL REFERENCES config_texts(sha256)
);

CREATE TABLE build_errors (
    trial INTEGER NOT NULL REFERENCES trials(number),
    position INTEGER NOT NULL,
    line TEXT NOT NULL,
    PRIMARY KEY (trial, position)
) WITHOUT ROWID;

CREATE TABLE sections (
    trial INTEGER NOT NULL REFERENCES trials(number),
    name TEXT NOT NULL,
    bytes INTEGER NOT NULL,
    PRIMARY KEY (trial, name)
) WITHOUT ROWID;

CREATE TABLE boots (
    trial INTEGER PRIMARY KEY REFERENCES trials(number),
    state TEXT NOT NULL,
    detail TEXT NOT NULL,
    seconds REAL NOT NULL,
    smoke_seconds REAL NOT NULL,
    transcript TEXT NOT NULL,
    meminfo_text TEXT NOT NULL,
    kernel_log TEXT NOT NULL
);

CREATE TABLE smoke_checks (
    trial INTEGER NOT NULL REFERENCES trials(number),
    position INTEGER NOT NULL,
    suite TEXT NOT NULL,
    name TEXT NOT NULL,
    passed INTEGER NOT NULL,
    seconds REAL NOT NULL,
    detail TEXT NOT NULL,
    PRIMARY KEY (trial, position)
) WITHOUT ROWID;

CREATE TABLE measurements (
    trial INTEGER PRIMARY KEY REFERENCES trials(number),
    mem_total_kb INTEGER NOT NULL,
    mem_available_kb INTEGER,
    memory_line TEXT NOT NULL
);

CREATE TABLE meminfo (
    trial INTEGER NOT NULL REFERENCES trials(number),
    name TEXT NOT NULL,
    kb INTEGER NOT NULL,
    PRIMARY KEY (trial, name)
) WITHOUT ROWID;

CREATE TABLE tools (
    trial INTEGER NOT NULL REFERENCES trials(number),
    name TEXT NOT NULL,
    version TEXT NOT NULL,
    PRIMARY KEY (trial, name)
) WITHOUT ROWID;

-- Trial by trial: its own figure and the best of all passed up to it.
CREATE VIEW best AS
SELECT number AS trial, outcome,
       CASE outcome WHEN 'passed' THEN objective END AS objective,
       max(CASE outcome WHEN 'passed' THEN objective END) OVER (ORDER BY number) AS best_so_far
FROM trials ORDER BY number;

-- What went wrong, in the words of the log, and where that log is (relative to this file's folder).
CREATE VIEW failures AS
SELECT t.number AS trial, t.outcome,
       (SELECT c.suite || '/' || c.name FROM smoke_checks c
        WHERE c.trial = t.number AND NOT c.passed ORDER BY c.position LIMIT 1) AS failed_check,
       coalesce(
           (SELECT nullif(c.detail, '') FROM smoke_checks c
            WHERE c.trial = t.number AND NOT c.passed ORDER BY c.position LIMIT 1),
           nullif(o.detail, ''),
           (SELECT e.line FROM build_errors e WHERE e.trial = t.number ORDER BY e.position LIMIT 1),
           nullif(t.reason, ''),
           o.state
       ) AS what_was_seen,
       coalesce(o.transcript, b.log, t.log_dir) AS log
FROM trials t
LEFT JOIN builds b ON b.trial = t.number
LEFT JOIN boots o ON o.trial = t.number
WHERE t.outcome IN ('smoke_failed', 'boot_failed', 'build_failed', 'config_refused')
ORDER BY t.number;

CREATE VIEW outcomes AS
SELECT outcome, count(*) AS trials, avg(seconds) AS mean_seconds, max(objective) AS best_objective
FROM trials GROUP BY outcome ORDER BY trials DESC, outcome;

-- For each value asked of each option: how often it took, how often that passed, and to what effect.
CREATE VIEW by_option AS
SELECT a.symbol, a.asked,
       count(*) AS trials_asked,
       sum(a.effective IS a.asked) AS took,
       sum(a.effective IS a.asked AND t.outcome = 'passed') AS passed,
       avg(CASE WHEN a.effective IS a.asked AND t.outcome = 'passed' THEN t.objective END)
           AS mean_objective
FROM assignments a JOIN trials t ON t.number = a.trial
WHERE a.asked IS NOT NULL AND t.outcome <> 'duplicate'
GROUP BY a.symbol, a.asked ORDER BY a.symbol, a.asked;

-- A run whose process was killed never wrote its end.
CREATE VIEW run_states AS
SELECT id AS run, started_at, ended_at,
       CASE WHEN ended_at IS NOT NULL THEN 'ended'
            WHEN id < (SELECT max(id) FROM runs) THEN 'killed'
            ELSE 'running or killed' END AS state,
       stop_reason
FROM runs ORDER BY id;
