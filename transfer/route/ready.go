package route

import (
	"io/fs"
	"os"
	"regexp"
	"strings"

	"davit/internal/durable"
)

// quietScans is in how many full scans a file must be seen unchanged.
const quietScans = 3

// sign says why a file counts as ready.
type sign string

const (
	notReady sign = ""
	renamed  sign = "renamed"
	listed   sign = "listed"
	quiet    sign = "quiet"
)

var (
	volumeName = regexp.MustCompile(`(?i)\.v[0-9]{1,10}of[0-9]{1,10}$`)
	volumePart = regexp.MustCompile(`(?i)\.v[0-9]{1,10}of[0-9]{1,10}\.`)
)

// looksLikeVolume is what bundle.Scan goes by.
func looksLikeVolume(name string) bool { return volumeName.MatchString(name) }

// looksTemporary holds for names under which volumes are written before they
// are renamed: davit's own, NAME.part and the like, and rsync's .NAME.Xy12ab.
func looksTemporary(name string) bool {
	return durable.IsTemp(name) || volumePart.MatchString(name) || strings.HasPrefix(name, ".") && volumeName.MatchString(name)
}

// listing is what one look saw of a folder.
type listing struct {
	volumes map[string]fs.FileInfo
	temps   map[string]fs.FileInfo // under temporary names
	markers map[string]*marker     // by name
	odd     []string               // like volumes, with names that no bucket takes
}

// news is what the system reported between two looks.
type news struct {
	renamed map[string]bool // volumes that had a temporary name just before
	written map[string]bool // volumes that were written to
}

// seen is one volume as long as it does not change.
type seen struct {
	id      int // no two files, and no two states of a file, have one id
	info    fs.FileInfo
	scans   int // full scans that saw it so
	renamed bool
	listed  bool
}

func (f *seen) sign() sign {
	switch {
	case f.renamed:
		return renamed
	case f.listed:
		return listed
	case f.scans >= quietScans:
		return quiet
	}
	return notReady
}

// tracker remembers what the looks saw, and tells which files are ready.
type tracker struct {
	files   map[string]*seen
	temps   map[string]fs.FileInfo // of the last look
	markers map[string]*marker     // of the last look
	vouched map[string][]string    // markers that list a file, by file
	last    int                    // id that was given

	sameFile func(a, b fs.FileInfo) bool // os.SameFile; fakes in tests
}

func newTracker() *tracker {
	return &tracker{files: map[string]*seen{}, sameFile: os.SameFile}
}

// unchanged reports whether two looks saw the same file in the same state.
func (t *tracker) unchanged(a, b fs.FileInfo) bool {
	return a.Size() == b.Size() && a.ModTime().Equal(b.ModTime()) && t.sameFile(a, b)
}

// observe takes in one look; full says that it is one of the regular scans.
func (t *tracker) observe(l listing, full bool, n news) {
	next := make(map[string]*seen, len(l.volumes))
	var left []fs.FileInfo // what had a temporary name and has it no more
	for name, info := range t.temps {
		if _, still := l.temps[name]; !still {
			left = append(left, info)
		}
	}
	for name, info := range l.volumes {
		f := t.files[name]
		if f == nil || !t.unchanged(f.info, info) || n.written[name] {
			t.last++
			f = &seen{id: t.last, info: info}
			f.renamed = n.renamed[name] && !n.written[name]
			for _, old := range left {
				f.renamed = f.renamed || t.sameFile(old, info)
			}
		}
		if full {
			f.scans++
		}
		next[name] = f
	}
	vouched := map[string][]string{}
	for name, m := range l.markers {
		fresh := t.markers[name] == nil || !t.unchanged(t.markers[name].info, m.info)
		for file, size := range m.lists {
			f := next[file]
			if f == nil {
				continue
			}
			vouched[file] = append(vouched[file], name)
			// A marker that tells sizes may come before its files. One that
			// does not must be the last, so it vouches for what it found.
			if size >= 0 && f.info.Size() == size || size < 0 && fresh {
				f.listed = true
			}
		}
	}
	t.files, t.temps, t.markers, t.vouched = next, l.temps, l.markers, vouched
}

// forget makes a file be looked at as if it had just come.
func (t *tracker) forget(name string) { delete(t.files, name) }

// ready returns the files that are ready, and how many are not.
func (t *tracker) ready() (map[string]*seen, []string) {
	ready := map[string]*seen{}
	var growing []string
	for name, f := range t.files {
		if f.sign() == notReady {
			growing = append(growing, name)
		} else {
			ready[name] = f
		}
	}
	return ready, growing
}
