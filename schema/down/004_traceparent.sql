-- Loses the traces of all events, and no event. Batches that come in between do without the column.
CREATE OR REPLACE VIEW events_unique AS
SELECT event_id, payload, source, topic, partition, offset, key, received_at, inserted_at
FROM events
FINAL;

ALTER TABLE events DROP COLUMN IF EXISTS traceparent;
