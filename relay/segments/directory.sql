-- The directory. `touched` and `told` are temporary tables of the writing connection: the users a
-- change concerns, as they were before it, and the subscriptions it tells of.

-- name: make_touched
CREATE TEMP TABLE touched (
    external_id TEXT PRIMARY KEY,
    was_known INTEGER NOT NULL,
    subscriptions INTEGER NOT NULL,
    subscribed INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- name: make_told
CREATE TEMP TABLE told (
    external_id TEXT NOT NULL,
    id TEXT NOT NULL,
    type TEXT NOT NULL,
    is_subscribed INTEGER NOT NULL,
    PRIMARY KEY (external_id, id)
) STRICT, WITHOUT ROWID;

-- name: clear_touched
DELETE FROM touched;

-- name: clear_told
DELETE FROM told;

-- name: tell
-- Takes a JSON array of [external_id, id, type, is_subscribed]; of a repeated id the last counts.
INSERT OR REPLACE INTO told (external_id, id, type, is_subscribed)
SELECT value ->> 0, value ->> 1, value ->> 2, value ->> 3 FROM json_each(:rows)
WHERE value ->> 0 > :after AND (:upto IS NULL OR value ->> 0 <= :upto);

-- name: end_of_users
-- Where a range of so many known users ends; nothing if fewer are left up to a bound.
SELECT external_id FROM users
WHERE app = :app AND external_id > :after AND (:upto IS NULL OR external_id < :upto)
ORDER BY external_id LIMIT 1 OFFSET :count;

-- name: touch
INSERT OR IGNORE INTO touched (external_id, was_known, subscriptions, subscribed)
SELECT i.value, u.external_id IS NOT NULL, coalesce(u.subscriptions, 0), coalesce(u.subscribed, 0)
FROM json_each(:ids) AS i
LEFT JOIN users AS u ON u.app = :app AND u.external_id = i.value;

-- name: touch_gone
-- Owners of subscriptions that a whole export lacks, within a range of its users.
INSERT OR IGNORE INTO touched (external_id, was_known, subscriptions, subscribed)
SELECT DISTINCT s.external_id, 1, u.subscriptions, u.subscribed
FROM subscriptions AS s
CROSS JOIN users AS u ON u.app = :app AND u.external_id = s.external_id
WHERE s.app = :app AND s.external_id > :after AND (:upto IS NULL OR s.external_id <= :upto)
    AND s.as_of <= :at
    AND NOT EXISTS (
        SELECT 1 FROM told AS t WHERE t.external_id = s.external_id AND t.id = s.id
    );

-- name: drop_gone
DELETE FROM subscriptions
WHERE app = :app AND external_id > :after AND (:upto IS NULL OR external_id <= :upto)
    AND as_of <= :at
    AND NOT EXISTS (
        SELECT 1 FROM told AS t
        WHERE t.external_id = subscriptions.external_id AND t.id = subscriptions.id
    );

-- name: drop_old_news
-- Of what is told, whatever is known so already, or of which something newer is known.
DELETE FROM told WHERE EXISTS (
    SELECT 1 FROM subscriptions AS s
    WHERE s.app = :app AND s.id = told.id
        AND (
            s.as_of > :at
            OR (
                :skips_known AND s.external_id = told.external_id AND s.type = told.type
                AND s.is_subscribed = told.is_subscribed
            )
        )
);

-- name: touch_users_told
-- Users that the whole text of an export names, as far as they are not known.
INSERT OR IGNORE INTO touched (external_id, was_known, subscriptions, subscribed)
SELECT DISTINCT t.external_id, 0, 0, 0 FROM told AS t
WHERE NOT EXISTS (SELECT 1 FROM users AS u WHERE u.app = :app AND u.external_id = t.external_id);

-- name: touch_told
INSERT OR IGNORE INTO touched (external_id, was_known, subscriptions, subscribed)
SELECT DISTINCT t.external_id, u.external_id IS NOT NULL, coalesce(u.subscriptions, 0),
    coalesce(u.subscribed, 0)
FROM told AS t LEFT JOIN users AS u ON u.app = :app AND u.external_id = t.external_id;

-- name: touch_former_owners
INSERT OR IGNORE INTO touched (external_id, was_known, subscriptions, subscribed)
SELECT DISTINCT u.external_id, 1, u.subscriptions, u.subscribed
FROM told AS t
CROSS JOIN subscriptions AS s ON s.app = :app AND s.id = t.id AND s.external_id <> t.external_id
CROSS JOIN users AS u ON u.app = :app AND u.external_id = s.external_id;

-- name: store_told
-- A subscription that another user had moves: its row gives way.
INSERT OR REPLACE INTO subscriptions (app, external_id, id, type, is_subscribed, as_of, is_told)
SELECT :app, external_id, id, type, is_subscribed, :at, :is_told FROM told ORDER BY external_id, id;

-- name: drop_other_subscriptions
-- What a user has besides the subscriptions that were just told.
DELETE FROM subscriptions
WHERE app = :app AND external_id = :external_id AND id NOT IN (SELECT t.id FROM told AS t);

-- name: refresh_users
INSERT INTO users (app, external_id, known_at, subscriptions, subscribed)
SELECT :app, t.external_id, :now, count(s.id), coalesce(sum(s.is_subscribed), 0)
FROM touched AS t
LEFT JOIN subscriptions AS s ON s.app = :app AND s.external_id = t.external_id
GROUP BY t.external_id
ORDER BY t.external_id
ON CONFLICT (app, external_id) DO UPDATE SET
    subscriptions = excluded.subscriptions, subscribed = excluded.subscribed;

-- name: touch_absent_users
-- Known users of a range that a file which is the whole truth does not name.
INSERT OR IGNORE INTO touched (external_id, was_known, subscriptions, subscribed)
SELECT u.external_id, 1, u.subscriptions, u.subscribed FROM users AS u
WHERE u.app = :app AND u.external_id > :after AND (:upto IS NULL OR u.external_id <= :upto)
    AND u.known_at <= :at
    AND NOT EXISTS (SELECT 1 FROM told AS t WHERE t.external_id = u.external_id)
    AND NOT EXISTS (
        SELECT 1 FROM subscriptions AS s
        WHERE s.app = :app AND s.external_id = u.external_id AND s.as_of > :at
    );

-- name: drop_absent_users
DELETE FROM users
WHERE app = :app AND subscriptions = 0 AND known_at <= :at
    AND external_id > :after AND (:upto IS NULL OR external_id <= :upto)
    AND external_id NOT IN (SELECT n.value FROM json_each(:named) AS n);

-- name: drop_user
DELETE FROM users WHERE app = :app AND external_id = :external_id;

-- name: drop_subscriptions
DELETE FROM subscriptions WHERE app = :app AND external_id = :external_id;

-- name: subscription
SELECT external_id, type, is_subscribed, as_of, is_told
FROM subscriptions WHERE app = :app AND id = :id;

-- name: news
-- Which of some evidence (a JSON array of [external_id, id, flag or null]) says anything new.
SELECT e.key FROM json_each(:evidence) AS e
LEFT JOIN subscriptions AS s ON s.app = :app AND s.id = e.value ->> 1
WHERE
    CASE
        WHEN s.id IS NULL THEN e.value ->> 0 IS NOT NULL
        ELSE coalesce(e.value ->> 0, s.external_id) <> s.external_id
            OR coalesce(e.value ->> 2, s.is_subscribed) <> s.is_subscribed
    END;

-- name: is_known
SELECT 1 FROM users WHERE app = :app AND external_id = :external_id;

-- name: mark_exported
UPDATE apps SET
    exported_at = max(exported_at, :at), synced_at = :now,
    replaced_at = CASE WHEN :drops_users THEN max(replaced_at, :at) ELSE replaced_at END
WHERE no = :app;

-- name: exported_at
SELECT exported_at, replaced_at FROM apps WHERE no = :app;

-- name: count_subscriptions
SELECT count(*), coalesce(sum(is_subscribed), 0) FROM subscriptions WHERE app = :app;

-- name: count_users
SELECT count(*) FROM users WHERE app = :app;

-- name: figures_of_touched
-- What a change of the directory means for each segment of its app: figures before and after.
SELECT c.no,
    sum(u.external_id IS NULL AND x.external_id IS NOT NULL)
        - sum(t.was_known = 0 AND x.external_id IS NOT NULL) AS restricted_ids,
    sum(u.external_id IS NOT NULL OR (:takes_all AND x.external_id IS NULL))
        - sum(t.was_known OR (:takes_all AND x.external_id IS NULL)) AS matched_users,
    sum(
        (u.external_id IS NOT NULL OR (:takes_all AND x.external_id IS NULL))
        AND coalesce(u.subscriptions, 0) = 0
    ) - sum(
        (t.was_known OR (:takes_all AND x.external_id IS NULL)) AND t.subscriptions = 0
    ) AS without_subscription,
    sum(coalesce(u.subscriptions > 0 AND u.subscribed = 0, 0))
        - sum(t.subscriptions > 0 AND t.subscribed = 0) AS only_unsubscribed,
    sum(coalesce(u.subscribed, 0)) - sum(t.subscribed) AS subscribed_count,
    sum(
        (NOT :takes_all OR x.external_id IS NOT NULL) AND t.was_known = 0
        AND u.external_id IS NOT NULL
    ) AS entered,
    sum(
        (NOT :takes_all OR x.external_id IS NOT NULL) AND t.was_known = 1
        AND u.external_id IS NULL
    ) AS departed
FROM touched AS t
CROSS JOIN cohorts AS c ON c.app = :app AND c.list <> 0
CROSS JOIN listed AS l ON l.list = c.list AND l.external_id = t.external_id
LEFT JOIN users AS u ON u.app = :app AND u.external_id = t.external_id
LEFT JOIN restricted AS x ON x.external_id = t.external_id
GROUP BY c.no;

-- name: log_touched
-- Tells a segment's followers whom the directory brought and took.
INSERT INTO changes (cohort, external_id, change, run, at)
SELECT :cohort, t.external_id, u.external_id IS NOT NULL, :run, :at
FROM touched AS t
CROSS JOIN listed AS l ON l.list = :list AND l.external_id = t.external_id
LEFT JOIN users AS u ON u.app = :app AND u.external_id = t.external_id
WHERE t.was_known <> (u.external_id IS NOT NULL)
    AND (
        NOT :takes_all
        OR t.external_id IN (SELECT r.external_id FROM restricted AS r)
    );

-- name: salt
SELECT value FROM salt;

-- name: add_salt
INSERT INTO salt (value) VALUES (:value);

-- name: forgotten
SELECT app, hash FROM forgotten;

-- name: add_forgotten
INSERT OR IGNORE INTO forgotten (app, hash, at) VALUES (:app, :hash, :at);

-- name: forget_listed
DELETE FROM listed WHERE external_id = :external_id AND list IN (
    SELECT r.run_id FROM runs AS r JOIN cohorts AS c ON c.no = r.cohort WHERE c.app = :app
);

-- name: lists_of_user
-- Cohorts of an app in whose list in force a user stands, with what the user is to the segment.
SELECT c.no, u.external_id IS NOT NULL AS is_known,
    coalesce(u.subscriptions, 0), coalesce(u.subscribed, 0),
    EXISTS (SELECT 1 FROM restricted AS r WHERE r.external_id = :external_id) AS is_restricted
FROM cohorts AS c
JOIN listed AS l ON l.list = c.list AND l.external_id = :external_id
LEFT JOIN users AS u ON u.app = c.app AND u.external_id = l.external_id
WHERE c.app = :app;

-- name: forget_marks
DELETE FROM marks WHERE external_id = :external_id AND cohort IN (
    SELECT c.no FROM cohorts AS c WHERE c.app = :app
);

-- name: forget_run_changes
DELETE FROM run_changes WHERE external_id = :external_id AND run IN (
    SELECT r.run_id FROM runs AS r JOIN cohorts AS c ON c.no = r.cohort WHERE c.app = :app
);

-- name: changes_of_user
-- Everything the followers were told of a user (a scan; there is no index for so rare a question).
SELECT h.seq, h.cohort FROM changes AS h
WHERE h.seq > :after AND h.external_id = :external_id
    AND h.cohort IN (SELECT c.no FROM cohorts AS c WHERE c.app = :app)
    AND h.seq NOT IN (SELECT d.seq FROM departures AS d);

-- name: forget_changes
DELETE FROM changes WHERE seq IN (SELECT value FROM json_each(:seqs));

-- name: log_departure
INSERT INTO changes (cohort, external_id, change, run, at)
VALUES (:cohort, :external_id, 0, :run, :at);

-- name: add_departure
INSERT INTO departures (seq, at) VALUES (:seq, :at);

-- name: named_users
SELECT json_group_array(external_id) FROM (SELECT DISTINCT external_id FROM told);

-- name: store_subscription
INSERT OR REPLACE INTO subscriptions (app, external_id, id, type, is_subscribed, as_of, is_told)
VALUES (:app, :external_id, :id, :type, :is_subscribed, :as_of, :is_told);

-- name: takes_all
SELECT takes_all FROM apps WHERE no = :app;

-- name: sync_state
SELECT exported_at, synced_at FROM apps WHERE no = :app;
