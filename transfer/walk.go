package transfer

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"iter"
	"sync"

	"davit/manifest"
	"davit/store"
	"davit/store/chunk"
)

// walkPackage calls visit for every entry of a package in order, with the
// chunks of a file's content, which visit may use until it returns. A package
// that is one file is one entry with an empty path. It is an error wrapping
// ErrContent when listing, chunks and the package's own sums disagree.
func walkPackage(ctx context.Context, st *store.Store, p *manifest.Package, visit func(manifest.TreeEntry, iter.Seq2[chunk.Entry, error]) error) error {
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

// fileQueue carries what is known of files from the goroutine that lists
// chunks to the one that gets their bytes. It is as long as the files whose
// chunks are on their way.
type fileQueue[T any] struct {
	mu    sync.Mutex
	items []T
}

func (q *fileQueue[T]) push(v T) {
	q.mu.Lock()
	q.items = append(q.items, v)
	q.mu.Unlock()
}

func (q *fileQueue[T]) pop() T {
	q.mu.Lock()
	defer q.mu.Unlock()
	v := q.items[0]
	q.items = q.items[1:]
	return v
}

// verifyRelease makes sure that a release is whole and is what it says: every
// chunk is there, every listing is sound, every file has the SHA-256 that was
// signed. What is known is only looked up, not read.
func verifyRelease(ctx context.Context, st *store.Store, r *manifest.Release, k *known) error {
	for _, ref := range releaseRefs(r) {
		if err := st.Complete(ctx, ref); err != nil {
			return err
		}
	}
	for i := range r.Packages {
		p := &r.Packages[i]
		if k.has(p) {
			continue
		}
		if err := k.learn(ctx, st, p.Name); err != nil {
			return err
		}
		if err := verifyPackage(ctx, st, p, k); err != nil {
			return err
		}
	}
	for _, a := range r.Attachments {
		p := &manifest.Package{Name: a.Name, Kind: manifest.PackageFile, Size: a.Size, SHA256: a.SHA256, Content: a.Content}
		if err := verifyPackage(ctx, st, p, nil); err != nil {
			return err
		}
	}
	return nil
}

// verifyPackage reads the files of several chunks that are not known; one of a
// single chunk has the chunk's name as its SHA-256.
func verifyPackage(ctx context.Context, st *store.Store, p *manifest.Package, k *known) error {
	var (
		queue fileQueue[manifest.TreeEntry]
		cur   manifest.TreeEntry
		left  int64
		sum   hash.Hash = sha256.New()
		list  []chunk.Entry
	)
	wrong := func(path string) error {
		return fmt.Errorf("%w: file %q of package %s has another SHA-256 than the one signed", ErrContent, path, p.Name)
	}
	entries := func(yield func(chunk.Entry, error) bool) {
		err := walkPackage(ctx, st, p, func(e manifest.TreeEntry, chunks iter.Seq2[chunk.Entry, error]) error {
			switch {
			case e.Type != manifest.TreeFile:
				return nil
			case e.Size == 0 && e.SHA256 != manifest.DigestOf(nil):
				return wrong(e.Path)
			}
			list = list[:0]
			queued := false
			for c, err := range chunks {
				if err != nil {
					return err
				}
				if int64(c.Length) == e.Size {
					if manifest.Digest(c.Name) != e.SHA256 {
						return wrong(e.Path)
					}
					return nil
				}
				if !queued && len(list) < knownChunks {
					list = append(list, c)
					continue
				}
				// Longer than any file that could be known.
				if !queued {
					queue.push(e)
					queued = true
					for _, c := range list {
						if !yield(c, nil) {
							return errStopped
						}
					}
				}
				if !yield(c, nil) {
					return errStopped
				}
			}
			if queued || len(list) == 0 {
				return nil
			}
			if sum, ok := k.file(list); ok {
				if sum != e.SHA256 {
					return wrong(e.Path)
				}
				return nil
			}
			queue.push(e)
			for _, c := range list {
				if !yield(c, nil) {
					return errStopped
				}
			}
			return nil
		})
		if err != nil && err != errStopped {
			yield(chunk.Entry{}, err)
		}
	}
	// Every byte that is read goes into the sum of its file.
	return st.ReadUnverified(ctx, entries, func(e chunk.Entry, data []byte) error {
		if left == 0 {
			cur = queue.pop()
			left = cur.Size
			sum.Reset()
		}
		sum.Write(data)
		if left -= int64(len(data)); left == 0 && manifest.Digest(sum.Sum(nil)) != cur.SHA256 {
			return wrong(cur.Path)
		}
		return nil
	})
}

// ErrContent: what is there is not what was signed.
var ErrContent = errors.New("it is not what was signed")

// errStopped ends a walk whose consumer has had enough.
var errStopped = errors.New("stopped")
