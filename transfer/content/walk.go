package content

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"iter"
	"sync"

	"davit/manifest"
	"davit/store"
	"davit/store/chunk"
)

// Walk calls visit for every entry of a package in order, with the
// chunks of a file's content, which visit may use until it returns. A package
// that is one file is one entry with an empty path. It is an error wrapping
// ErrContent when listing, chunks and the package's own sums disagree.
func Walk(ctx context.Context, st *store.Store, p *manifest.Package, visit func(manifest.TreeEntry, iter.Seq2[chunk.Entry, error]) error) error {
	next, stop := iter.Pull2(st.Entries(ctx, p.Content))
	defer stop()
	if p.Kind == manifest.PackageFile {
		e := manifest.TreeEntry{Type: manifest.TreeFile, Mode: p.Mode, Size: p.Size, SHA256: p.SHA256}
		if err := visitFile(e, next, visit); err != nil {
			return fmt.Errorf("package %s: %w", p.Name, err)
		}
		return nil
	}
	listing := st.Open(ctx, *p.Tree)
	defer listing.Close()
	sum := sha256.New()
	r := manifest.NewTreeReader(io.TeeReader(listing, sum))
	for {
		e, err := r.Next()
		if err == io.EOF {
			break
		}
		if err == nil {
			err = visitFile(e, next, visit)
		}
		if err != nil {
			return fmt.Errorf("package %s: %w", p.Name, err)
		}
	}
	if manifest.Digest(sum.Sum(nil)) != p.SHA256 {
		return fmt.Errorf("package %s: %w: its listing is not the one that was signed", p.Name, ErrContent)
	}
	if s := r.Summary(); s.Size != p.Size || s.Files != p.Files {
		return fmt.Errorf("package %s: %w: its listing has %d files of %d bytes, its description says %d of %d", p.Name, ErrContent, s.Files, s.Size, p.Files, p.Size)
	}
	if a, b, ok := r.CaseCollision(); ok && !p.CaseSensitive {
		return fmt.Errorf("package %s: %w: %s and %s differ only in case and the package does not say so", p.Name, ErrContent, a, b)
	}
	if _, err, ok := next(); err != nil {
		return err
	} else if ok {
		return fmt.Errorf("package %s: %w: it has more content than its listing", p.Name, ErrContent)
	}
	return nil
}

func visitFile(e manifest.TreeEntry, next func() (chunk.Entry, error, bool), visit func(manifest.TreeEntry, iter.Seq2[chunk.Entry, error]) error) error {
	var (
		n      int64
		failed error
	)
	pull := func() (chunk.Entry, error) {
		c, err, ok := next()
		switch {
		case err != nil:
			failed = err
		case !ok:
			failed = fmt.Errorf("%w: its content ends within %q", ErrContent, e.Path)
		default:
			if n += int64(c.Length); n > e.Size {
				failed = fmt.Errorf("%w: a chunk goes beyond the end of %q", ErrContent, e.Path)
			}
		}
		return c, failed
	}
	err := visit(e, func(yield func(chunk.Entry, error) bool) {
		for n < e.Size {
			if c, err := pull(); !yield(c, err) || err != nil {
				return
			}
		}
	})
	// What visit did not look at belongs to this file all the same.
	for err == nil && failed == nil && n < e.Size {
		pull()
	}
	if err != nil {
		return err
	}
	return failed
}

// Queue carries what is known of files from the goroutine that lists
// chunks to the one that gets their bytes. It is as long as the files whose
// chunks are on their way.
type Queue[T any] struct {
	mu    sync.Mutex
	items []T
}

// Push puts one at the end.
func (q *Queue[T]) Push(v T) {
	q.mu.Lock()
	q.items = append(q.items, v)
	q.mu.Unlock()
}

// Pop takes the first, which must be there.
func (q *Queue[T]) Pop() T {
	q.mu.Lock()
	defer q.mu.Unlock()
	v := q.items[0]
	q.items = q.items[1:]
	return v
}

// ErrContent: what is there is not what was signed.
var ErrContent = errors.New("it is not what was signed")

// ErrStopped ends a walk whose consumer has had enough.
var ErrStopped = errors.New("stopped")
