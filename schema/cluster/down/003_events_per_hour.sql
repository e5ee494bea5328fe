-- See schema/down/003_events_per_hour.sql. SYNC: a table that is made again under the same path must not find the old.
DROP TABLE IF EXISTS events_per_hour_filled ON CLUSTER '{cluster}' SYNC;
DROP TABLE IF EXISTS events_counted ON CLUSTER '{cluster}';
DROP TABLE IF EXISTS events_per_hour ON CLUSTER '{cluster}';
DROP TABLE IF EXISTS events_per_hour_local ON CLUSTER '{cluster}' SYNC;
