-- Retention: what is removed in time, some rows per transaction.

-- name: drop_spent_delta
-- Removes a delta that nothing needs any more, some rows at a time.
DELETE FROM run_changes WHERE (run, external_id) IN (
    SELECT h.run, h.external_id FROM run_changes AS h WHERE h.run = :run LIMIT :limit
);

-- name: spent_delta
-- A run whose delta nothing needs: not among a cohort's last applied ones (rollback), nor open.
WITH RECURSIVE kept (run) AS (  -- the distinct runs, one look into the index each
    SELECT min(h.run) FROM run_changes AS h
    UNION ALL
    SELECT (SELECT min(h.run) FROM run_changes AS h WHERE h.run > kept.run) FROM kept
    WHERE kept.run IS NOT NULL
)
SELECT r.run_id FROM kept CROSS JOIN runs AS r ON r.run_id = kept.run
WHERE r.state NOT IN ('running', 'held')
    AND r.run_id NOT IN (
        SELECT k.run_id FROM runs AS k
        WHERE k.cohort = r.cohort AND k.state = 'applied' AND k.source <> 'directory'
            AND EXISTS (SELECT 1 FROM run_changes AS h WHERE h.run = k.run_id)
        ORDER BY k.run_id DESC LIMIT :keep
    )
LIMIT 1;

-- name: drop_old_runs
DELETE FROM runs WHERE run_id IN (
    SELECT r.run_id FROM (SELECT o.run_id FROM runs AS o ORDER BY o.run_id LIMIT :limit) AS old
    CROSS JOIN runs AS r ON r.run_id = old.run_id
    WHERE r.finished_at < :before AND r.state NOT IN ('running', 'held')
        AND NOT EXISTS (SELECT 1 FROM run_changes AS h WHERE h.run = r.run_id)
        AND NOT EXISTS (SELECT 1 FROM cohorts AS c WHERE c.list = r.run_id)
);

-- name: drop_listed
DELETE FROM listed WHERE (list, external_id) IN (
    SELECT l.list, l.external_id FROM listed AS l WHERE l.list = :list LIMIT :limit
);

-- name: discarded_list
SELECT list FROM discarded_lists LIMIT 1;

-- name: drop_discarded_list
DELETE FROM discarded_lists WHERE list = :list;

-- name: drop_old_messages
DELETE FROM messages WHERE (app, message_id) IN (
    SELECT app, message_id FROM messages WHERE at < :before LIMIT :limit
);

-- name: drop_old_changes
DELETE FROM changes WHERE seq IN (
    SELECT old.seq FROM (SELECT h.seq, h.at FROM changes AS h ORDER BY h.seq LIMIT :limit) AS old
    WHERE old.at < :before
);

-- name: drop_old_sightings
DELETE FROM sightings WHERE at < :before;

-- name: drop_departures
DELETE FROM changes WHERE seq IN (SELECT d.seq FROM departures AS d WHERE d.at < :before);

-- name: close_departures
DELETE FROM departures WHERE at < :before;
