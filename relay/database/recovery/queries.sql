-- Reading what can be read of a damaged database, to copy it into a new one.

-- name: tables
SELECT l.name, s.rootpage, l.wr
FROM pragma_table_list AS l JOIN sqlite_schema AS s ON s.type = 'table' AND s.name = l.name
WHERE l.schema = 'main';

-- name: statements
-- A table's columns, and the statements that create a table with the same layout of pages, return
-- its rows, remove them and add one. Of the constraints only the key matters for the layout.
WITH info AS (SELECT * FROM pragma_table_info(:table)),
key AS (
    SELECT group_concat(name, ', ') AS names FROM (
        SELECT format('"%w"', name) AS name FROM info
        WHERE pk > 0 AND (
            :is_keyed OR (type = 'INTEGER' AND (SELECT count(*) FROM info WHERE pk > 0) = 1)
        )
        ORDER BY pk
    )
)
SELECT json_group_array(name),
    format(
        'CREATE TABLE page (%s%s)%s',
        group_concat(format('"%w" %s%s', name, type, coalesce(' DEFAULT ' || dflt_value, '')), ', '),
        coalesce(', PRIMARY KEY (' || (SELECT names FROM key) || ')', ''),
        iif(:is_keyed, ' WITHOUT ROWID', '')
    ),
    format('SELECT * FROM "%w"', :table),
    format('DELETE FROM "%w"', :table),
    format('INSERT INTO "%w" VALUES (%s)', :table, group_concat('?', ', '))
FROM (SELECT * FROM info ORDER BY cid);

-- name: create_schema_page
-- The layout of `sqlite_schema`.
CREATE TABLE page (type, name, tbl_name, rootpage, sql);

-- name: count_page
SELECT count(*) FROM page;

-- name: read_page
SELECT * FROM page;

-- name: read_page_row
SELECT * FROM page LIMIT 1 OFFSET :number;

-- name: schema
SELECT type, name, tbl_name, sql FROM sqlite_schema;

-- name: roots
SELECT name, rootpage FROM sqlite_schema WHERE rootpage > 0;

-- name: begin_sequence
INSERT INTO sqlite_sequence (name, seq)
SELECT :name, 0 WHERE NOT EXISTS (SELECT 1 FROM sqlite_sequence WHERE name = :name);

-- name: raise_sequence
UPDATE sqlite_sequence SET seq = max(seq, :seq) WHERE name = :name;
