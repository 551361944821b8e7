package manifest

import (
	"errors"
	"fmt"
	"hash/maphash"
	"strings"
)

// Types of tree entries.
const (
	TreeFile = "file"
	TreeDir  = "dir"
	TreeLink = "link"
)

// Bounds of a tree.
const (
	MaxTreeEntries = 10_000_000
	maxTarget      = 1024
)

// TreeEntry is one line of a tree's listing.
type TreeEntry struct {
	Path   string // slash-separated, below the tree's root; see CheckTreePath
	Type   string
	Mode   uint32 // permission bits of files and directories
	Size   int64  // files only
	SHA256 Digest // files only; an empty file has that of nothing
	Target string // links only: relative, and inside the tree
}

// TreeSummary counts what is in a listing.
type TreeSummary struct {
	Entries int64
	Files   int64
	Size    int64 // bytes of all files
}

// emptyDigest is the SHA-256 of nothing.
var emptyDigest = DigestOf(nil)

// Validate checks what can be known of an entry without the others.
func (e *TreeEntry) Validate() error {
	if err := CheckTreePath(e.Path); err != nil {
		return err
	}
	if err := e.check(); err != nil {
		return fmt.Errorf("%s: %w", e.Path, err)
	}
	return nil
}

func (e *TreeEntry) check() error {
	switch e.Type {
	case TreeFile:
		switch {
		case e.Mode > 0o777:
			return fmt.Errorf("mode %o has more than permission bits", e.Mode)
		case e.Size < 0 || e.Size > MaxSize:
			return fmt.Errorf("size %d is not between 0 and %d", e.Size, int64(MaxSize))
		case e.SHA256.IsZero():
			return errors.New("a file without its sha256")
		case e.Size == 0 && e.SHA256 != emptyDigest:
			return errors.New("sha256 is not that of an empty file")
		case e.Target != "":
			return errors.New("a file with a target")
		}
	case TreeDir:
		switch {
		case e.Mode > 0o777:
			return fmt.Errorf("mode %o has more than permission bits", e.Mode)
		case e.Size != 0 || !e.SHA256.IsZero() || e.Target != "":
			return errors.New("a directory with size, sha256 or target")
		}
	case TreeLink:
		if e.Mode != 0 || e.Size != 0 || !e.SHA256.IsZero() {
			return errors.New("a link with mode, size or sha256")
		}
		if err := checkTarget(e.Path, e.Target); err != nil {
			return fmt.Errorf("target %q: %w", clip(e.Target), err)
		}
	default:
		return fmt.Errorf("type %q is none of file, dir, link", clip(e.Type))
	}
	return nil
}

// checkTarget refuses link targets that lead out of the tree. The elements ".."
// stand only at the beginning, where they go up from a real directory, since no
// entry lies below a link; after the first name there are only names, so
// however many links the way passes through, it stays inside.
func checkTarget(path, target string) error {
	switch {
	case target == "":
		return errors.New("is empty")
	case len(target) > maxTarget:
		return fmt.Errorf("is longer than %d bytes", maxTarget)
	case target[0] == '/':
		return errors.New("is absolute")
	}
	depth := strings.Count(path, "/")
	down := false
	for element := range strings.SplitSeq(target, "/") {
		switch {
		case element == ".":
		case element == ".." && down:
			return errors.New("goes up after it went down, so that where it leads depends on other links")
		case element == "..":
			if depth--; depth < 0 {
				return errors.New("leads out of the tree")
			}
		default:
			if err := checkElement(element); err != nil {
				return err
			}
			down = true
		}
	}
	return nil
}

// ComparePaths orders paths as a listing has them: by their elements, so that a
// directory is followed at once by what is in it.
func ComparePaths(a, b string) int {
	n := min(len(a), len(b))
	for i := 0; i < n; i++ {
		x, y := a[i], b[i]
		if x == y {
			continue
		}
		// The end of an element comes before any byte that may continue it.
		switch {
		case x == '/':
			return -1
		case y == '/':
			return 1
		case x < y:
			return -1
		}
		return 1
	}
	return len(a) - len(b)
}

// treeCheck follows a listing and refuses entries that do not fit what came
// before. It remembers the directories that lead to the last entry, and the
// names in them; so its memory grows with the largest directory and not with
// the tree.
type treeCheck struct {
	summary TreeSummary
	last    string
	open    []openDir // from the root to the directory of the last entry
	spare   []*nameSet
	seed    maphash.Seed
	first   string // two names that may collide
	second  string
}

type openDir struct {
	path  string // "" is the root
	names *nameSet
}

func (c *treeCheck) add(e *TreeEntry) error {
	if err := e.Validate(); err != nil {
		return err
	}
	if c.summary.Entries == 0 {
		c.seed = maphash.MakeSeed()
		c.push("")
	} else if ComparePaths(c.last, e.Path) >= 0 {
		return fmt.Errorf("%s: comes after %s, which is not their order", e.Path, c.last)
	}
	if c.summary.Entries == MaxTreeEntries {
		return fmt.Errorf("%s: more than %d entries", e.Path, MaxTreeEntries)
	}
	parent, name := "", e.Path
	if i := strings.LastIndexByte(e.Path, '/'); i >= 0 {
		parent, name = e.Path[:i], e.Path[i+1:]
	}
	for len(c.open) > 1 && !below(e.Path, c.open[len(c.open)-1].path) {
		c.pop()
	}
	dir := &c.open[len(c.open)-1]
	if dir.path != parent {
		return fmt.Errorf("%s: %s is not listed before it as a directory", e.Path, parent)
	}
	if e.Size > MaxSize-c.summary.Size {
		return fmt.Errorf("%s: the sizes add up to more than %d", e.Path, int64(MaxSize))
	}
	if other, ok := dir.names.add(c.seed, name); ok && c.second == "" {
		c.first, c.second = other, e.Path
		if parent != "" {
			c.first = parent + "/" + other
		}
	}
	c.last = e.Path
	c.summary.Entries++
	c.summary.Size += e.Size
	switch e.Type {
	case TreeFile:
		c.summary.Files++
	case TreeDir:
		c.push(e.Path)
	}
	return nil
}

// below reports whether path lies in dir.
func below(path, dir string) bool {
	return len(path) > len(dir) && path[len(dir)] == '/' && path[:len(dir)] == dir
}

func (c *treeCheck) push(path string) {
	names := new(nameSet)
	if n := len(c.spare); n > 0 {
		names, c.spare = c.spare[n-1], c.spare[:n-1]
	}
	c.open = append(c.open, openDir{path, names})
}

func (c *treeCheck) pop() {
	top := c.open[len(c.open)-1]
	c.open = c.open[:len(c.open)-1]
	// A set that served a large directory would be slow to clear for each of
	// many small ones.
	if len(top.names.slots) <= 1024 {
		top.names.reset()
		c.spare = append(c.spare, top.names)
	}
}

// nameSet holds the names in one directory and finds those that fold to the
// same. It is a hash table with open addressing over one run of bytes: some 10
// bytes for a name beside the name itself, and nothing for the garbage
// collector to follow.
type nameSet struct {
	names []byte // each name after its length in one byte
	slots []nameSlot
	used  int
}

type nameSlot struct {
	hash uint32 // of the folded name
	at   uint32 // place of the name in names, plus one; 0 is a free slot
}

// add puts name in, unless one that folds to the same is there: that one is
// returned.
func (s *nameSet) add(seed maphash.Seed, name string) (other string, found bool) {
	if s.used >= len(s.slots)/4*3 {
		s.grow()
	}
	folded := FoldPath(name)
	hash := uint32(maphash.String(seed, folded))
	mask := uint32(len(s.slots) - 1)
	i := hash & mask
	for ; s.slots[i].at != 0; i = (i + 1) & mask {
		if s.slots[i].hash != hash {
			continue
		}
		if known := s.name(s.slots[i].at); FoldPath(known) == folded {
			return known, true
		}
	}
	s.slots[i] = nameSlot{hash, uint32(len(s.names)) + 1}
	s.names = append(append(s.names, byte(len(name))), name...)
	s.used++
	return "", false
}

func (s *nameSet) name(at uint32) string {
	n := uint32(s.names[at-1])
	return string(s.names[at : at+n])
}

func (s *nameSet) grow() {
	old := s.slots
	s.slots = make([]nameSlot, max(16, 2*len(old)))
	mask := uint32(len(s.slots) - 1)
	for _, slot := range old {
		if slot.at == 0 {
			continue
		}
		i := slot.hash & mask
		for s.slots[i].at != 0 {
			i = (i + 1) & mask
		}
		s.slots[i] = slot
	}
}

func (s *nameSet) reset() {
	clear(s.slots)
	s.names, s.used = s.names[:0], 0
}
