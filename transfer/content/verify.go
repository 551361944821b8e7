package content

import (
	"context"
	"crypto/sha256"
	"fmt"
	"hash"
	"iter"

	"davit/manifest"
	"davit/store"
	"davit/store/chunk"
)

// Verify makes sure that a release is whole and is what it says: every
// chunk is there, every listing is sound, every file has the SHA-256 that was
// signed. What is known is only looked up, not read.
func Verify(ctx context.Context, st *store.Store, r *manifest.Release, k *Known) error {
	for _, ref := range Refs(r) {
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
	for i := range r.Attachments {
		if err := verifyPackage(ctx, st, OfAttachment(&r.Attachments[i]), nil); err != nil {
			return err
		}
	}
	return nil
}

// verifyPackage reads the files of several chunks that are not known; one of a
// single chunk has the chunk's name as its SHA-256.
func verifyPackage(ctx context.Context, st *store.Store, p *manifest.Package, k *Known) error {
	var (
		queue Queue[manifest.TreeEntry]
		cur   manifest.TreeEntry
		left  int64
		sum   hash.Hash = sha256.New()
		list  []chunk.Entry
	)
	wrong := func(path string) error {
		return fmt.Errorf("%w: file %q of package %s has another SHA-256 than the one signed", ErrContent, path, p.Name)
	}
	entries := func(yield func(chunk.Entry, error) bool) {
		err := Walk(ctx, st, p, func(e manifest.TreeEntry, chunks iter.Seq2[chunk.Entry, error]) error {
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
					queue.Push(e)
					queued = true
					for _, c := range list {
						if !yield(c, nil) {
							return ErrStopped
						}
					}
				}
				if !yield(c, nil) {
					return ErrStopped
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
			queue.Push(e)
			for _, c := range list {
				if !yield(c, nil) {
					return ErrStopped
				}
			}
			return nil
		})
		if err != nil && err != ErrStopped {
			yield(chunk.Entry{}, err)
		}
	}
	// Every byte that is read goes into the sum of its file.
	return st.ReadUnverified(ctx, entries, func(e chunk.Entry, data []byte) error {
		if left == 0 {
			cur = queue.Pop()
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
