package index

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"modernc.org/sqlite"
	lib "modernc.org/sqlite/lib"

	"davit/internal/durable"
	"davit/store/bucket"
)

var (
	// ErrNotFound says that the index knows nothing of that name.
	ErrNotFound = errors.New("not found")
	// ErrNewer says that a newer davit wrote the index.
	ErrNewer = errors.New("the index was written by a newer davit: update this one")
	// ErrDamaged says that the index cannot be read. Nothing is lost: it can
	// be made again from the store.
	ErrDamaged = errors.New("the index is damaged: run \"davit repair index\" to rebuild it from the store")
	// ErrSequence says that an entry does not follow the last one. Somebody
	// else wrote to the log: ask for the Head again.
	ErrSequence = errors.New("entry does not follow the last one in the log")
)

// A FactError says that a fact contradicts what the index holds.
type FactError struct {
	Sequence int64
	Fact     string // its name, such as "release.accepted"
	Reason   string
}

func (e *FactError) Error() string {
	return fmt.Sprintf("entry %d: %s: %s", e.Sequence, e.Fact, e.Reason)
}

// A ChainError says where the audit log is broken.
type ChainError struct {
	Sequence int64
	Reason   string
}

func (e *ChainError) Error() string {
	return fmt.Sprintf("audit log is broken at entry %d: %s", e.Sequence, e.Reason)
}

// fail says what failed, and turns SQLite's codes into errors that callers
// know. It returns nil for nil.
func (x *Index) fail(ctx context.Context, what string, err error) error {
	if err == nil {
		return nil
	}
	var s *sqlite.Error
	switch {
	case errors.Is(err, ErrDamaged):
	case errors.Is(err, sql.ErrNoRows):
		err = ErrNotFound
	case ctx.Err() != nil && !errors.Is(err, ctx.Err()):
		err = ctx.Err() // SQLite says only "interrupted"
	case errors.As(err, &s):
		switch code := s.Code(); {
		case code&0xff == lib.SQLITE_CORRUPT, code&0xff == lib.SQLITE_NOTADB, code == lib.SQLITE_IOERR_SHORT_READ:
			err = fmt.Errorf("%w (%s: %w)", ErrDamaged, x.path, err)
		case code&0xff == lib.SQLITE_FULL:
			full := &bucket.NoSpaceError{Where: x.path, Err: err}
			if free, ferr := durable.Free(x.path); ferr == nil {
				full.Have = free // only an ornament: without it the error is as true
			}
			err = full
		case code&0xff == lib.SQLITE_BUSY:
			err = fmt.Errorf("another process has been writing to %s for too long: %w", x.path, err)
		}
	}
	return fmt.Errorf("%s: %w", what, err)
}
