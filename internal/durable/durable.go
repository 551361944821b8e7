// Package durable writes files that survive a power cut, and guards them
// between processes.
//
// A file is written under a temporary name, flushed to the disk, renamed to
// its real name, and then the folder that holds the name is flushed as well.
// Whoever looks, at any moment and after any crash, finds the whole file or
// none of it. A crash leaves at most a temporary file; IsTemp knows them, and
// whoever owns the folder sweeps them.
//
// There are two ways to write:
//
//   - WriteFile replaces a small file whole: a config, a key, a card.
//   - Create, Write, Commit writes a file of any length that is never
//     replaced: Commit refuses a name that is taken. Rename moves such a file
//     with the same two promises, durable and never over another.
//
// Everything that is not a plain path of ours goes through an [os.Root], and a
// symbolic link is never taken for a folder.
//
// # File systems
//
// "Refuse a name that is taken" is one step of the kernel where it can be:
// renameat2 with RENAME_NOREPLACE on Linux (ext4, XFS, Btrfs, tmpfs, FAT32 and
// exFAT among others), renameatx_np with RENAME_EXCL on macOS. Where the file
// system refuses that, a hard link makes the new name and the old one is
// removed. Where there are no hard links either, a look is followed by a
// rename, under a lock on the top folder, so that our own processes still
// exclude each other.
//
// Flushing a folder is impossible on Windows and on some network and FUSE file
// systems. There the promise is as strong as the file system makes renames.
package durable

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
)

const tempPrefix = ".davit-tmp-"

// IsTemp tells whether name, or the last element of it, is that of a temporary
// file made by this package.
func IsTemp(name string) bool {
	if i := strings.LastIndexAny(name, `/\`); i >= 0 {
		name = name[i+1:]
	}
	return strings.HasPrefix(name, tempPrefix)
}

// WriteFile writes data to the file at path, replacing the file there in one
// step. When it returns nil the bytes and the name survive a power cut; when it
// fails the old file is untouched, or in rare cases (the folder could not be
// flushed) already replaced. perm is subject to the umask.
func WriteFile(path string, data []byte, perm os.FileMode) error {
	root, err := os.OpenRoot(filepath.Dir(path))
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	defer root.Close()
	f, err := Create(root, "", perm)
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	defer f.Abort()
	if _, err := f.Write(data); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	if err := f.replace(filepath.Base(path)); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return nil
}

// MkdirAll makes the folder at path and those above it that are missing, and
// flushes them, so that they survive a power cut.
func MkdirAll(path string, perm os.FileMode) error {
	path, err := filepath.Abs(path)
	if err != nil {
		return fmt.Errorf("make folder %s: %w", path, err)
	}
	var above []string // of the folders that are missing, deepest first
	for p := path; ; p = filepath.Dir(p) {
		if _, err := os.Stat(p); !errors.Is(err, fs.ErrNotExist) || p == filepath.Dir(p) {
			break
		}
		above = append(above, filepath.Dir(p))
	}
	if err := os.MkdirAll(path, perm); err != nil {
		return fmt.Errorf("make folder %s: %w", path, err)
	}
	for _, p := range above {
		if err := SyncDir(p); err != nil {
			return fmt.Errorf("make folder %s: %w", path, err)
		}
	}
	return nil
}

// SyncDir flushes the folder at path, so that names made, moved or removed in
// it survive a power cut. It does nothing on Windows and on file systems that
// do not flush folders.
func SyncDir(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("flush folder %s: %w", path, err)
	}
	defer f.Close()
	return syncFolder(f)
}

// SyncParents flushes the folder that holds name and every folder above it, up
// to the top of root. All of them, because one that is already there may have
// been made a moment ago by a process that has not flushed it yet.
func SyncParents(root *os.Root, name string) error {
	for dir := path.Dir(name); ; dir = path.Dir(dir) {
		f, err := root.Open(dir)
		if err != nil {
			return fmt.Errorf("flush folder %s: %w", dir, err)
		}
		err = syncFolder(f)
		f.Close()
		if err != nil {
			return err
		}
		if dir == "." {
			return nil
		}
	}
}

// makeParents makes the folders that name needs and refuses anything else that
// stands in their place, a symbolic link to a folder included.
func makeParents(root *os.Root, name string, perm os.FileMode) error {
	for i, c := range name {
		if c != '/' {
			continue
		}
		dir := name[:i]
		info, err := root.Lstat(dir)
		if errors.Is(err, fs.ErrNotExist) {
			if err := root.Mkdir(dir, perm); err != nil && !errors.Is(err, fs.ErrExist) {
				return fmt.Errorf("make folder %s: %w", dir, err)
			}
			info, err = root.Lstat(dir) // perhaps somebody else was faster
		}
		if err != nil {
			return fmt.Errorf("make folder %s: %w", dir, err)
		}
		if !info.IsDir() {
			return fmt.Errorf("make folder %s: something else has that name (%s)", dir, info.Mode())
		}
	}
	return nil
}

// folderPerm lets whoever may read files of perm also enter their folder.
func folderPerm(perm os.FileMode) os.FileMode {
	return perm | perm&0o444>>2
}
