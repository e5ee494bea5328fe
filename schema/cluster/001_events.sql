-- The tables that events go to, on all servers of a cluster. Run by tools/migrate with CLICKHOUSE_CLUSTER, which puts
-- the names in for {cluster} and {database}. {shard} and {replica} are macros that each server must define
-- (<macros><shard>01</shard><replica>a</replica></macros>), and there must be a ClickHouse Keeper or ZooKeeper.
--
-- What schema/001_events.sql says of the columns, the sorting key and partitions holds here, and:
--
--   * events_local holds a server's share; its replicas hold the same. events spreads inserts and reads over the shards,
--     and has the name and the columns that it has without a cluster: the service and queries need not know.
--   * The shard is chosen by event_id, like everything that must keep copies together: a merge, FINAL and the
--     deduplication window see one shard only.
--   * The service sends distributed_foreground_insert: its insert is answered when the shards have the rows. Else a
--     Distributed table acknowledges from a queue on one server's disk.
CREATE TABLE IF NOT EXISTS events_local ON CLUSTER '{cluster}'
(
    event_id    String COMMENT 'The id in the event, else its header, else the SHA-256 of the payload in hex',
    payload     String COMMENT 'The event as received, byte for byte' CODEC(ZSTD(1)),
    source      LowCardinality(String) COMMENT 'kafka or http',
    topic       LowCardinality(String) COMMENT 'Kafka topic; empty for HTTP',
    partition   Int32 DEFAULT -1 COMMENT 'Kafka partition; -1 for HTTP',
    offset      Int64 DEFAULT -1 COMMENT 'Kafka offset; -1 for HTTP',
    key         String COMMENT 'Kafka message key; empty if there is none',
    received_at DateTime64(3, 'UTC') COMMENT 'When the service had the event in hand',
    inserted_at DateTime64(3, 'UTC') DEFAULT now64(3) COMMENT 'When the row was inserted',

    INDEX received_at_range received_at TYPE minmax GRANULARITY 1
)
-- The path holds the shard's name and not {uuid}: a replica that is added later finds it by this same statement.
ENGINE = ReplicatedReplacingMergeTree('/clickhouse/tables/{database}/events_local/{shard}', '{replica}', received_at)
ORDER BY event_id
SETTINGS
    -- Both written down, because defaults differ between versions (100 or 10,000 inserts; a week or an hour). A held
    -- stream can wait for hours with a batch of which nobody knows whether it arrived.
    replicated_deduplication_window = 10000,
    replicated_deduplication_window_seconds = 604800;

CREATE TABLE IF NOT EXISTS events ON CLUSTER '{cluster}' AS events_local
ENGINE = Distributed('{cluster}', '{database}', 'events_local', cityHash64(event_id));
