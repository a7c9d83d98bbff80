-- By how many milliseconds the wall clock is ahead of the time that `claims.started_at` and
-- `tries.first_tried_at` are of: the sum of its leaps.
ALTER TABLE marks ADD COLUMN clock_ahead_ms INTEGER NOT NULL DEFAULT 0;
