"""The address of a mirror, and who asks it: apart, since exceptions and logs quote addresses."""

from dataclasses import dataclass, field
from urllib.parse import unquote, urlsplit


@dataclass(frozen=True)
class Mirror:
    """What stands in for every host of a venue, such as a proxy.

    Attributes:
        url: Where it is, without a log-in.
        login: User and password that it asks for, sent in a header.
    """

    url: str
    login: tuple[str, str] | None = field(repr=False)

    @classmethod
    def at(cls, address: str) -> "Mirror":
        """The mirror at ``https://user:password@host/path``.

        Example:
            >>> Mirror.at("https://desk:p%40ss@mirror.test:8443/binance/")
            Mirror(url='https://mirror.test:8443/binance')
            >>> Mirror.at("https://desk:p%40ss@mirror.test").login
            ('desk', 'p@ss')

        Raises:
            ValueError: It is no such address, or has a query, which would be quoted wherever an address is.
        """
        parts = urlsplit(address)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
            raise ValueError(
                "the address of a mirror is http:// or https://, a host and at most a path; a log-in goes before the "
                "host, as in https://user:password@host"
            )
        user, at, host = parts.netloc.rpartition("@")
        name, _, password = user.partition(":")
        url = f"{parts.scheme}://{host}{parts.path.rstrip('/')}"
        return cls(url, (unquote(name), unquote(password)) if at else None)
