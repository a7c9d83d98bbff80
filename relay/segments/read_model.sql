-- What is read of segments, cohorts, runs and users.

-- name: segments_page
SELECT c.no, s.app, s.cohort_id, s.name, s.state, s.cohort_size, s.matched_users,
    s.subscribed_count, s.revision, s.computed_at, s.applied_at
FROM segments AS s
JOIN apps AS a ON a.app = s.app
JOIN cohorts AS c ON c.app = a.no AND c.cohort_id = s.cohort_id
WHERE c.no > :after AND (:app IS NULL OR s.app = :app) AND (:state IS NULL OR s.state = :state)
ORDER BY c.no LIMIT :limit;

-- name: segment
SELECT c.no, s.app, s.cohort_id, s.name, s.state, s.cohort_size, s.matched_users,
    s.subscribed_count, s.revision, s.computed_at, s.applied_at
FROM segments AS s
JOIN apps AS a ON a.app = s.app
JOIN cohorts AS c ON c.app = a.no AND c.cohort_id = s.cohort_id
WHERE s.app = :app AND s.cohort_id = :cohort_id;

-- name: cohort_of
SELECT c.no, c.name, c.list, c.is_segment
FROM cohorts AS c JOIN apps AS a ON a.no = c.app
WHERE a.app = :app AND c.cohort_id = :cohort_id;

-- name: explain
SELECT c.ids + c.empty_ids AS cohort_size, c.empty_ids, c.restricted_ids,
    c.ids - c.restricted_ids - c.matched_users AS unknown_users, c.matched_users,
    c.without_subscription, c.only_unsubscribed,
    c.matched_users - c.without_subscription - c.only_unsubscribed AS subscribed_users,
    c.subscribed_count
FROM cohorts AS c WHERE c.no = :cohort;

-- name: members
SELECT external_id, entered_at FROM segment_members
WHERE app = :app AND cohort_id = :cohort_id ORDER BY external_id;

-- name: changes_page
SELECT h.seq, h.external_id, CASE h.change WHEN 1 THEN 'entered' ELSE 'left' END, h.run, h.at
FROM changes AS h WHERE h.cohort = :cohort AND h.seq > :after ORDER BY h.seq LIMIT :limit;

-- name: ids_behind
-- The ids behind one number of an explanation, with the figures of each.
SELECT l.external_id, coalesce(u.subscriptions, 0), coalesce(u.subscribed, 0)
FROM cohorts AS c
JOIN apps AS a ON a.no = c.app
JOIN listed AS l ON l.list = c.list
LEFT JOIN users AS u ON u.app = c.app AND u.external_id = l.external_id
LEFT JOIN restricted AS x ON x.external_id = l.external_id
WHERE c.no = :cohort
    AND CASE
        WHEN u.external_id IS NULL AND x.external_id IS NOT NULL THEN :group = 'restricted_ids'
        WHEN u.external_id IS NULL AND NOT a.takes_all THEN :group = 'unknown_users'
        WHEN coalesce(u.subscriptions, 0) = 0
            THEN :group IN ('matched_users', 'matched_without_subscription')
        WHEN u.subscribed = 0 THEN :group IN ('matched_users', 'only_unsubscribed')
        ELSE :group IN ('matched_users', 'subscribed_users')
    END
ORDER BY l.external_id;

-- name: user
SELECT u.known_at, u.subscriptions, u.subscribed
FROM users AS u JOIN apps AS a ON a.no = u.app
WHERE a.app = :app AND u.external_id = :external_id;

-- name: subscriptions_of
SELECT s.id, s.type, s.is_subscribed
FROM subscriptions AS s JOIN apps AS a ON a.no = s.app
WHERE a.app = :app AND s.external_id = :external_id ORDER BY s.id;

-- name: cohorts_of_user
-- Every cohort with a list, and what it says of one user.
SELECT c.cohort_id, c.name, c.is_segment, l.external_id IS NOT NULL AS is_listed,
    max(
        coalesce(l.entered_at, c.list_at),
        CASE
            WHEN NOT a.takes_all OR x.external_id IS NOT NULL THEN coalesce(u.known_at, 0)
            ELSE min(coalesce(u.known_at, a.all_since), a.all_since)
        END
    ) AS entered_at,
    u.external_id IS NOT NULL AS is_known, x.external_id IS NOT NULL AS is_restricted, a.takes_all
FROM cohorts AS c
JOIN apps AS a ON a.no = c.app
LEFT JOIN listed AS l ON l.list = c.list AND l.external_id = :external_id
LEFT JOIN users AS u ON u.app = c.app AND u.external_id = :external_id
LEFT JOIN restricted AS x ON x.external_id = :external_id
WHERE a.app = :app AND c.list <> 0
ORDER BY c.no;

-- name: overview
-- An app's segments by state, and when one was last applied.
SELECT s.state, count(*), max(s.applied_at) FROM segments AS s WHERE s.app = :app GROUP BY s.state;

-- name: last_run_of_app
SELECT max((
    SELECT r.finished_at FROM runs AS r
    WHERE r.cohort = c.no AND r.finished_at IS NOT NULL AND r.source <> 'directory'
    ORDER BY r.run_id DESC LIMIT 1
))
FROM cohorts AS c WHERE c.app = :app;
