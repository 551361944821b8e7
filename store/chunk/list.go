package chunk

import (
	"encoding/binary"
	"fmt"
	"io"
)

const (
	// ListHeaderSize is the length of a list's header in bytes.
	ListHeaderSize = 12

	// EntrySize is the length of one entry of a list in bytes.
	EntrySize = 36

	listMagic   = "DAVITLST"
	listVersion = 1

	// listBuffer is how much of a list a ListReader holds: whole entries, few
	// enough that reading the list of a small file costs little.
	listBuffer = 112 * EntrySize
)

// Entry is one chunk in a list.
type Entry struct {
	Name   Name   `json:"name"`
	Length uint32 `json:"length"`
}

// AppendListHeader appends the header with which every list begins.
func AppendListHeader(dst []byte) []byte {
	dst = append(dst, listMagic...)
	return binary.LittleEndian.AppendUint32(dst, listVersion)
}

// AppendEntry appends one entry of a list.
func AppendEntry(dst []byte, e Entry) []byte {
	dst = append(dst, e.Name[:]...)
	return binary.LittleEndian.AppendUint32(dst, e.Length)
}

// SniffList reports whether a file that begins with header is a list, of
// whatever version. Eight bytes are enough.
func SniffList(header []byte) bool {
	return len(header) >= len(listMagic) && string(header[:len(listMagic)]) == listMagic
}

// ListReader reads the entries of one list, whatever its length, in a few
// kilobytes. It is for one goroutine.
type ListReader struct {
	r        io.Reader
	maxChunk uint32
	begun    bool
	count    int64
	err      error // what r returned last, or what every further Next returns
	failed   bool  // err is final
	at, end  int   // unread bytes of buf
	buf      [listBuffer]byte
}

// NewListReader returns a ListReader of r that refuses chunks longer than
// maxChunk. A maxChunk outside 1 to MaxSize stands for MaxSize.
func NewListReader(r io.Reader, maxChunk int) *ListReader {
	l := new(ListReader)
	l.Reset(r, maxChunk)
	return l
}

// Reset makes l read another list, as NewListReader does, without allocating.
func (l *ListReader) Reset(r io.Reader, maxChunk int) {
	if maxChunk < 1 || maxChunk > MaxSize {
		maxChunk = MaxSize
	}
	l.r, l.maxChunk = r, uint32(maxChunk)
	l.begun, l.failed = false, false
	l.err, l.count, l.at, l.end = nil, 0, 0, 0
}

// Next returns the next entry, and io.EOF after the last. An error that r
// returned is passed on, wrapped; anything that the format does not allow
// wraps ErrDamaged or ErrVersion. Once Next has failed it fails for good.
func (l *ListReader) Next() (Entry, error) {
	if l.failed {
		return Entry{}, l.err
	}
	e, err := l.next()
	if err != nil {
		l.failed, l.err = true, err
		l.r = nil
	}
	return e, err
}

func (l *ListReader) next() (Entry, error) {
	if !l.begun {
		b, err := l.take(ListHeaderSize)
		if err != nil {
			return Entry{}, err
		}
		if len(b) < ListHeaderSize || !SniffList(b) {
			return Entry{}, fmt.Errorf("read chunk list: no list header: %w", ErrDamaged)
		}
		if v := binary.LittleEndian.Uint32(b[len(listMagic):]); v != listVersion {
			return Entry{}, fmt.Errorf("read chunk list: version %d: %w", v, ErrVersion)
		}
		l.begun = true
	}
	b, err := l.take(EntrySize)
	switch {
	case err != nil:
		return Entry{}, err
	case len(b) == 0 && l.count == 0:
		return Entry{}, fmt.Errorf("read chunk list: no entry: %w", ErrDamaged)
	case len(b) == 0:
		return Entry{}, io.EOF
	case len(b) < EntrySize:
		return Entry{}, fmt.Errorf("read chunk list: entry %d ends after %d of %d bytes: %w", l.count, len(b), EntrySize, ErrDamaged)
	}
	e := Entry{Name: Name(b), Length: binary.LittleEndian.Uint32(b[len(Name{}):])}
	if e.Length == 0 || e.Length > l.maxChunk {
		return Entry{}, fmt.Errorf("read chunk list: entry %d is %d bytes long, not 1 to %d: %w", l.count, e.Length, l.maxChunk, ErrDamaged)
	}
	l.count++
	return e, nil
}

// take returns the next n bytes, or the fewer that are left. io.ReadFull would
// not do: it hides a reader's own io.ErrUnexpectedEOF behind the one it makes.
func (l *ListReader) take(n int) ([]byte, error) {
	for empty := 0; l.end-l.at < n && l.err == nil; {
		if l.at > 0 {
			l.end = copy(l.buf[:], l.buf[l.at:l.end])
			l.at = 0
		}
		m, err := l.r.Read(l.buf[l.end:])
		l.end += m
		l.err = err
		if m > 0 {
			empty = 0
		} else if empty++; empty == maxEmptyReads && err == nil {
			l.err = io.ErrNoProgress
		}
	}
	if l.end-l.at < n && l.err != io.EOF {
		return nil, fmt.Errorf("read chunk list: %w", l.err)
	}
	b := l.buf[l.at:min(l.at+n, l.end)]
	l.at += len(b)
	return b, nil
}

// maxEmptyReads is how often a reader may return nothing and no error, as in
// package bufio.
const maxEmptyReads = 100
