-- The index of an audit log. Nothing stands on it: another schema is made anew from the log.

-- What is indexed: so many records, a multiple of 256, of the log with that origin, in which the root over the last
-- 256 of them is `tile`.
CREATE TABLE meta (
    id      INTEGER PRIMARY KEY CHECK (id = 1),
    origin  TEXT NOT NULL,
    indexed INTEGER NOT NULL CHECK (indexed >= 0),
    tile    BLOB NOT NULL
) STRICT;

-- Texts of records, each with what it is: an object, a principal, an operation and so on.
CREATE TABLE terms (
    id   INTEGER PRIMARY KEY,
    kind INTEGER NOT NULL,
    text TEXT NOT NULL,
    UNIQUE (kind, text)
) STRICT;

-- The bundles that have a term: of one pass, as numbers of 16 bits that are counted from `first`.
CREATE TABLE postings (
    term    INTEGER NOT NULL,
    first   INTEGER NOT NULL,
    offsets BLOB NOT NULL,
    PRIMARY KEY (term, first)
) STRICT, WITHOUT ROWID;

-- The times in the bundles of a pass: all together, and the smallest and largest of each, as numbers of 64 bits.
CREATE TABLE times (
    first    INTEGER PRIMARY KEY,
    time_min INTEGER NOT NULL,
    time_max INTEGER NOT NULL,
    times    BLOB NOT NULL
) STRICT;

-- How often and when, for each day since 1970 (UTC).
CREATE TABLE uses (
    object      INTEGER NOT NULL,
    day         INTEGER NOT NULL,
    principal   INTEGER NOT NULL,
    operation   INTEGER NOT NULL,
    outcome     INTEGER NOT NULL,
    count       INTEGER NOT NULL,
    first_index INTEGER NOT NULL,
    last_index  INTEGER NOT NULL,
    first_time  INTEGER NOT NULL,
    last_time   INTEGER NOT NULL,
    PRIMARY KEY (object, day, principal, operation, outcome)
) STRICT, WITHOUT ROWID;

CREATE INDEX uses_by_principal ON uses (principal, day);
