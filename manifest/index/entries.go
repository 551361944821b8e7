package index

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"time"

	"davit/manifest"
)

// Head is the end of the audit log; zero when the log is empty.
type Head struct {
	Sequence int64
	Digest   manifest.Digest
}

// EntryRow is one entry of the audit log.
type EntryRow struct {
	Sequence int64
	Digest   manifest.Digest
	Previous manifest.Digest
	Time     time.Time
	Actor    string
	Names    []string // of its facts
	Payload  []byte   // the signed JSON
}

// Head returns the last entry's sequence and digest.
func (x *Index) Head(ctx context.Context) (Head, error) {
	h, err := head(ctx, x.read)
	return h, x.fail(ctx, "read head of audit log", err)
}

func head(ctx context.Context, q querier) (Head, error) {
	h, err := one(ctx, q, func(r *sql.Rows, h *Head) error { return r.Scan(&h.Sequence, text{&h.Digest}) },
		"SELECT sequence, digest FROM entries ORDER BY sequence DESC LIMIT 1")
	if errors.Is(err, sql.ErrNoRows) {
		return Head{}, nil
	}
	return h, err
}

// Entries returns up to limit entries after the one with sequence after.
func (x *Index) Entries(ctx context.Context, after int64, limit int) ([]EntryRow, error) {
	rows, err := entries(ctx, x.read, after, limit)
	return rows, x.fail(ctx, "read audit log", err)
}

func entries(ctx context.Context, q querier, after int64, limit int) ([]EntryRow, error) {
	return collect(ctx, q, func(r *sql.Rows, e *EntryRow) error {
		return r.Scan(&e.Sequence, text{&e.Digest}, text{&e.Previous}, moment{&e.Time}, &e.Actor, list[string]{&e.Names}, &e.Payload)
	}, "SELECT sequence, digest, previous, time, actor, facts, payload FROM entries WHERE sequence > ? ORDER BY sequence LIMIT ?", after, limit)
}

// Verify walks the audit log from its beginning and proves from the payloads
// alone that no entry was changed, added or taken out. It calls each after
// every sound entry, so that the caller can hold it against the signed
// documents; each may be nil, and its error ends the walk. What is wrong with
// the log is a *ChainError.
//
// An index whose end was cut off is sound by itself: compare the last head
// with the store's.
func (x *Index) Verify(ctx context.Context, each func(Head) error) error {
	var last Head
	for {
		page, err := entries(ctx, x.read, last.Sequence, 200)
		if err != nil {
			return x.fail(ctx, "verify audit log", err)
		}
		if len(page) == 0 {
			return nil
		}
		for i := range page {
			if reason := unsound(&page[i], last); reason != "" {
				return &ChainError{Sequence: last.Sequence + 1, Reason: reason}
			}
			last = Head{page[i].Sequence, page[i].Digest}
			if each == nil {
				continue
			}
			if err := each(last); err != nil {
				return err
			}
		}
	}
}

// unsound says what is wrong with an entry that should follow last.
func unsound(row *EntryRow, last Head) string {
	if row.Sequence != last.Sequence+1 {
		return fmt.Sprintf("it is missing, the next one is %d", row.Sequence)
	}
	if manifest.DigestOf(row.Payload) != row.Digest {
		return "its content was changed: the digest is another"
	}
	var e manifest.Entry
	if err := manifest.DecodeDocument(row.Payload, &e); err != nil {
		return err.Error()
	}
	if e.Sequence != row.Sequence {
		return fmt.Sprintf("it calls itself %d", e.Sequence)
	}
	if e.Previous != last.Digest || row.Previous != last.Digest {
		return "it does not name the entry before it"
	}
	if !e.Time.Equal(row.Time) || e.Actor != row.Actor || !slices.Equal(factNames(&e), row.Names) {
		return "its row says something else than its content"
	}
	return ""
}

func factNames(e *manifest.Entry) []string {
	names := make([]string, len(e.Facts))
	for i, f := range e.Facts {
		names[i] = f.Name()
	}
	return names
}
