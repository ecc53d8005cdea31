-- What each indexing run did, and which folders were mount points when last seen.

CREATE TABLE runs (
    id       INTEGER PRIMARY KEY,
    started  TEXT NOT NULL,
    finished TEXT,                    -- NULL: interrupted or killed
    space_id INTEGER REFERENCES spaces (id) ON DELETE SET NULL,
    report   TEXT                     -- JSON of the summary
);

-- A folder that was on another device than its parent and no longer is, is an unmounted disk, not a deletion.
CREATE TABLE mounts (
    root_id  INTEGER NOT NULL REFERENCES roots (id) ON DELETE CASCADE,
    raw_path BLOB NOT NULL,
    PRIMARY KEY (root_id, raw_path)
) WITHOUT ROWID;
