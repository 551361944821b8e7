package durable

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
)

// A File is being written under a temporary name. It is for one goroutine.
//
// The first failure stays: after it every Write, Close and Commit returns it,
// so that a file with a hole can never get its name.
type File struct {
	root *os.Root
	f    *os.File
	temp string
	perm os.FileMode

	closed bool
	gone   bool // the temporary name is ours no more: committed or aborted
	err    error
}

// Create makes an empty temporary file in the top folder of root, named
// ".davit-tmp-", prefix, and a random part. perm is subject to the umask;
// Commit makes folders with the same rights. Abort it whatever happens, best
// with defer: after Commit that does nothing.
func Create(root *os.Root, prefix string, perm os.FileMode) (*File, error) {
	if strings.ContainsAny(prefix, `/\`) {
		return nil, fmt.Errorf("create temporary file: prefix %q contains a separator", prefix)
	}
	temp := tempPrefix + prefix + strings.ToLower(rand.Text())
	f, err := root.OpenFile(temp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, perm)
	if err != nil {
		return nil, fmt.Errorf("create temporary file: %w", err)
	}
	return &File{root: root, f: f, temp: temp, perm: perm}, nil
}

// Write appends p.
func (f *File) Write(p []byte) (int, error) {
	if f.err != nil {
		return 0, f.err
	}
	if f.closed {
		return 0, fmt.Errorf("write %s: %w", f.temp, fs.ErrClosed)
	}
	n, err := f.f.Write(p)
	if err != nil {
		f.err = fmt.Errorf("write %s: %w", f.temp, err)
	}
	return n, f.err
}

// Close flushes the bytes to the disk and closes the file, which keeps its
// temporary name. Closing again returns what the first one did.
func (f *File) Close() error {
	if f.closed {
		return f.err
	}
	f.closed = true
	if f.err == nil {
		if err := f.f.Sync(); err != nil {
			f.err = fmt.Errorf("flush %s: %w", f.temp, err)
		}
	}
	if err := f.f.Close(); err != nil && f.err == nil {
		f.err = fmt.Errorf("close %s: %w", f.temp, err)
	}
	return f.err
}

// Commit closes the file if that was not done, makes the folders of name, a
// slash-separated path in the root, and gives the file that name. When it
// returns nil, bytes and name survive a power cut.
//
// If the name is taken the error is [fs.ErrExist] and the file there is
// untouched; its name has been flushed then, so that it is as durable as one
// just committed. After an error the file may be committed to another name or
// aborted. One error comes too late for that: if the folders cannot be
// flushed, the file has its name, and only a power cut could take it away.
func (f *File) Commit(name string) error {
	if err := f.ready(name); err != nil {
		return err
	}
	moved, err := rename(f.root, f.temp, name, folderPerm(f.perm))
	f.gone = moved
	return err
}

// replace is Commit without folders and over whatever has the name.
func (f *File) replace(name string) error {
	if err := f.ready(name); err != nil {
		return err
	}
	if err := f.root.Rename(f.temp, name); err != nil {
		return err
	}
	f.gone = true
	return SyncParents(f.root, name)
}

func (f *File) ready(name string) error {
	if f.gone {
		return fmt.Errorf("commit %s: the file is already committed or aborted", name)
	}
	return f.Close()
}

// Abort removes the file. It does nothing after Commit or an earlier Abort.
func (f *File) Abort() error {
	if f.gone {
		return nil
	}
	f.gone = true
	if !f.closed {
		f.closed = true
		f.f.Close() // nobody wants the bytes: what it says is of no use
	}
	if err := f.root.Remove(f.temp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove temporary file: %w", err)
	}
	return nil
}
