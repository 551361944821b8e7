package durable

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

func renameNoReplace(src *os.File, from string, dst *os.File, to string) error {
	for {
		err := unix.RenameatxNp(int(src.Fd()), from, int(dst.Fd()), to, unix.RENAME_EXCL)
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case errors.Is(err, unix.EINVAL): // the file system does not know the flag
			return errors.ErrUnsupported
		}
		return err // ENOSYS and ENOTSUP are errors.ErrUnsupported already
	}
}
