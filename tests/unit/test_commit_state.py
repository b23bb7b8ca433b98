"""The state of COMMIT: what may come of what."""

import pytest
from sqlalchemy import create_engine
from sqlalchemy.orm import Session

from dbscope.unit.commit_state import NEXT, Commit, CommitState


def test_an_answer_that_was_lost_is_not_made_up() -> None:
    """Only a new transaction ends not knowing; whoever says otherwise is wrong."""
    state = CommitState()
    state.send()
    state.lose()
    with pytest.raises(AssertionError, match="unknown to sent"):
        state.send()
    session = Session(create_engine("sqlite://"))
    with session.begin() as transaction:
        assert not state.end(transaction)
        with pytest.raises(AssertionError, match="unknown to stored"):
            state.confirm(transaction)
    assert (state.is_lost, state.is_open, state.is_stored) == (True, True, False)
    state.begin()
    assert state.now is Commit.IDLE


@pytest.mark.parametrize("kept", [True, False])
def test_a_transaction_that_is_over_is_not_committed_again(kept: bool) -> None:
    """Nor lost, nor the other of the two: first a new one has to begin."""
    state, session = CommitState(), Session(create_engine("sqlite://"))
    with session.begin() as transaction:
        if kept:
            state.confirm(transaction)
        assert state.end(transaction) is kept
    for claim in (state.send, state.lose):
        with pytest.raises(AssertionError, match=f"{state.now} to"):
            claim()
    assert NEXT[state.now] == {Commit.IDLE}
    state.begin()
    state.send()
    assert state.is_sent


def test_the_release_of_a_savepoint_is_no_commit() -> None:
    """It is confirmed like one."""
    state, session = CommitState(), Session(create_engine("sqlite://"))
    with session.begin(), session.begin_nested() as savepoint:
        state.confirm(savepoint)
        assert not state.is_stored
        assert state.end(savepoint)
        assert state.now is Commit.IDLE


def test_each_state_leads_on() -> None:
    """And to a new transaction from wherever it is."""
    assert set(NEXT) == set(Commit)
    assert all(Commit.IDLE in following for state, following in NEXT.items() if state != "idle")
