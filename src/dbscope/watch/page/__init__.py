"""The page of `db.watch.mount(app)`: what happens, live, in a browser."""
