-- The life of a run (stop, exception, fork and the like), as one JSON text; see storage/life_json.py.
ALTER TABLE runs ADD COLUMN IF NOT EXISTS life_json String CODEC(ZSTD(3)) AFTER config_json;
