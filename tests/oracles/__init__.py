"""`gateway/normalise.py` beside Meta's two libraries, on thousands of made-up values a field."""
