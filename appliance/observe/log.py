"""Logs: one event a line, to stderr, and nothing in it that a log reader must not know.

Rules: an event's text is fixed and what varies goes into its fields; never a payload, a key, or a
wrapped key. Topic, group and principal names belong to the audit log, which is sealed; logs name
nodes, listeners, addresses and ids. A traceback is plain: renderers that show local variables would
show keys (CVE-2026-33558 is that class).
"""

import logging
import sys
from typing import TextIO

import structlog
from structlog.typing import Processor

_LEVELS = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warning": logging.WARNING,
    "error": logging.ERROR,
}
LEVELS = tuple(_LEVELS)


def configure(level: str, stream: TextIO | None = None) -> None:
    """Sets up logging for this process: JSON lines, or a console format on a terminal.

    Args:
        level: one of `LEVELS`, the least that is written.
        stream: where lines go; standard error unless a test says otherwise.
    """
    target = stream if stream is not None else sys.stderr
    shared: list[Processor] = [
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.StackInfoRenderer(),
    ]
    renderers = _console() if target.isatty() else _lines()
    structlog.configure(
        processors=[*shared, *renderers],
        wrapper_class=structlog.make_filtering_bound_logger(_LEVELS[level]),
        logger_factory=structlog.WriteLoggerFactory(file=target),
        cache_logger_on_first_use=True,
    )
    _adopt_libraries([*shared, structlog.stdlib.ProcessorFormatter.remove_processors_meta], target)


def _console() -> list[Processor]:
    return [
        structlog.dev.ConsoleRenderer(
            colors=True, exception_formatter=structlog.dev.plain_traceback
        )
    ]


def _lines() -> list[Processor]:
    return [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]


def _adopt_libraries(shared: list[Processor], target: TextIO) -> None:
    """Lets libraries that use the standard library's logging say warnings, in the same form.

    Below a warning they are silent: at debug some of them print what they send.
    """
    handler = logging.StreamHandler(target)
    handler.setFormatter(structlog.stdlib.ProcessorFormatter(processors=[*shared, *_lines()]))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
