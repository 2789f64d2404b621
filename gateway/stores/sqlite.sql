-- Everything the embedded store says to SQLite. A statement begins at its "-- name:" line; comments are not sent.

-- name: connect
-- FULL: a commit is on disk before it is answered.
PRAGMA journal_mode = WAL;
PRAGMA synchronous = FULL;
PRAGMA journal_size_limit = 67108864;
PRAGMA cache_size = -16384;
PRAGMA temp_store = MEMORY;
PRAGMA trusted_schema = OFF;

-- name: create
-- From an empty file to version 1.
BEGIN IMMEDIATE;
-- The dedup keys and when each may be forgotten. No index on exp: it would double the row; the sweep walks the keys.
CREATE TABLE seen (
    k BLOB PRIMARY KEY,
    exp INTEGER NOT NULL
) WITHOUT ROWID;
-- One line an event, without personal data. AUTOINCREMENT: its id names the event everywhere and never returns.
CREATE TABLE log (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    at INTEGER NOT NULL,
    pixel TEXT NOT NULL,
    event_name TEXT NOT NULL,
    event_id TEXT NOT NULL,
    source TEXT NOT NULL,
    outcome TEXT NOT NULL,
    settled INTEGER NOT NULL DEFAULT 0,
    tries INTEGER NOT NULL DEFAULT 0,
    reason TEXT NOT NULL DEFAULT '',
    note BLOB NOT NULL
);
CREATE INDEX log_event_id ON log (event_id);
-- What waits. due is the whole state machine: new, leased until, or next attempt.
CREATE TABLE job (
    id INTEGER PRIMARY KEY,
    pixel TEXT NOT NULL,
    due INTEGER NOT NULL,
    tries INTEGER NOT NULL DEFAULT 0,
    at INTEGER NOT NULL,
    deadline INTEGER NOT NULL,
    doubt INTEGER NOT NULL DEFAULT 0, -- when Meta may first have counted it without saying so
    k BLOB NOT NULL,
    body BLOB NOT NULL
);
CREATE INDEX job_due ON job (pixel, due);
-- What was given up on. It has its own note, as it outlives its line in the log.
CREATE TABLE dead (
    id INTEGER PRIMARY KEY,
    pixel TEXT NOT NULL,
    at INTEGER NOT NULL,
    died INTEGER NOT NULL,
    tries INTEGER NOT NULL,
    deadline INTEGER NOT NULL,
    reason TEXT NOT NULL,
    k BLOB NOT NULL,
    body BLOB NOT NULL,
    note BLOB NOT NULL
);
CREATE INDEX dead_died ON dead (died);
-- How many events of an hour met which fate; 'accepted' counts them all. Pending ones are counted in job.
CREATE TABLE tally (
    pixel TEXT NOT NULL,
    hour INTEGER NOT NULL,
    outcome TEXT NOT NULL,
    n INTEGER NOT NULL,
    PRIMARY KEY (pixel, hour, outcome)
) WITHOUT ROWID;
-- One row, for the probe to write to.
CREATE TABLE probe (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    n INTEGER NOT NULL
);
INSERT INTO probe VALUES (1, 0);
PRAGMA user_version = 1;
COMMIT;

-- name: hold
-- From version 1 to 2: conversions wait for their other half, and what the browser delivered is not sent.
BEGIN IMMEDIATE;
ALTER TABLE job ADD COLUMN side TEXT NOT NULL DEFAULT ''; -- who told of it, while it is held
CREATE INDEX job_held ON job (k) WHERE side <> '';
CREATE INDEX job_held_due ON job (due) WHERE side <> '';
ALTER TABLE seen ADD COLUMN suppressed INTEGER NOT NULL DEFAULT 0;
PRAGMA user_version = 2;
COMMIT;

-- name: seen
-- Of some keys, until when those that are known are remembered, whether their copies are suppressed, and whether one may
-- be held.
SELECT k, exp, suppressed, EXISTS (SELECT 1 FROM job WHERE job.k = seen.k AND job.side <> '')
FROM seen WHERE k IN (VALUES {rows});

-- name: put_seen
-- Remember keys.
INSERT INTO seen (k, exp, suppressed) VALUES {rows}
ON CONFLICT (k) DO UPDATE SET exp = excluded.exp, suppressed = excluded.suppressed;

-- name: last_ref
-- The greatest number a line of the log ever had.
SELECT coalesce((SELECT seq FROM sqlite_sequence WHERE name = 'log'), 0);

-- name: held
-- The copy of a key that is held, or was until lately, its note and what it lacks: a held line's reason.
SELECT job.id, job.side, job.at, job.due, job.deadline, job.body, log.note, log.reason
FROM job JOIN log ON log.id = job.id
WHERE job.k = ? AND job.side <> ''
ORDER BY job.id DESC LIMIT 1;

-- name: held_merge
-- Put the union in the place of a held copy.
UPDATE job SET body = ?, side = ?, due = ?, deadline = ? WHERE id = ?;

-- name: held_log
-- Say in the log what the union carries, and lacks.
UPDATE log SET outcome = ?, reason = ?, note = ? WHERE id = ?;

-- name: held_remove
-- A held copy that is not to be sent.
DELETE FROM job WHERE id = ?;

-- name: over
-- What is held no longer at ? and may go, as a JSON list.
SELECT json_group_array(job.id) FROM job JOIN log ON log.id = job.id
WHERE job.side <> '' AND job.due <= ? AND log.reason = '';

-- name: lacking
-- What is held no longer at ? and lacks something, as a JSON list.
SELECT json_group_array(json_array(job.id, job.pixel, job.at)) FROM job JOIN log ON log.id = job.id
WHERE job.side <> '' AND job.due <= ? AND log.reason <> '';

-- name: forget
-- Forget the keys of the jobs in a JSON list ?1 that were accepted since ?2.
DELETE FROM seen WHERE k IN (SELECT k FROM job WHERE id IN (SELECT value FROM json_each(?1)) AND at >= ?2)
RETURNING k;

-- name: drop
-- Remove the jobs of a JSON list.
DELETE FROM job WHERE id IN (SELECT value FROM json_each(?));

-- name: drop_log
-- Say in the log that they ended; the reason is there already.
UPDATE log SET outcome = ?1, settled = ?2 WHERE id IN (SELECT value FROM json_each(?3));

-- name: release
-- End the holds of a JSON list; claims and merges go by due, so this is for the log.
UPDATE job SET side = '' WHERE id IN (SELECT value FROM json_each(?));

-- name: release_log
-- The same in the log.
UPDATE log SET outcome = 'pending' WHERE id IN (SELECT value FROM json_each(?));

-- name: put_log
-- New lines of the event log; their ids are the events'.
INSERT INTO log (id, at, pixel, event_name, event_id, source, outcome, settled, reason, note) VALUES {rows};

-- name: put_job
-- Keep events until they are delivered, each under the id of its line in the log.
INSERT INTO job (id, pixel, due, at, deadline, k, body, side) VALUES {rows};

-- name: count
-- Add to one counter of the ledger.
INSERT INTO tally (pixel, hour, outcome, n) VALUES (?, ?, ?, ?)
ON CONFLICT (pixel, hour, outcome) DO UPDATE SET n = n + excluded.n;

-- name: claim_due
-- What is due of one pixel and how long it is, oldest first, as a JSON list; job_due has the rows in this order.
SELECT json_group_array(json_array(id, length(body))) FROM (
    SELECT id, body FROM job WHERE pixel = ? AND due <= ? ORDER BY due, id LIMIT ?
);

-- name: claim_newest
-- The same from the other end, the newest first, without those that were tried.
SELECT json_group_array(json_array(id, length)) FROM (
    SELECT id, length FROM (
        SELECT id, tries, length(body) AS length FROM job WHERE pixel = ? AND due <= ? ORDER BY due DESC, id DESC LIMIT ?
    ) WHERE tries = 0 LIMIT ?
);

-- name: claim_lease
-- Lease the jobs in a JSON list until ?1 and count the attempts before they are made.
UPDATE job SET due = ?1, tries = tries + 1 WHERE id IN (SELECT value FROM json_each(?2));

-- name: claimed
-- The jobs of a JSON list in its order, all there is to tell of each.
SELECT json_group_array(json_array(job.id, tries, at, deadline, doubt, hex(body)))
FROM json_each(?) AS chosen CROSS JOIN job ON job.id = chosen.value;

-- name: settle_retry
-- Make a leased job due again. The attempt proves the lease even if a retry or a revival fell on its very millisecond.
-- ?3 is when the attempt ended in doubt, or 0; the first such time stays.
UPDATE job SET due = ?1, tries = ?2, doubt = CASE doubt WHEN 0 THEN ?3 ELSE doubt END
WHERE id = ?4 AND due = ?5 AND tries = ?6;

-- name: settle_found
-- Which jobs of a JSON list there are, as such a list.
SELECT json_group_array(id) FROM job WHERE id IN (SELECT value FROM json_each(?));

-- name: settle_delivered
-- Remove the delivered jobs of a JSON list.
DELETE FROM job WHERE id IN (SELECT value FROM json_each(?));

-- name: settle_leased
-- Remove a job under its lease.
DELETE FROM job WHERE id = ? AND due = ? AND tries = ?;

-- name: settle_dead
-- Copy a leased job to the dead letters.
INSERT INTO dead (id, pixel, at, died, tries, deadline, reason, k, body, note)
SELECT job.id, job.pixel, job.at, ?1, job.tries, job.deadline, ?2, job.k, job.body, log.note
FROM job JOIN log ON log.id = job.id
WHERE job.id = ?3 AND job.due = ?4 AND job.tries = ?5;

-- name: settle_log
-- Say in the log what became of an event.
UPDATE log SET outcome = ?, settled = ?, tries = ?, reason = ? WHERE id = ?;

-- name: settle_log_many
-- The same fate for many; ?3 is a JSON list of id, tries and reason of each.
UPDATE log SET outcome = ?1, settled = ?2, tries = line.tries, reason = line.reason FROM (
    SELECT json_extract(value, '$[0]') AS id, json_extract(value, '$[1]') AS tries, json_extract(value, '$[2]') AS reason
    FROM json_each(?3)
) AS line WHERE log.id = line.id;

-- name: recall
-- Make the jobs of pixel ?2 that are due after ?3 due at ?1; 2000 of them at most.
UPDATE job SET due = ?1 WHERE id IN (SELECT id FROM job WHERE pixel = ?2 AND due > ?3 LIMIT 2000);

-- name: sweep_seen_end
-- The last of the next 2000 keys after ?; none when fewer are left.
SELECT k FROM seen WHERE k > ? ORDER BY k LIMIT 1 OFFSET 1999;

-- name: sweep_seen
-- Forget the keys of a stretch that are past their time.
DELETE FROM seen WHERE k > ? AND k <= ? AND exp < ?;

-- name: sweep_log_end
-- The last of the next 2000 lines after ?; none when fewer are left.
SELECT id, at FROM log WHERE id > ? ORDER BY id LIMIT 1 OFFSET 1999;

-- name: sweep_log_newest
-- The newest line's number.
SELECT coalesce(max(id), 0) FROM log;

-- name: sweep_log
-- Forget the lines of a stretch that are final and too old or too many.
DELETE FROM log WHERE id > ? AND id <= ? AND outcome NOT IN ('pending', 'held') AND (at < ? OR id <= ?);

-- name: sweep_dead
-- Forget dead letters that died before ?1, or that are more than ?2; 2000 of each at most.
DELETE FROM dead WHERE id IN (SELECT id FROM dead WHERE died < ?1 ORDER BY died LIMIT 2000)
OR id IN (SELECT id FROM dead ORDER BY died DESC, id DESC LIMIT 2000 OFFSET ?2);

-- name: sweep_tally_fold
-- Add the hours before ?1 to hour 0. Deleting them would unbalance the account of whatever of them is still waiting
-- or dead, and lose the totals; folded, each pixel's account stays whole and only the hours of old are gone.
INSERT INTO tally (pixel, hour, outcome, n)
SELECT pixel, 0, outcome, sum(n) FROM tally WHERE hour > 0 AND hour < ?1 GROUP BY pixel, outcome
ON CONFLICT (pixel, hour, outcome) DO UPDATE SET n = n + excluded.n;

-- name: sweep_tally_drop
-- Remove what was folded.
DELETE FROM tally WHERE hour > 0 AND hour < ?;

-- name: revive_dead
-- What is needed to revive one dead letter.
SELECT pixel, at, note FROM dead WHERE id = ?;

-- name: revive_job
-- Copy a dead letter back to the jobs, due at ?1.
INSERT INTO job (id, pixel, due, tries, at, deadline, k, body)
SELECT id, pixel, ?1, 0, at, deadline, k, body FROM dead WHERE id = ?2;

-- name: revive_log
-- Reopen an event's line in the log, or write it anew where it was already forgotten.
INSERT INTO log (id, at, pixel, event_name, event_id, source, outcome, note)
VALUES (?, ?, ?, ?, ?, ?, 'pending', ?)
ON CONFLICT (id) DO UPDATE SET outcome = 'pending', settled = 0, tries = 0, reason = '';

-- name: remove_dead
-- Remove one dead letter.
DELETE FROM dead WHERE id = ?;

-- name: probe
-- A write that changes nothing.
UPDATE probe SET n = n + 1;

-- name: ledger
-- Every counter of every pixel. One statement, so that it sees one moment.
SELECT pixel, outcome, sum(n) FROM tally GROUP BY pixel, outcome
UNION ALL
SELECT pixel, 'pending', count(*) FROM job GROUP BY pixel;

-- name: account
-- The counters of pixel ?1 from hour ?2 to before hour ?3.
SELECT outcome, sum(n) FROM tally WHERE pixel = ?1 AND hour >= ?2 AND hour < ?3 GROUP BY outcome;

-- name: oldest
-- When the job that waits for longest was accepted: ids are given in that order.
SELECT at FROM job ORDER BY id LIMIT 1;

-- name: events
-- The newest lines of the log, newest first; ?1 narrows by outcome.
SELECT id, at, pixel, outcome, settled, tries, reason, note FROM log
WHERE ?1 IS NULL OR outcome = ?1 ORDER BY id DESC LIMIT ?2;

-- name: events_by_id
-- The same of one event id; a statement of its own, so that it uses the index.
SELECT id, at, pixel, outcome, settled, tries, reason, note FROM log
WHERE event_id = ?3 AND (?1 IS NULL OR outcome = ?1) ORDER BY id DESC LIMIT ?2;

-- name: dead
-- All dead letters, newest first.
SELECT id, pixel, at, died, tries, reason, body, note FROM dead ORDER BY died DESC, id DESC;

-- name: dead_by_ref
-- The dead letters in a JSON list of refs, newest first.
SELECT id, pixel, at, died, tries, reason, body, note FROM dead
WHERE id IN (SELECT value FROM json_each(?)) ORDER BY died DESC, id DESC;
