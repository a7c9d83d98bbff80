-- After damage: an incomplete list is taken out of force, and no forgotten user comes back.

-- name: sequences
SELECT name, seq FROM sqlite_sequence;

-- name: salt
SELECT value FROM salt;

-- name: set_salt
INSERT INTO salt (value) VALUES (:value);

-- name: drop_salt
DELETE FROM salt;

-- name: count_forgotten
SELECT count(*) FROM forgotten;

-- name: forgotten
SELECT app, hash, at FROM forgotten;

-- name: add_forgotten
INSERT OR IGNORE INTO forgotten (app, hash, at) VALUES (:app, :hash, :at);

-- name: apps
SELECT no, app FROM apps;

-- name: add_app
INSERT OR IGNORE INTO apps (no, app) VALUES (:no, :app);

-- name: restore_restricted
INSERT OR IGNORE INTO restricted (external_id)
VALUES ('NA'), ('NULL'), ('0'), ('1'), ('-1'), ('all'), ('00000000-0000-0000-0000-000000000000');

-- name: drop_stray_cohorts
DELETE FROM cohorts WHERE app NOT IN (SELECT no FROM apps);

-- name: drop_stray_runs
DELETE FROM runs WHERE cohort NOT IN (SELECT no FROM cohorts);

-- name: drop_stray_sightings
DELETE FROM sightings WHERE cohort NOT IN (SELECT no FROM cohorts);

-- name: count_lists
SELECT count(*) FROM cohorts WHERE list <> 0;

-- name: torn_lists
-- Cohorts whose list in force does not have as many ids as it should.
SELECT c.no, a.app, c.cohort_id
FROM cohorts AS c JOIN apps AS a ON a.no = c.app
WHERE c.list <> 0 AND c.ids <> (SELECT count(*) FROM listed AS l WHERE l.list = c.list)
ORDER BY c.no;

-- name: drop_list
-- The segment disappears, instead of being empty, until its cohort is downloaded again.
UPDATE cohorts SET
    list = 0, list_at = 0, version = version + 1, is_segment = 0, stale_since = NULL,
    applied_computed_at = NULL, applied_mod_at = NULL, applied_size = NULL, computed_at = NULL,
    ids = 0, empty_ids = 0, restricted_ids = 0, matched_users = 0, without_subscription = 0,
    only_unsubscribed = 0, subscribed_count = 0
WHERE no = :cohort;

-- name: fail_open_runs
-- What was staged may be incomplete: it is downloaded again.
UPDATE runs SET state = 'failed', finished_at = coalesce(finished_at, started_at), reason = :reason
WHERE state IN ('running', 'held');

-- name: drop_history
DELETE FROM run_changes;

-- name: discard_unused_lists
INSERT OR IGNORE INTO discarded_lists (list)
SELECT DISTINCT list FROM listed
WHERE list NOT IN (SELECT list FROM cohorts)
    AND list NOT IN (SELECT run_id FROM runs WHERE state IN ('running', 'held'));

-- name: keep_used_lists
DELETE FROM discarded_lists WHERE list IN (SELECT list FROM cohorts);

-- name: restore_users
-- A user with a subscription is known.
INSERT OR IGNORE INTO users (app, external_id, known_at)
SELECT app, external_id, min(as_of) FROM subscriptions GROUP BY app, external_id;

-- name: recount_subscriptions
UPDATE users SET (subscriptions, subscribed) = (
    SELECT count(*), coalesce(sum(s.is_subscribed), 0) FROM subscriptions AS s
    WHERE s.app = users.app AND s.external_id = users.external_id
);

-- name: ask_for_sync
UPDATE apps SET synced_at = NULL;

-- name: next_revisions
UPDATE cohorts SET revision = revision + 1 WHERE is_segment;

-- name: recount_figures
UPDATE cohorts SET (
    ids, restricted_ids, matched_users, without_subscription, only_unsubscribed, subscribed_count
) = (
    SELECT count(*),
        coalesce(sum(u.external_id IS NULL AND x.external_id IS NOT NULL), 0),
        coalesce(sum(u.external_id IS NOT NULL OR (a.takes_all AND x.external_id IS NULL)), 0),
        coalesce(sum(
            (u.external_id IS NOT NULL OR (a.takes_all AND x.external_id IS NULL))
            AND coalesce(u.subscriptions, 0) = 0
        ), 0),
        coalesce(sum(u.subscriptions > 0 AND u.subscribed = 0), 0),
        coalesce(sum(u.subscribed), 0)
    FROM listed AS l
    JOIN apps AS a ON a.no = cohorts.app
    LEFT JOIN users AS u ON u.app = cohorts.app AND u.external_id = l.external_id
    LEFT JOIN restricted AS x ON x.external_id = l.external_id
    WHERE l.list = cohorts.list
)
WHERE list <> 0;

-- name: forget_users
DELETE FROM users WHERE is_forgotten(app, external_id);

-- name: forget_subscriptions
DELETE FROM subscriptions WHERE is_forgotten(app, external_id);

-- name: forget_listed
DELETE FROM listed WHERE is_forgotten(
    (
        SELECT c.app FROM runs AS r JOIN cohorts AS c ON c.no = r.cohort
        WHERE r.run_id = listed.list
    ),
    external_id
);

-- name: forget_run_changes
DELETE FROM run_changes WHERE is_forgotten(
    (
        SELECT c.app FROM runs AS r JOIN cohorts AS c ON c.no = r.cohort
        WHERE r.run_id = run_changes.run
    ),
    external_id
);

-- name: forget_marks
DELETE FROM marks WHERE is_forgotten(
    (SELECT c.app FROM cohorts AS c WHERE c.no = marks.cohort), external_id
);

-- name: forget_changes
-- Except the last change about them, by which followers learn that they left.
DELETE FROM changes WHERE seq NOT IN (SELECT seq FROM departures) AND is_forgotten(
    (SELECT c.app FROM cohorts AS c WHERE c.no = changes.cohort), external_id
);
