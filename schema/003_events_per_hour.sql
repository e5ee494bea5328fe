-- How many events there were in each hour, kept up to date with each insert: cheap to draw over years, and kept when a
-- retention deletes the events themselves.
--
-- Copies of an event must not count, and here nothing removes them: a materialized view sees each insert, also a retry
-- outside the deduplication window and a replay. So all its aggregates are such that seeing an event again changes
-- nothing: a set of ids, a minimum and a maximum. No count() and no sum().
--
--   * uniqCombined64 and not uniqExact: its state is bounded (96 KiB for each hour, source and topic, far less if there
--     are few events) where that of uniqExact grows with each event. The price: above some ten thousand events it is
--     an estimate, mostly within 0.5 %. For the exact number ask events_unique, or uniqExact(event_id) of events.
--   * Read it through the view events_counted below, or merge states yourself. Over several hours or sources merge
--     them (uniqCombined64Merge), don't add them up: a copy received an hour later is in both hours, and in their
--     merged state once.
CREATE TABLE IF NOT EXISTS events_per_hour
(
    hour           DateTime('UTC') COMMENT 'Begin of the hour of received_at',
    source         LowCardinality(String),
    topic          LowCardinality(String),
    event_ids      AggregateFunction(uniqCombined64, String) COMMENT 'The set of event ids',
    first_received SimpleAggregateFunction(min, DateTime64(3, 'UTC')),
    last_received  SimpleAggregateFunction(max, DateTime64(3, 'UTC'))
)
ENGINE = AggregatingMergeTree
ORDER BY (hour, source, topic)
-- The service has the server deduplicate the blocks of views as well, by the token of the batch.
SETTINGS non_replicated_deduplication_window = 10000;

CREATE MATERIALIZED VIEW IF NOT EXISTS events_per_hour_filled TO events_per_hour AS
SELECT
    toStartOfHour(toDateTime(received_at, 'UTC')) AS hour,
    source,
    topic,
    uniqCombined64State(event_id) AS event_ids,
    min(received_at) AS first_received,
    max(received_at) AS last_received
FROM events
GROUP BY hour, source, topic;

-- The rows from before. After the view, so that none is missed; what both see counts once, as any copy.
INSERT INTO events_per_hour
SELECT
    toStartOfHour(toDateTime(received_at, 'UTC')) AS hour,
    source,
    topic,
    uniqCombined64State(event_id) AS event_ids,
    min(received_at) AS first_received,
    max(received_at) AS last_received
FROM events
GROUP BY hour, source, topic;

CREATE VIEW IF NOT EXISTS events_counted AS
SELECT
    hour,
    source,
    topic,
    uniqCombined64Merge(event_ids) AS events,
    min(first_received) AS first_received,
    max(last_received) AS last_received
FROM events_per_hour
GROUP BY hour, source, topic;
