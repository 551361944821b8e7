package content

import (
	"context"
	"crypto/sha256"
	"fmt"
	"iter"

	"davit/manifest"
	"davit/store"
	"davit/store/chunk"
)

// Known is what was verified with the bases of a bundle and need not be read
// again: packages that are the same, and in others with the same name the
// files that are made of the same chunks. A nil Known knows nothing.
type Known struct {
	bases    []*manifest.Release
	packages map[packageContent]bool
	files    map[[sha256.Size]byte]manifest.Digest // by the SHA-256 of the names of their chunks
	learned  map[string]bool
}

const (
	knownChunks = 4096      // of a file at most: 256 MiB
	knownFiles  = 1_000_000 // at most
)

// packageContent is all of a package that verifying it depends on.
type packageContent struct{ sum, tree, root string }

func contentOf(p *manifest.Package) packageContent {
	c := packageContent{sum: p.SHA256.String() + p.Kind, root: fmt.Sprint(p.Content, p.Size, p.Files, p.CaseSensitive)}
	if p.Tree != nil {
		c.tree = fmt.Sprint(*p.Tree)
	}
	return c
}

// NewKnown knows what is in releases that are held and verified.
func NewKnown(releases []*manifest.Release) *Known {
	k := &Known{bases: releases, packages: map[packageContent]bool{}, files: map[[sha256.Size]byte]manifest.Digest{}, learned: map[string]bool{}}
	for _, r := range releases {
		for i := range r.Packages {
			k.packages[contentOf(&r.Packages[i])] = true
		}
	}
	return k
}

func (k *Known) has(p *manifest.Package) bool { return k != nil && k.packages[contentOf(p)] }

// learn takes in the files of several chunks of the bases' packages of a name.
func (k *Known) learn(ctx context.Context, st *store.Store, name string) error {
	if k == nil || k.learned[name] {
		return nil
	}
	k.learned[name] = true
	var list []chunk.Entry
	for _, r := range k.bases {
		for i := range r.Packages {
			if r.Packages[i].Name != name {
				continue
			}
			err := Walk(ctx, st, &r.Packages[i], func(e manifest.TreeEntry, chunks iter.Seq2[chunk.Entry, error]) error {
				list = list[:0]
				for c, err := range chunks {
					if err != nil {
						return err
					}
					if int64(c.Length) == e.Size || len(list) == knownChunks {
						return nil
					}
					list = append(list, c)
				}
				if len(list) > 0 && len(k.files) < knownFiles {
					k.files[listSum(list)] = e.SHA256
				}
				return nil
			})
			// A base that is not whole any more is no help, and no harm here.
			if err != nil && ctx.Err() != nil {
				return err
			}
		}
	}
	return nil
}

// file returns the SHA-256 of a file of these chunks.
func (k *Known) file(list []chunk.Entry) (manifest.Digest, bool) {
	if k == nil || len(k.files) == 0 {
		return manifest.Digest{}, false
	}
	d, ok := k.files[listSum(list)]
	return d, ok
}

func listSum(list []chunk.Entry) [sha256.Size]byte {
	h := sha256.New()
	for _, c := range list {
		h.Write(c.Name[:])
	}
	return [sha256.Size]byte(h.Sum(nil))
}
