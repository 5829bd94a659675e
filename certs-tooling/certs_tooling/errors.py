"""What can go wrong with a certificate authority; each message says what to do."""


class AuthorityError(Exception):
    """Root of what this package raises on purpose; the message is safe to show."""


class NoAuthority(AuthorityError):
    """The directory holds no certificate authority."""


class AuthorityExists(AuthorityError):
    """The directory holds one already; making another would orphan every certificate of it."""


class UnusableDirectory(AuthorityError):
    """The directory or a file in it cannot be used as it is."""


class InvalidName(AuthorityError):
    """A name, host or trust domain that a certificate of this authority may not carry."""


class UnknownCertificate(AuthorityError):
    """No certificate with that serial number was issued here."""
