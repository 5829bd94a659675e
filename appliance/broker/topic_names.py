"""What a topic may be called: Kafka's rules, so that names travel between clusters.

A name never becomes part of a path; logs are named by UUID (DESIGN section 5).
"""

import re

from appliance.errors import ErrorCode, RequestError
from appliance.limits import MAX_TOPIC_NAME_CHARACTERS

_LEGAL = re.compile(r"[A-Za-z0-9._-]+")


def check_topic_name(name: str) -> None:
    """Raises RequestError(INVALID_TOPIC_EXCEPTION), saying what is wrong with the name."""
    if len(name) > MAX_TOPIC_NAME_CHARACTERS:
        raise _invalid(f"a topic's name has at most {MAX_TOPIC_NAME_CHARACTERS} characters")
    if name in {".", ".."}:
        raise _invalid("a topic is not called '.' or '..'")
    if _LEGAL.fullmatch(name) is None:
        raise _invalid("a topic's name is made of ASCII letters and digits, '.', '_' and '-'")


def _invalid(message: str) -> RequestError:
    return RequestError(ErrorCode.INVALID_TOPIC_EXCEPTION, message)
