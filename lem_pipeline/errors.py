"""What can go wrong for a user, each with one sentence that says what is wrong and how to mend it."""


class LemError(Exception):
    """Base of every error a user can mend; its message is one clear sentence."""


class ConfigurationError(LemError):
    """A setting is missing or contradicts another."""


class UnknownSymbolError(LemError):
    """A source does not know an instrument."""


class EmptyPeriodError(LemError):
    """A source has no bars in the period asked for."""


class IncompleteIngestionError(LemError):
    """Some instruments could not be fetched; what the others answered is stored."""


class ArchiveError(LemError):
    """A user's bar archive is missing or malformed."""


class VenueUnreachableError(LemError):
    """A live venue cannot be reached, or answers with an outage."""


class VenueRefusedError(LemError):
    """A live venue refuses to serve this client (blocked country, rate limit that does not lift)."""


class VenueBlockedError(VenueRefusedError):
    """A live venue does not serve this country or network."""


class HistoryUnavailableError(LemError):
    """A live venue no longer has bars as old as those asked for."""


class WarehouseError(LemError):
    """The DuckDB file cannot be used."""


class WarehouseLockedError(WarehouseError):
    """Another process holds the DuckDB file."""


class LookAheadError(LemError):
    """A model knows what it cannot know: it may measure what that is worth, and is not registered."""


class PromotionError(LemError):
    """A version cannot take or give up its place."""


class NoOrderWindowsError(LemError):
    """The data hold no run of bars as long as lookback and horizon ask for."""


class UnknownVersionError(LemError):
    """The registry has no such model, version or alias, or cannot load it."""


class UntrustedVersionError(UnknownVersionError):
    """A version that this pipeline did not write, and whose code it does not run."""


class ShadowError(LemError):
    """A champion that cannot be replayed on today's order windows."""


class ComparisonError(LemError):
    """Two versions that were not made for the same orders."""


class RefusedEventError(LemError):
    """A line of a stream of orders, bars and fills that makes no sense; the stream goes on without it."""
