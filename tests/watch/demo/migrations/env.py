from models import Base, db

from dbscope.migrate import run

run(db, Base.metadata)
