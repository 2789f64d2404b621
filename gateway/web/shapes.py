"""How the records are written for people and programs: commands, the dashboard and the backend API alike."""

from dataclasses import asdict

from gateway.stores import DeadLetter, LedgerLine, LoggedEvent


def ledger_line(line: LedgerLine) -> dict[str, object]:
    """As commands and the dashboard show it."""
    return {
        "pixel": line.pixel,
        "accepted": line.accepted,
        "delivered": line.delivered,
        "merged": line.merged,
        "dropped": {str(outcome): count for outcome, count in line.dropped.items()},
        "dead": line.dead,
        "pending": line.pending,
        "adds_up": line.adds_up,
    }


def logged_event(event: LoggedEvent) -> dict[str, object]:
    """As commands and the dashboard show it."""
    return {
        "ref": event.ref,
        "at_ms": event.at_ms,
        "pixel": event.pixel,
        "event_name": event.note.event_name,
        "event_id": event.note.event_id,
        "source": event.note.source,
        "outcome": str(event.outcome),
        "reason": event.reason,
        "attempts": event.attempts,
        "settled_ms": event.settled_ms,
        "host": event.note.host,
        "user_data": list(event.note.keys),
        "custom_data": dict(event.note.custom),
        "agent": event.note.agent,
        "warnings": list(event.note.warnings),
    }


def dead_letter(letter: DeadLetter) -> dict[str, object]:
    """As commands and the dashboard show it: what and why, never the body."""
    shown = asdict(letter)
    del shown["body"], shown["note"]
    return shown | {
        "event_name": letter.note.event_name,
        "event_id": letter.note.event_id,
        "source": letter.note.source,
    }
