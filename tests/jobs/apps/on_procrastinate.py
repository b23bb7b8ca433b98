"""Procrastinate: its jobs are in the database."""

import os
import sys

from procrastinate import App, PsycopgConnector, RetryStrategy

from dbscope.jobs.procrastinate import install
from tests.jobs.apps.work import QUEUE, db
from tests.jobs.apps.work import work as do

CONNINFO = os.environ.get("JOBS_DATABASE", "").replace("postgresql+psycopg", "postgresql")
app = App(
    connector=PsycopgConnector(conninfo=CONNINFO),
    worker_defaults={"update_heartbeat_interval": 0.3, "fetch_job_polling_interval": 0.3},
)
install(db, app, stalled_after=5, sweep="* * * * * */1")


@app.task(name="work", retry=RetryStrategy(max_attempts=2), queue=QUEUE)
async def work(case: str) -> None:
    await do(case)


if __name__ == "__main__":
    with app.open():
        app.schema_manager.apply_schema()
        work.defer(case=sys.argv[1])
