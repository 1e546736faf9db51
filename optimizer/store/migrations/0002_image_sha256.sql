-- What tells a rebuilt image from the one that was measured; '' for trials stored before.
ALTER TABLE builds ADD COLUMN image_sha256 TEXT NOT NULL DEFAULT '';
