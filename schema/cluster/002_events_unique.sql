-- Each event once, at any moment. FINAL works within each shard, and all copies of an event are in one (001).
CREATE VIEW IF NOT EXISTS events_unique ON CLUSTER '{cluster}' AS
SELECT event_id, payload, source, topic, partition, offset, key, received_at, inserted_at
FROM events
FINAL;
