package durable

import (
	"fmt"
	"math"

	"golang.org/x/sys/unix"
)

// Free returns how many bytes this user may still write on the file system
// that holds path. Quotas may allow less.
func Free(path string) (int64, error) {
	var s unix.Statfs_t
	if err := unix.Statfs(path, &s); err != nil {
		return 0, fmt.Errorf("measure free space of %s: %w", path, err)
	}
	block := uint64(s.Frsize) // blocks are counted in fragments
	if block == 0 {
		block = uint64(s.Bsize)
	}
	if block != 0 && s.Bavail > math.MaxInt64/block {
		return math.MaxInt64, nil
	}
	return int64(s.Bavail * block), nil
}
