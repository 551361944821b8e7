package index

import (
	"context"
	"database/sql"

	"davit/manifest"
)

// Counts says how much the index knows.
type Counts struct {
	Packs          int64
	PackBytes      int64
	Chunks         int64 // distinct ones
	Entries        int64
	Peers          int64
	Releases       int64
	Shipments      int64
	Waiting        int64 // releases in InboxOpen
	Contradictions int64 // facts of the log that had no effect; see the package comment
}

// Counts counts. It is quick however many chunks there are.
func (x *Index) Counts(ctx context.Context) (Counts, error) {
	// Every (pack, chunk) is a row of chunks or of spares, and every chunk has
	// one row in chunks, unless another one with its key is there.
	c, err := one(ctx, x.read, func(r *sql.Rows, c *Counts) error {
		return r.Scan(&c.Packs, &c.PackBytes, &c.Chunks, &c.Entries, &c.Peers, &c.Releases, &c.Shipments, &c.Waiting, &c.Contradictions)
	}, `SELECT (SELECT count(*) FROM packs), (SELECT coalesce(sum(size), 0) FROM packs),
		(SELECT coalesce(sum(length(keys) / 8), 0) FROM packs) - (SELECT count(*) FROM spares)
			+ (SELECT count(DISTINCT name) FROM spares s WHERE NOT EXISTS (SELECT 1 FROM chunks c WHERE c.key = s.key AND c.name = s.name)),
		(SELECT count(*) FROM entries), (SELECT count(*) FROM peers), (SELECT count(*) FROM releases), (SELECT count(*) FROM shipments),
		(SELECT count(*) FROM received_releases WHERE state NOT IN ('accepted', 'rejected', 'held')),
		(SELECT count(*) FROM contradictions)`)
	return c, x.fail(ctx, "count", err)
}

func (p *projection) storeChanged(f *manifest.StoreChanged) error {
	return p.exec("INSERT INTO store_changes (verb, packs, bytes, detail, changed) VALUES (?, ?, ?, ?, ?)", f.Verb, f.Packs, f.Bytes, f.Detail, p.at)
}
