-- Lists, and what a change of them means for the segment.
-- A list is named by the run that staged it; run_changes holds a run's delta. The table marks holds
-- the overrides (the newest webhook message about each user), its column word their sequence.

-- name: cohort
SELECT c.no, c.app, c.cohort_id, a.takes_all, a.segment_limit, c.list, c.list_at, c.version,
    c.words, c.is_segment, c.matched_users, c.applied_computed_at
FROM cohorts AS c JOIN apps AS a ON a.no = c.app
WHERE c.no = :cohort;

-- name: stage
-- Adds sorted ids (a JSON array) to a staged list; ids that stay keep their instant of entry.
INSERT INTO listed (list, external_id, entered_at)
SELECT :list, i.value,
    CASE WHEN o.external_id IS NULL THEN NULL ELSE coalesce(o.entered_at, :list_at) END
FROM json_each(:ids) AS i
LEFT JOIN listed AS o ON o.list = :old AND o.external_id = i.value;

-- name: add_delta_entered
-- The ids of a range that are on the new list and not on the old one.
INSERT INTO run_changes (run, external_id, change, entered_at)
SELECT :list, n.external_id, 1, NULL
FROM listed AS n
WHERE n.list = :list AND n.external_id > :after AND (:upto IS NULL OR n.external_id <= :upto)
    AND NOT EXISTS (
        SELECT 1 FROM listed AS o WHERE o.list = :old AND o.external_id = n.external_id
    );

-- name: add_delta_left
INSERT INTO run_changes (run, external_id, change, entered_at)
SELECT :list, o.external_id, 0, coalesce(o.entered_at, :list_at)
FROM listed AS o
WHERE o.list = :old AND o.external_id > :after AND (:upto IS NULL OR o.external_id <= :upto)
    AND NOT EXISTS (
        SELECT 1 FROM listed AS n WHERE n.list = :list AND n.external_id = o.external_id
    );

-- name: range_end
-- The last id of a range of :count ids of a list; no row if fewer are left.
SELECT external_id FROM listed
WHERE list = :list AND external_id > :after
ORDER BY external_id LIMIT 1 OFFSET :count;

-- name: drop_delta
DELETE FROM run_changes WHERE run = :run;

-- name: next_webhook_seq
UPDATE cohorts SET words = words + 1 WHERE no = :cohort RETURNING words;

-- name: overrides_enter
-- Overrides of a later computation win over a downloaded list.
INSERT OR IGNORE INTO listed (list, external_id, entered_at)
SELECT :list, m.external_id, o.entered_at
FROM marks AS m LEFT JOIN listed AS o ON o.list = :old AND o.external_id = m.external_id
WHERE m.cohort = :cohort AND m.computed_at > :computed_at AND m.is_member = 1;

-- name: overrides_leave
DELETE FROM listed
WHERE list = :list AND external_id IN (
    SELECT m.external_id FROM marks AS m
    WHERE m.cohort = :cohort AND m.computed_at > :computed_at AND m.is_member = 0
);

-- name: drop_overridden_delta
-- Users with an override since the comparison began, or of a later computation, are compared again.
DELETE FROM run_changes
WHERE run = :list AND external_id IN (
    SELECT m.external_id FROM marks AS m
    WHERE m.cohort = :cohort AND (m.computed_at > :computed_at OR m.word > :webhook_seq)
);

-- name: redo_delta_entered
INSERT INTO run_changes (run, external_id, change, entered_at)
SELECT :list, m.external_id, 1, NULL
FROM marks AS m
WHERE m.cohort = :cohort AND (m.computed_at > :computed_at OR m.word > :webhook_seq)
    AND EXISTS (SELECT 1 FROM listed AS n WHERE n.list = :list AND n.external_id = m.external_id)
    AND NOT EXISTS (
        SELECT 1 FROM listed AS o WHERE o.list = :old AND o.external_id = m.external_id
    );

-- name: redo_delta_left
INSERT INTO run_changes (run, external_id, change, entered_at)
SELECT :list, o.external_id, 0, coalesce(o.entered_at, :list_at)
FROM marks AS m JOIN listed AS o ON o.list = :old AND o.external_id = m.external_id
WHERE m.cohort = :cohort AND (m.computed_at > :computed_at OR m.word > :webhook_seq)
    AND NOT EXISTS (
        SELECT 1 FROM listed AS n WHERE n.list = :list AND n.external_id = m.external_id
    );

-- name: drop_overrides
-- An override is spent once a list as new as it is in force.
DELETE FROM marks WHERE cohort = :cohort AND computed_at <= :computed_at;

-- name: enter
-- Puts entering users on the list in force. :delta is the run whose delta it is, 0 for one webhook
-- message.
INSERT OR IGNORE INTO listed (list, external_id, entered_at)
SELECT :list, external_id, coalesce(entered_at, :at) FROM run_changes WHERE run = :delta AND change = 1;

-- name: leave
DELETE FROM listed
WHERE list = :list AND external_id IN (
    SELECT external_id FROM run_changes WHERE run = :delta AND change = 0
);

-- name: figures_of_delta
-- What a delta means for the segment: a row of figures for 1 (enters) and for 0 (leaves).
SELECT h.change, count(*) AS ids,
    sum(u.external_id IS NULL AND x.external_id IS NOT NULL) AS restricted_ids,
    sum(u.external_id IS NOT NULL OR (:takes_all AND x.external_id IS NULL)) AS matched_users,
    sum(
        (u.external_id IS NOT NULL OR (:takes_all AND x.external_id IS NULL))
        AND coalesce(u.subscriptions, 0) = 0
    ) AS without_subscription,
    sum(u.subscriptions > 0 AND u.subscribed = 0) AS only_unsubscribed,
    sum(u.subscribed) AS subscribed_count
FROM run_changes AS h
LEFT JOIN users AS u ON u.app = :app AND u.external_id = h.external_id
LEFT JOIN restricted AS x ON x.external_id = h.external_id
WHERE h.run = :delta
GROUP BY h.change;

-- name: figures_of_list
SELECT 1, count(*) AS ids,
    sum(u.external_id IS NULL AND x.external_id IS NOT NULL) AS restricted_ids,
    sum(u.external_id IS NOT NULL OR (:takes_all AND x.external_id IS NULL)) AS matched_users,
    sum(
        (u.external_id IS NOT NULL OR (:takes_all AND x.external_id IS NULL))
        AND coalesce(u.subscriptions, 0) = 0
    ) AS without_subscription,
    sum(u.subscriptions > 0 AND u.subscribed = 0) AS only_unsubscribed,
    sum(u.subscribed) AS subscribed_count
FROM listed AS l
LEFT JOIN users AS u ON u.app = :app AND u.external_id = l.external_id
LEFT JOIN restricted AS x ON x.external_id = l.external_id
WHERE l.list = :list;

-- name: move_figures
UPDATE cohorts SET
    ids = ids + :ids,
    restricted_ids = restricted_ids + :restricted_ids,
    matched_users = matched_users + :matched_users,
    without_subscription = without_subscription + :without_subscription,
    only_unsubscribed = only_unsubscribed + :only_unsubscribed,
    subscribed_count = subscribed_count + :subscribed_count
WHERE no = :cohort
RETURNING matched_users;

-- name: figures
SELECT ids, restricted_ids, matched_users, without_subscription, only_unsubscribed,
    subscribed_count
FROM cohorts WHERE no = :cohort;

-- name: log_delta
-- Logs the members that a delta brings and takes.
INSERT INTO changes (cohort, external_id, change, run, at)
SELECT :cohort, h.external_id, h.change, :run, :at
FROM run_changes AS h
LEFT JOIN users AS u ON u.app = :app AND u.external_id = h.external_id
WHERE h.run = :delta
    AND (
        u.external_id IS NOT NULL
        OR (:takes_all AND h.external_id NOT IN (SELECT r.external_id FROM restricted AS r))
    );

-- name: log_members
-- Logs the first members of a new segment.
INSERT INTO changes (cohort, external_id, change, run, at)
SELECT :cohort, l.external_id, 1, :run, :at
FROM listed AS l
LEFT JOIN users AS u ON u.app = :app AND u.external_id = l.external_id
WHERE l.list = :list
    AND (
        u.external_id IS NOT NULL
        OR (:takes_all AND l.external_id NOT IN (SELECT r.external_id FROM restricted AS r))
    );

-- name: count_segments
SELECT count(*) FROM cohorts WHERE app = :app AND is_segment;

-- name: list_in_force
SELECT list FROM cohorts WHERE no = :cohort;

-- name: create_segment
UPDATE cohorts SET is_segment = 1 WHERE no = :cohort;

-- name: next_revision
UPDATE cohorts SET revision = revision + 1, applied_at = :at WHERE no = :cohort;

-- name: bring_into_force
-- Puts another list in force, and with it the computation it is of.
UPDATE cohorts SET
    list = :list, list_at = :at, version = version + 1, empty_ids = :empty_ids,
    applied_computed_at = :computed_at, applied_mod_at = :mod_at, applied_size = :listed_size,
    computed_at = max(coalesce(computed_at, 0), coalesce(:computed_at, 0)), applied_at = :now,
    stale_since = NULL
WHERE no = :cohort;

-- name: discard_list
INSERT OR IGNORE INTO discarded_lists (list) SELECT :list WHERE :list <> 0;

-- name: begin_list
-- A cohort that has no list gets an empty one, named after the run that needs it.
UPDATE cohorts SET list = :run, list_at = :at, version = version + 1 WHERE no = :cohort AND list = 0;

-- name: change_list
-- The list in force is no longer the one that a comparison may have seen.
UPDATE cohorts SET version = version + 1, applied_at = :at WHERE no = :cohort;

-- name: log_unknown
-- Logs users unknown to OneSignal as they begin to count as members, or cease to.
INSERT INTO changes (cohort, external_id, change, run, at)
SELECT :cohort, l.external_id, :change, :run, :at
FROM listed AS l
WHERE l.list = :list
    AND l.external_id NOT IN (SELECT r.external_id FROM restricted AS r)
    AND NOT EXISTS (
        SELECT 1 FROM users AS u WHERE u.app = :app AND u.external_id = l.external_id
    );
