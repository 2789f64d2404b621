-- Every counter, and how many wait: of one moment.
return {call("HGETALL", TALLY), call("ZCARD", DUE)}
