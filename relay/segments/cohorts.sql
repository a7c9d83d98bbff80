-- Apps and cohorts.

-- name: add_app
INSERT INTO apps (app, takes_all, segment_limit) VALUES (:app, :takes_all, :segment_limit)
ON CONFLICT (app) DO NOTHING;

-- name: set_app
UPDATE apps SET
    all_since = CASE WHEN takes_all <> :takes_all THEN :at ELSE all_since END,
    takes_all = :takes_all, segment_limit = :segment_limit
WHERE no = :app;

-- name: cohorts_of_app
SELECT no FROM cohorts WHERE app = :app ORDER BY no;

-- name: add_cohort
INSERT INTO cohorts (app, cohort_id, name) VALUES (:app, :cohort_id, :name)
ON CONFLICT (app, cohort_id) DO NOTHING;

-- name: cohort_no
SELECT no FROM cohorts WHERE app = :app AND cohort_id = :cohort_id;

-- name: rename_cohort
-- By a webhook message: not where Amplitude's list has the name, nor by an old message.
UPDATE cohorts SET name = :name
WHERE no = :cohort AND name <> :name AND NOT is_listed AND coalesce(computed_at, 0) <= :computed_at;

-- name: set_listing
-- What Amplitude lists now. stale_since: when the listing began to differ from what is applied.
UPDATE cohorts SET
    name = :name, is_listed = 1, standing = :standing,
    listed_computed_at = :computed_at, listed_mod_at = :mod_at, listed_size = :size,
    stale_since = CASE
        WHEN applied_computed_at IS :computed_at AND applied_mod_at IS :mod_at
            AND applied_size IS :size THEN NULL
        ELSE coalesce(stale_since, :at) END
WHERE no = :cohort;

-- name: listing
SELECT listed_computed_at, listed_mod_at, listed_size FROM cohorts WHERE no = :cohort;

-- name: add_sighting
INSERT OR IGNORE INTO sightings (cohort, at) VALUES (:cohort, :at);

-- name: set_missing
-- Cohorts that are missing from the list now (:listed is a JSON array of ids).
UPDATE cohorts SET standing = 'stale'
WHERE app = :app AND is_listed AND standing <> 'stale'
    AND cohort_id NOT IN (SELECT value FROM json_each(:listed));

-- name: listed_cohorts
-- Every cohort that Amplitude's list has or had.
SELECT c.no, c.cohort_id, c.name, c.standing,
    c.listed_computed_at, c.listed_mod_at, c.listed_size, c.stale_since,
    c.applied_computed_at, c.applied_mod_at, c.applied_size,
    c.rejected_computed_at, c.rejected_mod_at, c.rejected_size,
    (SELECT count(*) FROM sightings AS s WHERE s.cohort = c.no AND s.at >= :since) AS changes,
    (SELECT max(r.requested_at) FROM runs AS r WHERE r.cohort = c.no) AS last_requested_at
FROM cohorts AS c
WHERE c.app = :app AND c.is_listed ORDER BY c.no;

-- name: missing_segments
-- Cohorts with matched users and no segment, as the limit did not allow one.
SELECT no FROM cohorts WHERE app = :app AND NOT is_segment AND matched_users > 0 ORDER BY no;

-- name: app_no
SELECT no, takes_all FROM apps WHERE app = :app;
