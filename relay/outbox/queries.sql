-- name: add_app
INSERT INTO apps (app) VALUES (:app) ON CONFLICT (app) DO NOTHING;

-- name: apps
SELECT no, app, paused, accepted, delivered, dead, discarded, duplicate, filtered, quarantined, lost
FROM apps;

-- name: pause
UPDATE apps SET paused = :paused WHERE no = :app AND paused <> :paused;

-- name: count
-- Adds signed differences, always in the transaction that changes the rows they count.
UPDATE apps SET
    accepted = accepted + :accepted,
    delivered = delivered + :delivered,
    dead = dead + :dead,
    discarded = discarded + :discarded,
    duplicate = duplicate + :duplicate,
    filtered = filtered + :filtered,
    quarantined = quarantined + :quarantined
WHERE no = :app;

-- name: append
-- Inserts events unless their keys were accepted in the last days. One statement for the whole
-- transaction: Python's interpreter lock is released and taken again once, not once per row.
-- :rows is a JSON array of [seq, app, device_id, user_id, accepted_at, place and length of the
-- body in :bodies]; :keys holds 16 bytes a row.
INSERT INTO events (seq, app, key, device_id, user_id, accepted_at, body)
SELECT
    r.value ->> 0, r.value ->> 1, substr(:keys, r.key * 16 + 1, 16), r.value ->> 2, r.value ->> 3,
    r.value ->> 4, substr(:bodies, r.value ->> 5, r.value ->> 6)
FROM json_each(:rows) AS r
WHERE NOT EXISTS (
    SELECT 1 FROM seen_days
    CROSS JOIN seen ON seen.day = seen_days.day AND seen.key = substr(:keys, r.key * 16 + 1, 16)
);

-- name: is_seen
-- Whether a key was accepted in the last days.
SELECT 1 FROM seen_days CROSS JOIN seen ON seen.day = seen_days.day AND seen.key = :key;

-- name: appended
-- Which of a run of sequence numbers were added.
SELECT seq FROM events WHERE seq BETWEEN :first AND :last;

-- name: last_seq
-- The highest sequence number that anything still mentions; a forgotten user's events leave no
-- row, but the receipts of the delivered ones stay.
SELECT max(
    coalesce((SELECT max(seq) FROM events), 0),
    coalesce((SELECT max(last_seq) FROM receipts), 0),
    coalesce((SELECT seq FROM sqlite_sequence WHERE name = 'dead_letters'), 0),
    (SELECT folded_seq FROM marks)
);

-- name: unflushed
SELECT key, accepted_at FROM events WHERE seq > (SELECT folded_seq FROM marks);

-- name: open_day
INSERT INTO seen_days (day) VALUES (:day) ON CONFLICT (day) DO NOTHING;

-- name: flush
-- Inserts :count keys of 16 bytes each, sorted, laid end to end in :keys.
WITH RECURSIVE place (i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM place WHERE i + 1 < :count)
INSERT OR IGNORE INTO seen (day, key) SELECT :day, substr(:keys, i * 16 + 1, 16) FROM place;

-- name: mark_flushed
UPDATE marks SET folded_seq = :seq WHERE folded_seq < :seq;

-- name: oldest_seen_day
SELECT min(day) FROM seen_days;

-- name: forget_seen
-- Removes about :count keys of a day, the lowest first.
DELETE FROM seen WHERE day = :day AND key <= coalesce(
    (SELECT key FROM seen WHERE day = :day ORDER BY key LIMIT 1 OFFSET :count),
    (SELECT max(key) FROM seen WHERE day = :day)
);

-- name: close_day
DELETE FROM seen_days
WHERE day = :day AND NOT EXISTS (SELECT 1 FROM seen WHERE seen.day = :day);

-- name: waiting
-- Events of an app after a sequence number, in order, without their bodies: one JSON array of
-- arrays, so that Python's interpreter lock changes hands once, not once per row.
SELECT json_group_array(json_array(seq, ordering_key, device_id, user_id, size_bytes, accepted_at,
    first_tried_at, attempts))
FROM (
    SELECT e.seq, coalesce('d:' || e.device_id, 'u:' || e.user_id) AS ordering_key, e.device_id,
        e.user_id, length(e.body) AS size_bytes, e.accepted_at, t.first_tried_at,
        coalesce(t.attempts, 0) AS attempts
    FROM events AS e LEFT JOIN tries AS t ON t.seq = e.seq
    WHERE e.app = :app AND e.seq > :after
    ORDER BY e.seq LIMIT :limit
);

-- name: named
-- The same for given sequence numbers (a JSON array).
SELECT json_group_array(json_array(seq, ordering_key, device_id, user_id, size_bytes, accepted_at,
    first_tried_at, attempts))
FROM (
    SELECT e.seq, coalesce('d:' || e.device_id, 'u:' || e.user_id) AS ordering_key, e.device_id,
        e.user_id, length(e.body) AS size_bytes, e.accepted_at, t.first_tried_at,
        coalesce(t.attempts, 0) AS attempts
    FROM json_each(:seqs) AS j CROSS JOIN events AS e ON e.seq = j.value
    LEFT JOIN tries AS t ON t.seq = e.seq
    ORDER BY e.seq
);

-- name: bodies
-- How many of given events are still there, and their bodies laid end to end with commas.
SELECT count(*), group_concat(body, ',')
FROM (
    SELECT CAST(e.body AS TEXT) AS body
    FROM json_each(:seqs) AS j CROSS JOIN events AS e ON e.seq = j.value
    ORDER BY j.key
);

-- name: present
-- Which of given events are still there.
SELECT e.seq FROM json_each(:seqs) AS j CROSS JOIN events AS e ON e.seq = j.value;

-- name: accepted_at
SELECT accepted_at FROM events WHERE seq = :seq;

-- name: clock
-- The sum of the wall clock's steps, and the newest instant in steady time.
SELECT clock_ahead_ms, (
    SELECT max(at) FROM (
        SELECT max(started_at) AS at FROM claims UNION ALL SELECT max(first_tried_at) FROM tries
    )
) FROM marks;

-- name: note_clock
UPDATE marks SET clock_ahead_ms = :ahead_ms;

-- name: open_claim
INSERT INTO claims (id, app, started_at, attempts, spans)
VALUES (:id, :app, :started_at, 1, :spans);

-- name: last_claim
SELECT coalesce(max(id), 0) FROM claims;

-- name: claims
SELECT started_at, attempts, spans FROM claims;

-- name: count_attempt
UPDATE claims SET attempts = attempts + 1 WHERE id = :id;

-- name: close_claim
DELETE FROM claims WHERE id = :id;

-- name: close_claims
DELETE FROM claims;

-- name: add_receipt
INSERT INTO receipts (last_seq, spans) VALUES (:last_seq, :spans);

-- name: receipts
SELECT spans FROM receipts;

-- name: prunable
-- The oldest receipt whose events' dedup keys are all in `seen`.
SELECT id, spans FROM receipts WHERE last_seq <= (SELECT folded_seq FROM marks)
ORDER BY id LIMIT 1;

-- name: drop_receipt
DELETE FROM receipts WHERE id = :id;

-- name: drop_events
DELETE FROM events WHERE seq IN (
    SELECT e.seq FROM json_each(:spans) AS s
    CROSS JOIN events AS e ON e.seq BETWEEN s.value ->> 0 AND s.value ->> 1
    LIMIT :limit
);

-- name: drop_tries
DELETE FROM tries WHERE seq IN (
    SELECT t.seq FROM json_each(:spans) AS s
    CROSS JOIN tries AS t ON t.seq BETWEEN s.value ->> 0 AND s.value ->> 1
);

-- name: keep_tries
-- The attempts of released events: a JSON array of [seq, first_tried_at, attempts].
INSERT INTO tries (seq, first_tried_at, attempts)
SELECT e.seq, t.value ->> 1, t.value ->> 2
FROM json_each(:tries) AS t CROSS JOIN events AS e ON e.seq = t.value ->> 0
WHERE true
ON CONFLICT (seq) DO UPDATE SET
    first_tried_at = min(first_tried_at, excluded.first_tried_at),
    attempts = excluded.attempts;

-- name: add_tries
-- The same after a crash, where the attempts of the claim are added to earlier ones.
INSERT INTO tries (seq, first_tried_at, attempts)
SELECT e.seq, t.value ->> 1, t.value ->> 2
FROM json_each(:tries) AS t CROSS JOIN events AS e ON e.seq = t.value ->> 0
WHERE true
ON CONFLICT (seq) DO UPDATE SET
    first_tried_at = min(first_tried_at, excluded.first_tried_at),
    attempts = attempts + excluded.attempts;

-- name: dead_letter
-- Makes dead letters of pending events, given a JSON array of [seq, reason, detail, attempts,
-- first_tried_at].
INSERT INTO dead_letters (
    id, app, key, device_id, user_id, insert_id, event_type, reason, detail, attempts,
    accepted_at, first_tried_at, died_at, body
)
SELECT e.seq, e.app, e.key, e.device_id, e.user_id,
    coalesce(CAST(e.body AS TEXT) ->> '$.insert_id', ''),
    coalesce(CAST(e.body AS TEXT) ->> '$.event_type', ''),
    d.value ->> 1, d.value ->> 2, d.value ->> 3, e.accepted_at, d.value ->> 4, :died_at, e.body
FROM json_each(:dead) AS d CROSS JOIN events AS e ON e.seq = d.value ->> 0;

-- name: remember_days
INSERT OR IGNORE INTO seen_days (day)
SELECT e.accepted_at / 86400000
FROM json_each(:dead) AS d CROSS JOIN events AS e ON e.seq = d.value ->> 0;

-- name: remember_keys
-- Dead letters leave `events`, so their dedup keys go to disk at once.
INSERT OR IGNORE INTO seen (day, key)
SELECT e.accepted_at / 86400000, e.key
FROM json_each(:dead) AS d CROSS JOIN events AS e ON e.seq = d.value ->> 0;

-- name: drop_dead_lettered
DELETE FROM events WHERE seq IN (SELECT value ->> 0 FROM json_each(:dead));

-- name: drop_dead_lettered_tries
DELETE FROM tries WHERE seq IN (SELECT value ->> 0 FROM json_each(:dead));

-- name: dead_letters
SELECT id, app, insert_id, event_type, reason, detail, attempts, accepted_at, first_tried_at,
    died_at, body
FROM dead_letters
WHERE id > :after
    AND (:app IS NULL OR app = :app)
    AND (:reason IS NULL OR reason = :reason)
ORDER BY id LIMIT :limit;

-- name: dead_letter_ids
-- The next dead letters a retry or discard affects (:ids is a JSON array, or null for all).
SELECT id, app FROM dead_letters
WHERE id > :after
    AND (:app IS NULL OR app = :app)
    AND (:reason IS NULL OR reason = :reason)
    AND (:ids IS NULL OR id IN (SELECT value FROM json_each(:ids)))
ORDER BY id LIMIT :limit;

-- name: retry_dead_letters
-- Makes dead letters pending again, last in order and untried, given a JSON array of
-- [id, new sequence number].
INSERT INTO events (seq, app, key, device_id, user_id, accepted_at, body)
SELECT r.value ->> 1, d.app, d.key, d.device_id, d.user_id, d.accepted_at, d.body
FROM json_each(:retried) AS r CROSS JOIN dead_letters AS d ON d.id = r.value ->> 0;

-- name: drop_dead_letters
DELETE FROM dead_letters WHERE id IN (SELECT value FROM json_each(:ids));

-- name: add_quarantined
INSERT INTO quarantine (app, hook, reason, detail, received_at, body) VALUES (?, ?, ?, ?, ?, ?);

-- name: quarantined
SELECT id, app, hook, reason, detail, received_at, body
FROM quarantine
WHERE id > :after
    AND (:app IS NULL OR app = :app)
    AND (:reason IS NULL OR reason = :reason)
ORDER BY id LIMIT :limit;

-- name: quarantined_ids
SELECT id, app FROM quarantine
WHERE id > :after
    AND (:app IS NULL OR app = :app)
    AND (:reason IS NULL OR reason = :reason)
    AND (:ids IS NULL OR id IN (SELECT value FROM json_each(:ids)))
ORDER BY id LIMIT :limit;

-- name: quarantined_named
SELECT id, app, hook, reason, detail, received_at, body
FROM quarantine WHERE id IN (SELECT value FROM json_each(:ids)) ORDER BY id;

-- name: drop_quarantined
DELETE FROM quarantine WHERE id IN (SELECT value FROM json_each(:ids));

-- name: message
SELECT fields FROM messages WHERE app = :app AND message_id = :message_id;

-- name: keep_message
-- The stored fields of a message stay; new ones are added.
INSERT INTO messages (app, message_id, fields, seen_day) VALUES (?, ?, ?, ?)
ON CONFLICT (app, message_id) DO UPDATE SET
    fields = CAST(
        json_patch(CAST(excluded.fields AS TEXT), CAST(messages.fields AS TEXT)) AS BLOB
    ),
    seen_day = max(seen_day, excluded.seen_day);

-- name: forget_messages
DELETE FROM messages WHERE (app, message_id) IN (
    SELECT app, message_id FROM messages WHERE seen_day < :day ORDER BY seen_day LIMIT :limit
);

-- name: events_of
-- Every event of a user, delivered or not. Where Amplitude refuses the id, only the properties
-- have it; :needle is the id as JSON, a cheap search before the body is parsed.
SELECT seq FROM events
WHERE seq > :after AND seq <= :upto AND app = :app AND (
    user_id = :external_id
    OR (
        user_id IS NULL AND instr(body, :needle)
        AND CAST(body AS TEXT) ->> '$.event_properties."Distinct ID"' = :external_id
    )
);

-- name: span_of_events
SELECT coalesce(min(seq), 0), coalesce(max(seq), 0) FROM events;

-- name: dead_letters_of
SELECT id FROM dead_letters
WHERE app = :app AND (
    user_id = :external_id
    OR (
        user_id IS NULL AND instr(body, :needle)
        AND CAST(body AS TEXT) ->> '$.event_properties."Distinct ID"' = :external_id
    )
);

-- name: drop_named
DELETE FROM events WHERE seq IN (SELECT value FROM json_each(:seqs));

-- name: drop_named_tries
DELETE FROM tries WHERE seq IN (SELECT value FROM json_each(:seqs));
