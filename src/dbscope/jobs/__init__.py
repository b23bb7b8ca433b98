"""Systems of jobs: a scope around each job, where a failing COMMIT still fails the job.

A module for each: `faststream`, `celery`, `taskiq`, `dramatiq`, `saq`, `procrastinate`. All of them
have `install(db, ...)`, a function that sends after COMMIT, and `message_id`. For everything else
there is `@db.scope`.
"""
