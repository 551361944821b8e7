package durable

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"sync"
)

// Rename gives the file from the name to, making the folders that to needs
// with perm (subject to the umask), and never replaces anything: if to is
// taken the error is [fs.ErrExist]. When it returns nil, both the new name and
// the absence of the old one survive a power cut. Where neither kernel nor file
// system can do it in one step, a crash may leave the file under both names.
func Rename(root *os.Root, from, to string, perm os.FileMode) error {
	moved, err := rename(root, from, to, perm)
	if err == nil && moved {
		err = SyncParents(root, from)
	}
	return err
}

// rename is Rename without flushing the folder of from. It tells whether the
// file has its new name, which it can have in spite of an error.
func rename(root *os.Root, from, to string, perm os.FileMode) (moved bool, err error) {
	if err := makeParents(root, to, perm); err != nil {
		return false, err
	}
	moved, err = renameOnce(root, from, to)
	if err != nil && !errors.Is(err, fs.ErrExist) {
		return moved, err
	}
	// A name that is taken is flushed too: the process that made it may have
	// died before it could, and our caller goes on as if it were safe.
	if serr := SyncParents(root, to); serr != nil {
		return moved, serr
	}
	return moved, err
}

func renameOnce(root *os.Root, from, to string) (moved bool, err error) {
	err = renameByKernel(root, from, to)
	if !errors.Is(err, errors.ErrUnsupported) {
		return err == nil, err
	}
	moved, err = renameByLink(root, from, to)
	if err == nil || moved || errors.Is(err, fs.ErrExist) {
		return moved, err
	}
	// No hard links here, or something deeper is wrong; then this fails too.
	err = renameByLook(root, from, to)
	return err == nil, err
}

// renameByKernel returns errors.ErrUnsupported where it cannot be had.
func renameByKernel(root *os.Root, from, to string) error {
	src, err := root.Open(path.Dir(from))
	if err != nil {
		return err
	}
	defer src.Close()
	dst, err := root.Open(path.Dir(to))
	if err != nil {
		return err
	}
	defer dst.Close()
	if err := renameNoReplace(src, path.Base(from), dst, path.Base(to)); err != nil {
		return &os.LinkError{Op: "rename", Old: from, New: to, Err: err}
	}
	return nil
}

func renameByLink(root *os.Root, from, to string) (moved bool, err error) {
	if err := root.Link(from, to); err != nil {
		// The same file under both names: a rename that a crash cut in two, or
		// a network file system whose answer was lost. Finish it.
		if !errors.Is(err, fs.ErrExist) || from == to || !sameFile(root, from, to) {
			return false, err
		}
	}
	if err := root.Remove(from); err != nil {
		return true, fmt.Errorf("remove the old name: %w", err)
	}
	return true, nil
}

func sameFile(root *os.Root, a, b string) bool {
	ai, aerr := root.Lstat(a)
	bi, berr := root.Lstat(b)
	return aerr == nil && berr == nil && os.SameFile(ai, bi)
}

// looking lets one goroutine at a time look and then rename.
var looking sync.Mutex

// renameByLook can be outrun by a program that is not ours, and on Windows by
// another process of ours.
func renameByLook(root *os.Root, from, to string) error {
	looking.Lock()
	defer looking.Unlock()
	top, err := root.Open(".")
	if err != nil {
		return err
	}
	defer top.Close() // and with it the lock
	lockFolder(top)
	switch _, err := root.Lstat(to); {
	case err == nil:
		return &os.LinkError{Op: "rename", Old: from, New: to, Err: fs.ErrExist}
	case !errors.Is(err, fs.ErrNotExist):
		return err
	}
	return root.Rename(from, to)
}
