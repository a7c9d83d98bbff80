-- Erasure: forgotten users, and their removal from every table.

-- name: drop_user
DELETE FROM users WHERE app = :app AND external_id = :external_id;

-- name: drop_subscriptions
DELETE FROM subscriptions WHERE app = :app AND external_id = :external_id;

-- name: salt
SELECT value FROM salt;

-- name: add_salt
INSERT INTO salt (value) VALUES (:value);

-- name: forgotten
SELECT app, hash FROM forgotten;

-- name: add_forgotten
INSERT OR IGNORE INTO forgotten (app, hash, at) VALUES (:app, :hash, :at);

-- name: erase_listed
DELETE FROM listed WHERE external_id = :external_id AND list IN (
    SELECT r.run_id FROM runs AS r JOIN cohorts AS c ON c.no = r.cohort WHERE c.app = :app
);

-- name: lists_of_user
-- Cohorts of an app with a user on the list in force, and what the user is to the segment.
SELECT c.no, u.external_id IS NOT NULL AS is_known,
    coalesce(u.subscriptions, 0), coalesce(u.subscribed, 0),
    EXISTS (SELECT 1 FROM restricted AS r WHERE r.external_id = :external_id) AS is_restricted
FROM cohorts AS c
JOIN listed AS l ON l.list = c.list AND l.external_id = :external_id
LEFT JOIN users AS u ON u.app = c.app AND u.external_id = l.external_id
WHERE c.app = :app;

-- name: erase_overrides
DELETE FROM marks WHERE external_id = :external_id AND cohort IN (
    SELECT c.no FROM cohorts AS c WHERE c.app = :app
);

-- name: erase_deltas
DELETE FROM run_changes WHERE external_id = :external_id AND run IN (
    SELECT r.run_id FROM runs AS r JOIN cohorts AS c ON c.no = r.cohort WHERE c.app = :app
);

-- name: changes_of_user
-- Every logged change of a user (a scan: an index would cost every change, and erasures are rare).
SELECT h.seq, h.cohort FROM changes AS h
WHERE h.seq > :after AND h.external_id = :external_id
    AND h.cohort IN (SELECT c.no FROM cohorts AS c WHERE c.app = :app)
    AND h.seq NOT IN (SELECT d.seq FROM departures AS d);

-- name: erase_changes
DELETE FROM changes WHERE seq IN (SELECT value FROM json_each(:seqs));

-- name: log_departure
INSERT INTO changes (cohort, external_id, change, run, at)
VALUES (:cohort, :external_id, 0, :run, :at);

-- name: add_departure
INSERT INTO departures (seq, at) VALUES (:seq, :at);
