package bucket

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strings"
	"sync"
	"time"
)

// Mem is a Bucket in memory, for tests and small things. It is as strict as a
// folder: a name cannot be both an object and the folder of another.
type Mem struct {
	mu      sync.RWMutex
	objects map[string]memObject // guarded by mu; the bytes never change
	folders map[string]int       // guarded by mu; how many objects lie below
}

type memObject struct {
	data     []byte
	modified time.Time
}

// NewMem returns an empty bucket.
func NewMem() *Mem {
	return &Mem{objects: map[string]memObject{}, folders: map[string]int{}}
}

// Open implements Reader.
func (m *Mem) Open(ctx context.Context, name string) (Object, error) {
	o, err := m.find(ctx, "open", name)
	if err != nil {
		return nil, err
	}
	return memReader{bytes.NewReader(o.data)}, nil
}

// Stat implements Reader.
func (m *Mem) Stat(ctx context.Context, name string) (Info, error) {
	o, err := m.find(ctx, "stat", name)
	if err != nil {
		return Info{}, err
	}
	return Info{Name: name, Size: int64(len(o.data)), Modified: o.modified}, nil
}

func (m *Mem) find(ctx context.Context, verb, name string) (memObject, error) {
	if err := begin(ctx, verb, name); err != nil {
		return memObject{}, err
	}
	m.mu.RLock()
	defer m.mu.RUnlock()
	o, ok := m.objects[name]
	if !ok {
		return memObject{}, fmt.Errorf("%s %s: %w", verb, name, ErrNotExist)
	}
	return o, nil
}

// List implements Reader.
func (m *Mem) List(ctx context.Context, prefix string) iter.Seq2[Info, error] {
	return func(yield func(Info, error) bool) {
		if err := CheckPrefix(prefix); err != nil {
			yield(Info{}, fmt.Errorf("list: %w", err))
			return
		}
		for _, info := range m.snapshot(prefix) {
			if err := ctx.Err(); err != nil {
				yield(Info{}, fmt.Errorf("list %s: %w", prefix, err))
				return
			}
			if !yield(info, nil) {
				return
			}
		}
		if err := ctx.Err(); err != nil {
			yield(Info{}, fmt.Errorf("list %s: %w", prefix, err))
		}
	}
}

func (m *Mem) snapshot(prefix string) []Info {
	m.mu.RLock()
	defer m.mu.RUnlock()
	var infos []Info
	for name, o := range m.objects {
		if strings.HasPrefix(name, prefix) {
			infos = append(infos, Info{Name: name, Size: int64(len(o.data)), Modified: o.modified})
		}
	}
	slices.SortFunc(infos, func(a, b Info) int { return strings.Compare(a.Name, b.Name) })
	return infos
}

// Create implements Bucket.
func (m *Mem) Create(ctx context.Context) (Writer, error) {
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("create object: %w", err)
	}
	return &memWriter{m: m}, nil
}

// Delete implements Bucket.
func (m *Mem) Delete(ctx context.Context, name string) error {
	if err := begin(ctx, "delete", name); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.remove(name)
	return nil
}

// Move implements Mover.
func (m *Mem) Move(ctx context.Context, from, to string) error {
	if err := begin(ctx, "move", from); err != nil {
		return err
	}
	if err := begin(ctx, "move "+from+" to", to); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	o, ok := m.objects[from]
	if !ok {
		return fmt.Errorf("move %s: %w", from, ErrNotExist)
	}
	if err := m.add(to, o); err != nil {
		return fmt.Errorf("move %s to %s: %w", from, to, err)
	}
	m.remove(from)
	return nil
}

// add gives o the name. The caller holds mu.
func (m *Mem) add(name string, o memObject) error {
	if _, ok := m.objects[name]; ok {
		return ErrExist
	}
	if m.folders[name] > 0 {
		return fmt.Errorf("%w: a folder has that name", ErrNotRegular)
	}
	for folder := range foldersOf(name) {
		if _, ok := m.objects[folder]; ok {
			return fmt.Errorf("the folder %s cannot be made: an object has that name", folder)
		}
	}
	m.objects[name] = o
	for folder := range foldersOf(name) {
		m.folders[folder]++
	}
	return nil
}

// remove drops name if it is there. The caller holds mu.
func (m *Mem) remove(name string) {
	if _, ok := m.objects[name]; !ok {
		return
	}
	delete(m.objects, name)
	for folder := range foldersOf(name) {
		if m.folders[folder]--; m.folders[folder] == 0 {
			delete(m.folders, folder)
		}
	}
}

// foldersOf yields the folders above name, the outermost first.
func foldersOf(name string) iter.Seq[string] {
	return func(yield func(string) bool) {
		for i := range len(name) {
			if name[i] == '/' && !yield(name[:i]) {
				return
			}
		}
	}
}

// begin is what every operation on one name starts with.
func begin(ctx context.Context, verb, name string) error {
	if err := CheckName(name); err != nil {
		return fmt.Errorf("%s: %w", verb, err)
	}
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("%s %s: %w", verb, name, err)
	}
	return nil
}

type memReader struct{ *bytes.Reader }

func (memReader) Close() error { return nil }

type memWriter struct {
	m      *Mem
	data   []byte
	closed bool
	done   bool // committed or aborted
}

func (w *memWriter) Write(p []byte) (int, error) {
	if w.closed {
		return 0, fmt.Errorf("write object: %w", errClosed)
	}
	w.data = append(w.data, p...)
	return len(p), nil
}

func (w *memWriter) Close() error {
	w.closed = true
	return nil
}

func (w *memWriter) Commit(ctx context.Context, name string) error {
	if err := begin(ctx, "commit", name); err != nil {
		return err
	}
	if w.done {
		return fmt.Errorf("commit %s: %w", name, errDone)
	}
	w.closed = true
	w.m.mu.Lock()
	defer w.m.mu.Unlock()
	err := w.m.add(name, memObject{data: w.data, modified: time.Now()})
	if err == nil || errors.Is(err, ErrExist) {
		w.done, w.data = true, nil
	}
	if err != nil {
		return fmt.Errorf("commit %s: %w", name, err)
	}
	return nil
}

func (w *memWriter) Abort() error {
	w.closed, w.done, w.data = true, true, nil
	return nil
}
