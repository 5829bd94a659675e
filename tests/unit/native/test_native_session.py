"""A connection's life follows the table, and nothing follows its end."""

import pytest

from appliance.invariant import InvariantViolation
from appliance.wire.session import TABLE, Event, Session, State


def test_an_ordinary_life() -> None:
    session = Session()
    seen = [session.on(e) for e in (Event.VERIFIED, Event.ADMITTED, Event.STOP, Event.END)]
    assert seen == [State.AUTHENTICATED, State.SERVING, State.DRAINING, State.CLOSED]


def test_nothing_is_served_before_the_login_is_recorded() -> None:
    leads_to_serving = {step for step, state in TABLE.items() if state is State.SERVING}
    assert leads_to_serving == {(State.AUTHENTICATED, Event.ADMITTED)}


def test_closed_is_the_end_and_every_state_reaches_it() -> None:
    assert {TABLE[State.CLOSED, e] for e in (Event.STOP, Event.END)} == {State.CLOSED}
    assert all(TABLE[state, Event.END] is State.CLOSED for state in State)


def test_an_event_that_is_not_in_the_table_is_our_own_fault() -> None:
    with pytest.raises(InvariantViolation):
        Session().on(Event.ADMITTED)
