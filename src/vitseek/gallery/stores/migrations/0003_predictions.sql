-- Labels that a model gave, with probabilities. The labels of the user and of folders stay in their own table.

-- One row per pass of a classifier over the gallery. Nobody sees what a pass wrote before it is finished.
CREATE TABLE prediction_runs (
    id       INTEGER PRIMARY KEY AUTOINCREMENT,
    source   TEXT NOT NULL CHECK (source NOT IN ('user', 'folder')),
    model    TEXT,                    -- NULL: not known
    details  TEXT NOT NULL,           -- JSON: labels, templates, thresholds; an interrupted pass goes on with the same only
    started  TEXT NOT NULL,
    finished TEXT,                    -- NULL: going on, interrupted or killed
    last_id  INTEGER NOT NULL DEFAULT 0  -- images up to this id are done
);

CREATE TABLE predictions (
    run_id      INTEGER NOT NULL REFERENCES prediction_runs (id) ON DELETE CASCADE,
    image_id    INTEGER NOT NULL REFERENCES images (id) ON DELETE CASCADE ON UPDATE CASCADE,
    label       TEXT NOT NULL,
    probability REAL NOT NULL CHECK (probability BETWEEN 0 AND 1),
    PRIMARY KEY (run_id, image_id, label)
) WITHOUT ROWID;
CREATE INDEX predictions_by_image ON predictions (image_id);
CREATE INDEX predictions_by_label ON predictions (label COLLATE NOCASE);

-- What a filter sees as predicted:…, confidence and source:…
CREATE VIEW predicted AS
    SELECT p.image_id, p.label, p.probability, r.source
    FROM predictions AS p JOIN prediction_runs AS r ON r.id = p.run_id
    WHERE r.finished IS NOT NULL;

-- What a filter sees as label:…
CREATE VIEW tags AS
    SELECT image_id, label, source FROM labels
    UNION ALL
    SELECT image_id, label, source FROM predicted;
