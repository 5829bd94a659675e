"""A connection believes nothing: size, order, kind and direction of each reply are checked."""

import struct
from collections.abc import Callable

import pytest
import trio
import trio.testing

from appliance.client.connection import ANSWER_S, MAX_REPLY_BYTES, Connection, Disconnected, legible
from appliance.errors import ErrorCode, ProtocolViolation, RequestError
from appliance.wire.native import codec
from appliance.wire.native.codec import NativeCall
from appliance.wire.requests import (
    ApiVersions,
    ApiVersionsResult,
    DescribePolicy,
    DescribePolicyResult,
    HeartbeatResult,
    Refused,
    Response,
)


def reply(correlation: int, response: Response) -> bytes:
    call = NativeCall(correlation, ApiVersions())
    return b"".join(codec.encode(call, response))


def ask(script: Callable[[trio.abc.Stream], object], calls: int = 1) -> list[object]:
    """Makes calls at once against a scripted broker; each gives its response or its error."""
    outcomes: list[object] = [None] * calls

    async def one(connection: Connection, position: int) -> None:
        try:
            outcomes[position] = await connection.call(DescribePolicy(), DescribePolicyResult)
        except (Disconnected, ProtocolViolation, RequestError) as error:
            outcomes[position] = error

    async def main() -> None:
        ours, theirs = trio.testing.memory_stream_pair()
        connection = Connection(ours, "broker.test:1")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(connection.run)
            nursery.start_soon(script, theirs)
            async with trio.open_nursery() as callers:
                for position in range(calls):
                    callers.start_soon(one, connection, position)
            nursery.cancel_scope.cancel()

    trio.run(main)
    return outcomes


def sends(*parts: bytes, close: bool = False) -> Callable[[trio.abc.Stream], object]:
    async def script(stream: trio.abc.Stream) -> None:
        await stream.receive_some()
        for part in parts:
            await stream.send_all(part)
        if close:
            await stream.aclose()

    return script


GOOD = DescribePolicyResult(version=5, text="p")


def test_an_answer_arrives_byte_by_byte() -> None:
    whole = reply(1, GOOD)
    assert ask(sends(*(whole[i : i + 1] for i in range(len(whole))))) == [GOOD]


def test_answers_in_one_piece_are_told_apart() -> None:
    async def script(stream: trio.abc.Stream) -> None:
        received = b""
        one = len(b"".join(codec.encode_request(1, DescribePolicy())))
        while len(received) < 2 * one:
            received += await stream.receive_some()
        other = DescribePolicyResult(version=6)
        await stream.send_all(reply(1, GOOD) + reply(2, other))

    answers = ask(script, calls=2)
    assert {answer.version for answer in answers if isinstance(answer, DescribePolicyResult)} == {
        5,
        6,
    }


def test_a_refusal_carries_its_code_and_no_control_characters() -> None:
    (error,) = ask(sends(reply(1, Refused(ErrorCode.INVALID_REQUEST, "no\x1b[31m\n"))))
    assert isinstance(error, RequestError)
    assert error.code is ErrorCode.INVALID_REQUEST
    assert "\x1b" not in str(error)
    assert len(legible("x" * 100_000)) == 1_000


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        (reply(2, GOOD), "out of order"),
        (reply(1, HeartbeatResult()), "HeartbeatResult came"),
        (reply(1, ApiVersionsResult()), "ApiVersionsResult came"),
        (struct.pack(">I", MAX_REPLY_BYTES + 1), "announced"),
        (struct.pack(">I", 0), "shorter than its header"),
        (struct.pack(">IBBHI", 8, 9, 1, 0, 1), "version 9"),
        (b"".join(codec.encode_request(1, DescribePolicy())), "wrong direction"),
        (reply(1, GOOD)[:-1] + b"\xc1", "malformed"),
    ],
)
def test_a_reply_that_breaks_the_protocol_ends_the_connection(raw: bytes, said: str) -> None:
    (error,) = ask(sends(raw))
    assert isinstance(error, ProtocolViolation)
    assert said in str(error)


def test_a_frame_cut_short_is_a_violation() -> None:
    (error,) = ask(sends(reply(1, GOOD)[:-2], close=True))
    assert isinstance(error, ProtocolViolation)


def test_everyone_who_waits_learns_that_the_connection_ended() -> None:
    outcomes = ask(sends(close=True), calls=3)
    assert all(isinstance(outcome, Disconnected) for outcome in outcomes)


def test_bytes_that_nobody_asked_for_end_the_connection() -> None:
    async def main() -> None:
        ours, theirs = trio.testing.memory_stream_pair()
        connection = Connection(ours, "broker.test:1")
        await theirs.send_all(reply(1, GOOD))
        await connection.run()
        with pytest.raises(ProtocolViolation, match="no request"):
            await connection.call(DescribePolicy(), DescribePolicyResult)

    trio.run(main)


def test_a_caller_that_gives_up_does_not_shift_the_answers_of_others() -> None:
    async def main() -> None:
        ours, theirs = trio.testing.memory_stream_pair()
        connection = Connection(ours, "broker.test:1")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(connection.run)
            abandoned = await connection.submit(DescribePolicy(), DescribePolicyResult)
            kept = await connection.submit(DescribePolicy(), DescribePolicyResult)
            with trio.CancelScope() as scope:
                scope.cancel()
                await abandoned.wait()
            await theirs.send_all(reply(1, GOOD) + reply(2, DescribePolicyResult(version=6)))
            assert (await kept.wait()).version == 6
            nursery.cancel_scope.cancel()

    trio.run(main)


def test_a_broker_that_was_stopped_is_given_up_and_one_that_answers_late_is_not() -> None:
    """A stopped process keeps its connections: nothing else would end the wait."""

    async def main() -> None:
        ours, theirs = trio.testing.memory_stream_pair()
        connection = Connection(ours, "broker.test:1")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(connection.run)
            for number in (1, 2):  # what is idle in between costs no patience
                answered = await connection.submit(DescribePolicy(), DescribePolicyResult)
                await trio.sleep(ANSWER_S - 1)
                await theirs.send_all(reply(number, GOOD))
                assert (await answered.wait()).version == 5
                await trio.sleep(10 * ANSWER_S)
            began = trio.current_time()
            with pytest.raises(Disconnected, match="does not answer"):
                await connection.call(DescribePolicy(), DescribePolicyResult)
            assert trio.current_time() - began == pytest.approx(ANSWER_S, abs=0.1)
            assert not connection.usable

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))
