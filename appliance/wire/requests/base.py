"""The roots of all requests and responses: frozen, tagged for the native dialect, no collector."""

from typing import Annotated

from msgspec import Meta, Struct

Name = Annotated[str, Meta(max_length=32_767)]
"""A string as clients choose it; what it may hold is the handler's to judge."""


class Request(
    Struct, frozen=True, gc=False, tag=True, tag_field="type", forbid_unknown_fields=True
):
    """Root of all requests."""


class Response(Struct, frozen=True, gc=False, tag=True, tag_field="type"):
    """Root of all responses."""


class Part(Struct, frozen=True, gc=False):
    """Root of what requests and responses are made of."""
