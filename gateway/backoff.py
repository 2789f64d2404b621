"""When to try again. Pure: the attempt, a random number and what Meta said are arguments."""

FIRST_MS = 1_000
LONGEST_MS = 300_000


def full_jitter_ms(attempt: int, draw: float) -> int:
    """Between nothing and 1 s * 2^(attempt-1), at most 5 minutes; `draw` in [0, 1).

    Full jitter keeps many gateways that failed together from coming back together
    (Amazon Architecture Blog, "Exponential Backoff And Jitter"). While Meta is away, the same is from
    one probe to the next: an outage of seconds costs seconds.
    """
    return int(draw * min(LONGEST_MS, FIRST_MS * 2 ** min(attempt - 1, 20)))


def lane_ms(refusals: int, *, pause: bool) -> int:
    """How long a pixel waits after so many refusals in a row.

    A throttle: 1, 2, 4 … 60 minutes (Meta says when, mostly). A pause, which only a person ends: 2,
    4 … 15 minutes, so that a token that is set right at Meta's end is found out too.
    """
    minutes = min(15, 1 << min(refusals, 10)) if pause else min(60, 1 << min(refusals - 1, 10))
    return minutes * 60_000
