-- Loses the counts of hours whose events a retention has deleted; all others are made again from the events by 003.
-- The view that fills goes first: without its table each insert of events would fail.
DROP TABLE IF EXISTS events_per_hour_filled;
DROP TABLE IF EXISTS events_counted;
DROP TABLE IF EXISTS events_per_hour;
