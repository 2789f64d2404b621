"""Who may be kept: the whole matrix of policy, word, Sec-GPC and sender."""

import itertools

import pytest

from gateway import consent
from gateway.consent import Policy
from gateway.hit import Consent, Facts, Source
from gateway.outcome import Outcome

SAID = (None, Consent.GRANTED, Consent.DENIED)
KEPT = None

# (policy, said, Sec-GPC): the fate of a page's event, and whether the cookies go.
PAGE_MATRIX: dict[tuple[Policy, Consent | None, bool], tuple[Outcome | None, bool]] = {
    (Policy.REQUIRED, None, False): (Outcome.NO_CONSENT, False),
    (Policy.REQUIRED, None, True): (Outcome.NO_CONSENT, False),
    (Policy.REQUIRED, Consent.GRANTED, False): (KEPT, False),
    # Given to this very site, so it outranks the browser's general signal.
    (Policy.REQUIRED, Consent.GRANTED, True): (KEPT, False),
    (Policy.REQUIRED, Consent.DENIED, False): (Outcome.NO_CONSENT, True),
    (Policy.REQUIRED, Consent.DENIED, True): (Outcome.NO_CONSENT, True),
    (Policy.OPT_OUT, None, False): (KEPT, False),
    (Policy.OPT_OUT, None, True): (Outcome.OPTED_OUT, True),
    (Policy.OPT_OUT, Consent.GRANTED, False): (KEPT, False),
    (Policy.OPT_OUT, Consent.GRANTED, True): (Outcome.OPTED_OUT, True),
    (Policy.OPT_OUT, Consent.DENIED, False): (Outcome.OPTED_OUT, True),
    (Policy.OPT_OUT, Consent.DENIED, True): (Outcome.OPTED_OUT, True),
    (Policy.OFF, None, False): (KEPT, False),
    (Policy.OFF, None, True): (KEPT, False),
    (Policy.OFF, Consent.GRANTED, False): (KEPT, False),
    (Policy.OFF, Consent.GRANTED, True): (KEPT, False),
    (Policy.OFF, Consent.DENIED, False): (KEPT, False),
    (Policy.OFF, Consent.DENIED, True): (KEPT, False),
}


def facts(source: Source, *, gpc: bool) -> Facts:
    return Facts(source=source, now_ms=0, gpc=gpc)


def test_the_matrix_is_whole() -> None:
    assert set(PAGE_MATRIX) == set(itertools.product(Policy, SAID, (False, True)))


@pytest.mark.parametrize(
    ("case", "expected"),
    [pytest.param(k, v, id=f"{k[0]}-{k[1]}-gpc={k[2]}") for k, v in PAGE_MATRIX.items()],
)
def test_a_page(
    case: tuple[Policy, Consent | None, bool], expected: tuple[Outcome | None, bool]
) -> None:
    policy, said, gpc = case
    outcome, withdrawn = expected

    assert consent.refuses(said, facts(Source.PAGE, gpc=gpc), policy) is outcome
    assert consent.withdrawn(said, facts(Source.PAGE, gpc=gpc), policy) is withdrawn


@pytest.mark.parametrize("gpc", [False, True])
@pytest.mark.parametrize("said", SAID, ids=str)
@pytest.mark.parametrize("policy", list(Policy))
def test_a_backend_answers_for_its_events_and_only_its_denial_counts(
    policy: Policy, said: Consent | None, *, gpc: bool
) -> None:
    expected = Outcome.NO_CONSENT if said is Consent.DENIED else None

    assert consent.refuses(said, facts(Source.BACKEND, gpc=gpc), policy) is expected
