-- name: published_segments
-- An app's rows of the view `segments`.
SELECT cohort_id, name, state, cohort_size, matched_users, subscribed_count, revision
FROM segments WHERE app = :app

-- name: published_members
-- An app's rows of the view `segment_members`.
SELECT cohort_id, external_id FROM segment_members WHERE app = :app

-- name: published_changes
-- An app's rows of the view `segment_changes` after one that is known already.
SELECT seq, cohort_id, external_id, change FROM segment_changes
WHERE app = :app AND seq > :after ORDER BY seq

-- name: published_runs
-- An app's rows of the view `cohort_runs`, oldest first.
SELECT run_id, cohort_id, source, state, reason FROM cohort_runs WHERE app = :app ORDER BY run_id
