package index

import (
	"bytes"
	"cmp"
	"context"
	"database/sql"
	"encoding/binary"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strings"

	"davit/store"
	"davit/store/chunk"
	"davit/store/pack"
)

// A chunk is looked up by the first 8 bytes of its name, as a rowid. Names of
// different chunks may agree in them, by chance or because somebody made them
// so (2³² hashes find a pair), so every name is compared in full. Of all rows
// of one key, chunks holds the one in the oldest pack and spares the others;
// therefore the row in chunks is also the oldest place of its own chunk.

func keyOf(n chunk.Name) int64 { return int64(binary.BigEndian.Uint64(n[:8])) }

// lookupWidths are how many names one statement looks up. A query costs
// several times what a name in it costs, so a batch takes as few as it can.
var lookupWidths = [...]int{1, 16, 256}

func lookupText(width int) string {
	return "SELECT key, name, pack, frame, offset, length FROM chunks WHERE key IN (?" + strings.Repeat(", ?", width-1) + ")"
}

// Locate implements store.Index.
func (x *Index) Locate(ctx context.Context, names []chunk.Name, out []store.Location) error {
	if len(names) != len(out) {
		return fmt.Errorf("locate chunks: %d places for %d names", len(out), len(names))
	}
	if len(names) == 0 {
		return nil
	}
	// Before the transaction: once it has a connection it must not want another.
	var stmts [len(lookupWidths)]*sql.Stmt
	for w, width := range lookupWidths {
		var err error
		if stmts[w], err = x.lookup[w].prepare(ctx, x.read, lookupText(width)); err != nil {
			return x.fail(ctx, "locate chunks", err)
		}
	}
	query := func(w int, args ...any) (*sql.Rows, error) { return stmts[w].QueryContext(ctx, args...) }
	if len(names) <= lookupWidths[len(lookupWidths)-1] {
		if clashes, err := locate(query, names, out); err != nil || len(clashes) == 0 {
			return x.fail(ctx, "locate chunks", err)
		}
	}
	// What takes several queries takes one snapshot, so that a chunk which
	// another process moves meanwhile is found either there or here.
	tx, err := x.read.BeginTx(ctx, nil)
	if err != nil {
		return x.fail(ctx, "locate chunks", err)
	}
	defer tx.Rollback()
	return x.fail(ctx, "locate chunks", locateAll(ctx, tx, stmts[:], names, out))
}

// locateAll looks names up in tx, also those that stand in spares.
func locateAll(ctx context.Context, tx *sql.Tx, stmts []*sql.Stmt, names []chunk.Name, out []store.Location) error {
	clashes, err := locate(func(w int, args ...any) (*sql.Rows, error) {
		return tx.StmtContext(ctx, stmts[w]).QueryContext(ctx, args...)
	}, names, out)
	if err != nil {
		return err
	}
	for _, i := range clashes {
		err := tx.QueryRowContext(ctx, `SELECT pack, frame, offset, length FROM spares
			WHERE key = ? AND name = ? ORDER BY pack LIMIT 1`, keyOf(names[i]), names[i][:]).
			Scan(&out[i].Pack, &out[i].Frame, &out[i].Offset, &out[i].Length)
		if err != nil && !errors.Is(err, sql.ErrNoRows) {
			return err
		}
	}
	return nil
}

// wanted is a name to look up and where the answer goes.
type wanted struct {
	key int64
	i   int
}

// locate looks names up in chunks; query runs the statement of one of
// lookupWidths. It returns the numbers of names whose key another chunk has.
func locate(query func(w int, args ...any) (*sql.Rows, error), names []chunk.Name, out []store.Location) ([]int, error) {
	order := make([]wanted, len(names))
	for i, n := range names {
		order[i] = wanted{keyOf(n), i}
		out[i] = store.Location{}
	}
	// In the order of the keys neighbours lie on one page.
	slices.SortFunc(order, func(a, b wanted) int { return cmp.Compare(a.key, b.key) })
	var clashes []int
	var args []any
	for rest := order; len(rest) > 0; {
		w := 0
		for w+1 < len(lookupWidths) && len(rest) > lookupWidths[w] {
			w++
		}
		width := lookupWidths[w]
		part := rest[:min(width, len(rest))]
		rest = rest[len(part):]
		args = args[:0]
		for i := range width {
			args = append(args, part[min(i, len(part)-1)].key) // padded with the last
		}
		rows, err := query(w, args...)
		if err != nil {
			return nil, err
		}
		if clashes, err = place(rows, part, names, out, clashes); err != nil {
			return nil, err
		}
	}
	return clashes, nil
}

// place puts rows where they are wanted and adds to clashes the names whose
// key another chunk has.
func place(rows *sql.Rows, part []wanted, names []chunk.Name, out []store.Location, clashes []int) ([]int, error) {
	defer rows.Close()
	var key int64
	var name sql.RawBytes
	var loc store.Location
	for rows.Next() {
		if err := rows.Scan(&key, &name, &loc.Pack, &loc.Frame, &loc.Offset, &loc.Length); err != nil {
			return clashes, err
		}
		at, _ := slices.BinarySearchFunc(part, key, func(w wanted, key int64) int { return cmp.Compare(w.key, key) })
		for ; at < len(part) && part[at].key == key; at++ {
			if i := part[at].i; bytes.Equal(name, names[i][:]) {
				out[i] = loc
			} else {
				clashes = append(clashes, i)
			}
		}
	}
	return clashes, rows.Err()
}

// AddPack implements store.Index. A chunk that an older pack holds as well is
// remembered here too, and found here once the older pack is gone.
func (x *Index) AddPack(ctx context.Context, name pack.Name, size int64, table *pack.Table) (int64, error) {
	var id int64
	err := x.update(ctx, func(tx *sql.Tx) error {
		var err error
		id, err = addPack(ctx, tx, name, size, table)
		return err
	})
	return id, x.fail(ctx, "add pack to index", err)
}

// ReplacePack implements store.Index.
func (x *Index) ReplacePack(ctx context.Context, old, name pack.Name, size int64, table *pack.Table) error {
	err := x.update(ctx, func(tx *sql.Tx) error {
		if old == name {
			return errors.New("a pack cannot replace itself")
		}
		if err := removePack(ctx, tx, old); err != nil || name == (pack.Name{}) {
			return err
		}
		_, err := addPack(ctx, tx, name, size, table)
		return err
	})
	return x.fail(ctx, "replace pack in index", err)
}

func addPack(ctx context.Context, tx *sql.Tx, name pack.Name, size int64, table *pack.Table) (int64, error) {
	chunks := slices.Clone(table.Chunks)
	slices.SortStableFunc(chunks, func(a, b pack.ChunkInfo) int {
		return cmp.Or(cmp.Compare(keyOf(a.Name), keyOf(b.Name)), bytes.Compare(a.Name[:], b.Name[:]))
	})
	var id int64
	err := tx.QueryRowContext(ctx, "SELECT id FROM packs WHERE name = ?", name[:]).Scan(&id)
	switch {
	case err == nil:
		if chunks, err = missing(ctx, tx, chunks); err != nil {
			return 0, err
		}
	case errors.Is(err, sql.ErrNoRows):
		err := tx.QueryRowContext(ctx, "INSERT INTO packs (name, size, chunks, keys) VALUES (?, ?, ?, ?) RETURNING id",
			name[:], size, len(chunks), keysOf(chunks)).Scan(&id)
		if err != nil {
			return 0, err
		}
	default:
		return 0, err
	}
	insert, err := tx.PrepareContext(ctx, "INSERT INTO chunks (key, name, pack, frame, offset, length) VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING")
	if err != nil {
		return 0, err
	}
	defer insert.Close()
	args := make([]any, 6)
	for i := range chunks {
		c := &chunks[i]
		key := keyOf(c.Name)
		args[0], args[1], args[2], args[3], args[4], args[5] = key, c.Name[:], id, c.Frame, c.Offset, c.Length
		done, err := insert.ExecContext(ctx, args...)
		if err != nil {
			return 0, err
		}
		if n, err := done.RowsAffected(); err != nil {
			return 0, err
		} else if n == 1 {
			continue
		}
		// Taken: by a clash or an older pack, or this pack holds it twice.
		_, err = tx.ExecContext(ctx, `INSERT INTO spares (key, name, pack, frame, offset, length) SELECT ?1, ?2, ?3, ?4, ?5, ?6
			WHERE NOT EXISTS (SELECT 1 FROM chunks WHERE key = ?1 AND name = ?2 AND pack = ?3) ON CONFLICT DO NOTHING`, args...)
		if err != nil {
			return 0, err
		}
	}
	return id, nil
}

// missing leaves of the chunks of a known pack those that the index does not
// find: none, unless rows were lost.
func missing(ctx context.Context, tx *sql.Tx, chunks []pack.ChunkInfo) ([]pack.ChunkInfo, error) {
	var stmts []*sql.Stmt
	for _, width := range lookupWidths {
		stmt, err := tx.PrepareContext(ctx, lookupText(width))
		if err != nil {
			return nil, err
		}
		defer stmt.Close()
		stmts = append(stmts, stmt)
	}
	names := make([]chunk.Name, len(chunks))
	for i := range chunks {
		names[i] = chunks[i].Name
	}
	out := make([]store.Location, len(names))
	if err := locateAll(ctx, tx, stmts, names, out); err != nil {
		return nil, err
	}
	var lost []pack.ChunkInfo
	for i, loc := range out {
		if !loc.Held() {
			lost = append(lost, chunks[i])
		}
	}
	return lost, nil
}

// keysOf lists the key of every distinct chunk of a sorted table.
func keysOf(chunks []pack.ChunkInfo) []byte {
	keys := make([]byte, 0, 8*len(chunks)) // not nil: an empty table has an empty list
	for i := range chunks {
		if i == 0 || chunks[i].Name != chunks[i-1].Name {
			keys = append(keys, chunks[i].Name[:8]...)
		}
	}
	return keys
}

// removePack forgets a pack. Where a later pack holds one of its chunks, that
// one takes over.
func removePack(ctx context.Context, tx *sql.Tx, name pack.Name) error {
	var id int64
	var keys []byte
	err := tx.QueryRowContext(ctx, "SELECT id, keys FROM packs WHERE name = ?", name[:]).Scan(&id, &keys)
	if errors.Is(err, sql.ErrNoRows) {
		return nil
	} else if err != nil {
		return err
	}
	var spares bool // rarely any
	if err := tx.QueryRowContext(ctx, "SELECT EXISTS (SELECT 1 FROM spares)").Scan(&spares); err != nil {
		return err
	}
	texts := []string{"DELETE FROM chunks WHERE key = ?1 AND pack = ?2"}
	if spares {
		texts = []string{"DELETE FROM spares WHERE key = ?1 AND pack = ?2", texts[0],
			`INSERT INTO chunks (key, name, pack, frame, offset, length)
				SELECT key, name, pack, frame, offset, length FROM spares WHERE key = ?1 ORDER BY pack, name LIMIT 1 ON CONFLICT DO NOTHING`,
			"DELETE FROM spares WHERE key = ?1 AND (pack, name) IN (SELECT pack, name FROM chunks WHERE key = ?1)"}
	}
	var stmts []*sql.Stmt
	for _, text := range texts {
		stmt, err := tx.PrepareContext(ctx, text)
		if err != nil {
			return err
		}
		defer stmt.Close()
		stmts = append(stmts, stmt)
	}
	for ; len(keys) >= 8; keys = keys[8:] {
		key := int64(binary.BigEndian.Uint64(keys))
		for i, stmt := range stmts {
			if i < 2 {
				_, err = stmt.ExecContext(ctx, key, id)
			} else {
				_, err = stmt.ExecContext(ctx, key)
			}
			if err != nil {
				return err
			}
		}
	}
	_, err = tx.ExecContext(ctx, "DELETE FROM packs WHERE id = ?", id)
	return err
}

// Pack implements store.Index. An unknown number is store.ErrMissing.
func (x *Index) Pack(ctx context.Context, id int64) (store.PackInfo, error) {
	var p store.PackInfo
	err := scanPack(x.read.QueryRowContext(ctx, "SELECT id, name, size, chunks FROM packs WHERE id = ?", id), &p)
	if errors.Is(err, sql.ErrNoRows) {
		err = store.ErrMissing
	}
	return p, x.fail(ctx, fmt.Sprintf("look up pack %d", id), err)
}

// Packs implements store.Index. It holds nothing open between two packs, so
// that the loop's body may do what it likes; packs that are added meanwhile
// come too.
func (x *Index) Packs(ctx context.Context) iter.Seq2[store.PackInfo, error] {
	return func(yield func(store.PackInfo, error) bool) {
		for last := int64(0); ; {
			page, err := collect(ctx, x.read, func(r *sql.Rows, p *store.PackInfo) error { return scanPack(r, p) },
				"SELECT id, name, size, chunks FROM packs WHERE id > ? ORDER BY id LIMIT 500", last)
			if err != nil {
				yield(store.PackInfo{}, x.fail(ctx, "list packs", err))
				return
			}
			if len(page) == 0 {
				return
			}
			for _, p := range page {
				if !yield(p, nil) {
					return
				}
				last = p.ID
			}
		}
	}
}

func scanPack(row interface{ Scan(...any) error }, p *store.PackInfo) error {
	var name []byte
	if err := row.Scan(&p.ID, &name, &p.Size, &p.Chunks); err != nil {
		return err
	}
	if len(name) != len(p.Name) {
		return fmt.Errorf("%w: the name of pack %d has %d bytes", ErrDamaged, p.ID, len(name))
	}
	copy(p.Name[:], name)
	return nil
}
