package content

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"iter"
	"os"
	"strconv"
	"strings"

	"davit/store"
	"davit/store/chunk"
)

// An archive holds files one after another, for a delta that looks into them.
const (
	archiveMagic = "!<arch>\n"
	memberHead   = 60
	memberName   = "davit/          0           0     0     644     "
	memberEnd    = "`\n"

	// maxMember is the largest file in an archive, in bytes: its size must have
	// ten digits.
	maxMember = 4 << 30
)

// archiver writes an archive of files that are in a store.
type archiver struct {
	ctx   context.Context
	st    *store.Store
	file  *os.File
	w     *bufio.Writer
	size  int64
	sizes []int64 // of files whose bytes are not written yet
	left  int64   // bytes of the first of them
	queue []chunk.Entry
}

// archiveBatch is how many chunks are read at once.
const archiveBatch = 4096

func newArchiver(ctx context.Context, st *store.Store, temp string) (*archiver, error) {
	f, err := os.CreateTemp(temp, "davit-archive-*")
	if err != nil {
		return nil, err
	}
	a := &archiver{ctx: ctx, st: st, file: f, w: bufio.NewWriterSize(f, 256<<10), size: int64(len(archiveMagic))}
	_, err = a.w.WriteString(archiveMagic)
	return a, err
}

// add adds a file by its chunks; it must not be empty.
func (a *archiver) add(size int64, chunks iter.Seq2[chunk.Entry, error]) error {
	a.sizes = append(a.sizes, size)
	for c, err := range chunks {
		if err != nil {
			return err
		}
		if a.queue = append(a.queue, c); len(a.queue) == archiveBatch {
			if err := a.flush(); err != nil {
				return err
			}
		}
	}
	return nil
}

func (a *archiver) flush() error {
	err := a.st.Read(a.ctx, func(yield func(chunk.Entry, error) bool) {
		for _, c := range a.queue {
			if !yield(c, nil) {
				return
			}
		}
	}, func(_ chunk.Entry, data []byte) error {
		if a.left == 0 {
			a.left = a.sizes[0]
			a.sizes = a.sizes[1:]
			if err := a.header(a.left); err != nil {
				return err
			}
		}
		a.left -= int64(len(data))
		a.size += int64(len(data))
		if _, err := a.w.Write(data); err != nil {
			return err
		}
		if a.left == 0 {
			return a.pad()
		}
		return nil
	})
	a.queue = a.queue[:0]
	return err
}

func (a *archiver) header(size int64) error {
	digits := strconv.FormatInt(size, 10)
	_, err := a.w.WriteString(memberName + digits + strings.Repeat(" ", 10-len(digits)) + memberEnd)
	a.size += memberHead
	return err
}

// pad makes the size even.
func (a *archiver) pad() error {
	if a.size%2 == 0 {
		return nil
	}
	a.size++
	return a.w.WriteByte('\n')
}

// finish adds the listing as the last file and returns the archive.
func (a *archiver) finish(listing io.Reader, size int64) (*os.File, int64, error) {
	if err := a.flush(); err != nil {
		return nil, 0, err
	}
	if err := a.header(size); err != nil {
		return nil, 0, err
	}
	n, err := io.Copy(a.w, listing)
	if err != nil {
		return nil, 0, err
	}
	if n != size {
		return nil, 0, fmt.Errorf("internal error: a listing has %d bytes instead of %d", n, size)
	}
	a.size += n
	if err := a.pad(); err != nil {
		return nil, 0, err
	}
	return a.file, a.size, a.w.Flush()
}

func (a *archiver) drop() { drop(a.file) }

func drop(f *os.File) {
	f.Close()
	os.Remove(f.Name())
}

// members reads the files of an archive in order.
type members struct {
	r    io.ReaderAt
	at   int64
	size int64
}

// openArchive checks the beginning of an archive and finds the listing at its
// end.
func openArchive(r io.ReaderAt, size, listing int64) (*members, *io.SectionReader, error) {
	var b [len(archiveMagic)]byte
	if _, err := r.ReadAt(b[:], 0); err == io.EOF || string(b[:]) != archiveMagic && err == nil {
		return nil, nil, fmt.Errorf("%w: its archive does not begin like one", ErrDamaged)
	} else if err != nil {
		return nil, nil, err
	}
	start := size - memberHead - (listing+1)/2*2
	if start < int64(len(archiveMagic)) {
		return nil, nil, fmt.Errorf("%w: its archive is shorter than its listing", ErrDamaged)
	}
	last := &members{r, start, size}
	text, err := last.next()
	if err != nil {
		return nil, nil, err
	}
	if text.Size() != listing || last.at != size {
		return nil, nil, fmt.Errorf("%w: its archive does not end with its listing", ErrDamaged)
	}
	return &members{r, int64(len(archiveMagic)), start}, text, nil
}

// next returns the next file.
func (m *members) next() (*io.SectionReader, error) {
	var b [memberHead]byte
	if m.size-m.at < memberHead {
		return nil, fmt.Errorf("%w: its archive has too few files", ErrDamaged)
	}
	if _, err := m.r.ReadAt(b[:], m.at); err != nil {
		return nil, err
	}
	m.at += memberHead
	digits := strings.TrimRight(string(b[len(memberName):memberHead-len(memberEnd)]), " ")
	n, err := strconv.ParseInt(digits, 10, 64)
	if string(b[:len(memberName)]) != memberName || string(b[memberHead-len(memberEnd):]) != memberEnd ||
		err != nil || n < 1 || strconv.FormatInt(n, 10) != digits || n > m.size-m.at {
		return nil, fmt.Errorf("%w: a file of its archive has a bad header", ErrDamaged)
	}
	s := io.NewSectionReader(m.r, m.at, n)
	m.at += (n + 1) / 2 * 2
	return s, nil
}

// done reports whether all files were read.
func (m *members) done() bool { return m.at == m.size }
