-- The table that events go to, in the current database. Run by tools/migrate.
--
-- Delivery is at least once, so an event can arrive twice: after a retry outside the deduplication window, after a
-- replay, or because a producer sent it twice. What collapses the copies is event_id, and nothing but event_id:
--
--   * ORDER BY event_id, because ReplacingMergeTree takes rows with an equal sorting key for copies of each other.
--     Anything else in the key (received_at, topic, offset) differs between copies and would keep them apart.
--   * No PARTITION BY, because merges work inside one partition. Partitions by time would keep two copies of an event
--     for good if one was received before and one after midnight. If parts get too large for one partition, partition
--     by the id itself, which keeps copies together: PARTITION BY cityHash64(event_id) % 16.
--
-- Merges happen some time later, so count and read through the view events_unique (002), or with FINAL.
CREATE TABLE IF NOT EXISTS events
(
    event_id    String COMMENT 'The id in the event, else its header, else the SHA-256 of the payload in hex',
    payload     String COMMENT 'The event as received, byte for byte' CODEC(ZSTD(1)),
    source      LowCardinality(String) COMMENT 'kafka or http',
    -- Rows from HTTP come without the next four columns. -1 keeps them apart from partition 0, offset 0.
    topic       LowCardinality(String) COMMENT 'Kafka topic; empty for HTTP',
    partition   Int32 DEFAULT -1 COMMENT 'Kafka partition; -1 for HTTP',
    offset      Int64 DEFAULT -1 COMMENT 'Kafka offset; -1 for HTTP',
    key         String COMMENT 'Kafka message key; empty if there is none',
    received_at DateTime64(3, 'UTC') COMMENT 'When the service had the event in hand',
    -- Never sent by the service: the server's own clock, to see how long events are under way.
    inserted_at DateTime64(3, 'UTC') DEFAULT now64(3) COMMENT 'When the row was inserted',

    -- Finds a time range in young parts, and in all parts when ids grow with time (UUIDv7, ULID). The price is small.
    INDEX received_at_range received_at TYPE minmax GRANULARITY 1
)
-- Of several copies the one received last stays: a rule that does not depend on the order of merges.
ENGINE = ReplacingMergeTree(received_at)
ORDER BY event_id
SETTINGS
    -- How many inserts the server remembers, to drop one that is sent again with the same
    -- insert_deduplication_token. The default is 0: every retry after a lost answer would add its rows again. The
    -- service sends about one insert a second for each table, so this lasts for hours.
    non_replicated_deduplication_window = 10000;
