//go:build unix

package durable

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

func syncFolder(f *os.File) error {
	err := f.Sync()
	// Some network and FUSE file systems have nothing to flush in a folder.
	if err == nil || errors.Is(err, unix.EINVAL) || errors.Is(err, errors.ErrUnsupported) {
		return nil
	}
	return fmt.Errorf("flush folder %s: %w", f.Name(), err)
}

// lockFolder holds until f is closed. A file system that cannot lock leaves us
// no worse than before.
func lockFolder(f *os.File) {
	for unix.Flock(int(f.Fd()), unix.LOCK_EX) == unix.EINTR {
	}
}
