// Package bucket keeps immutable named objects.
//
// A bucket is a folder, a server, or memory; a davit store lives in one, and
// every medium that carries a bundle is one. An object gets its name when all
// its bytes are there and durable, and is never changed afterwards: it can only
// be read, moved to another name, or deleted. A name that is taken is never
// given again, so that of any number of writers, in any number of processes,
// exactly one wins and the others are told ErrExist.
//
// Reading and writing are different types. Who only imports is handed a Reader
// and cannot write to the medium even by mistake.
//
// # Life of an object
//
//	w, err := b.Create(ctx)           hidden, without a name
//	defer w.Abort()                   drops it unless it is committed
//	w.Write(p) ...
//	w.Close()                         bytes durable (optional, Commit does it)
//	w.Commit(ctx, "packs/ab/abcd")    visible and durable when nil
//
// A crash at any point leaves either the whole object under its name or
// something hidden that nobody lists and that a later sweep removes. An
// operation that returned an error may have happened all the same (the answer
// of a server was lost, a folder could not be flushed): do it again, and take
// ErrExist from Commit, or ErrNotExist from Move, for what it then means.
//
// Put, Get, Copy and Move are the same in one call.
//
// # Names
//
// CheckName says what a name is: elements of letters, digits, '.', '_' and '-',
// separated by single slashes. Every method refuses anything else with ErrName
// before touching the bucket. So no name can leave the bucket, mean something
// special to a shell or a file system, or be hidden; and a name that one system
// accepts can be written on all of them. Names are case-sensitive, but some
// file systems are not: do not use two names that differ in case alone.
// Likewise, do not use one name both for an object and as the beginning of
// others ("a" and "a/b"): servers permit it, folders cannot.
//
// # A folder
//
// Dir is a bucket in a folder: names are paths below it. It can be a store on a
// good disk, a drop folder that others write to, or a FAT32 stick of unknown
// history, so it trusts nothing in it. It is opened once and everything happens
// below that handle. Only regular files reached through real folders are
// objects: symbolic links, devices and pipes are refused with ErrNotRegular by
// Open, Stat, Delete and Move, and passed over by List, as are files whose
// names are not valid (a stick that went through other hands carries many).
// OpenDir writes nothing, so that read-only media work. Folders that become
// empty stay.
package bucket

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"time"
)

// Info says what is known of an object without reading it.
type Info struct {
	Name     string
	Size     int64
	Modified time.Time // by the clock of whoever wrote it: show it, decide nothing by it
}

// An Object is open for reading. ReadAt is safe for many goroutines at once and
// follows the rules of [io.ReaderAt]. If the object is deleted meanwhile,
// reading goes on or fails; it never gives other bytes.
type Object interface {
	io.ReaderAt
	io.Closer
	Size() int64
}

// A Reader is a bucket that cannot be changed through it. It is safe for many
// goroutines at once.
type Reader interface {
	// Open returns the object, or ErrNotExist.
	Open(ctx context.Context, name string) (Object, error)
	// Stat describes the object, or returns ErrNotExist.
	Stat(ctx context.Context, name string) (Info, error)
	// List yields the objects whose names start with prefix, which need not
	// end at a slash, in the order of the bytes of their names. It does not
	// hold them all in memory, and costs no more than the folders the prefix
	// leads to. Objects that come or go while it runs may be listed or not;
	// the others are, once. An error is the last thing it yields.
	List(ctx context.Context, prefix string) iter.Seq2[Info, error]
}

// A Bucket can also be written. It is safe for many goroutines at once, and so
// are buckets of several processes on one place.
type Bucket interface {
	Reader
	// Create begins an object. Its name may be unknown until the end: it is
	// given to Commit.
	Create(ctx context.Context) (Writer, error)
	// Delete removes the object, durably. If it is absent, that is nil.
	Delete(ctx context.Context, name string) error
}

// A Writer is an object without a name. It is for one goroutine. After a Write
// or Close that failed, it can only be aborted.
type Writer interface {
	// Close ends writing and makes the bytes durable under a hidden name.
	// Closing again returns the same.
	io.WriteCloser
	// Commit closes if needed and gives the object its name: it is durable and
	// visible when that is nil. If the name is taken it returns ErrExist, drops
	// the bytes and leaves what was there, which is durable then. After another
	// error it may be tried again.
	Commit(ctx context.Context, name string) error
	// Abort drops the object. After Commit or Abort it does nothing.
	Abort() error
}

// A Mover is a Bucket that renames in one step. It returns ErrExist when to is
// taken and ErrNotExist when from is absent. Use it through Move.
type Mover interface {
	Move(ctx context.Context, from, to string) error
}

// A Spacer is a Bucket that knows how many bytes it may still take. A wrapper
// around one that does not know returns [errors.ErrUnsupported].
type Spacer interface {
	Free(ctx context.Context) (int64, error)
}

// What callers ask about errors.
var (
	ErrNotExist   error = &sentinel{"no such object", fs.ErrNotExist}
	ErrExist      error = &sentinel{"the name is taken", fs.ErrExist}
	ErrName       error = &sentinel{"not a valid object name", fs.ErrInvalid}
	ErrNotRegular error = &sentinel{"not a regular file", nil}
)

// A sentinel has its own words and is also one of the errors of io/fs.
type sentinel struct {
	text string
	is   error
}

func (e *sentinel) Error() string { return e.text }
func (e *sentinel) Unwrap() error { return e.is }

// A NoSpaceError says that a bucket is full.
type NoSpaceError struct {
	Where string // the folder or server
	Need  int64  // bytes wanted, 0 if unknown
	Have  int64  // bytes free when it failed
	Err   error  // what the system said, if it did
}

func (e *NoSpaceError) Error() string {
	if e.Need > 0 {
		return fmt.Sprintf("no space left on %s: %d bytes needed, %d free", e.Where, e.Need, e.Have)
	}
	return fmt.Sprintf("no space left on %s: %d bytes free", e.Where, e.Have)
}

func (e *NoSpaceError) Unwrap() error { return e.Err }

// A TooLargeError says that an object was not read because of its size.
type TooLargeError struct {
	Name      string
	Size, Max int64
}

func (e *TooLargeError) Error() string {
	return fmt.Sprintf("%s is too large: %d bytes, at most %d are allowed", e.Name, e.Size, e.Max)
}

// Put makes an object of data. ErrExist means that the name was taken.
func Put(ctx context.Context, b Bucket, name string, data []byte) error {
	if err := CheckName(name); err != nil {
		return fmt.Errorf("put object: %w", err)
	}
	w, err := b.Create(ctx)
	if err != nil {
		return err
	}
	defer w.Abort()
	if _, err := w.Write(data); err != nil {
		return err
	}
	return w.Commit(ctx, name)
}

// Get returns the whole object. One larger than max is not read: the error is a
// *TooLargeError.
func Get(ctx context.Context, r Reader, name string, max int64) ([]byte, error) {
	o, err := r.Open(ctx, name)
	if err != nil {
		return nil, err
	}
	defer o.Close()
	if o.Size() > max {
		return nil, &TooLargeError{Name: name, Size: o.Size(), Max: max}
	}
	data := make([]byte, o.Size())
	if err := readFull(o, data, 0); err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	return data, nil
}

// Copy makes the object dstName of the bytes of srcName. Nothing is visible
// before all of them are there.
func Copy(ctx context.Context, dst Bucket, dstName string, src Reader, srcName string) error {
	if err := CheckName(dstName); err != nil {
		return fmt.Errorf("copy %s: %w", srcName, err)
	}
	o, err := src.Open(ctx, srcName)
	if err != nil {
		return err
	}
	defer o.Close()
	w, err := dst.Create(ctx)
	if err != nil {
		return err
	}
	defer w.Abort()
	buf := make([]byte, min(o.Size(), 1<<20))
	for at := int64(0); at < o.Size(); at += int64(len(buf)) {
		if err := ctx.Err(); err != nil {
			return fmt.Errorf("copy %s: %w", srcName, err)
		}
		buf = buf[:min(int64(len(buf)), o.Size()-at)]
		if err := readFull(o, buf, at); err != nil {
			return fmt.Errorf("copy %s: %w", srcName, err)
		}
		if _, err := w.Write(buf); err != nil {
			return fmt.Errorf("copy %s: %w", srcName, err)
		}
	}
	return w.Commit(ctx, dstName)
}

// Move gives an object another name: in one step if b is a Mover, else by Copy
// and Delete, and then a crash may leave both names.
func Move(ctx context.Context, b Bucket, from, to string) error {
	if m, ok := b.(Mover); ok {
		return m.Move(ctx, from, to)
	}
	if err := Copy(ctx, b, to, b, from); err != nil {
		return err
	}
	return b.Delete(ctx, from)
}

// readFull fills buf from at. An end before that is io.ErrUnexpectedEOF: the
// size was known.
func readFull(o Object, buf []byte, at int64) error {
	n, err := o.ReadAt(buf, at)
	switch {
	case n == len(buf):
		return nil
	case err == nil || errors.Is(err, io.EOF):
		return io.ErrUnexpectedEOF
	}
	return err
}
