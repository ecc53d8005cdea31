-- A space also has a precision, and tokens or pixels that are left out for speed.

-- What is between the layers of a model, as seen on pictures of this gallery; eight bits are laid over it.
CREATE TABLE calibrations (
    digest TEXT PRIMARY KEY,
    data   BLOB NOT NULL                        -- vitseek.engines.calibration.Calibration.to_bytes()
);

CREATE TABLE spaces_4 (
    id             INTEGER PRIMARY KEY AUTOINCREMENT,
    name           TEXT NOT NULL UNIQUE,
    model          TEXT NOT NULL,
    weights_sha256 TEXT NOT NULL,
    preprocessing  TEXT NOT NULL,               -- ImagePreprocessing.key()
    pooling        TEXT NOT NULL,
    dim            INTEGER NOT NULL CHECK (dim > 0),
    precision      TEXT NOT NULL DEFAULT 'float32',  -- 'int8-static-' and the digest of its calibration
    reduction      TEXT NOT NULL DEFAULT 'none',
    source         TEXT,              -- what vitseek.load takes; NULL when the vectors were imported without a model
    policy         TEXT,              -- ImagePreprocessing.policy
    size_px        INTEGER,           -- side of the model's pictures where it is not the model's own
    created        TEXT NOT NULL,
    epoch          INTEGER NOT NULL DEFAULT 1,  -- counts overwritten vectors: a cache of another epoch is void
    UNIQUE (model, weights_sha256, preprocessing, pooling, dim, precision, reduction)
);
INSERT INTO spaces_4 (id, name, model, weights_sha256, preprocessing, pooling, dim, source, policy, created, epoch)
    SELECT id, name, model, weights_sha256, preprocessing, pooling, dim, source, policy, created, epoch FROM spaces;
-- The ids of removed spaces are not used again.
DELETE FROM sqlite_sequence WHERE name = 'spaces_4';
INSERT INTO sqlite_sequence (name, seq) SELECT 'spaces_4', seq FROM sqlite_sequence WHERE name = 'spaces';
-- Foreign keys are off while a migration runs: the vectors of the old table's rows are those of the new one's.
DROP TABLE spaces;
ALTER TABLE spaces_4 RENAME TO spaces;
