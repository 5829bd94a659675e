"""The judge of linearizability, on the catalogue's register: good, bad, and unknown answers."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.checkers.catalogue import ABSENT, Answer, Asked, Saw, Verb, step
from tests.checkers.linearizability import Operation, check

CREATE, DELETE, DESCRIBE = Verb.CREATE, Verb.DELETE, Verb.DESCRIBE
DONE, EXISTS, UNKNOWN = Answer.DONE, Answer.EXISTS, Answer.UNKNOWN


def create(mark, began, ended, answer=DONE, topic="t"):
    return Operation("p", topic, Asked(CREATE, mark), began, ended, answer)


def delete(began, ended, answer=DONE, topic="t"):
    return Operation("p", topic, Asked(DELETE), began, ended, answer)


def describe(mark, began, ended, topic="t"):
    return Operation("p", topic, Asked(DESCRIBE), began, ended, Saw(mark))


def look(answer, began, ended, topic="t"):
    return Operation("p", topic, Asked(DESCRIBE), began, ended, answer)


GOOD = {
    "nothing": [],
    "one after another": [create(1, 0, 1), describe(1, 2, 3), delete(4, 5), describe(0, 6, 7)],
    "seen while it is made": [create(1, 0, 9), describe(1, 2, 3)],
    "not yet seen while it is made": [create(1, 0, 9), describe(0, 2, 3), describe(1, 4, 5)],
    "two creations at once": [create(1, 0, 9), create(2, 0, 9, EXISTS), describe(1, 10, 11)],
    "no answer, and it was made": [create(1, 0, None), describe(1, 5, 6)],
    "no answer, and it was not": [create(1, 0, None), describe(0, 5, 6), create(2, 7, 8)],
    "no answer, and it is made late": [
        create(1, 0, None), describe(0, 5, 6), describe(0, 7, 8), describe(1, 9, 10),
    ],
    "a deletion without an answer": [create(1, 0, 1), delete(2, None), create(2, 3, 4)],
    "a creation that a deletion undid between": [
        create(1, 0, 9), delete(0, 9), describe(0, 10, 11)
    ],
    "seen without its mark": [
        create(1, 0, 1), look(EXISTS, 2, 3), delete(4, 5), look(UNKNOWN, 6, 7),
    ],
    "two topics": [create(1, 0, 1), describe(0, 2, 3, "u"), create(2, 4, 5, topic="u")],
    "an end and a beginning at the same time": [create(1, 0, 1), describe(0, 1, 2)],
}  # fmt: skip

BAD = {
    "a stale description": [create(1, 0, 1), describe(0, 2, 3)],
    "a description of what is to come": [describe(1, 0, 1), create(1, 2, 3)],
    "seen, and then not": [create(1, 0, 9), describe(1, 2, 3), describe(0, 4, 5)],
    "made twice": [create(1, 0, 1), create(2, 2, 3)],
    "it exists, though it was deleted": [create(1, 0, 1), delete(2, 3), create(2, 4, 5, EXISTS)],
    "deleted twice": [create(1, 0, 1), delete(2, 3), delete(4, 5)],
    "the older of two": [create(1, 0, 1), delete(2, 3), create(2, 4, 5), describe(1, 6, 7)],
    "back from the dead": [create(1, 0, None), describe(1, 2, 3), delete(4, 5), describe(1, 6, 7)],
    "there, and nobody made it": [look(EXISTS, 0, 1)],
    "not there, and it was made": [create(1, 0, 1), look(UNKNOWN, 2, 3)],
    "no creation at all": [describe(7, 0, 1)],
    "only one topic is right": [create(1, 0, 1), describe(1, 2, 3), describe(5, 2, 3, "u")],
}  # fmt: skip


@pytest.mark.parametrize("name", GOOD)
def test_a_good_history_has_an_order(name):
    judgement = check(GOOD[name], ABSENT, step)
    assert judgement.legal, judgement


@pytest.mark.parametrize("name", BAD)
def test_a_bad_history_has_none_and_it_is_said_where_it_ends(name):
    judgement = check(BAD[name], ABSENT, step)
    assert not judgement.legal
    assert judgement.stuck
    assert "not linearizable" in str(judgement)


def test_many_open_operations_are_judged_in_reasonable_time():
    """Without the memory of what was tried this takes longer than anybody waits."""
    open_ones = [delete(0, None) for _ in range(9)]
    reads = [describe(mark, 20 + mark, 20.5 + mark) for mark in (0, 0, 0)]
    creations = [create(n, n, n + 0.5) for n in (1,)]
    judgement = check([*open_ones, *creations, *reads, describe(1, 30, 31)], ABSENT, step)
    assert not judgement.legal


def run_by_one_register(seed):
    """Operations of several clients on an honest register: each takes effect within its time."""
    dice = random.Random(seed)
    moments = []
    for process in "abc":
        now = 0.0
        for _ in range(dice.randint(1, 7)):
            began = now + dice.random()
            ended = began + dice.random() * 2
            moments.append((began + (ended - began) * dice.random(), process, began, ended))
            now = ended
    state, history = ABSENT, []
    for number, (_, process, began, ended) in enumerate(sorted(moments), 1):
        asked = Asked(dice.choice(list(Verb)), number)
        answer = _answer(state, asked.verb)
        known = dice.random() < 0.8
        if known or dice.random() < 0.5:
            state = step(state, asked, answer)
        end = ended if known else None
        history.append(Operation(process, "t", asked, began, end, answer if known else None))
    return history


def _answer(state, verb):
    if verb is DESCRIBE:
        return Saw(state)
    if verb is CREATE:
        return DONE if state == ABSENT else EXISTS
    return UNKNOWN if state == ABSENT else DONE


@given(st.integers())
@settings(max_examples=100, deadline=None)
def test_what_one_register_answered_always_has_an_order(seed):
    assert check(run_by_one_register(seed), ABSENT, step).legal


@given(st.integers())
@settings(max_examples=100, deadline=None)
def test_a_last_description_of_what_cannot_be_there_never_has_one(seed):
    history = run_by_one_register(seed)
    late = max(operation.ended or operation.began for operation in history) + 1
    assert not check([*history, describe(-1, late, late + 1)], ABSENT, step).legal
