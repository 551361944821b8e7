package bucket

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"davit/internal/durable"
)

var (
	errClosed = errors.New("the object is closed for writing")
	errDone   = errors.New("the object is already committed or aborted")
)

// Dir is a Bucket in a folder. See the package comment.
type Dir struct {
	root *os.Root
	path string
}

// Rights of what Dir makes. The umask of the process decides: a store is kept
// private by its folder, a drop folder shared by its group.
const (
	filePerm   = 0o666
	folderPerm = 0o777
)

// OpenDir opens a folder that exists. It writes nothing.
func OpenDir(path string) (*Dir, error) {
	abs, err := filepath.Abs(path)
	if err != nil {
		return nil, fmt.Errorf("open bucket %s: %w", path, err)
	}
	root, err := os.OpenRoot(abs)
	if err != nil {
		return nil, fmt.Errorf("open bucket: %w", err)
	}
	return &Dir{root: root, path: abs}, nil
}

// CreateDir opens a folder and makes it, and those above it, if needed.
func CreateDir(path string) (*Dir, error) {
	if err := durable.MkdirAll(path, folderPerm); err != nil {
		return nil, fmt.Errorf("create bucket: %w", err)
	}
	return OpenDir(path)
}

// Close lets go of the folder. Objects that are open stay so.
func (d *Dir) Close() error { return d.root.Close() }

// Path returns the folder's path, absolute.
func (d *Dir) Path() string { return d.path }

// Free implements Spacer.
func (d *Dir) Free(ctx context.Context) (int64, error) {
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	return durable.Free(d.path)
}

// Stat implements Reader.
func (d *Dir) Stat(ctx context.Context, name string) (Info, error) {
	if err := begin(ctx, "stat", name); err != nil {
		return Info{}, err
	}
	info, err := d.find(name)
	if err != nil {
		return Info{}, fmt.Errorf("stat %s: %w", name, err)
	}
	return Info{Name: name, Size: info.Size(), Modified: info.ModTime()}, nil
}

// find describes the regular file name. Folders and what would lie below a file
// do not exist as objects; whatever else is in the way is ErrNotRegular.
func (d *Dir) find(name string) (fs.FileInfo, error) {
	for folder := range foldersOf(name) {
		info, err := d.root.Lstat(folder)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return nil, ErrNotExist
		case err != nil:
			return nil, err
		case info.Mode().IsRegular():
			return nil, ErrNotExist
		case !info.IsDir():
			return nil, notRegular(folder, info)
		}
	}
	info, err := d.root.Lstat(name)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, ErrNotExist
	case err != nil:
		return nil, err
	case info.IsDir():
		return nil, ErrNotExist
	case !info.Mode().IsRegular():
		return nil, notRegular(name, info)
	}
	return info, nil
}

func notRegular(name string, info fs.FileInfo) error {
	kind := "something special"
	switch mode := info.Mode(); {
	case mode&fs.ModeSymlink != 0:
		kind = "a symbolic link"
	case mode&fs.ModeDevice != 0:
		kind = "a device"
	case mode&fs.ModeNamedPipe != 0:
		kind = "a pipe"
	case mode&fs.ModeSocket != 0:
		kind = "a socket"
	case mode.IsDir():
		kind = "a folder"
	}
	return fmt.Errorf("%w: %s is %s", ErrNotRegular, name, kind)
}

// Open implements Reader.
func (d *Dir) Open(ctx context.Context, name string) (Object, error) {
	if err := begin(ctx, "open", name); err != nil {
		return nil, err
	}
	o, err := d.open(name)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", name, err)
	}
	return o, nil
}

// open looks first, so that no device or pipe is ever opened, and compares
// afterwards, so that what it opened is what it looked at. Where a folder is
// changed under us, looking again once or twice settles it.
func (d *Dir) open(name string) (*dirObject, error) {
	for range 3 {
		want, err := d.find(name)
		if err != nil {
			return nil, err
		}
		f, err := d.root.OpenFile(name, os.O_RDONLY|openNonblock, 0)
		if errors.Is(err, fs.ErrNotExist) {
			return nil, ErrNotExist
		} else if err != nil {
			return nil, err
		}
		got, err := f.Stat()
		if err == nil && got.Mode().IsRegular() && os.SameFile(want, got) {
			return &dirObject{f: f, size: got.Size()}, nil
		}
		f.Close()
		if err != nil {
			return nil, err
		}
	}
	return nil, errors.New("the file keeps changing into another")
}

type dirObject struct {
	f    *os.File
	size int64 // when it was opened: a stranger's file may be growing still
}

func (o *dirObject) Size() int64  { return o.size }
func (o *dirObject) Close() error { return o.f.Close() }

func (o *dirObject) ReadAt(p []byte, off int64) (int, error) {
	if off >= o.size {
		return 0, io.EOF
	}
	want := len(p)
	if rest := o.size - off; off >= 0 && int64(want) > rest {
		p = p[:rest]
	}
	n, err := o.f.ReadAt(p, off)
	switch {
	case err == io.EOF && n < len(p):
		return n, io.ErrUnexpectedEOF // shrunk
	case err == nil && n < want:
		return n, io.EOF
	}
	return n, err
}

// Create implements Bucket.
func (d *Dir) Create(ctx context.Context) (Writer, error) {
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("create object: %w", err)
	}
	f, err := durable.Create(d.root, "", filePerm)
	if err != nil {
		return nil, fmt.Errorf("create object in %s: %w", d.path, d.explain(err))
	}
	return &dirWriter{d: d, f: f}, nil
}

type dirWriter struct {
	d *Dir
	f *durable.File
}

func (w *dirWriter) Write(p []byte) (int, error) {
	n, err := w.f.Write(p)
	return n, w.d.explain(err)
}

func (w *dirWriter) Close() error { return w.d.explain(w.f.Close()) }

func (w *dirWriter) Abort() error { return w.f.Abort() }

func (w *dirWriter) Commit(ctx context.Context, name string) error {
	if err := begin(ctx, "commit", name); err != nil {
		return err
	}
	err := w.f.Commit(name)
	if err == nil {
		return nil
	}
	err = w.d.taken(name, err)
	if errors.Is(err, ErrExist) {
		err = errors.Join(err, w.Abort())
	}
	return fmt.Errorf("commit %s: %w", name, err)
}

// Delete implements Bucket.
func (d *Dir) Delete(ctx context.Context, name string) error {
	if err := begin(ctx, "delete", name); err != nil {
		return err
	}
	_, err := d.find(name)
	if err == nil {
		err = d.root.Remove(name)
	}
	if err == nil {
		err = durable.SyncParents(d.root, name)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("delete %s: %w", name, err)
	}
	return nil
}

// Move implements Mover.
func (d *Dir) Move(ctx context.Context, from, to string) error {
	if err := begin(ctx, "move", from); err != nil {
		return err
	}
	if err := begin(ctx, "move "+from+" to", to); err != nil {
		return err
	}
	if _, err := d.find(from); err != nil {
		return fmt.Errorf("move %s: %w", from, err)
	}
	if err := durable.Rename(d.root, from, to, folderPerm); err != nil {
		return fmt.Errorf("move %s to %s: %w", from, to, d.taken(to, err))
	}
	return nil
}

// taken turns fs.ErrExist into ErrExist, which says that an object is there.
// Callers go by that, so it must not be said of a folder or a symbolic link.
func (d *Dir) taken(name string, err error) error {
	if !errors.Is(err, fs.ErrExist) {
		return d.explain(err)
	}
	info, lerr := d.root.Lstat(name)
	switch {
	case errors.Is(lerr, fs.ErrNotExist): // deleted just now
		return ErrExist
	case lerr != nil:
		return lerr
	case !info.Mode().IsRegular():
		return notRegular(name, info)
	}
	return ErrExist
}

// explain turns the errors of a full disk into a *NoSpaceError.
func (d *Dir) explain(err error) error {
	var known *NoSpaceError
	if err == nil || !durable.IsNoSpace(err) || errors.As(err, &known) {
		return err
	}
	full := &NoSpaceError{Where: d.path, Err: err}
	if free, ferr := durable.Free(d.path); ferr == nil {
		full.Have = free // only an ornament: without it the error is as true
	}
	return full
}

// Sweep removes hidden objects, left by a crash, that nobody has written to for
// longer than olderThan, and returns how many. Another process may be writing
// to the bucket: olderThan must be longer than any pause between its writes and
// the end. A Writer whose object is swept fails at Commit.
func (d *Dir) Sweep(ctx context.Context, olderThan time.Duration) (int, error) {
	top, err := d.root.Open(".")
	if err != nil {
		return 0, fmt.Errorf("sweep %s: %w", d.path, err)
	}
	defer top.Close()
	swept := 0
	for {
		if err := ctx.Err(); err != nil {
			return swept, fmt.Errorf("sweep %s: %w", d.path, err)
		}
		entries, err := top.ReadDir(1000)
		for _, e := range entries {
			if !durable.IsTemp(e.Name()) {
				continue
			}
			info, err := d.root.Lstat(e.Name())
			if err != nil || !info.Mode().IsRegular() || time.Since(info.ModTime()) < olderThan {
				continue
			}
			switch err := d.root.Remove(e.Name()); {
			case err == nil:
				swept++
			case !errors.Is(err, fs.ErrNotExist):
				return swept, fmt.Errorf("sweep %s: %w", d.path, err)
			}
		}
		if err == io.EOF {
			return swept, nil
		} else if err != nil {
			return swept, fmt.Errorf("sweep %s: %w", d.path, err)
		}
	}
}
