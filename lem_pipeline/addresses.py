"""Addresses of databases: told without their log-in, opened with it.

Dagster shows what resources are configured with, MLflow and errors quote addresses: none of them is given a password.
"""

from urllib.parse import SplitResult, urlsplit

from pydantic import SecretStr

_logins: dict[str, str] = {}  # of this process, which read them from its settings


def told(address: SecretStr) -> str:
    """An address without its password, which :func:`opened` puts back in this process.

    Example:
        >>> told(SecretStr("postgresql://lem:s3cret@db.test:5432/lake"))
        'postgresql://lem@db.test:5432/lake'
    """
    parts = urlsplit(address.get_secret_value())
    user, at, host = parts.netloc.rpartition("@")
    shown = SplitResult(parts.scheme, user.partition(":")[0] + at + host, parts.path, parts.query, "").geturl()
    _logins[shown] = address.get_secret_value()
    return shown


def opened(shown: str) -> str:
    """The whole address behind one that was told; itself where it never had a password."""
    return _logins.get(shown, shown)


def with_driver(address: str) -> str:
    """The address as SQLAlchemy takes it, who else looks for a driver that is not installed.

    >>> with_driver("postgresql://db.test/mlflow")
    'postgresql+psycopg2://db.test/mlflow'
    """
    scheme, separator, rest = address.partition("://")
    return f"{'postgresql+psycopg2' if scheme == 'postgresql' else scheme}{separator}{rest}"
