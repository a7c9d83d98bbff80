-- Instants are UTC epoch milliseconds.

CREATE TABLE apps (
    no INTEGER PRIMARY KEY,
    app TEXT NOT NULL UNIQUE,
    takes_all INTEGER NOT NULL DEFAULT 0 CHECK (takes_all IN (0, 1)),  -- members need not be known
    all_since INTEGER NOT NULL DEFAULT 0,  -- when that was switched on
    segment_limit INTEGER,
    exported_at INTEGER NOT NULL DEFAULT 0,  -- when the last whole export of OneSignal was asked for
    synced_at INTEGER,  -- when it was applied
    replaced_at INTEGER NOT NULL DEFAULT 0  -- when a file last was the whole truth about users
) STRICT;

-- Ids OneSignal refuses as External IDs; counted apart unless the directory knows them.
CREATE TABLE restricted (external_id TEXT PRIMARY KEY) STRICT, WITHOUT ROWID;
INSERT INTO restricted (external_id)
VALUES ('NA'), ('NULL'), ('0'), ('1'), ('-1'), ('all'), ('00000000-0000-0000-0000-000000000000');

-- A cohort, what of it is applied, and its segment's figures.
CREATE TABLE cohorts (
    no INTEGER PRIMARY KEY,
    app INTEGER NOT NULL REFERENCES apps (no),
    cohort_id TEXT NOT NULL,
    name TEXT NOT NULL,
    standing TEXT NOT NULL DEFAULT 'active' CHECK (standing IN ('active', 'stale', 'archived')),
    is_listed INTEGER NOT NULL DEFAULT 0 CHECK (is_listed IN (0, 1)),  -- Amplitude's list ever had it
    -- what Amplitude lists, and since when that differs from what is applied
    listed_computed_at INTEGER,
    listed_mod_at INTEGER,
    listed_size INTEGER,
    stale_since INTEGER,
    -- the computation that is applied, and the last one a person rejected
    applied_computed_at INTEGER,
    applied_mod_at INTEGER,
    applied_size INTEGER,
    rejected_computed_at INTEGER,
    rejected_mod_at INTEGER,
    rejected_size INTEGER,
    -- the list in force: the run that staged it, 0 if there is none
    list INTEGER NOT NULL DEFAULT 0,
    list_at INTEGER NOT NULL DEFAULT 0,
    version INTEGER NOT NULL DEFAULT 0,  -- rises when another list, or another state of it, comes into force
    words INTEGER NOT NULL DEFAULT 0,  -- of the webhook so far; tells what came after a comparison began
    -- the segment
    is_segment INTEGER NOT NULL DEFAULT 0 CHECK (is_segment IN (0, 1)),
    revision INTEGER NOT NULL DEFAULT 0,
    computed_at INTEGER,
    applied_at INTEGER,
    ids INTEGER NOT NULL DEFAULT 0,
    empty_ids INTEGER NOT NULL DEFAULT 0,
    restricted_ids INTEGER NOT NULL DEFAULT 0,
    matched_users INTEGER NOT NULL DEFAULT 0,
    without_subscription INTEGER NOT NULL DEFAULT 0,
    only_unsubscribed INTEGER NOT NULL DEFAULT 0,
    subscribed_count INTEGER NOT NULL DEFAULT 0,
    UNIQUE (app, cohort_id)
) STRICT;

-- When a cohort's listing changed, for judging how often it does.
CREATE TABLE sightings (
    cohort INTEGER NOT NULL REFERENCES cohorts (no),
    at INTEGER NOT NULL,
    PRIMARY KEY (cohort, at)
) STRICT, WITHOUT ROWID;

-- running -> applied | unchanged | held | failed; held -> applied | rejected
CREATE TABLE runs (
    run_id INTEGER PRIMARY KEY AUTOINCREMENT,
    cohort INTEGER NOT NULL REFERENCES cohorts (no),
    source TEXT NOT NULL CHECK (source IN ('poll', 'webhook', 'directory', 'rollback')),
    state TEXT NOT NULL
        CHECK (state IN ('running', 'applied', 'unchanged', 'held', 'rejected', 'failed')),
    started_at INTEGER NOT NULL,
    finished_at INTEGER,
    members INTEGER NOT NULL DEFAULT 0,
    empty_ids INTEGER NOT NULL DEFAULT 0,
    unknown_users INTEGER NOT NULL DEFAULT 0,
    added INTEGER NOT NULL DEFAULT 0,
    removed INTEGER NOT NULL DEFAULT 0,
    reason TEXT,
    -- the computation it brings
    computed_at INTEGER,
    mod_at INTEGER,
    listed_size INTEGER,
    -- Amplitude's export: asked for by this run (else by an earlier one), named, complete
    requested_at INTEGER,
    request_id TEXT,
    is_complete INTEGER NOT NULL DEFAULT 0 CHECK (is_complete IN (0, 1)),
    is_approved INTEGER NOT NULL DEFAULT 0 CHECK (is_approved IN (0, 1)),  -- by a person
    base_members INTEGER NOT NULL DEFAULT 0,  -- of the segment, before the first message of a computation
    revision INTEGER,  -- that it made; its changes of the list are kept while it can be undone
    CHECK ((state = 'running') = (finished_at IS NULL))
) STRICT;
CREATE INDEX runs_by_cohort ON runs (cohort, run_id);
CREATE INDEX runs_held ON runs (cohort) WHERE state = 'held';
CREATE INDEX runs_running ON runs (cohort) WHERE state = 'running';
CREATE INDEX runs_requested ON runs (requested_at) WHERE requested_at IS NOT NULL;

-- Who is on a list. NULL entered_at: since the list came into force.
CREATE TABLE listed (
    list INTEGER NOT NULL,
    external_id TEXT NOT NULL,
    entered_at INTEGER,
    PRIMARY KEY (list, external_id)
) STRICT, WITHOUT ROWID;

-- Lists that are in force no more, to be removed piece by piece.
CREATE TABLE discarded_lists (list INTEGER PRIMARY KEY) STRICT;

-- How a run changes its cohort's list: 1 enters, 0 leaves (entered_at: what it was).
CREATE TABLE run_changes (
    run INTEGER NOT NULL,
    external_id TEXT NOT NULL,
    change INTEGER NOT NULL CHECK (change IN (0, 1)),
    entered_at INTEGER,
    PRIMARY KEY (run, external_id)
) STRICT, WITHOUT ROWID;

-- What the segments' members went through.
CREATE TABLE changes (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    cohort INTEGER NOT NULL,
    external_id TEXT NOT NULL,
    change INTEGER NOT NULL CHECK (change IN (0, 1)),
    run INTEGER NOT NULL,
    at INTEGER NOT NULL
) STRICT;
CREATE INDEX changes_by_cohort ON changes (cohort, seq);

-- The last word about a forgotten user, which followers can read for some days.
CREATE TABLE departures (seq INTEGER PRIMARY KEY, at INTEGER NOT NULL) STRICT;

-- Cohort webhook: messages taken, and each user's newest word.
CREATE TABLE messages (
    app INTEGER NOT NULL,
    message_id TEXT NOT NULL,
    at INTEGER NOT NULL,
    PRIMARY KEY (app, message_id)
) STRICT, WITHOUT ROWID;
CREATE INDEX messages_by_age ON messages (at);
CREATE TABLE marks (
    cohort INTEGER NOT NULL,
    external_id TEXT NOT NULL,
    computed_at INTEGER NOT NULL,
    is_member INTEGER NOT NULL CHECK (is_member IN (0, 1)),
    word INTEGER NOT NULL,  -- the cohort's count of words when it came
    PRIMARY KEY (cohort, external_id)
) STRICT, WITHOUT ROWID;

-- The directory. Counts are of the user's subscriptions.
CREATE TABLE users (
    app INTEGER NOT NULL,
    external_id TEXT NOT NULL,
    known_at INTEGER NOT NULL,
    subscriptions INTEGER NOT NULL DEFAULT 0,
    subscribed INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (app, external_id)
) STRICT, WITHOUT ROWID;

-- as_of: the instant the row tells of; is_told: by the app itself, whose word has no instant.
CREATE TABLE subscriptions (
    app INTEGER NOT NULL,
    external_id TEXT NOT NULL,
    id TEXT NOT NULL,
    type TEXT NOT NULL,
    is_subscribed INTEGER NOT NULL CHECK (is_subscribed IN (0, 1)),
    as_of INTEGER NOT NULL,
    is_told INTEGER NOT NULL DEFAULT 0 CHECK (is_told IN (0, 1)),
    PRIMARY KEY (app, external_id, id)
) STRICT, WITHOUT ROWID;
CREATE UNIQUE INDEX subscriptions_by_id ON subscriptions (app, id);

-- People who are not to be known again: salted hashes of their ids.
CREATE TABLE salt (value BLOB NOT NULL) STRICT;
CREATE TABLE forgotten (
    app INTEGER NOT NULL,
    hash BLOB NOT NULL,
    at INTEGER NOT NULL,
    PRIMARY KEY (app, hash)
) STRICT, WITHOUT ROWID;

-- What other programs read. Stable: names and meanings stay.

CREATE VIEW segments AS
SELECT a.app, c.cohort_id, c.name,
    CASE WHEN EXISTS (SELECT 1 FROM runs AS r WHERE r.state = 'held' AND r.cohort = c.no)
        THEN 'held' ELSE c.standing END AS state,
    c.ids + c.empty_ids AS cohort_size, c.matched_users, c.subscribed_count, c.revision,
    c.computed_at, c.applied_at
FROM cohorts AS c
JOIN apps AS a ON a.no = c.app
WHERE c.is_segment;

CREATE VIEW segment_members AS
SELECT a.app, c.cohort_id, l.external_id,
    max(
        coalesce(l.entered_at, c.list_at),
        CASE
            WHEN NOT a.takes_all OR x.external_id IS NOT NULL THEN u.known_at
            ELSE min(coalesce(u.known_at, a.all_since), a.all_since)
        END
    ) AS entered_at
FROM cohorts AS c
JOIN apps AS a ON a.no = c.app
JOIN listed AS l ON l.list = c.list
LEFT JOIN users AS u ON u.app = c.app AND u.external_id = l.external_id
LEFT JOIN restricted AS x ON x.external_id = l.external_id
WHERE c.is_segment
    AND (u.external_id IS NOT NULL OR (a.takes_all AND x.external_id IS NULL));

CREATE VIEW segment_changes AS
SELECT h.seq, a.app, c.cohort_id, h.external_id,
    CASE h.change WHEN 1 THEN 'entered' ELSE 'left' END AS change, h.run AS run_id, h.at
FROM changes AS h
JOIN cohorts AS c ON c.no = h.cohort
JOIN apps AS a ON a.no = c.app;

CREATE VIEW cohort_runs AS
SELECT r.run_id, a.app, c.cohort_id, r.source, r.state, r.started_at, r.finished_at, r.members,
    r.empty_ids, r.unknown_users, r.added, r.removed, r.reason
FROM runs AS r
JOIN cohorts AS c ON c.no = r.cohort
JOIN apps AS a ON a.no = c.app;
