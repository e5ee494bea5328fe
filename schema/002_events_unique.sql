-- Each event once, at any moment: FINAL collapses the copies that merges have not collapsed yet.
--
-- It costs a merge while reading. A condition on event_id is used before that (it is the sorting key); to count or to
-- scan everything often, read the table itself and count with uniqExact(event_id).
CREATE VIEW IF NOT EXISTS events_unique AS
SELECT event_id, payload, source, topic, partition, offset, key, received_at, inserted_at
FROM events
FINAL;
