-- Reading a schema, to copy rows into it.

-- name: tables
SELECT l.name, s.rootpage, l.wr
FROM pragma_table_list AS l JOIN sqlite_schema AS s ON s.type = 'table' AND s.name = l.name
WHERE l.schema = 'main';

-- name: columns
-- In the order in which a row holds them: the key comes first in a table without rowids.
SELECT name, type, dflt_value, pk FROM pragma_table_info(:table)
ORDER BY CASE WHEN :is_keyed AND pk > 0 THEN pk ELSE 10000 + cid END;

-- name: insertion
-- The statement that adds a row to a table, given its columns as a JSON array.
SELECT format(
    'INSERT INTO "%w" (%s) VALUES (%s)',
    :table, group_concat(format('"%w"', value), ', '), group_concat('?', ', ')
)
FROM json_each(:columns);

-- name: emptying
SELECT format('DELETE FROM "%w"', :table);

-- name: schema
SELECT type, name, tbl_name, rootpage, sql FROM sqlite_schema;

-- name: begin_sequence
INSERT INTO sqlite_sequence (name, seq)
SELECT :name, 0 WHERE NOT EXISTS (SELECT 1 FROM sqlite_sequence WHERE name = :name);

-- name: raise_sequence
UPDATE sqlite_sequence SET seq = max(seq, :seq) WHERE name = :name;
