-- Images, their contents, and the vectors of each content in each space.

CREATE TABLE meta (
    key   TEXT PRIMARY KEY,
    value TEXT NOT NULL
) WITHOUT ROWID;

INSERT INTO meta (key, value) VALUES
    ('gallery_id', lower(hex(randomblob(16)))),
    ('generation', '1'),          -- counts every change of "which image has which vector": caches compare it
    ('settled_id', '0'),          -- largest image id at the end of the last complete run
    ('labels_from_folders', '0');

CREATE TABLE roots (
    id       INTEGER PRIMARY KEY,
    path     BLOB NOT NULL UNIQUE,    -- os.fsencode; relative to the gallery folder when inside it
    relative INTEGER NOT NULL CHECK (relative IN (0, 1))
);

-- One row per distinct file content: two copies of a picture share it, and its vectors.
CREATE TABLE contents (
    id     INTEGER PRIMARY KEY AUTOINCREMENT,
    hash   BLOB NOT NULL UNIQUE,      -- sha256 of the file's bytes
    width  INTEGER NOT NULL,          -- pixels, EXIF orientation applied
    height INTEGER NOT NULL,
    taken  TEXT                       -- EXIF DateTimeOriginal, 'YYYY-MM-DDTHH:MM:SS'
);

-- One row per file. An id means one content at one place: a rename keeps it, new content gets a new one.
CREATE TABLE images (
    id         INTEGER PRIMARY KEY AUTOINCREMENT,
    root_id    INTEGER NOT NULL REFERENCES roots (id) ON DELETE CASCADE,
    raw_path   BLOB,                  -- os.fsencode, relative to the root; NULL once another content took the place
    path       TEXT NOT NULL,         -- the same for people and filters: undecodable bytes shown as escapes
    name       TEXT NOT NULL,         -- last part of path
    content_id INTEGER REFERENCES contents (id),
    bytes      INTEGER NOT NULL,
    mtime_ns   INTEGER NOT NULL,
    ctime_ns   INTEGER NOT NULL,
    checked_ns INTEGER NOT NULL,      -- when the content was read: a younger mtime proves nothing
    date       TEXT,                  -- taken, else mtime in local time
    status     TEXT NOT NULL CHECK (status IN ('ok', 'unreadable', 'removed', 'gone')),
    reason     TEXT,
    retry      INTEGER NOT NULL DEFAULT 0 CHECK (retry IN (0, 1)),
    UNIQUE (root_id, raw_path)
);
CREATE INDEX images_by_content ON images (content_id);
CREATE INDEX images_by_status ON images (status) WHERE status <> 'ok';

CREATE TABLE labels (
    image_id INTEGER NOT NULL REFERENCES images (id) ON DELETE CASCADE ON UPDATE CASCADE,
    label    TEXT NOT NULL,
    source   TEXT NOT NULL CHECK (source IN ('user', 'folder')),
    PRIMARY KEY (image_id, label)
) WITHOUT ROWID;
CREATE INDEX labels_by_label ON labels (label);

CREATE TABLE spaces (
    id             INTEGER PRIMARY KEY AUTOINCREMENT,
    name           TEXT NOT NULL UNIQUE,
    model          TEXT NOT NULL,
    weights_sha256 TEXT NOT NULL,
    preprocessing  TEXT NOT NULL,     -- ImagePreprocessing.key()
    pooling        TEXT NOT NULL,
    dim            INTEGER NOT NULL CHECK (dim > 0),
    source         TEXT,              -- what vitseek.load takes; NULL when the vectors were imported without a model
    policy         TEXT,              -- ImagePreprocessing.policy
    created        TEXT NOT NULL,
    epoch          INTEGER NOT NULL DEFAULT 1,  -- counts overwritten vectors: a cache of another epoch is void
    UNIQUE (model, weights_sha256, preprocessing, pooling, dim)
);

-- The truth: float32, little endian, as the model gave them (not normalised).
CREATE TABLE vectors (
    id         INTEGER PRIMARY KEY,
    content_id INTEGER NOT NULL REFERENCES contents (id) ON DELETE CASCADE,
    space_id   INTEGER NOT NULL REFERENCES spaces (id) ON DELETE CASCADE,
    vector     BLOB NOT NULL,
    UNIQUE (content_id, space_id)
);
CREATE INDEX vectors_by_space ON vectors (space_id);

-- What a --where filter sees.
CREATE VIEW catalog AS
    SELECT i.id, i.path, i.name, c.width, c.height, i.bytes, i.date, i.content_id, i.root_id
    FROM images AS i JOIN contents AS c ON c.id = i.content_id
    WHERE i.status = 'ok';
