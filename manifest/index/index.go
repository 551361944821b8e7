// Package index is a site's memory: which pack holds which chunk, the audit
// log, and everything the log's facts add up to (peers, releases, shipments,
// the inbox, values, deployments). It is one SQLite file and implements
// store.Index.
//
// Nothing in the file is the only copy. Chunks are read again from the tables
// of the packs, and the rest is a projection of the signed entries: applying
// the same entries in the same order gives the same tables, because nothing
// here asks a clock or draws a random number. That is how a lost or damaged
// index is repaired: [Remove] it, [Open] a new one, add the packs, apply the
// entries.
//
// # Processes
//
// Several processes may have the file open. Every read sees all that was
// committed before it began, by whomever; writers wait for one another. A
// write is durable when the call returns.
//
// # The log comes first
//
// Whoever writes an entry makes it durable in the store and then applies it
// here. What stands in the log cannot be refused any more, or the site would
// be stuck for ever: [Index.Apply] takes every well-formed entry that follows
// the last one, and sets a fact aside that contradicts what is known (a second
// release of one version, say), which [Counts] shows. So that none gets
// there, ask [Index.Check] before an entry is stored: it says what Apply would
// set aside. An entry is stored under its sequence, which only one process can
// do, so what held at the check still holds then.
//
// # Errors
//
// Absence is [ErrNotFound], except for packs, where it is store.ErrMissing as
// store.Index wants it. A file that SQLite cannot read is [ErrDamaged], one
// that a newer davit wrote is [ErrNewer]; an entry that does not follow the
// last one is [ErrSequence]. Check gives a [*FactError]. A full disk is a *bucket.NoSpaceError.
//
// FORMAT.md describes the tables and how to read them with sqlite3 alone.
package index

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"sync"

	"davit/store"
)

// Index is an open index file. It is safe for concurrent use.
type Index struct {
	path   string
	log    *slog.Logger
	write  *sql.DB // one connection
	read   *sql.DB // a few, which cannot write
	lookup [len(lookupWidths)]statement
}

var _ store.Index = (*Index)(nil)

// Open opens the index at path, and makes it if it is missing; the folder must
// exist. An index of an older schema is brought up to date. A nil log is
// silent.
func Open(ctx context.Context, path string, log *slog.Logger) (*Index, error) {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	x := &Index{path: path, log: log}
	if err := x.open(ctx); err != nil {
		return nil, x.fail(ctx, "open index", errors.Join(err, x.Close()))
	}
	return x, nil
}

func (x *Index) open(ctx context.Context) error {
	var err error
	if err := lockWell(); err != nil {
		return err
	}
	if x.write, err = sql.Open("sqlite", dsn(x.path, writerPragmas)); err != nil {
		return err
	}
	x.write.SetMaxOpenConns(1)
	if x.read, err = sql.Open("sqlite", dsn(x.path, readerPragmas)); err != nil {
		return err
	}
	x.read.SetMaxOpenConns(readers)
	x.read.SetMaxIdleConns(readers)
	return x.migrate(ctx)
}

// Path returns the path of the file.
func (x *Index) Path() string { return x.path }

// Close lets go of the file. Nobody may be using the index.
func (x *Index) Close() error {
	var errs []error
	// Readers first: the last connection to close moves the write-ahead log
	// into the file, which a reader may not do.
	for _, db := range []*sql.DB{x.read, x.write} {
		if db != nil {
			errs = append(errs, db.Close())
		}
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("close index: %w", err)
	}
	return nil
}

// Remove deletes the index at path and what SQLite keeps beside it. No process
// may have it open. An absent index is no error.
func Remove(path string) error {
	// The log first: without its file it means nothing, and beside a new file
	// it must never lie.
	for _, suffix := range []string{"-wal", "-shm", "-journal", ""} {
		if err := os.Remove(path + suffix); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("remove index: %w", err)
		}
	}
	return nil
}

// statement is prepared when it is first used: most commands need few of them.
type statement struct {
	mu   sync.Mutex // guards what follows
	stmt *sql.Stmt
}

func (s *statement) prepare(ctx context.Context, db *sql.DB, text string) (*sql.Stmt, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stmt == nil {
		stmt, err := db.PrepareContext(ctx, text)
		if err != nil {
			return nil, err
		}
		s.stmt = stmt
	}
	return s.stmt, nil
}
