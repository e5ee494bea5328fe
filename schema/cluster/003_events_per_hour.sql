-- How many events there were in each hour: see schema/003_events_per_hour.sql, also for why these aggregates.
-- Each shard counts what it gets; events_per_hour merges the states of all.
CREATE TABLE IF NOT EXISTS events_per_hour_local ON CLUSTER '{cluster}'
(
    hour           DateTime('UTC') COMMENT 'Begin of the hour of received_at',
    source         LowCardinality(String),
    topic          LowCardinality(String),
    event_ids      AggregateFunction(uniqCombined64, String) COMMENT 'The set of event ids',
    first_received SimpleAggregateFunction(min, DateTime64(3, 'UTC')),
    last_received  SimpleAggregateFunction(max, DateTime64(3, 'UTC'))
)
ENGINE = ReplicatedAggregatingMergeTree('/clickhouse/tables/{database}/events_per_hour_local/{shard}', '{replica}')
ORDER BY (hour, source, topic)
SETTINGS replicated_deduplication_window = 10000, replicated_deduplication_window_seconds = 604800;

CREATE TABLE IF NOT EXISTS events_per_hour ON CLUSTER '{cluster}' AS events_per_hour_local
ENGINE = Distributed('{cluster}', '{database}', 'events_per_hour_local', cityHash64(hour, source, topic));

-- On the local table: the replica that gets an insert aggregates it, and the result is replicated.
CREATE MATERIALIZED VIEW IF NOT EXISTS events_per_hour_filled ON CLUSTER '{cluster}' TO events_per_hour_local AS
SELECT
    toStartOfHour(toDateTime(received_at, 'UTC')) AS hour,
    source,
    topic,
    uniqCombined64State(event_id) AS event_ids,
    min(received_at) AS first_received,
    max(received_at) AS last_received
FROM events_local
GROUP BY hour, source, topic;

-- The rows from before, of all shards: through the Distributed tables, because an INSERT has no ON CLUSTER. The states
-- may end up on another shard than the view's, which merging makes up for.
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

CREATE VIEW IF NOT EXISTS events_counted ON CLUSTER '{cluster}' AS
SELECT
    hour,
    source,
    topic,
    uniqCombined64Merge(event_ids) AS events,
    min(first_received) AS first_received,
    max(last_received) AS last_received
FROM events_per_hour
GROUP BY hour, source, topic;
