"""A command, as cron starts it."""

import asyncio
import sys

from tests.jobs.apps.work import db, work

asyncio.run(db.scope(work)(sys.argv[1]))
