-- The trace that brought an event: see schema/004_traceparent.sql. The local tables come first: what an INSERT into the
-- Distributed table names, each shard must have.
ALTER TABLE events_local ON CLUSTER '{cluster}'
    ADD COLUMN IF NOT EXISTS traceparent String
        COMMENT 'traceparent of the HTTP request or Kafka message; empty without a valid one' CODEC(ZSTD(1));

ALTER TABLE events ON CLUSTER '{cluster}' ADD COLUMN IF NOT EXISTS traceparent String;

CREATE OR REPLACE VIEW events_unique ON CLUSTER '{cluster}' AS
SELECT event_id, payload, source, topic, partition, offset, key, received_at, inserted_at, traceparent
FROM events
FINAL;
