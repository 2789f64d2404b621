"""Whether an event may be kept, by what the visitor said and the site's policy."""

from enum import StrEnum

from gateway.hit import Consent, Facts, Source
from gateway.outcome import Outcome


class Policy(StrEnum):
    """The site's rule (docs/consent.md)."""

    REQUIRED = "required"
    OPT_OUT = "opt-out"
    OFF = "off"


def refuses(said: Consent | None, facts: Facts, policy: Policy) -> Outcome | None:
    """The outcome of an event that may not be kept, or None when it may.

    `required` wants a grant, which outranks the browser's general Sec-GPC signal because it was
    given to this very site. `opt-out` takes a denial and Sec-GPC for objections. `off` leaves it to
    the site. A backend answers for the consent of its events: only a denial it states stops one.
    """
    if facts.source is not Source.PAGE:
        return Outcome.NO_CONSENT if said is Consent.DENIED else None
    match policy:
        case Policy.REQUIRED:
            return None if said is Consent.GRANTED else Outcome.NO_CONSENT
        case Policy.OPT_OUT:
            return Outcome.OPTED_OUT if said is Consent.DENIED or facts.gpc else None
        case Policy.OFF:
            return None


def withdrawn(said: Consent | None, facts: Facts, policy: Policy) -> bool:
    """Whether the visitor's cookies are to be deleted: they said no, or no longer say yes."""
    return policy is not Policy.OFF and (
        said is Consent.DENIED or (policy is Policy.OPT_OUT and facts.gpc)
    )
