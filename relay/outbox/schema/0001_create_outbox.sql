-- An app and its counts. Each count moves in the same transaction as the rows it counts, so
-- accepted = pending + delivered + dead + discarded holds after any crash (pending is the rest).
CREATE TABLE apps (
    no INTEGER PRIMARY KEY,
    app TEXT NOT NULL UNIQUE,
    paused INTEGER NOT NULL DEFAULT 0 CHECK (paused IN (0, 1)),
    accepted INTEGER NOT NULL DEFAULT 0,
    delivered INTEGER NOT NULL DEFAULT 0,
    dead INTEGER NOT NULL DEFAULT 0 CHECK (dead >= 0),
    discarded INTEGER NOT NULL DEFAULT 0,
    duplicate INTEGER NOT NULL DEFAULT 0,
    filtered INTEGER NOT NULL DEFAULT 0,
    quarantined INTEGER NOT NULL DEFAULT 0,
    CHECK (accepted >= delivered + dead + discarded)
) STRICT;

-- Accepted events in order of acceptance. A row stays until a receipt covers it and retention
-- removes it in bulk; it is never updated. `body` is what Amplitude gets, byte for byte.
CREATE TABLE events (
    seq INTEGER PRIMARY KEY,
    app INTEGER NOT NULL,
    key BLOB NOT NULL CHECK (length(key) = 16),
    device_id TEXT,
    user_id TEXT,
    accepted_at INTEGER NOT NULL,
    body BLOB NOT NULL,
    CHECK (device_id IS NOT NULL OR user_id IS NOT NULL)
) STRICT;
CREATE INDEX events_by_app ON events (app);

-- Keys of accepted events by day of acceptance (UTC days since 1970), written in sorted bulk.
-- Every key is here or belongs to an event with seq > marks.folded_seq.
CREATE TABLE seen (
    day INTEGER NOT NULL,
    key BLOB NOT NULL,
    PRIMARY KEY (day, key)
) STRICT, WITHOUT ROWID;
CREATE TABLE seen_days (day INTEGER PRIMARY KEY) STRICT;
CREATE TABLE marks (
    only INTEGER PRIMARY KEY CHECK (only = 1),
    folded_seq INTEGER NOT NULL
) STRICT;
INSERT INTO marks VALUES (1, 0);

-- Events a sender has in hand, written before their first upload: after a crash they count as
-- tried since `started_at`. `spans` is a JSON array of pairs, first and last seq.
CREATE TABLE claims (
    id INTEGER PRIMARY KEY,
    app INTEGER NOT NULL,
    started_at INTEGER NOT NULL,
    attempts INTEGER NOT NULL,
    spans TEXT NOT NULL
) STRICT;

-- Delivered events whose rows retention has still to remove.
CREATE TABLE receipts (
    id INTEGER PRIMARY KEY,
    last_seq INTEGER NOT NULL,
    spans TEXT NOT NULL
) STRICT;

-- Events that were tried and went back: since when, how often.
CREATE TABLE tries (
    seq INTEGER PRIMARY KEY,
    first_tried_at INTEGER NOT NULL,
    attempts INTEGER NOT NULL
) STRICT;

CREATE TABLE dead_letters (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    app INTEGER NOT NULL,
    key BLOB NOT NULL,
    device_id TEXT,
    user_id TEXT,
    insert_id TEXT NOT NULL,
    event_type TEXT NOT NULL,
    reason TEXT NOT NULL,
    detail TEXT NOT NULL,
    attempts INTEGER NOT NULL,
    accepted_at INTEGER NOT NULL,
    first_tried_at INTEGER,
    died_at INTEGER NOT NULL,
    body BLOB NOT NULL
) STRICT;
CREATE INDEX dead_letters_by_reason ON dead_letters (app, reason);

CREATE TABLE quarantine (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    app INTEGER NOT NULL,
    hook TEXT NOT NULL CHECK (hook IN ('events', 'cohorts')),
    reason TEXT NOT NULL,
    detail TEXT NOT NULL,
    received_at INTEGER NOT NULL,
    body BLOB NOT NULL
) STRICT;
CREATE INDEX quarantine_by_reason ON quarantine (app, reason);

-- What a message said, for late events that come without it.
CREATE TABLE messages (
    app INTEGER NOT NULL,
    message_id TEXT NOT NULL,
    fields BLOB NOT NULL,
    seen_day INTEGER NOT NULL,
    PRIMARY KEY (app, message_id)
) STRICT, WITHOUT ROWID;
CREATE INDEX messages_by_day ON messages (seen_day);
