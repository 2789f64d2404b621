"""The error tree. Raised for what a caller must handle; what is normal is an Outcome or a Verdict.

    GatewayError
    ├── SettingsError        a setting is unknown, of the wrong type or impossible: the start stops
    ├── HitInvalid           a body that cannot be judged: nothing of it was stored
    │   ├── HitEncoded       compressed in a way that is not taken here
    │   └── HitTooLarge      more bytes or more events than one request may carry
    └── StoreError           the store cannot keep its word: nothing was accepted
        ├── StoreBusy        more waits for the disk than it takes in time, or it hangs
        ├── StoreLocked      another process owns it
        └── StoreUnwritable  it cannot be written (read-only, broken)
            └── StoreFull    no room is left for more

A message names the field or the key and what is allowed, never the value: it may be a person's.
"""


class GatewayError(Exception):
    """Base of everything the gateway raises on purpose."""


class SettingsError(GatewayError):
    """One sentence that names the key, what was given (never a secret) and what is allowed."""


class HitInvalid(GatewayError):
    """A body that is not a hit. `field` is the path of the culprit, such as `events[0].name`."""

    def __init__(self, field: str, error: str) -> None:
        super().__init__(f"{field}: {error}" if field else error)
        self.field = field
        self.error = error


class HitEncoded(HitInvalid):
    """Compressed in a way that is not taken here."""


class HitTooLarge(HitInvalid):
    """More bytes or events than one request may carry."""


class StoreError(GatewayError):
    """The store cannot keep its word; whoever sent the event should try again later."""


class StoreBusy(StoreError):
    """More waits for the disk than it takes in time, or it takes nothing at all."""


class StoreLocked(StoreError):
    """Another process owns the store."""


class StoreUnwritable(StoreError):
    """The store cannot be written."""


class StoreFull(StoreUnwritable):
    """No room is left for more; what is there can still be delivered."""
