-- A throw-away database: rows in any order in, sorted and distinct rows out.

-- name: schema
CREATE TABLE raw_ids (external_id TEXT NOT NULL) STRICT;
CREATE TABLE ids (external_id TEXT PRIMARY KEY) STRICT, WITHOUT ROWID;
CREATE TABLE raw_rows (
    external_id TEXT NOT NULL, id TEXT NOT NULL, type TEXT NOT NULL, is_subscribed INTEGER NOT NULL
) STRICT;
CREATE TABLE rows (
    external_id TEXT NOT NULL,
    id TEXT NOT NULL,
    type TEXT NOT NULL,
    is_subscribed INTEGER NOT NULL,
    PRIMARY KEY (external_id, id)
) STRICT, WITHOUT ROWID;

-- name: take_ids
INSERT INTO raw_ids (external_id) SELECT value FROM json_each(:ids);

-- name: sort_ids
INSERT INTO ids (external_id) SELECT DISTINCT external_id FROM raw_ids ORDER BY external_id;

-- name: piece_of_ids
SELECT json_group_array(external_id), max(external_id), count(*) FROM (
    SELECT external_id FROM ids WHERE external_id > :after ORDER BY external_id LIMIT :limit
);

-- name: take_rows
INSERT INTO raw_rows (external_id, id, type, is_subscribed)
SELECT value ->> 0, value ->> 1, value ->> 2, value ->> 3 FROM json_each(:rows);

-- name: sort_rows
-- Of a repeated id the last row wins.
INSERT OR REPLACE INTO rows (external_id, id, type, is_subscribed)
SELECT external_id, id, type, is_subscribed FROM raw_rows ORDER BY external_id, id, rowid;

-- name: end_of_piece
-- The last user of a piece of about :limit rows; all rows of a user are in one piece.
SELECT external_id FROM rows
WHERE external_id > :after ORDER BY external_id LIMIT 1 OFFSET :limit;

-- name: piece_of_rows
SELECT json_group_array(json_array(external_id, id, type, is_subscribed)) FROM (
    SELECT external_id, id, type, is_subscribed FROM rows
    WHERE external_id > :after AND (:upto IS NULL OR external_id <= :upto)
    ORDER BY external_id, id
);

-- name: count_users_of_rows
SELECT count(DISTINCT external_id) FROM rows;
