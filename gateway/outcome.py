"""Every fate of an event: one closed set, the same words in answers, metrics, the log and the ledger."""

from enum import StrEnum


class Outcome(StrEnum):
    """Where an event is, or how it ended. HELD and PENDING are the two that are not final."""

    HELD = "held"
    PENDING = "pending"
    DELIVERED = "delivered"
    MERGED = "merged"
    DUPLICATE = "duplicate"
    SUPPRESSED = "suppressed"
    NO_CONSENT = "no_consent"
    OPTED_OUT = "opted_out"
    BOT = "bot"
    INVALID = "invalid"
    TOO_OLD = "too_old"
    FOREIGN_HOST = "foreign_host"
    RATE_LIMITED = "rate_limited"
    ERASED = "erased"
    DEAD = "dead"


WAITING = frozenset({Outcome.HELD, Outcome.PENDING})

# What the ledger counts as dropped: every final fate that is neither sent, merged nor a dead letter.
DROPPED = frozenset(Outcome) - WAITING - {Outcome.DELIVERED, Outcome.MERGED, Outcome.DEAD}

# What a sender has to mend.
REJECTED = frozenset({Outcome.INVALID, Outcome.TOO_OLD, Outcome.FOREIGN_HOST})

# The visitor said no: these leave a number behind and nothing else, not even a line in the event log.
UNRECORDED = frozenset({Outcome.NO_CONSENT, Outcome.OPTED_OUT})
