"""When to try again. Pure: the attempt, a random number and what Meta said are arguments."""

FIRST_MS = 1_000
LONGEST_MS = 300_000


def full_jitter_ms(attempt: int, draw: float) -> int:
    """Between nothing and 1 s * 2^(attempt-1), at most 5 minutes; `draw` in [0, 1).

    Full jitter keeps many gateways that failed together from coming back together
    (Amazon Architecture Blog, "Exponential Backoff And Jitter").
    """
    return int(draw * min(LONGEST_MS, FIRST_MS * 2 ** min(attempt - 1, 20)))
