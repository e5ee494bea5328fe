-- A view: no data.
DROP TABLE IF EXISTS events_unique ON CLUSTER '{cluster}';
