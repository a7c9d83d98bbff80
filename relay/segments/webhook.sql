-- Amplitude's cohort webhook. Run 0 holds the delta of one message while it is applied.
-- The table marks holds the overrides, its column word their sequence.

-- name: add_message
INSERT INTO messages (app, message_id, at) VALUES (:app, :message_id, :at)
ON CONFLICT (app, message_id) DO NOTHING;

-- name: add_delta_of_message
-- Makes a message's delta: its users without a newer override, where the list differs.
INSERT INTO run_changes (run, external_id, change, entered_at)
SELECT 0, i.value, :is_member, CASE WHEN :is_member THEN NULL ELSE coalesce(l.entered_at, :list_at) END
FROM json_each(:ids) AS i
LEFT JOIN marks AS m ON m.cohort = :cohort AND m.external_id = i.value
LEFT JOIN listed AS l ON l.list = :list AND l.external_id = i.value
WHERE coalesce(m.computed_at, 0) <= :computed_at AND (l.external_id IS NULL) = :is_member;

-- name: override
-- The newest message about each user wins; of two of one computation the later one.
INSERT INTO marks (cohort, external_id, computed_at, is_member, word)
SELECT :cohort, i.value, :computed_at, :is_member, :webhook_seq FROM json_each(:ids) AS i WHERE true
ON CONFLICT (cohort, external_id) DO UPDATE SET
    computed_at = excluded.computed_at, is_member = excluded.is_member, word = excluded.word
WHERE excluded.computed_at >= computed_at;

-- name: moved_by_messages
-- What earlier messages of a computation (:run) did to the members: how many came and are still
-- listed, how many are gone. Asked before the message at hand is applied.
SELECT
    coalesce(sum(h.change = 1 AND l.external_id IS NOT NULL), 0) AS came,
    coalesce(sum(h.change = 0 AND l.external_id IS NULL), 0) AS gone
FROM run_changes AS h
LEFT JOIN listed AS l ON l.list = :list AND l.external_id = h.external_id
LEFT JOIN users AS u ON u.app = :app AND u.external_id = h.external_id
WHERE h.run = :run
    AND (
        u.external_id IS NOT NULL
        OR (:takes_all AND h.external_id NOT IN (SELECT r.external_id FROM restricted AS r))
    );

-- name: members_passing
-- How many members came by earlier messages of a computation and leave by the one at hand (run 0).
SELECT count(*)
FROM run_changes AS d
CROSS JOIN run_changes AS h ON h.run = :run AND h.external_id = d.external_id AND h.change = 1
LEFT JOIN users AS u ON u.app = :app AND u.external_id = d.external_id
WHERE d.run = 0 AND d.change = 0
    AND (
        u.external_id IS NOT NULL
        OR (:takes_all AND d.external_id NOT IN (SELECT r.external_id FROM restricted AS r))
    );

-- name: cancel_opposites
-- A user who entered and left within one run did neither.
DELETE FROM run_changes WHERE run = :run AND EXISTS (
    SELECT 1 FROM run_changes AS d
    WHERE d.run = 0 AND d.external_id = run_changes.external_id AND d.change <> run_changes.change
)
RETURNING external_id;

-- name: merge_delta
INSERT OR IGNORE INTO run_changes (run, external_id, change, entered_at)
SELECT :run, external_id, change, entered_at FROM run_changes
WHERE run = 0 AND external_id NOT IN (SELECT value FROM json_each(:cancelled));

-- name: hold_message
-- A held computation gathers its messages.
INSERT INTO run_changes (run, external_id, change, entered_at)
SELECT :run, i.value, :is_member, NULL FROM json_each(:ids) AS i WHERE true
ON CONFLICT (run, external_id) DO UPDATE SET change = excluded.change;

-- name: drop_void_delta
-- Drops what the list already says, and users with a newer override.
DELETE FROM run_changes WHERE run = :run AND (
    (change = 1) = EXISTS (
        SELECT 1 FROM listed AS l WHERE l.list = :list AND l.external_id = run_changes.external_id
    )
    OR EXISTS (
        SELECT 1 FROM marks AS m
        WHERE m.cohort = :cohort AND m.external_id = run_changes.external_id
            AND m.computed_at > :computed_at
    )
);

-- name: override_by_run
INSERT INTO marks (cohort, external_id, computed_at, is_member, word)
SELECT :cohort, external_id, :computed_at, change, :webhook_seq FROM run_changes WHERE run = :run
ON CONFLICT (cohort, external_id) DO UPDATE SET
    computed_at = excluded.computed_at, is_member = excluded.is_member, word = excluded.word
WHERE excluded.computed_at >= computed_at;

-- name: set_entry_instants
-- Gives the leavers of a held run the instants at which they had entered, for a rollback.
UPDATE run_changes SET entered_at = (
    SELECT coalesce(l.entered_at, :list_at) FROM listed AS l
    WHERE l.list = :list AND l.external_id = run_changes.external_id
)
WHERE run = :run AND change = 0;

-- name: set_computed
UPDATE cohorts SET
    computed_at = max(coalesce(computed_at, 0), :computed_at), applied_at = :at
WHERE no = :cohort;
