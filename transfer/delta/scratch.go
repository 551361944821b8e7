package delta

import (
	"fmt"
	"io"
	"os"
	"sync"
)

// scratch is a run of bytes that is written once and read at any place: in
// memory while it is small, then in a temporary file.
type scratch struct {
	dir  string
	room int   // bytes held back from the file
	max  int64 // bytes it may hold; 0: any

	mu   sync.RWMutex // guards what follows: workers read what the opener adds to
	file *os.File
	done int64  // bytes in file
	tail []byte // what follows them
}

const smallScratch = 1 << 20

func newScratch(dir string, max int64) *scratch {
	return &scratch{dir: dir, room: smallScratch, max: max}
}

func (s *scratch) Size() int64 {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.done + int64(len(s.tail))
}

// Write adds p at the end.
func (s *scratch) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.max > 0 && int64(len(p)) > s.max-s.done-int64(len(s.tail)) {
		return 0, fmt.Errorf("write temporary file: %w", ErrTooLarge)
	}
	if len(s.tail)+len(p) > s.room {
		if err := s.flush(); err != nil {
			return 0, err
		}
		if len(p) >= s.room {
			n, err := s.file.WriteAt(p, s.done)
			s.done += int64(n)
			return n, err
		}
	}
	s.tail = append(s.tail, p...)
	return len(p), nil
}

func (s *scratch) flush() error {
	if s.file == nil {
		f, err := os.CreateTemp(s.dir, ".davit-tmp-delta-*")
		if err != nil {
			return fmt.Errorf("make temporary file: %w", err)
		}
		s.file = f
	}
	n, err := s.file.WriteAt(s.tail, s.done)
	if err != nil {
		return err
	}
	s.done += int64(n)
	s.tail = s.tail[:0]
	return nil
}

func (s *scratch) ReadAt(p []byte, off int64) (int, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	n := 0
	if off < s.done {
		part := p[:min(int64(len(p)), s.done-off)]
		var err error
		if n, err = s.file.ReadAt(part, off); n < len(part) {
			return n, err
		}
		off += int64(n)
		if n == len(p) {
			return n, nil
		}
	}
	if at := off - s.done; at < int64(len(s.tail)) {
		n += copy(p[n:], s.tail[at:])
	}
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

// Truncate takes back what was written after size.
func (s *scratch) Truncate(size int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if size >= s.done {
		s.tail = s.tail[:size-s.done]
		return
	}
	s.done, s.tail = size, s.tail[:0] // what stands behind is written over
}

// Close drops everything.
func (s *scratch) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.tail, s.done = nil, 0
	if s.file == nil {
		return nil
	}
	f := s.file
	s.file = nil
	err := f.Close()
	if e := os.Remove(f.Name()); err == nil {
		err = e
	}
	return err
}
