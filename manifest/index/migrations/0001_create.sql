-- +goose Up

-- "davi": tells this file from any other SQLite file.
PRAGMA application_id = 1684108905;

-- What the packs hold. Everything here can be read from the packs again.

CREATE TABLE packs (
	id     INTEGER PRIMARY KEY AUTOINCREMENT, -- never reused: caches hold it
	name   BLOB    NOT NULL UNIQUE,           -- SHA-256 of the pack's ciphertext
	size   INTEGER NOT NULL,                  -- bytes of the pack
	chunks INTEGER NOT NULL,                  -- entries of its table
	keys   BLOB    NOT NULL                   -- chunks.key of each distinct chunk, ascending, 8 bytes each, big-endian
) STRICT;

-- Keyed by the first 8 bytes of the name, because a rowid look-up is the
-- fastest that SQLite has. A second chunk with the same key, or the same chunk
-- in a later pack, stands in spares.
CREATE TABLE chunks (
	key    INTEGER PRIMARY KEY, -- first 8 bytes of name, big-endian, signed
	name   BLOB    NOT NULL,    -- SHA-256 of the plaintext
	pack   INTEGER NOT NULL,    -- packs.id
	frame  INTEGER NOT NULL,
	offset INTEGER NOT NULL,
	length INTEGER NOT NULL
) STRICT;

CREATE TABLE spares (
	key    INTEGER NOT NULL,
	pack   INTEGER NOT NULL,
	name   BLOB    NOT NULL,
	frame  INTEGER NOT NULL,
	offset INTEGER NOT NULL,
	length INTEGER NOT NULL,
	PRIMARY KEY (key, pack, name)
) STRICT, WITHOUT ROWID;

-- The audit log, and below it what its facts add up to. Digests are hex, ''
-- for none; times are seconds since 1970 UTC, 0 for never; n counts rows in
-- the order they came.

CREATE TABLE entries (
	sequence INTEGER PRIMARY KEY,
	digest   TEXT    NOT NULL UNIQUE,
	previous TEXT    NOT NULL,
	time     INTEGER NOT NULL,
	actor    TEXT    NOT NULL,
	facts    TEXT    NOT NULL, -- their names, a JSON list
	payload  BLOB    NOT NULL  -- the signed JSON
) STRICT;

-- Facts that contradicted what was known when they came and had no effect.
CREATE TABLE contradictions (
	n        INTEGER PRIMARY KEY,
	sequence INTEGER NOT NULL,
	fact     TEXT    NOT NULL,
	reason   TEXT    NOT NULL
) STRICT;

CREATE TABLE site (
	n           INTEGER PRIMARY KEY CHECK (n = 1),
	name        TEXT    NOT NULL,
	fingerprint TEXT    NOT NULL,
	created     INTEGER NOT NULL
) STRICT;

CREATE TABLE peers (
	name        TEXT    PRIMARY KEY,
	card        BLOB    NOT NULL, -- its envelope
	fingerprint TEXT    NOT NULL,
	accept      TEXT    NOT NULL, -- JSON list
	send        TEXT    NOT NULL, -- JSON list
	added       INTEGER NOT NULL,
	heard       INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- Releases that can be seen here: created at this site, or accepted.
CREATE TABLE releases (
	digest   TEXT    PRIMARY KEY,
	project  TEXT    NOT NULL,
	version  TEXT    NOT NULL,
	site     TEXT    NOT NULL, -- where it was created
	peer     TEXT    NOT NULL, -- whom it came from, '' if created here
	bundle   TEXT    NOT NULL, -- in which bundle, '' if created here
	created  INTEGER NOT NULL,
	packages INTEGER NOT NULL,
	size     INTEGER NOT NULL,
	state    TEXT    NOT NULL CHECK (state IN ('created', 'accepted')),
	UNIQUE (project, version)
) STRICT, WITHOUT ROWID;

-- Outward: the ledger of what was sent, and what peers answered.

CREATE TABLE shipments (
	n             INTEGER PRIMARY KEY,
	bundle        TEXT    NOT NULL UNIQUE,
	peer          TEXT    NOT NULL,
	serial        INTEGER NOT NULL,
	digest        TEXT    NOT NULL,
	previous      TEXT    NOT NULL,
	kind          TEXT    NOT NULL,
	state         TEXT    NOT NULL CHECK (state IN ('sealed', 'exported', 'acknowledged', 'lost')),
	receipt       TEXT    NOT NULL DEFAULT '', -- state of the newest receipt: '', whole, incomplete, refused
	sealed        INTEGER NOT NULL,
	exported      INTEGER NOT NULL DEFAULT 0,
	settled       INTEGER NOT NULL DEFAULT 0,
	base          TEXT    NOT NULL,            -- JSON list
	bytes         INTEGER NOT NULL,
	volumes       INTEGER NOT NULL,
	content_bytes INTEGER NOT NULL,
	saved         INTEGER NOT NULL,
	medium        TEXT    NOT NULL,
	reason        TEXT    NOT NULL DEFAULT '',
	UNIQUE (peer, serial)
) STRICT;

CREATE TABLE shipment_releases (
	shipment INTEGER NOT NULL, -- shipments.n
	position INTEGER NOT NULL,
	release  TEXT    NOT NULL,
	project  TEXT    NOT NULL,
	version  TEXT    NOT NULL,
	PRIMARY KEY (shipment, position)
) STRICT, WITHOUT ROWID;
CREATE INDEX shipment_releases_project ON shipment_releases (project, version);

CREATE TABLE shipment_documents (
	shipment INTEGER NOT NULL, -- shipments.n
	position INTEGER NOT NULL,
	kind     TEXT    NOT NULL,
	digest   TEXT    NOT NULL,
	PRIMARY KEY (shipment, position)
) STRICT, WITHOUT ROWID;
CREATE INDEX shipment_documents_digest ON shipment_documents (digest);

-- The newest receipt that a peer gave for each bundle.
CREATE TABLE receipts_settled (
	peer     TEXT    NOT NULL,
	bundle   TEXT    NOT NULL,
	revision INTEGER NOT NULL,
	receipt  TEXT    NOT NULL,
	state    TEXT    NOT NULL,
	reason   TEXT    NOT NULL,
	settled  INTEGER NOT NULL,
	PRIMARY KEY (peer, bundle)
) STRICT, WITHOUT ROWID;

CREATE TABLE receipt_releases (
	peer    TEXT NOT NULL,
	bundle  TEXT NOT NULL,
	release TEXT NOT NULL,
	project TEXT NOT NULL,
	version TEXT NOT NULL,
	state   TEXT NOT NULL,
	reason  TEXT NOT NULL,
	PRIMARY KEY (peer, bundle, release)
) STRICT, WITHOUT ROWID;

-- Inward: bundles that came, the inbox, and our answers. A bundle is known by
-- its peer and its id, for a peer can copy another's id.

CREATE TABLE received (
	n        INTEGER PRIMARY KEY,
	peer     TEXT    NOT NULL,
	bundle   TEXT    NOT NULL,
	serial   INTEGER NOT NULL,
	digest   TEXT    NOT NULL,
	previous TEXT    NOT NULL,
	kind     TEXT    NOT NULL,
	state    TEXT    NOT NULL,
	arrived  INTEGER NOT NULL,
	bytes    INTEGER NOT NULL,
	saved    INTEGER NOT NULL,
	base     TEXT    NOT NULL, -- JSON list
	UNIQUE (peer, bundle)
) STRICT;
CREATE INDEX received_serial ON received (peer, serial);

CREATE TABLE received_releases (
	received INTEGER NOT NULL, -- received.n
	position INTEGER NOT NULL,
	release  TEXT    NOT NULL,
	project  TEXT    NOT NULL,
	version  TEXT    NOT NULL,
	site     TEXT    NOT NULL,
	created  INTEGER NOT NULL,
	packages INTEGER NOT NULL,
	size     INTEGER NOT NULL,
	state    TEXT    NOT NULL,
	reason   TEXT    NOT NULL,
	PRIMARY KEY (received, position),
	UNIQUE (received, release)
) STRICT, WITHOUT ROWID;
CREATE INDEX received_releases_release ON received_releases (release);
CREATE INDEX received_releases_project ON received_releases (project, version);

CREATE TABLE refused (
	n       INTEGER PRIMARY KEY,
	peer    TEXT    NOT NULL,
	bundle  TEXT    NOT NULL,
	serial  INTEGER NOT NULL,
	digest  TEXT    NOT NULL,
	cause   TEXT    NOT NULL,
	reason  TEXT    NOT NULL,
	refused INTEGER NOT NULL
) STRICT;

CREATE TABLE receipts_issued (
	n        INTEGER PRIMARY KEY,
	peer     TEXT    NOT NULL,
	bundle   TEXT    NOT NULL,
	revision INTEGER NOT NULL,
	receipt  TEXT    NOT NULL,
	issued   INTEGER NOT NULL,
	UNIQUE (peer, bundle, revision)
) STRICT;

-- The site's overlay of parameter values; sensitive ones only sealed.
CREATE TABLE overlay (
	project     TEXT    NOT NULL,
	environment TEXT    NOT NULL, -- '' for every environment
	name        TEXT    NOT NULL,
	value       TEXT    NOT NULL,
	sealed      TEXT    NOT NULL,
	sensitive   INTEGER NOT NULL,
	changed     INTEGER NOT NULL,
	PRIMARY KEY (project, environment, name)
) STRICT, WITHOUT ROWID;

-- Deployments here and, as far as their results came back, at peers.
CREATE TABLE deployments (
	n           INTEGER PRIMARY KEY,
	site        TEXT    NOT NULL, -- '' here, else the peer
	id          TEXT    NOT NULL,
	project     TEXT    NOT NULL,
	version     TEXT    NOT NULL,
	release     TEXT    NOT NULL,
	environment TEXT    NOT NULL,
	actor       TEXT    NOT NULL,
	status      TEXT    NOT NULL,
	started     INTEGER NOT NULL,
	ended       INTEGER NOT NULL DEFAULT 0,
	message     TEXT    NOT NULL DEFAULT '',
	result      TEXT    NOT NULL DEFAULT '',
	rank        INTEGER NOT NULL,           -- newest has the highest; started, kept rising here if the clock is set back
	closed      INTEGER NOT NULL DEFAULT 0, -- sequence of the entry that ended it
	UNIQUE (site, id)
) STRICT;
CREATE INDEX deployments_project ON deployments (project, environment);
CREATE INDEX deployments_rank ON deployments (rank, n);

CREATE TABLE store_changes (
	n       INTEGER PRIMARY KEY,
	verb    TEXT    NOT NULL,
	packs   INTEGER NOT NULL,
	bytes   INTEGER NOT NULL,
	detail  TEXT    NOT NULL,
	changed INTEGER NOT NULL
) STRICT;
