-- A view: no data. (There is no down step of 001: it would drop the events.)
DROP TABLE IF EXISTS events_unique;
