package durable

import (
	"fmt"
	"math"

	"golang.org/x/sys/windows"
)

var noSpace = []error{
	windows.ERROR_DISK_FULL,
	windows.ERROR_HANDLE_DISK_FULL,
	windows.ERROR_DISK_QUOTA_EXCEEDED,
}

// Free returns how many bytes this user may still write on the file system
// that holds path.
func Free(path string) (int64, error) {
	p, err := windows.UTF16PtrFromString(path)
	if err != nil {
		return 0, fmt.Errorf("measure free space of %s: %w", path, err)
	}
	var free uint64
	if err := windows.GetDiskFreeSpaceEx(p, &free, nil, nil); err != nil {
		return 0, fmt.Errorf("measure free space of %s: %w", path, err)
	}
	return int64(min(free, math.MaxInt64)), nil
}
