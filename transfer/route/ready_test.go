package route

import (
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"davit/store/bucket"
	"davit/transfer/bundle"
)

// fakeInfo is a file that a look saw.
type fakeInfo struct {
	size int64
	mod  int64
	id   int
}

func (f fakeInfo) Name() string       { return "" }
func (f fakeInfo) Size() int64        { return f.size }
func (f fakeInfo) Mode() fs.FileMode  { return 0 }
func (f fakeInfo) ModTime() time.Time { return time.Unix(f.mod, 0) }
func (f fakeInfo) IsDir() bool        { return false }
func (f fakeInfo) Sys() any           { return f.id }

func sameFake(a, b fs.FileInfo) bool { return a.Sys() == b.Sys() }

// model is a folder with what anybody may do to it, and by its own, slower
// reckoning which files are ready.
type model struct {
	files   map[string]fakeInfo
	markers map[string]*marker
	ids     int
	clock   int64

	history []moment // all looks
}

// moment is what one look saw, whole.
type moment struct {
	full    bool
	files   map[string]fakeInfo
	markers map[string]*marker
	written map[string]bool
}

func (m *model) fresh(size int64) fakeInfo {
	m.ids++
	m.clock++
	return fakeInfo{size, m.clock, m.ids}
}

// ready looks back over the history of one name.
func (m *model) ready(name string) (bool, string) {
	last := len(m.history) - 1
	now, ok := m.history[last].files[name]
	if !ok {
		return false, "not there"
	}
	// since is the first look that saw the file as it is.
	since := last
	for since > 0 && m.history[since-1].files[name] == now && !m.history[since].written[name] {
		since--
	}
	scans := 0
	for _, h := range m.history[since:] {
		if h.full {
			scans++
		}
	}
	if scans >= quietScans {
		return true, "quiet"
	}
	if since > 0 {
		for temp, info := range m.history[since-1].files {
			if looksTemporary(temp) && info.id == now.id && m.history[since].files[temp] != info {
				if _, still := m.history[since].files[temp]; !still {
					return true, "renamed"
				}
			}
		}
	}
	for _, mark := range m.history[last].markers {
		size, ok := mark.lists[name]
		switch {
		case ok && size == now.size:
			return true, "listed with its size"
		case ok && size < 0:
		}
	}
	// A marker without sizes, and sizes that once fitted, count from the look
	// that saw both.
	for i := since; i <= last; i++ {
		for key, mark := range m.history[i].markers {
			size, ok := mark.lists[name]
			if !ok {
				continue
			}
			if size == now.size {
				return true, "was listed with its size"
			}
			fresh := i == 0 || m.history[i-1].markers[key] == nil || m.history[i-1].markers[key].info != mark.info
			if size < 0 && fresh {
				return true, "listed"
			}
		}
	}
	return false, "nothing"
}

// TestReadiness: whatever happens in a folder, a file is ready exactly when one
// of the three signs holds.
func TestReadiness(t *testing.T) {
	signs := map[sign]int{}
	rapid.Check(t, func(t *rapid.T) {
		m := &model{files: map[string]fakeInfo{}, markers: map[string]*marker{}}
		track := newTracker()
		track.sameFile = sameFake
		volumes := []string{"a.v01of02", "a.v02of02", "b.v1of1"}
		temps := []string{"a.v01of02.part", ".davit-tmp-x", ".b.v1of1.Xy12"}
		written := map[string]bool{}
		for range rapid.IntRange(10, 80).Draw(t, "steps") {
			volume := rapid.SampledFrom(volumes).Draw(t, "volume")
			temp := rapid.SampledFrom(temps).Draw(t, "temp")
			switch rapid.IntRange(0, 19).Draw(t, "act") {
			case 0:
				m.files[volume] = m.fresh(4)
			case 1: // is written to; size and time may be too coarse to tell
				if f, ok := m.files[volume]; ok {
					if rapid.Bool().Draw(t, "grows") {
						f.size++
					}
					if rapid.Bool().Draw(t, "fine clock") {
						m.clock++
						f.mod = m.clock
					}
					m.files[volume] = f
					if rapid.Bool().Draw(t, "told of it") {
						written[volume] = true
					}
				}
			case 2: // another of the same size
				if f, ok := m.files[volume]; ok {
					other := m.fresh(f.size)
					m.files[volume] = other
				}
			case 3:
				delete(m.files, volume)
			case 4:
				m.files[temp] = m.fresh(4)
			case 5:
				if f, ok := m.files[temp]; ok {
					m.files[volume] = f
					delete(m.files, temp)
				}
			case 6:
				size := rapid.SampledFrom([]int64{-1, 4, 5}).Draw(t, "listed size")
				m.markers[volume+".ready"] = &marker{info: m.fresh(1), lists: map[string]int64{volume: size}}
			case 7:
				delete(m.markers, volume+".ready")
			default:
				full := rapid.Bool().Draw(t, "full")
				now := moment{full, map[string]fakeInfo{}, map[string]*marker{}, written}
				l := listing{volumes: map[string]fs.FileInfo{}, temps: map[string]fs.FileInfo{}, markers: map[string]*marker{}}
				for name, f := range m.files {
					now.files[name] = f
					if looksTemporary(name) {
						l.temps[name] = f
					} else {
						l.volumes[name] = f
					}
				}
				for name, mark := range m.markers {
					now.markers[name], l.markers[name] = mark, mark
				}
				m.history = append(m.history, now)
				track.observe(l, full, news{renamed: map[string]bool{}, written: written})
				written = map[string]bool{}
				ready, growing := track.ready()
				for _, name := range volumes {
					want, why := m.ready(name)
					if _, got := ready[name]; got != want {
						t.Fatalf("%s: ready is %v; want %v: %s", name, got, want, why)
					}
					if _, there := m.files[name]; there && !want && !slices.Contains(growing, name) {
						t.Fatalf("%s is neither ready nor growing", name)
					}
				}
				for _, f := range ready {
					signs[f.sign()]++
				}
			}
		}
	})
	for _, s := range []sign{renamed, listed, quiet} {
		if signs[s] == 0 {
			t.Errorf("no file was ever %s: the test checks nothing of it", s)
		}
	}
}

// What the system tells of a rename makes a file ready that no look saw under
// its temporary name, unless it is written to all the same.
func TestRenameHeard(t *testing.T) {
	for _, written := range []bool{false, true} {
		track := newTracker()
		track.sameFile = sameFake
		n := news{renamed: map[string]bool{"a.v1of1": true}, written: map[string]bool{"a.v1of1": written}}
		track.observe(listing{volumes: map[string]fs.FileInfo{"a.v1of1": fakeInfo{1, 1, 1}}}, false, n)
		if ready, _ := track.ready(); (len(ready) == 1) == written {
			t.Errorf("written to: %v, ready: %v", written, ready)
		}
	}
}

// TestVolumeNames: a file is looked at here exactly when bundle.Scan would.
func TestVolumeNames(t *testing.T) {
	both := map[bool]int{}
	rapid.Check(t, func(t *rapid.T) {
		draw := func(what string, from ...string) string { return rapid.SampledFrom(from).Draw(t, what) }
		name := draw("stem", "davit-a-to-b", "x.v1of1", "a") + draw("dot", ".", ".", ".", "-", "") + draw("v", "v", "v", "V", "w", "") +
			draw("volume", "1", "01", "1234567890", "12345678901", "1x", "") + draw("of", "of", "of", "OF", "oF", "o", "") +
			draw("volumes", "1", "03", "1234567890", "12345678901", "") + draw("end", "", "", "", ".part", "-")
		if bucket.CheckName(name) != nil {
			return
		}
		b := bucket.NewMem()
		if err := bucket.Put(t.Context(), b, name, []byte("x")); err != nil {
			t.Fatal(err)
		}
		found, err := bundle.Scan(t.Context(), b)
		if err != nil {
			t.Fatal(err)
		}
		if got, want := looksLikeVolume(name), len(found.Damaged) == 1; got != want {
			t.Fatalf("%q: %v, bundle.Scan says %v", name, got, want)
		}
		both[looksLikeVolume(name)]++
	})
	if both[true] == 0 || both[false] == 0 {
		t.Fatalf("only one kind of name was tried: %v", both)
	}
}

func TestMarkers(t *testing.T) {
	data := marshalMarker([]string{"a.v01of02", "a.v02of02"}, []int64{12, 0})
	if lists, ours := parseMarker("a.ready", data); !ours || len(lists) != 2 || lists["a.v01of02"] != 12 || lists["a.v02of02"] != 0 {
		t.Fatal(lists, ours)
	}
	if name := markerName([]string{"davit-a-to-b-000001.v01of02"}); name != "davit-a-to-b-000001.ready" {
		t.Fatal(name)
	}
	for text, want := range map[string]string{
		"":                                       "map[a.v1of1:-1] false",
		"whatever":                               "map[a.v1of1:-1] false",
		"# davit ready 2\n1 a.v1of1\n":           "map[] false",
		"# davit ready 1\r\n1 a.v1of1\r\n":       "map[a.v1of1:1] true",
		"# davit ready 1\n":                      "map[] true",
		"# davit ready 1\n1 a.v1of1\n-1 b.v1of1": "map[] true",
		"# davit ready 1\nx a.v1of1\n":           "map[] true",
		"# davit ready 1\n1 a.txt\n":             "map[] true",
		"# davit ready 1\n1 ../a.v1of1\n":        "map[../a.v1of1:1] true", // no file in the folder has that name
	} {
		lists, ours := parseMarker("a.v1of1.ready", []byte(text))
		if got := fmt.Sprint(lists, ours); got != want {
			t.Errorf("%q: %s, want %s", text, got, want)
		}
	}
	if lists, _ := parseMarker("app.ready", nil); lists != nil {
		t.Error("a marker for something else vouches for", lists)
	}
}

func FuzzMarker(f *testing.F) {
	f.Add("a.ready", []byte("# davit ready 1\n12 a.v01of02\n"))
	f.Add("a.v1of1.ready", []byte(""))
	f.Fuzz(func(t *testing.T, name string, data []byte) {
		if !looksLikeMarker(name) {
			return
		}
		lists, ours := parseMarker(name, data)
		if !ours || len(lists) == 0 {
			return
		}
		var files []string
		var sizes []int64
		for file, size := range lists {
			files, sizes = append(files, file), append(sizes, size)
		}
		again, ours := parseMarker(name, marshalMarker(files, sizes))
		if !ours || fmt.Sprint(again) != fmt.Sprint(lists) {
			t.Fatalf("%v, then %v", lists, again)
		}
	})
}

func TestNumbered(t *testing.T) {
	for n, want := range map[int]string{1: "davit-a-to-b-000001.v01of02", 3: "davit-a-to-b-000001.3.v01of02"} {
		got := numbered("davit-a-to-b-000001.v01of02", n)
		if got != want || !looksLikeVolume(got) || bucket.CheckName(got) != nil {
			t.Error(got)
		}
	}
	if strings.Contains(numbered("a.v1of1", 2), "/") {
		t.Error("a name leads out")
	}
}
