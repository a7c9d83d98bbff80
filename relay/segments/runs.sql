-- Runs: attempts to bring a segment up to date, and how they ended.

-- name: begin_run
INSERT INTO runs (
    cohort, source, state, started_at, finished_at, computed_at, mod_at, listed_size,
    requested_at, request_id, is_complete
) VALUES (
    :cohort, :source, :state, :at, CASE :state WHEN 'running' THEN NULL ELSE :at END,
    :computed_at, :mod_at, :listed_size, :requested_at, :request_id, :is_complete
)
RETURNING run_id;

-- name: run
SELECT run_id, cohort, source, state, empty_ids, computed_at, mod_at, listed_size
FROM runs WHERE run_id = :run;

-- name: finish_run
UPDATE runs SET
    state = :state, finished_at = :at, unknown_users = unknown_users + :unknown_users,
    added = added + :added, removed = removed + :removed, reason = :reason
WHERE run_id = :run AND state IN ('running', 'held', 'applied');

-- name: set_revision
UPDATE runs SET revision = (SELECT c.revision FROM cohorts AS c WHERE c.no = cohort)
WHERE run_id = :run;

-- name: set_members
UPDATE runs SET members = :members, empty_ids = :empty_ids WHERE run_id = :run;

-- name: approve_run
UPDATE runs SET is_approved = 1 WHERE run_id = :run AND state = 'held';

-- name: add_members
UPDATE runs SET members = members + :members, empty_ids = empty_ids + :empty_ids
WHERE run_id = :run;

-- name: set_export
UPDATE runs SET request_id = :request_id WHERE run_id = :run AND state = 'running';

-- name: set_complete
UPDATE runs SET is_complete = 1 WHERE run_id = :run AND state = 'running';

-- name: fail_run
UPDATE runs SET state = 'failed', finished_at = :at, reason = :reason
WHERE run_id = :run AND state = 'running';

-- name: reject_run
UPDATE runs SET state = 'rejected', finished_at = :at, reason = :reason
WHERE run_id = :run AND state = 'held';

-- name: set_rejected
-- A rejected computation is neither downloaded nor held again.
UPDATE cohorts SET
    rejected_computed_at = r.computed_at, rejected_mod_at = r.mod_at, rejected_size = r.listed_size
FROM runs AS r
WHERE r.run_id = :run AND r.source = 'poll' AND cohorts.no = r.cohort;

-- name: held_runs
SELECT run_id, computed_at FROM runs
WHERE cohort = :cohort AND state = 'held' ORDER BY run_id;

-- name: message_runs
-- The runs of a webhook computation.
SELECT state, run_id, is_approved, removed FROM runs
WHERE cohort = :cohort AND source = 'webhook' AND computed_at = :computed_at
ORDER BY run_id;

-- name: directory_run
-- The run that gathers what the directory changes in one minute, if it is the newest.
SELECT run_id FROM runs
WHERE cohort = :cohort AND run_id = (SELECT max(r.run_id) FROM runs AS r WHERE r.cohort = :cohort)
    AND source = 'directory' AND state = 'applied' AND started_at > :since;

-- name: open_runs
-- Running downloads: after a start, those an earlier process left.
SELECT r.run_id, r.cohort, r.request_id, r.is_complete, r.started_at
FROM runs AS r JOIN cohorts AS c ON c.no = r.cohort
WHERE r.state = 'running' AND c.app = :app ORDER BY r.run_id;

-- name: uncount
UPDATE runs SET requested_at = NULL WHERE run_id = :run AND state = 'running';

-- name: last_download
-- The newest download of a cohort, and when its export was asked for.
SELECT r.run_id, r.state, r.computed_at, r.mod_at, r.request_id, r.is_complete, (
    SELECT max(e.requested_at) FROM runs AS e
    WHERE e.cohort = r.cohort AND e.request_id = r.request_id
)
FROM runs AS r
WHERE r.cohort = :cohort AND r.source = 'poll' ORDER BY r.run_id DESC LIMIT 1;

-- name: failures_of_export
SELECT count(*) FROM runs
WHERE cohort = :cohort AND request_id = :request_id AND state = 'failed';

-- name: held_watermark
SELECT computed_at, mod_at, listed_size FROM runs
WHERE cohort = :cohort AND state = 'held' AND source = 'poll' ORDER BY run_id DESC LIMIT 1;

-- name: requests_since
SELECT r.requested_at FROM runs AS r CROSS JOIN cohorts AS c ON c.no = r.cohort
WHERE r.requested_at >= :since AND c.app = :app ORDER BY r.requested_at;

-- name: undoable_runs
-- Runs that changed the list in force and can be undone, newest first.
SELECT r.run_id, r.source, r.finished_at, r.revision, r.added, r.removed
FROM runs AS r
WHERE r.cohort = :cohort AND r.state = 'applied' AND r.source <> 'directory'
    AND EXISTS (SELECT 1 FROM run_changes AS h WHERE h.run = r.run_id)
ORDER BY r.run_id DESC LIMIT :count;

-- name: revision_before
-- The revision made by the last run before some kept ones that changed members: no rollback
-- reaches further back.
SELECT max(revision) FROM runs
WHERE cohort = :cohort AND run_id < :run AND state = 'applied' AND source <> 'directory'
    AND added + removed > 0;

-- name: undo
-- The inverse of some runs (a JSON array), as far as the list in force differs from it.
INSERT INTO run_changes (run, external_id, change, entered_at)
SELECT :run, h.external_id, 1 - h.change,
    CASE h.change WHEN 1 THEN coalesce(l.entered_at, :list_at) ELSE h.entered_at END
FROM run_changes AS h
LEFT JOIN listed AS l ON l.list = :list AND l.external_id = h.external_id
WHERE h.run = (
        SELECT min(o.run) FROM run_changes AS o
        WHERE o.external_id = h.external_id AND o.run IN (SELECT value FROM json_each(:runs))
    )
    AND h.run IN (SELECT value FROM json_each(:runs))
    AND (l.external_id IS NOT NULL) = (h.change = 1);

-- name: empty_ids_at
-- Empty ids of the file that was in force at a revision.
SELECT empty_ids FROM runs
WHERE cohort = :cohort AND source = 'poll' AND state IN ('applied', 'unchanged')
    AND run_id < :run
ORDER BY run_id DESC LIMIT 1;

-- name: set_empty_ids
UPDATE cohorts SET empty_ids = :empty_ids WHERE no = :cohort;

-- name: runs_page
SELECT r.run_id, a.app, c.cohort_id, r.source, r.state, r.started_at, r.finished_at, r.members,
    r.empty_ids, r.unknown_users, r.added, r.removed, r.reason
FROM runs AS r JOIN cohorts AS c ON c.no = r.cohort JOIN apps AS a ON a.no = c.app
WHERE r.run_id < :before
    AND (:app IS NULL OR a.app = :app)
    AND (:cohort_id IS NULL OR c.cohort_id = :cohort_id)
    AND (:state IS NULL OR r.state = :state)
ORDER BY r.run_id DESC LIMIT :limit;

-- name: drop_list
DELETE FROM listed WHERE list = :list;
