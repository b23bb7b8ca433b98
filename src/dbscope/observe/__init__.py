"""What the watch sees, told to others: each module is a listener, and none is there unless asked.

`opentelemetry`, `prometheus` and `sentry` have `install(db, ...)`, and so have `logs` (a JSON line
for each scope), `sqlcommenter` (who has sent a statement, as a comment in it) and `server_timing`
(the figures of a request, as a header of its answer).
"""
