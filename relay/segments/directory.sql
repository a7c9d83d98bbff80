-- The directory. `touched` and `incoming` are temporary tables of the writing connection: the users that a
-- change concerns, as they were before it, and the subscriptions that it brings.

-- name: make_touched
CREATE TEMP TABLE touched (
    external_id TEXT PRIMARY KEY,
    was_known INTEGER NOT NULL,
    subscriptions INTEGER NOT NULL,
    subscribed INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- name: make_incoming
CREATE TEMP TABLE incoming (
    external_id TEXT NOT NULL,
    id TEXT NOT NULL,
    type TEXT NOT NULL,
    is_subscribed INTEGER NOT NULL,
    PRIMARY KEY (external_id, id)
) STRICT, WITHOUT ROWID;

-- name: clear_touched
DELETE FROM touched;

-- name: clear_incoming
DELETE FROM incoming;

-- name: add_incoming
-- Takes a JSON array of [external_id, id, type, is_subscribed]; of a repeated id the last counts.
INSERT OR REPLACE INTO incoming (external_id, id, type, is_subscribed)
SELECT value ->> 0, value ->> 1, value ->> 2, value ->> 3 FROM json_each(:rows)
WHERE value ->> 0 > :after AND (:upto IS NULL OR value ->> 0 <= :upto);

-- name: end_of_users
-- The last of :count known users; no row if fewer are left up to a bound.
SELECT external_id FROM users
WHERE app = :app AND external_id > :after AND (:upto IS NULL OR external_id < :upto)
ORDER BY external_id LIMIT 1 OFFSET :count;

-- name: touch
INSERT OR IGNORE INTO touched (external_id, was_known, subscriptions, subscribed)
SELECT i.value, u.external_id IS NOT NULL, coalesce(u.subscriptions, 0), coalesce(u.subscribed, 0)
FROM json_each(:ids) AS i
LEFT JOIN users AS u ON u.app = :app AND u.external_id = i.value;

-- name: touch_gone
-- Owners of subscriptions that a complete export lacks, within a range of its users.
INSERT OR IGNORE INTO touched (external_id, was_known, subscriptions, subscribed)
SELECT DISTINCT s.external_id, 1, u.subscriptions, u.subscribed
FROM subscriptions AS s
CROSS JOIN users AS u ON u.app = :app AND u.external_id = s.external_id
WHERE s.app = :app AND s.external_id > :after AND (:upto IS NULL OR s.external_id <= :upto)
    AND s.as_of <= :at
    AND NOT EXISTS (
        SELECT 1 FROM incoming AS t WHERE t.external_id = s.external_id AND t.id = s.id
    );

-- name: drop_gone
DELETE FROM subscriptions
WHERE app = :app AND external_id > :after AND (:upto IS NULL OR external_id <= :upto)
    AND as_of <= :at
    AND NOT EXISTS (
        SELECT 1 FROM incoming AS t
        WHERE t.external_id = subscriptions.external_id AND t.id = subscriptions.id
    );

-- name: drop_old_incoming
-- Drops incoming rows that are known already, and those with something newer known.
DELETE FROM incoming WHERE EXISTS (
    SELECT 1 FROM subscriptions AS s
    WHERE s.app = :app AND s.id = incoming.id
        AND (
            s.as_of > :at
            OR (
                :skips_known AND s.external_id = incoming.external_id AND s.type = incoming.type
                AND s.is_subscribed = incoming.is_subscribed
            )
        )
);

-- name: touch_new_users
-- Users that an export names and that are not known yet. Asked while all of its rows are there.
INSERT OR IGNORE INTO touched (external_id, was_known, subscriptions, subscribed)
SELECT DISTINCT t.external_id, 0, 0, 0 FROM incoming AS t
WHERE NOT EXISTS (SELECT 1 FROM users AS u WHERE u.app = :app AND u.external_id = t.external_id);

-- name: touch_incoming_users
INSERT OR IGNORE INTO touched (external_id, was_known, subscriptions, subscribed)
SELECT DISTINCT t.external_id, u.external_id IS NOT NULL, coalesce(u.subscriptions, 0),
    coalesce(u.subscribed, 0)
FROM incoming AS t LEFT JOIN users AS u ON u.app = :app AND u.external_id = t.external_id;

-- name: touch_former_owners
INSERT OR IGNORE INTO touched (external_id, was_known, subscriptions, subscribed)
SELECT DISTINCT u.external_id, 1, u.subscriptions, u.subscribed
FROM incoming AS t
CROSS JOIN subscriptions AS s ON s.app = :app AND s.id = t.id AND s.external_id <> t.external_id
CROSS JOIN users AS u ON u.app = :app AND u.external_id = s.external_id;

-- name: store_incoming
-- A subscription that belonged to another user moves: its id is unique, its old row is replaced.
INSERT OR REPLACE INTO subscriptions (app, external_id, id, type, is_subscribed, as_of, is_told)
SELECT :app, external_id, id, type, is_subscribed, :at, :is_from_app FROM incoming ORDER BY external_id, id;

-- name: drop_other_subscriptions
-- Drops a user's subscriptions that are not among the incoming ones.
DELETE FROM subscriptions
WHERE app = :app AND external_id = :external_id AND id NOT IN (SELECT t.id FROM incoming AS t);

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
-- Known users of a range that a file which replaces the directory does not name.
INSERT OR IGNORE INTO touched (external_id, was_known, subscriptions, subscribed)
SELECT u.external_id, 1, u.subscriptions, u.subscribed FROM users AS u
WHERE u.app = :app AND u.external_id > :after AND (:upto IS NULL OR u.external_id <= :upto)
    AND u.known_at <= :at
    AND NOT EXISTS (SELECT 1 FROM incoming AS t WHERE t.external_id = u.external_id)
    AND NOT EXISTS (
        SELECT 1 FROM subscriptions AS s
        WHERE s.app = :app AND s.external_id = u.external_id AND s.as_of > :at
    );

-- name: drop_absent_users
DELETE FROM users
WHERE app = :app AND subscriptions = 0 AND known_at <= :at
    AND external_id > :after AND (:upto IS NULL OR external_id <= :upto)
    AND external_id NOT IN (SELECT n.value FROM json_each(:named) AS n);

-- name: subscription
SELECT external_id, type, is_subscribed, as_of, is_told
FROM subscriptions WHERE app = :app AND id = :id;

-- name: find_news
-- Which of some observations (a JSON array of [external_id, id, flag or null]) are new.
SELECT e.key FROM json_each(:observed) AS e
LEFT JOIN subscriptions AS s ON s.app = :app AND s.id = e.value ->> 1
WHERE
    CASE
        WHEN s.id IS NULL THEN e.value ->> 0 IS NOT NULL
        ELSE coalesce(e.value ->> 0, s.external_id) <> s.external_id
            OR coalesce(e.value ->> 2, s.is_subscribed) <> s.is_subscribed
    END;

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
-- Logs the members that the directory brought and took.
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

-- name: named_users
SELECT json_group_array(external_id) FROM (SELECT DISTINCT external_id FROM incoming);

-- name: store_subscription
INSERT OR REPLACE INTO subscriptions (app, external_id, id, type, is_subscribed, as_of, is_told)
VALUES (:app, :external_id, :id, :type, :is_subscribed, :as_of, :is_from_app);

-- name: takes_all
SELECT takes_all FROM apps WHERE no = :app;

-- name: sync_state
SELECT exported_at, synced_at FROM apps WHERE no = :app;
