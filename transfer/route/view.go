package route

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"maps"
	"os"
	"slices"
	"strings"

	"davit/store/bucket"
)

var errChanged = errors.New("the file changed while it was read")

// place is an inbox during one look. Nothing of it stays open longer, so that
// a share can be unmounted.
type place struct {
	root *os.Root    // to name and move
	dir  *bucket.Dir // to read
}

func enter(path string) (*place, error) {
	dir, err := bucket.OpenDir(path)
	if err != nil {
		return nil, err
	}
	root, err := os.OpenRoot(dir.Path())
	if err != nil {
		dir.Close()
		return nil, fmt.Errorf("open folder: %w", err)
	}
	return &place{root, dir}, nil
}

func (p *place) close() {
	p.root.Close()
	p.dir.Close()
}

// list looks at the files that matter. known are the markers of the last look,
// which are not read again when they did not change.
func (p *place) list(ctx context.Context, known map[string]*marker, unchanged func(a, b fs.FileInfo) bool) (listing, error) {
	l := listing{volumes: map[string]fs.FileInfo{}, temps: map[string]fs.FileInfo{}, markers: map[string]*marker{}}
	top, err := p.root.Open(".")
	if err != nil {
		return l, fmt.Errorf("list folder: %w", err)
	}
	defer top.Close()
	room := int64(markersMost)
	for {
		if err := ctx.Err(); err != nil {
			return l, err
		}
		entries, err := top.ReadDir(1000)
		for _, e := range entries {
			if err := p.note(ctx, e.Name(), &l, known, unchanged, &room); err != nil {
				return l, err
			}
		}
		if len(entries) == 0 || err != nil {
			if err != nil && err != io.EOF {
				return l, fmt.Errorf("list folder: %w", err)
			}
			slices.Sort(l.odd)
			return l, nil
		}
	}
}

// note puts one name where it belongs. Others cost nothing: on a share each
// question is a message.
func (p *place) note(ctx context.Context, name string, l *listing, known map[string]*marker, unchanged func(a, b fs.FileInfo) bool, room *int64) error {
	temp, volume, mark := looksTemporary(name), looksLikeVolume(name), looksLikeMarker(name)
	if !temp && !volume && !mark {
		return nil
	}
	info, err := p.root.Lstat(name)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return fmt.Errorf("look at %s: %w", name, err)
	case !info.Mode().IsRegular():
		return nil
	}
	switch {
	case mark:
		if *room -= info.Size(); *room < 0 {
			return nil // it vouches for nothing
		}
		if m := known[name]; m != nil && unchanged(m.info, info) {
			l.markers[name] = m
			return nil
		}
		m, err := readMarker(ctx, p.dir, name, info)
		if err != nil {
			return err
		}
		l.markers[name] = m
	case temp:
		l.temps[name] = info
	case bucket.CheckName(name) != nil:
		l.odd = append(l.odd, name)
	default:
		l.volumes[name] = info
	}
	return nil
}

// view is what an import sees of a folder: files that are ready, as they were
// when they became so, and nothing else.
type view struct {
	*place
	files map[string]*seen
	track *tracker
}

func (v *view) only(names []string) *view {
	sub := &view{place: v.place, files: map[string]*seen{}, track: v.track}
	for _, n := range names {
		sub.files[n] = v.files[n]
	}
	return sub
}

// Open implements bucket.Reader.
func (v *view) Open(ctx context.Context, name string) (bucket.Object, error) {
	f := v.files[name]
	if f == nil {
		return nil, fmt.Errorf("open %s: %w", name, bucket.ErrNotExist)
	}
	o, err := v.dir.Open(ctx, name)
	if err != nil {
		return nil, err
	}
	// After it was opened: that makes network file systems ask their server.
	if !v.unchanged(name) {
		o.Close()
		return nil, fmt.Errorf("open %s: %w", name, errChanged)
	}
	return o, nil
}

// Stat implements bucket.Reader.
func (v *view) Stat(ctx context.Context, name string) (bucket.Info, error) {
	if v.files[name] == nil {
		return bucket.Info{}, fmt.Errorf("stat %s: %w", name, bucket.ErrNotExist)
	}
	return v.dir.Stat(ctx, name)
}

// List implements bucket.Reader.
func (v *view) List(ctx context.Context, prefix string) iter.Seq2[bucket.Info, error] {
	return func(yield func(bucket.Info, error) bool) {
		for _, name := range slices.Sorted(maps.Keys(v.files)) {
			if !strings.HasPrefix(name, prefix) {
				continue
			}
			if err := ctx.Err(); err != nil {
				yield(bucket.Info{}, fmt.Errorf("list: %w", err))
				return
			}
			info := v.files[name].info
			if !yield(bucket.Info{Name: name, Size: info.Size(), Modified: info.ModTime()}, nil) {
				return
			}
		}
	}
}

// unchanged reports whether a name still means the file that became ready.
func (v *view) unchanged(name string) bool {
	info, err := v.root.Lstat(name)
	return err == nil && info.Mode().IsRegular() && v.track.unchanged(v.files[name].info, info)
}

// changed lists those that do not.
func (v *view) changed(names []string) []string {
	var out []string
	for _, n := range names {
		if !v.unchanged(n) {
			out = append(out, n)
		}
	}
	return out
}
