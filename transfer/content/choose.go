package content

import (
	"context"
	"fmt"
	"hash/maphash"
	"io"
	"iter"
	"regexp"
	"strings"

	"davit/manifest"
	"davit/store"
	"davit/store/chunk"
	"davit/transfer/delta"
)

const (
	// carriedAlone is the size up to which a file without an older self goes
	// into the archive, in bytes: there it needs no name and compresses with
	// the others, while larger ones are chunks just as well.
	carriedAlone = 1 << 20

	// worthReading is how many bytes may be read to save one.
	worthReading = 64

	maxCarried   = 8 << 30 // bytes of all carried files
	maxFresh     = 1_000_000
	maxUnmatched = 100_000 // files for which an older self of another path is looked for
	maxNamesakes = 64      // of them that are alike in one way
)

// candidate is a file of the target that the base has not.
type candidate struct {
	line    int64 // in the target's listing
	size    int64
	fresh   int64 // bytes of its chunks that the receiver has not
	partner int64 // line of its older self in the base's listing, or -1
	carried bool
}

// choice says how each file of the target travels.
type choice struct {
	files    []candidate
	partners map[int64]bool
	carried  int64 // bytes
}

// listingReader reads a listing line by line.
type listingReader struct {
	r    *manifest.TreeReader
	line int64 // of e
	e    manifest.TreeEntry
	done bool
}

func newListingReader(r io.Reader) *listingReader {
	return &listingReader{r: manifest.NewTreeReader(r), line: -1}
}

func (l *listingReader) next() error {
	e, err := l.r.Next()
	if err == io.EOF {
		l.done = true
		return nil
	}
	l.e = e
	l.line++
	return err
}

// choose decides which files of target the archive carries, and finds their
// older selves in base: by their path, else by the same path with other
// numbers or in another folder.
func choose(ctx context.Context, st *store.Store, base, target *manifest.Package, have *origins, held func(chunk.Name) bool) (*choice, error) {
	c := &choice{partners: map[int64]bool{}}
	other := st.Open(ctx, *base.Tree)
	defer other.Close()
	old := newListingReader(other)
	if err := old.next(); err != nil {
		return nil, err
	}
	line := int64(-1)
	names := newNamesakes()
	err := Walk(ctx, st, target, func(e manifest.TreeEntry, chunks iter.Seq2[chunk.Entry, error]) error {
		line++
		if e.Type != manifest.TreeFile || e.Size == 0 || e.Size > have.min && have.has(&e) {
			return nil
		}
		f := candidate{line: line, size: e.Size, partner: -1}
		for k, err := range chunks {
			if err != nil {
				return err
			}
			if !held(k.Name) {
				f.fresh += int64(k.Length)
			}
		}
		if f.fresh == 0 && e.Size <= have.min {
			return nil
		}
		for !old.done && manifest.ComparePaths(old.e.Path, e.Path) < 0 {
			if err := old.next(); err != nil {
				return err
			}
		}
		if !old.done && old.e.Path == e.Path && old.e.Type == manifest.TreeFile && old.e.Size > 0 && old.e.Size <= maxMember {
			f.partner = old.line
		} else if f.fresh > 0 {
			names.add(e.Path, len(c.files), e.Size)
		}
		if c.files = append(c.files, f); len(c.files) > maxFresh {
			return fmt.Errorf("more than %d files are new: %w", maxFresh, delta.ErrNotWorth)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	if err := c.match(ctx, st, base, names); err != nil {
		return nil, err
	}
	for i := range c.files {
		f := &c.files[i]
		// A small file must: nothing else names its chunk.
		f.carried = f.fresh > 0 && (f.size <= have.min || f.size <= maxMember && f.size <= worthReading*f.fresh+carriedAlone &&
			(f.partner >= 0 || f.size <= carriedAlone) && c.carried+f.size <= maxCarried)
		if !f.carried {
			continue
		}
		c.carried += f.size
		if f.partner >= 0 && len(c.partners) < maxPartners {
			c.partners[f.partner] = true
		}
	}
	return c, nil
}

// namesakes are files that look for an older self of another path.
type namesakes struct {
	seed  maphash.Seed
	files map[uint64][]*namesake // by the hashes of keys
	n     int
}

type namesake struct {
	at    int // in choice.files
	path  string
	size  int64
	alike int   // how much the paths are alike
	apart int64 // difference in size
}

var numbers = regexp.MustCompile(`[0-9]+`)

func newNamesakes() *namesakes {
	return &namesakes{seed: maphash.MakeSeed(), files: map[uint64][]*namesake{}}
}

// keys hashes what paths of the same file may have in common when digits count
// as alike: the folder and the name, the name with all folders, the name alone.
func (n *namesakes) keys(path string) [3]uint64 {
	i := strings.LastIndexByte(path, '/') + 1
	name := Pattern(path[i:])
	return [3]uint64{maphash.String(n.seed, path[:i]+"/"+name),
		maphash.String(n.seed, Pattern(path[:i])+name), maphash.String(n.seed, name)}
}

func (n *namesakes) add(path string, at int, size int64) {
	if n.n == maxUnmatched {
		return
	}
	n.n++
	f := &namesake{at: at, path: path, size: size}
	for _, key := range n.keys(path) {
		if len(n.files[key]) < maxNamesakes {
			n.files[key] = append(n.files[key], f)
		}
	}
}

// match finds older selves of another path.
func (c *choice) match(ctx context.Context, st *store.Store, base *manifest.Package, names *namesakes) error {
	if names.n == 0 {
		return nil
	}
	listing := st.Open(ctx, *base.Tree)
	defer listing.Close()
	for old := newListingReader(listing); ; {
		if err := old.next(); err != nil {
			return err
		}
		if old.done {
			return nil
		}
		if old.e.Type != manifest.TreeFile || old.e.Size == 0 || old.e.Size > maxMember {
			continue
		}
		for _, key := range names.keys(old.e.Path) {
			for _, f := range names.files[key] {
				alike, apart := alikeness(f.path, old.e.Path), max(f.size-old.e.Size, old.e.Size-f.size)
				if alike > f.alike || alike == f.alike && apart < f.apart {
					f.alike, f.apart = alike, apart
					c.files[f.at].partner = old.line
				}
			}
		}
	}
}

// alikeness counts the elements at the end that two paths share when digits
// count as alike, twice those that are quite the same.
func alikeness(a, b string) int {
	n := 0
	for {
		i, j := strings.LastIndexByte(a, '/'), strings.LastIndexByte(b, '/')
		switch x, y := a[i+1:], b[j+1:]; {
		case x == y:
			n += 2
		case Pattern(x) == Pattern(y):
			n++
		default:
			return n
		}
		if i < 0 || j < 0 {
			return n
		}
		a, b = a[:i], b[:j]
	}
}
