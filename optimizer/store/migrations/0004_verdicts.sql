-- Why each candidate that the best variant leaves alone has to stay; written anew when a run ends.
-- winner is the trial that was the best one then.
CREATE TABLE verdicts (
    winner INTEGER NOT NULL REFERENCES trials(number),
    option TEXT NOT NULL,
    value TEXT NOT NULL,
    tried TEXT NOT NULL,
    judgement TEXT NOT NULL,
    broken TEXT NOT NULL,
    trial INTEGER REFERENCES trials(number),
    alone INTEGER NOT NULL,
    through TEXT NOT NULL,
    gained REAL,
    PRIMARY KEY (option, tried)
) WITHOUT ROWID;
