package route

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path"
	"slices"
	"strings"
	"time"
	"unicode"

	"davit/internal/durable"
)

// Folders below an inbox.
const (
	doneDir   = "done"
	failedDir = "failed"

	reasonEnd  = ".reason.txt"
	folderPerm = 0o777
	filePerm   = 0o666
	mostNames  = 10_000 // of one name, in one folder
)

// numbered is name, or the n-th name like it; it looks like a volume as before.
func numbered(name string, n int) string {
	if n == 1 {
		return name
	}
	dot := strings.LastIndexByte(name, '.')
	return fmt.Sprintf("%s.%d%s", name[:dot], n, name[dot:])
}

// moveAll moves files and returns their new names, in order; "" for one that
// somebody else has taken away meanwhile. All reasons come before the first
// move: should only some of the files be moved, they tell what was meant.
func (s *station) moveAll(v *view, names []string, to *verdict) ([]string, error) {
	targets := make([]string, len(names))
	for i, name := range names {
		targets[i] = to.dir + "/" + name
		if to.dir != failedDir {
			continue
		}
		target, err := v.freeName(to.dir, name)
		if err != nil {
			return nil, err
		}
		s.w.at("reason")
		if err := v.writeReason(target, name, to.reason); err != nil {
			return nil, err
		}
		s.w.at("reason written")
		targets[i] = target
	}
	moved := make([]string, len(names))
	for i, name := range names {
		s.w.at("move")
		target, err := v.move(name, to.dir, targets[i])
		if err != nil {
			return moved, err
		}
		s.w.at("moved")
		if target == "" {
			continue
		}
		if info, err := v.root.Lstat(target); err == nil && !v.track.unchanged(v.files[name].info, info) {
			// It was replaced or written to between the last look and the move.
			if err := v.putBack(target, name); err != nil {
				return moved, err
			}
			s.track.forget(name)
			continue
		}
		if to.dir == doneDir {
			// done/ is kept by when a file came there, not by its sender's clock.
			now := s.w.cfg.Now()
			_ = v.root.Chtimes(target, now, now)
		}
		moved[i] = target
	}
	return moved, nil
}

// move gives a file its name in dir, the target if that is free.
func (p *place) move(name, dir, target string) (string, error) {
	for n := 1; n <= mostNames; n++ {
		err := durable.Rename(p.root, name, target, folderPerm)
		switch {
		case err == nil:
			return target, nil
		case errors.Is(err, fs.ErrNotExist):
			if _, lerr := p.root.Lstat(name); errors.Is(lerr, fs.ErrNotExist) {
				return "", nil
			}
			return "", fmt.Errorf("move %s: %w", name, err)
		case !errors.Is(err, fs.ErrExist):
			return "", fmt.Errorf("move %s: %w", name, err)
		}
		target = dir + "/" + numbered(name, n+1)
	}
	return "", fmt.Errorf("move %s: there are %d files of that name in %s", name, mostNames, dir)
}

// putBack takes a move back. If the name is taken again, the file gets a number.
func (p *place) putBack(target, name string) error {
	for n := 1; n <= mostNames; n++ {
		err := durable.Rename(p.root, target, numbered(name, n), folderPerm)
		if err == nil || errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if !errors.Is(err, fs.ErrExist) {
			return fmt.Errorf("put %s back: %w", name, err)
		}
	}
	return fmt.Errorf("put %s back: there are %d files of that name", name, mostNames)
}

// freeName is the first name like it that is free in dir.
func (p *place) freeName(dir, name string) (string, error) {
	for n := 1; n <= mostNames; n++ {
		target := dir + "/" + numbered(name, n)
		_, err := p.root.Lstat(target)
		if errors.Is(err, fs.ErrNotExist) {
			return target, nil
		}
		if err != nil {
			return "", fmt.Errorf("look at %s: %w", target, err)
		}
	}
	return "", fmt.Errorf("there are %d files named like %s in %s", mostNames, name, dir)
}

// identity is the last line of a reason: which file it is about.
func identity(name string, info fs.FileInfo) string {
	return fmt.Sprintf("File: %s, %d bytes, written %s", name, info.Size(), info.ModTime().UTC().Format(time.RFC3339Nano))
}

// writeReason writes, beside where the file will be, why it is there.
func (v *view) writeReason(target, name, reason string) error {
	if err := v.root.Mkdir(path.Dir(target), folderPerm); err != nil && !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("make folder %s: %w", path.Dir(target), err)
	}
	text := fmt.Sprintf("%s\n\nWhen the cause is gone, move %s back into the folder above, and it is looked at again.\nNothing of it is needed any more if a good copy was taken in; then delete it.\n\n%s\n",
		strings.TrimRight(readable(reason), ".\n")+".", path.Base(target), identity(name, v.files[name].info))
	dir, err := v.root.OpenRoot(path.Dir(target))
	if err != nil {
		return fmt.Errorf("open folder %s: %w", path.Dir(target), err)
	}
	defer dir.Close()
	f, err := durable.Create(dir, "", filePerm)
	if err != nil {
		return fmt.Errorf("write reason: %w", err)
	}
	defer f.Abort()
	if _, err := f.Write([]byte(text)); err != nil {
		return fmt.Errorf("write reason: %w", err)
	}
	// A reason without a file is one that a crash left, or somebody who took the
	// file back.
	if err := dir.Remove(path.Base(target) + reasonEnd); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("replace reason: %w", err)
	}
	if err := f.Commit(path.Base(target) + reasonEnd); err != nil {
		return fmt.Errorf("write reason: %w", err)
	}
	return nil
}

// readable is text without what a terminal would act on: reasons may quote what
// came.
func readable(text string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) || r == '\n' {
			return r
		}
		return '\ufffd'
	}, text)
}

// intended returns the reason that was written for one of the files before a
// crash kept it from being moved; "" if there is none.
func (v *view) intended(names []string) string {
	const most = 64 << 10
	for _, name := range names {
		target, err := v.freeName(failedDir, name)
		if err != nil {
			continue
		}
		info, err := v.root.Lstat(target + reasonEnd)
		if err != nil || !info.Mode().IsRegular() || info.Size() > most {
			continue
		}
		data, err := v.root.ReadFile(target + reasonEnd)
		if err != nil {
			continue
		}
		text := strings.TrimRight(string(data), "\n")
		reason, _, _ := strings.Cut(text, "\n\n")
		if strings.HasSuffix(text, "\n"+identity(name, v.files[name].info)) {
			return reason
		}
	}
	return ""
}

// removeMarkers removes the markers that vouch for nothing but these files.
// They go first: a marker without files says nothing, while one that is left
// behind would vouch for whatever gets the name next.
func (s *station) removeMarkers(v *view, files []string) {
	moving := map[string]bool{}
	for _, f := range files {
		moving[f] = true
	}
	for _, f := range files {
		for _, name := range s.track.vouched[f] {
			m := s.track.markers[name]
			if m == nil || slices.ContainsFunc(slices.Collect(maps.Keys(m.lists)), func(f string) bool { return !moving[f] && s.track.files[f] != nil }) {
				continue
			}
			s.w.at("marker")
			s.removeMarker(v.place, name, m)
			s.w.at("marker removed")
		}
	}
}

// removeMarker removes a marker if it is still the one that was read. One that
// cannot be removed does no harm that its files do not tell of.
func (s *station) removeMarker(p *place, name string, m *marker) {
	if info, err := p.root.Lstat(name); err == nil && s.track.unchanged(m.info, info) {
		_ = p.root.Remove(name)
	}
	delete(s.track.markers, name)
}

// clearMarkers removes markers that came after their files had gone.
func (s *station) clearMarkers(p *place, l listing) {
	for name, m := range l.markers {
		if m.spent(p.root, l.volumes) {
			s.removeMarker(p, name, m)
		}
	}
}

// pruneEvery is how often done/ is looked through.
const pruneEvery = time.Hour

// prune removes from done/ what was kept long enough.
func (s *station) prune(p *place) {
	now := s.w.cfg.Now()
	if !s.pruned.IsZero() && now.Sub(s.pruned) < pruneEvery {
		return
	}
	s.pruned = now
	// Links that share an inbox share its done/: the longest time and the most
	// bytes count.
	var keep time.Duration
	var most int64
	for i, l := range s.links {
		if i == 0 || l.KeepDone == 0 || keep != 0 && l.KeepDone > keep {
			keep = l.KeepDone
		}
		if i == 0 || l.KeepSize == 0 || most != 0 && l.KeepSize > most {
			most = l.KeepSize
		}
	}
	if keep == 0 && most == 0 {
		return
	}
	removed, err := p.removeOld(now, keep, most)
	if len(removed) > 0 {
		s.tell(Event{Kind: Removed, Peer: s.peers(), Files: removed, Reason: "kept long enough in " + doneDir})
	}
	if err != nil {
		s.tellOnce("prune", err.Error(), Event{Kind: Retry, Peer: s.peers(), Reason: fmt.Sprintf("files in %s cannot be removed: %v", doneDir, err), Err: err})
		return
	}
	s.settled("prune")
}

// removeOld removes the volumes in done/ that are older than keep, and the
// oldest of the others until they take no more than most bytes.
func (p *place) removeOld(now time.Time, keep time.Duration, most int64) ([]string, error) {
	switch info, err := p.root.Lstat(doneDir); {
	case errors.Is(err, fs.ErrNotExist):
		return nil, nil
	case err != nil:
		return nil, fmt.Errorf("look at %s: %w", doneDir, err)
	case !info.IsDir(): // a link to a folder, say: what lies there is not ours
		return nil, nil
	}
	top, err := p.root.Open(doneDir)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", doneDir, err)
	}
	entries, err := top.ReadDir(-1)
	top.Close()
	if err != nil {
		return nil, fmt.Errorf("list %s: %w", doneDir, err)
	}
	var files []os.FileInfo
	var total int64
	for _, e := range entries {
		if !looksLikeVolume(e.Name()) {
			continue
		}
		info, err := p.root.Lstat(doneDir + "/" + e.Name())
		if err != nil || !info.Mode().IsRegular() {
			continue
		}
		files = append(files, info)
		total += info.Size()
	}
	slices.SortFunc(files, func(a, b os.FileInfo) int {
		return cmp.Or(a.ModTime().Compare(b.ModTime()), cmp.Compare(a.Name(), b.Name()))
	})
	var removed []string
	for _, f := range files {
		old := keep > 0 && now.Sub(f.ModTime()) > keep
		if !old && (most == 0 || total <= most) {
			continue
		}
		if err := p.root.Remove(doneDir + "/" + f.Name()); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return removed, fmt.Errorf("remove: %w", err)
		}
		total -= f.Size()
		removed = append(removed, f.Name())
	}
	return removed, nil
}
