"""The judge of Kafka histories: silent on good ones, and each anomaly by its name."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.checkers.kafka_history import (
    ANOMALIES,
    Assign,
    Poll,
    Result,
    Send,
    check,
    decode,
    encode,
)

OK, FAIL, INFO = Result.OK, Result.FAIL, Result.INFO


def sent(offset, value, result=OK, process="p"):
    return Send(process, "k", value, result, offset)


def polled(*records, process="c"):
    return Poll(process, "k", records)


A, B, C = (0, "a"), (1, "b"), (2, "c")
WRITTEN = (sent(0, "a"), sent(1, "b"), sent(2, "c"))

GOOD = {
    "nothing": (),
    "all is read": (*WRITTEN, polled(A, B), polled(C)),
    "gaps between offsets": (sent(0, "a"), sent(7, "b"), polled((0, "a"), (7, "b"))),
    "an unknown send that was written": (sent(None, "a", INFO), polled(A)),
    "an unknown send that was not": (sent(None, "z", INFO), *WRITTEN, polled(A, B, C)),
    "a failed send that was not": (sent(None, "z", FAIL), *WRITTEN, polled(A, B, C)),
    "a consumer moved back": (*WRITTEN, polled(A, B, C), Assign("c"), polled(A, B)),
    "a consumer moved ahead": (*WRITTEN, polled(A), Assign("c"), polled(C), polled(B, process="d")),
    "two consumers share": (*WRITTEN, polled(A, process="d"), polled(B), polled(C)),
    "two producers": (sent(1, "b"), sent(0, "a", process="q"), polled(A, B)),
    "two partitions": (
        Send("p", "k", "a", OK, 5),
        Send("p", "l", "b", OK, 0),
        Poll("c", "k", ((5, "a"),)),
        Poll("c", "l", ((0, "b"),)),
    ),
}

BAD = {
    "inconsistent-offsets": (
        sent(0, "a"), sent(None, "b", INFO), polled(A), polled((0, "b"), process="d"),
    ),
    "duplicate": (*WRITTEN, polled(A, B, C, (3, "a"))),
    "lost-write": (*WRITTEN, polled(A), Assign("c"), polled(C)),
    "aborted-read": (sent(None, "a", FAIL), polled(A)),
    "unsent": (polled(A),),
    "poll-skip": (*WRITTEN, polled(A, C), polled(B, process="d")),
    "nonmonotonic-poll": (*WRITTEN, polled(A, B), polled(B, C)),
    "nonmonotonic-send": (sent(1, "b"), sent(0, "a"), polled(A, B)),
    "unseen": (*WRITTEN, polled(A, B)),
}  # fmt: skip


@pytest.mark.parametrize("name", GOOD)
def test_a_good_history_has_no_anomaly(name):
    assert check(GOOD[name], read_to_end=True).anomalies == ()


@pytest.mark.parametrize("name", ANOMALIES)
def test_each_anomaly_is_found_and_named(name):
    verdict = check(BAD[name], read_to_end=True)
    assert verdict.count(name) >= 1, verdict
    assert name in str(verdict)


@pytest.mark.parametrize("name", ANOMALIES)
def test_no_anomaly_is_taken_for_another(name):
    assert {each.name for each in check(BAD[name], read_to_end=True).anomalies} == {name}


def test_what_nobody_has_read_is_an_anomaly_only_once_all_was_read():
    assert check(BAD["unseen"], read_to_end=False).anomalies == ()


def test_an_acknowledged_value_without_a_place_that_nobody_reads_is_lost():
    assert check((sent(None, "a"), polled()), read_to_end=False).count("lost-write") == 1


def test_a_verdict_counts_what_it_was_given():
    history = (*WRITTEN, sent(None, "x", INFO), sent(None, "y", FAIL), polled(A, B, C))
    verdict = check(history, read_to_end=True)
    assert (verdict.acknowledged, verdict.unknown, verdict.failed, verdict.read) == (3, 1, 1, 3)


def test_a_history_file_is_read_back_and_a_torn_last_line_is_left_out():
    history = [*WRITTEN, Assign("c"), polled(A, B)]
    lines = [*map(encode, history), encode(WRITTEN[0])[:-5]]
    assert decode(lines) == history


# --- good histories, and what becomes of them with one thing changed -----------------------------


def made(seed):
    """A history of some producers and consumers over honest partitions, all read at the end."""
    dice = random.Random(seed)
    logs, history, number = {"k": [], "l": []}, [], 0
    at = {}
    for _ in range(dice.randint(5, 40)):
        key, who = dice.choice("kl"), dice.choice("123")
        if dice.random() < 0.6:
            number += 1
            result = dice.choice((OK, OK, OK, INFO, FAIL))
            written = result is OK or (result is INFO and dice.random() < 0.5)
            if written:
                offset = (logs[key][-1][0] if logs[key] else -1) + dice.choice((1, 1, 2))
                logs[key].append((offset, str(number)))
            told = logs[key][-1][0] if result is OK else None
            history.append(Send(f"p{who}", key, str(number), result, told))
        elif dice.random() < 0.2:
            history.append(Assign(f"c{who}"))
            for each, log in logs.items():
                at[who, each] = dice.randint(0, len(log))
        else:
            begin = at.get((who, key), 0)
            end = dice.randint(begin, len(logs[key]))
            history.append(Poll(f"c{who}", key, tuple(logs[key][begin:end])))
            at[who, key] = end
    history += [Poll("all", key, tuple(log)) for key, log in logs.items()]
    return history, logs


def no_longer_read(history, value):
    return [
        Poll(each.process, each.key, tuple(r for r in each.records if r[1] != value))
        if isinstance(each, Poll)
        else each
        for each in history
    ]


@given(st.integers())
@settings(max_examples=100, deadline=None)
def test_an_honest_history_has_no_anomaly_whatever_its_shape(seed):
    history, _ = made(seed)
    verdict = check(history, read_to_end=True)
    assert verdict.anomalies == ()


@given(st.integers(), st.randoms(use_true_random=False))
@settings(max_examples=100, deadline=None)
def test_an_honest_history_with_one_lie_in_it_has_an_anomaly(seed, dice):
    history, logs = made(seed)
    acknowledged = [each for each in history if isinstance(each, Send) and each.result is OK]
    key = dice.choice("kl")
    if not acknowledged or not logs[key]:
        return
    last = Poll("all", key, tuple(logs[key]))
    offset, value = dice.choice(logs[key])
    lost = dice.choice(acknowledged)
    lies = {
        "a record that is gone": no_longer_read(history, lost.value),
        "a record that was doubled": [
            *history,
            Poll("x", key, ((last.records[-1][0] + 1, value),)),
        ],
        "another record in its place": [*history, Poll("x", key, ((offset, "made up"),))],
        "a consumer that goes back": [*history, last],
        "a record that was refused": [
            Send(each.process, each.key, each.value, FAIL) if each == lost else each
            for each in history
        ],
    }
    for lie, told in lies.items():
        assert check(told, read_to_end=True).anomalies, lie
