package store

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
)

// spoolMemory is how much of a list is kept in memory, in bytes: the list of
// about 7 GiB of content.
const spoolMemory = 4 << 20

// Spool keeps bytes that are written once and then read once: in memory while
// they are few, else in a temporary file.
type Spool struct {
	dir    string
	memory bytes.Buffer
	file   *os.File
}

// NewSpool returns an empty spool whose file, if it needs one, lies in dir.
func NewSpool(dir string) *Spool { return &Spool{dir: dir} }

// Write appends p.
func (s *Spool) Write(p []byte) (int, error) {
	if s.file == nil && s.memory.Len()+len(p) > spoolMemory {
		f, err := os.CreateTemp(s.dir, "davit-list-*")
		if err != nil {
			return 0, fmt.Errorf("make temporary list: %w", err)
		}
		s.file = f
	}
	if s.file == nil || s.memory.Len()+len(p) <= spoolMemory {
		return s.memory.Write(p)
	}
	if err := s.flush(); err != nil {
		return 0, err
	}
	return s.memory.Write(p)
}

func (s *Spool) flush() error {
	if _, err := s.memory.WriteTo(s.file); err != nil {
		return fmt.Errorf("write temporary list: %w", err)
	}
	return nil
}

// Reader returns all that was written. Nothing may be written after it.
func (s *Spool) Reader() (io.Reader, error) {
	if s.file == nil {
		return bytes.NewReader(s.memory.Bytes()), nil
	}
	if err := s.flush(); err != nil {
		return nil, err
	}
	if _, err := s.file.Seek(0, io.SeekStart); err != nil {
		return nil, fmt.Errorf("read temporary list: %w", err)
	}
	return s.file, nil
}

// Close drops the bytes.
func (s *Spool) Close() error {
	s.memory = bytes.Buffer{}
	if s.file == nil {
		return nil
	}
	f := s.file
	s.file = nil
	return errors.Join(f.Close(), os.Remove(f.Name()))
}
