"""Everything that breaks, under load: `make faults` takes its time and prints what it counted, `make test` has a look."""
