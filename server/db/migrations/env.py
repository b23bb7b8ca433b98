from dbscope.migrate import run
from server.models import Base, db

run(db, Base.metadata)
