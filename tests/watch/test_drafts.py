"""What is known of a scope while it goes on."""

from sqlalchemy import text

from dbscope import Database
from dbscope.watch.drafts import Draft


def test_a_draft_has_in_itself_all_that_is_read_of_it() -> None:
    """What Python has to look for in classes costs each statement more than all the rest."""
    db = Database("sqlite://")
    db.watch.start(share=False)
    with db.scope():
        db.execute(text("SELECT 1"))
        (draft,) = db.watch.recorder.drafts.values()
        assert list(vars(draft)) == list(Draft.__annotations__)
    db.watch.stop()
    db.dispose()
