package durable

import (
	"context"
	"fmt"
	"time"

	"github.com/gofrs/flock"
)

// A Lock is held on a file, between processes and within one alike. The
// system lets it go when the process ends, however it ends; the file stays,
// because removing it would let two processes hold "the" lock on two files.
type Lock struct {
	file *flock.Flock
}

// How often a waiting process tries again. Nobody waits on these locks in a
// loop, and people do not notice it.
const lockRetry = 50 * time.Millisecond

// LockShared waits for a lock that many may hold while nobody holds it
// exclusively. The file at path is made if it is missing.
func LockShared(ctx context.Context, path string) (*Lock, error) {
	file := lockFile(path)
	if _, err := file.TryRLockContext(ctx, lockRetry); err != nil {
		return nil, fmt.Errorf("lock %s: %w", path, err)
	}
	return &Lock{file}, nil
}

// LockExclusive waits for a lock that only one may hold. The file at path is
// made if it is missing.
func LockExclusive(ctx context.Context, path string) (*Lock, error) {
	file := lockFile(path)
	if _, err := file.TryLockContext(ctx, lockRetry); err != nil {
		return nil, fmt.Errorf("lock %s: %w", path, err)
	}
	return &Lock{file}, nil
}

// TryLockExclusive is LockExclusive without waiting: if anybody holds the
// lock, it returns false and no error.
func TryLockExclusive(path string) (*Lock, bool, error) {
	file := lockFile(path)
	ok, err := file.TryLock()
	if err != nil {
		return nil, false, fmt.Errorf("lock %s: %w", path, err)
	}
	if !ok {
		return nil, false, nil
	}
	return &Lock{file}, true, nil
}

// Unlock lets go. Doing it again does nothing.
func (l *Lock) Unlock() error {
	if err := l.file.Unlock(); err != nil {
		return fmt.Errorf("unlock %s: %w", l.file.Path(), err)
	}
	return nil
}

func lockFile(path string) *flock.Flock {
	return flock.New(path, flock.SetPermissions(0o600))
}
