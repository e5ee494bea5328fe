-- The trace that brought an event: its header `traceparent` (W3C Trace Context), as it was written.
--
-- At the end of the table, so that INSERTs and backups that count columns fit as before. The service fills the column
-- from the first batch on after it is there, and does without it before; it need not be told.
ALTER TABLE events
    ADD COLUMN IF NOT EXISTS traceparent String
        COMMENT 'traceparent of the HTTP request or Kafka message; empty without a valid one' CODEC(ZSTD(1));

CREATE OR REPLACE VIEW events_unique AS
SELECT event_id, payload, source, topic, partition, offset, key, received_at, inserted_at, traceparent
FROM events
FINAL;
