"""What reaches stderr: one line an event, no local variables, libraries only from warnings on."""

import io
import json
import logging
from collections.abc import Iterator

import pytest
import structlog

from appliance.observe import log


@pytest.fixture(autouse=True)
def _restored() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()


def lines(stream: io.StringIO) -> list[dict[str, str]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_an_event_is_one_line_of_json_whatever_its_fields_hold() -> None:
    stream = io.StringIO()
    log.configure("info", stream)
    structlog.get_logger().info("listening", address="a\r\nb\x00")
    (event,) = lines(stream)
    assert event["event"] == "listening"
    assert event["level"] == "info"
    assert event["address"] == "a\r\nb\x00"


def test_a_traceback_shows_no_local_variables() -> None:
    stream = io.StringIO()
    log.configure("info", stream)
    key = bytes.fromhex("c0ffee") * 8
    try:
        int(f"{len(key)} bytes")
    except ValueError:
        structlog.get_logger().exception("failed")
    (event,) = lines(stream)
    assert "ValueError" in event["exception"]
    assert repr(key)[2:-1] not in stream.getvalue()


def test_levels_below_the_chosen_one_are_silent() -> None:
    stream = io.StringIO()
    log.configure("warning", stream)
    structlog.get_logger().info("quiet")
    assert stream.getvalue() == ""


def test_libraries_speak_from_warnings_on_in_the_same_form() -> None:
    stream = io.StringIO()
    log.configure("debug", stream)
    logging.getLogger("urllib3").debug("POST /v1/secret")
    logging.getLogger("urllib3").warning("retrying")
    (event,) = lines(stream)
    assert event["event"] == "retrying"
