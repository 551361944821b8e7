package bucket

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"os"
	"slices"
	"strings"
)

// List implements Reader. It walks the tree depth first with one folder's names
// in memory per level. Within a folder, "a/" is what the names in the folder a
// start with, so that it is sorted by that: after "a-b" and "a.b", before "ab".
func (d *Dir) List(ctx context.Context, prefix string) iter.Seq2[Info, error] {
	return func(yield func(Info, error) bool) {
		if err := CheckPrefix(prefix); err != nil {
			yield(Info{}, fmt.Errorf("list: %w", err))
			return
		}
		w := walk{ctx: ctx, yield: yield}
		folder, rest := splitPrefix(prefix)
		err := w.start(d.root, folder, rest)
		if err != nil && !errors.Is(err, errStop) {
			yield(Info{}, fmt.Errorf("list %s: %w", prefix, err))
		}
	}
}

var errStop = errors.New("the caller has seen enough")

type walk struct {
	ctx   context.Context
	yield func(Info, error) bool
}

// start goes down to the folder that holds all names wanted.
func (w *walk) start(root *os.Root, folder, rest string) error {
	if err := w.ctx.Err(); err != nil {
		return err
	}
	if folder == "" {
		return w.folder(root, "", rest)
	}
	for above := range foldersOf(folder + "/") {
		info, err := root.Lstat(above)
		if errors.Is(err, fs.ErrNotExist) || err == nil && !info.IsDir() {
			return nil
		} else if err != nil {
			return err
		}
	}
	return w.enter(root, folder, folder+"/", rest)
}

// enter walks the folder that is called base below parent.
func (w *walk) enter(parent *os.Root, base, path, rest string) error {
	sub, err := parent.OpenRoot(base)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // removed while we were on our way
	} else if err != nil {
		return err
	}
	defer sub.Close()
	return w.folder(sub, path, rest)
}

// folder yields what lies in the folder, whose names start with path, and below
// it, if the next element starts with rest.
func (w *walk) folder(root *os.Root, path, rest string) error {
	entries, err := readFolder(root, rest)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if err := w.ctx.Err(); err != nil {
			return err
		}
		name := path + strings.TrimSuffix(e, "/")
		if len(name) > MaxName {
			continue
		}
		base := name[len(path):]
		info, err := root.Lstat(base)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			continue
		case err != nil:
			return err
		case info.IsDir() != strings.HasSuffix(e, "/"):
			continue // a file became a folder or the reverse: it is not sorted here
		case info.IsDir():
			if err := w.enter(root, base, name+"/", ""); err != nil {
				return err
			}
		case info.Mode().IsRegular():
			if !w.yield(Info{Name: name, Size: info.Size(), Modified: info.ModTime()}, nil) {
				return errStop
			}
		}
	}
	return nil
}

// readFolder returns the valid names in the folder that start with rest, in
// order, with a slash after those of folders. Hidden and temporary files are
// not valid names.
func readFolder(root *os.Root, rest string) ([]string, error) {
	f, err := root.Open(".")
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var names []string
	for {
		entries, err := f.ReadDir(1000)
		for _, e := range entries {
			name := e.Name()
			if !strings.HasPrefix(name, rest) || checkElement(name) != "" {
				continue
			}
			switch {
			case e.IsDir():
				names = append(names, name+"/")
			case e.Type().IsRegular():
				names = append(names, name)
			}
		}
		if len(entries) == 0 || err != nil {
			if err == io.EOF {
				err = nil
			}
			slices.Sort(names)
			return names, err
		}
	}
}
