-- After damage: saved rows are made consistent, and lost events are counted.

-- name: app_counters
-- An app as the sidecar has it.
SELECT no, app, paused, accepted, delivered, dead, discarded, duplicate, filtered, quarantined, lost
FROM apps;

-- name: take_app_over
-- An app from the sidecar. Of delivered, dead and discarded events the database is right: they belong
-- to its rows. Of what came in the larger number is: rows may be missing, and the sidecar be older.
INSERT INTO apps (
    no, app, paused, accepted, delivered, dead, discarded, duplicate, filtered, quarantined, lost
) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (no) DO UPDATE SET
    app = excluded.app,
    accepted = max(accepted, excluded.accepted),
    duplicate = max(duplicate, excluded.duplicate),
    filtered = max(filtered, excluded.filtered),
    quarantined = max(quarantined, excluded.quarantined);

-- name: nameless_apps
-- Numbers of apps whose names are lost.
SELECT app FROM events UNION SELECT app FROM dead_letters UNION SELECT app FROM quarantine
EXCEPT SELECT no FROM apps ORDER BY 1;

-- name: name_app
INSERT INTO apps (no, app) VALUES (:no, :app);

-- name: restore_marks
INSERT OR IGNORE INTO marks (only, folded_seq) VALUES (1, 0);

-- name: drop_senseless_receipts
DELETE FROM receipts WHERE NOT json_valid(spans)
OR last_seq IS NOT (
    SELECT max(s.value ->> 1)
    FROM json_each(CASE WHEN json_valid(spans) THEN spans ELSE '[]' END) AS s WHERE s.type = 'array'
)
OR EXISTS (
    SELECT 1 FROM json_each(CASE WHEN json_valid(spans) THEN spans ELSE '[]' END) AS s
    WHERE s.type <> 'array'
        OR coalesce(typeof(s.value ->> 0) <> 'integer' OR typeof(s.value ->> 1) <> 'integer', 1)
        OR s.value ->> 0 < 1 OR s.value ->> 1 NOT BETWEEN s.value ->> 0 AND (s.value ->> 0) + :most
);

-- name: drop_senseless_claims
DELETE FROM claims WHERE NOT json_valid(spans) OR EXISTS (
    SELECT 1 FROM json_each(CASE WHEN json_valid(spans) THEN spans ELSE '[]' END) AS s
    WHERE s.type <> 'array'
        OR coalesce(typeof(s.value ->> 0) <> 'integer' OR typeof(s.value ->> 1) <> 'integer', 1)
        OR s.value ->> 0 < 1 OR s.value ->> 1 NOT BETWEEN s.value ->> 0 AND (s.value ->> 0) + :most
);

-- name: drop_stray_tries
DELETE FROM tries WHERE seq NOT IN (SELECT seq FROM events);

-- name: drop_buried_twice
-- An older version of a page may still have an event that became a dead letter.
DELETE FROM events WHERE (key, accepted_at) IN (SELECT key, accepted_at FROM dead_letters);

-- name: drop_repeated
DELETE FROM events WHERE seq NOT IN (SELECT min(seq) FROM events GROUP BY app, key, accepted_at);

-- name: assume_tried
-- It is no longer known which events were tried, and since when. Assuming that all were tried at once
-- never makes Amplitude count an event twice.
INSERT INTO tries (seq, first_tried_at, attempts)
SELECT seq, accepted_at - (SELECT clock_ahead_ms FROM marks), 1 FROM events WHERE true
ON CONFLICT (seq) DO UPDATE SET first_tried_at = min(first_tried_at, excluded.first_tried_at);

-- name: remember_saved_days
INSERT OR IGNORE INTO seen_days (day) SELECT DISTINCT day FROM seen;

-- name: drop_senseless_messages
DELETE FROM messages WHERE NOT json_valid(CAST(fields AS TEXT));

-- name: highest_seq
SELECT max(
    coalesce((SELECT max(seq) FROM events), 0),
    coalesce((SELECT max(id) FROM dead_letters), 0),
    coalesce((SELECT seq FROM sqlite_sequence WHERE name = 'dead_letters'), 0),
    coalesce((SELECT max(folded_seq) FROM marks), 0)
);

-- name: census
-- Each app's counters, and how many of its events are really pending and dead.
SELECT a.no, a.app, a.accepted, a.delivered, a.discarded,
    (SELECT count(*) FROM events AS e WHERE e.app = a.no) - (
        SELECT count(DISTINCT e.seq)
        FROM receipts AS r CROSS JOIN json_each(r.spans) AS s
        CROSS JOIN events AS e ON e.seq BETWEEN s.value ->> 0 AND s.value ->> 1
        WHERE e.app = a.no
    ) AS pending,
    (SELECT count(*) FROM dead_letters AS d WHERE d.app = a.no) AS dead, a.dead AS counted_dead
FROM apps AS a ORDER BY a.no;

-- name: restate
UPDATE apps SET
    accepted = :accepted, delivered = :delivered, dead = :dead, discarded = :discarded,
    lost = lost + :lost
WHERE no = :no;

-- name: senseless_spans
SELECT count(*) FROM (SELECT spans FROM receipts UNION ALL SELECT spans FROM claims) AS b
WHERE NOT json_valid(b.spans) OR EXISTS (
    SELECT 1 FROM json_each(CASE WHEN json_valid(b.spans) THEN b.spans ELSE '[]' END) AS s
    WHERE s.type <> 'array'
        OR coalesce(typeof(s.value ->> 0) <> 'integer' OR typeof(s.value ->> 1) <> 'integer', 1)
        OR s.value ->> 0 < 1 OR s.value ->> 1 NOT BETWEEN s.value ->> 0 AND (s.value ->> 0) + :most
);

-- name: count_marks
SELECT count(*) FROM marks;

-- name: senseless_events
-- Events whose keys do not belong to their content.
SELECT (SELECT count(*) FROM events WHERE NOT fits(app, key, body))
    + (SELECT count(*) FROM dead_letters WHERE NOT fits(app, key, body));
