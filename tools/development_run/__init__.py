"""`make run`: Kafka, ClickHouse and the service on one machine, with sample events.

command    the order of things, from setup to Ctrl-C
processes  child processes: started, watched, stopped; none survives
endpoints  what is asked of the service and of ClickHouse over HTTP
samples    the sample events: a web shop's, the same for the same run number
"""
