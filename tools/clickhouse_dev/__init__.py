"""A development ClickHouse for loopback: today's engine embedded behind an HTTP front, or an installed server.

command          options, signals, life and death
embedded_engine  chDB: connections, statements, streaming inserts
http_front       what a ClickHouse server's HTTP interface does, over the embedded engine
request_body     Content-Length, chunked and compressed bodies
statements       finds the format and the data of an INSERT, without a full parser
error_codes      exception texts, and the HTTP status of each exception code
server_process   an installed clickhouse-server as a child process
"""
