-- Events that damage to this file took; they are part of `discarded`.
ALTER TABLE apps ADD COLUMN lost INTEGER NOT NULL DEFAULT 0;
