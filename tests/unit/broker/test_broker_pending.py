"""Responses that are decided together are written together."""

from appliance.broker.pending import Pending, together
from appliance.wire.requests import ProduceResult

RESULT = ProduceResult(())


def test_who_waits_for_several_is_called_once_when_all_are_decided():
    calls = []
    pending = [Pending(), Pending()]

    def written():
        calls.append([each.response is not None for each in pending])

    for each in pending:
        each.on_resolved(written)
    with together():
        for each in pending:
            each.resolve(RESULT)
        assert calls == []
    assert calls == [[True, True]]


def test_outside_of_a_group_a_response_is_told_at_once():
    calls = []
    pending = Pending()
    pending.on_resolved(lambda: calls.append(1))
    pending.resolve(RESULT)
    assert calls == [1]
