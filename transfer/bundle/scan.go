package bundle

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"path"
	"slices"

	"davit/manifest"
	"davit/store/bucket"
)

// Found is what lies on a medium.
type Found struct {
	Sets    []*Set        // sorted by sender, recipient, serial and bundle id
	Damaged []DamagedFile // in the order of their names
	Foreign int           // files whose names say that they are no volumes
}

// DamagedFile is a file named like a volume that belongs to no Set.
type DamagedFile struct {
	Name   string
	Reason string
	Err    error   // matches ErrDamaged or ErrVersion, or is what opening or reading failed with
	Header *Header // nil when it could not be read
	// Useful says that the file has parity and that what is whole in it helps to
	// read or repair its set.
	Useful bool
}

// Set is the volumes of one bundle on a medium.
type Set struct {
	Label
	Volumes   int   // how many there should be
	Payload   int64 // bytes of the whole payload
	Documents int64 // bytes of the documents at its end
	// Present maps the number of each volume that is there to the names of the
	// files that hold it. Where there are several, the first is read.
	Present map[int][]string

	// partial maps volumes with parity to files whose first or last bytes are
	// damaged: they do not count as present, yet what is whole in them is used.
	partial map[int][]string

	common common
	medium bucket.Reader
}

// Scan looks through a medium. It opens only files named *.vNNofMM and reads
// only the head and the end of each: a file that is still being copied, or
// was cut off, is among Damaged. Verify reads the rest.
//
// Unreadable files do not fail the scan, they are reported; it fails when the
// medium cannot be listed or ctx ends.
func Scan(ctx context.Context, medium bucket.Reader) (*Found, error) {
	found := &Found{}
	groups := map[common]*Set{}
	headers := map[string]Header{}
	for info, err := range medium.List(ctx, "") {
		if err != nil {
			return nil, fmt.Errorf("list medium: %w", err)
		}
		if !looksLikeVolume(path.Base(info.Name)) {
			found.Foreign++
			continue
		}
		h, err := look(ctx, medium, info.Name)
		if errors.Is(err, bucket.ErrNotExist) {
			continue // taken away since it was listed
		}
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		useful := err != nil && h != nil && h.Version == parityVersion && h.fileSize() == info.Size && !errors.Is(err, errEmpty)
		if err != nil {
			found.damaged(info.Name, h, err, useful)
		}
		if err != nil && !useful {
			continue
		}
		headers[info.Name] = *h
		s := groups[h.common()]
		if s == nil {
			s = newSet(h.common(), medium)
			groups[h.common()] = s
		}
		where := s.Present
		if useful {
			where = s.partial
		}
		where[h.Volume] = append(where[h.Volume], info.Name)
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	found.sort(groups, headers)
	return found, nil
}

func newSet(c common, medium bucket.Reader) *Set {
	return &Set{
		Label: c.Label, Volumes: c.Volumes, Payload: c.Payload, Documents: c.Documents,
		Present: map[int][]string{}, partial: map[int][]string{}, common: c, medium: medium,
	}
}

func (f *Found) damaged(name string, h *Header, err error, useful bool) {
	reason := err.Error()
	var d *DamageError
	if errors.As(err, &d) {
		reason = d.Reason
	}
	f.Damaged = append(f.Damaged, DamagedFile{Name: name, Reason: reason, Err: err, Header: h, Useful: useful})
}

// sort puts the sets into order. Of sets that carry one bundle id and
// contradict each other the one with the fewest volumes missing stays, because
// it is the likeliest to be of use; the files of the others are damaged.
func (f *Found) sort(groups map[common]*Set, headers map[string]Header) {
	for _, s := range groups {
		f.Sets = append(f.Sets, s)
	}
	slices.SortFunc(f.Sets, func(a, b *Set) int {
		return cmp.Or(
			cmp.Compare(a.From, b.From), cmp.Compare(a.To, b.To), cmp.Compare(a.Serial, b.Serial),
			cmp.Compare(a.Bundle.String(), b.Bundle.String()),
			cmp.Compare(a.firstFile(), b.firstFile()))
	})
	best := map[manifest.BundleID]*Set{}
	for _, s := range f.Sets {
		if b := best[s.Bundle]; b == nil || s.lacks() < b.lacks() {
			best[s.Bundle] = s
		}
	}
	f.Sets = slices.DeleteFunc(f.Sets, func(s *Set) bool {
		b := best[s.Bundle]
		// Anybody can write a header. Where several sets are complete, the
		// signatures in them decide.
		if s == b || s.Enough() {
			return false
		}
		for _, names := range s.Present {
			for _, name := range names {
				h := headers[name]
				f.damaged(name, &h, &DamageError{File: name,
					Reason: fmt.Sprintf("its header contradicts %s, a volume of the same bundle", b.firstFile())}, false)
			}
		}
		return true
	})
	slices.SortFunc(f.Damaged, func(a, b DamagedFile) int { return cmp.Compare(a.Name, b.Name) })
}

func (s *Set) lacks() int { return s.Volumes - len(s.Present) }

// firstFile is the least name of the set's files; "" when there are none.
func (s *Set) firstFile() string {
	first := ""
	for _, files := range []map[int][]string{s.Present, s.partial} {
		for _, names := range files {
			for _, name := range names {
				if first == "" || name < first {
					first = name
				}
			}
		}
	}
	return first
}

// filesOf is all files that may hold something of a volume, the best first.
func (s *Set) filesOf(volume int) []string {
	return slices.Concat(s.Present[volume], s.partial[volume])
}

// Missing lists the volumes that are not there, in order; nil when none.
func (s *Set) Missing() []int {
	var missing []int
	for n := 1; n <= s.Volumes; n++ {
		if len(s.Present[n]) == 0 {
			missing = append(missing, n)
		}
	}
	return missing
}

// Complete reports whether all volumes are there. It does not say that they
// are whole: Verify does.
func (s *Set) Complete() bool { return s.lacks() == 0 }

// Enough reports whether what is there may suffice: all volumes, or with parity
// so many that it can replace the others. Files that Scan found damaged count
// if they are of use. Like Complete it does not say that anything is whole.
func (s *Set) Enough() bool {
	if s.common.Version != parityVersion {
		return s.Complete()
	}
	spread := s.common.volume(1).spread()
	return len(s.gone())*spread.perVolume() <= spread.Parity
}

// Spare is how many volumes, whichever, the bundle can do without.
func (s *Set) Spare() int {
	if s.common.Version != parityVersion {
		return 0
	}
	spread := s.common.volume(1).spread()
	return spread.Parity / spread.perVolume()
}

// gone lists the volumes of which nothing is there.
func (s *Set) gone() []int {
	var gone []int
	for n := 1; n <= s.Volumes; n++ {
		if len(s.filesOf(n)) == 0 {
			gone = append(gone, n)
		}
	}
	return gone
}

// Geometry says how the payload is cut up; zero without parity.
func (s *Set) Geometry() Geometry { return s.common.Geometry }

// incomplete is nil for a complete set.
func (s *Set) incomplete() error {
	if s.Complete() {
		return nil
	}
	return &IncompleteError{Label: s.Label, Volumes: s.Volumes, Missing: s.Missing()}
}

// look reads the ends of one file on the medium.
func look(ctx context.Context, medium bucket.Reader, name string) (*Header, error) {
	o, err := medium.Open(ctx, name)
	if err != nil {
		return nil, fmt.Errorf("open volume %s: %w", name, err)
	}
	defer o.Close()
	return readEnds(o, o.Size(), name)
}

// readEnds reads the header block and the footer of a file and checks that
// they belong together and fit its size. The header comes back with an error
// too where it could be read.
func readEnds(r io.ReaderAt, size int64, name string) (*Header, error) {
	if size < HeaderSize {
		return nil, &DamageError{File: name, Reason: fmt.Sprintf("it has only %d bytes, less than a header", size)}
	}
	block := make([]byte, HeaderSize)
	h, err := readHeader(r, block, name)
	if err != nil {
		if second := readSecondHeader(r, size); second != nil {
			if errors.Is(err, ErrVersion) { // the digit is what is damaged
				err = &DamageError{File: name, Reason: "its first header is damaged"}
			}
			return second, err
		}
		return nil, err
	}
	if want := h.fileSize(); size != want {
		return &h, &DamageError{File: name, Reason: sizeText(size, want)}
	}
	if h.Version == parityVersion {
		return &h, checkParityEnd(r, size, h, block, name)
	}
	end := make([]byte, footerSize)
	if err := readFull(r, end, size-footerSize); err != nil {
		return &h, &DamageError{File: name, Reason: "its end cannot be read: " + err.Error(), Err: err}
	}
	f, err := parseFooter(end)
	if err == nil {
		err = f.match(h, block)
	}
	if err != nil {
		return &h, &DamageError{File: name, Reason: err.Error(), Err: err}
	}
	return &h, nil
}

// errEmpty marks a file that has room taken for it and is not there yet.
var errEmpty = errors.New("nothing but zeros")

func readHeader(r io.ReaderAt, block []byte, name string) (Header, error) {
	if err := readFull(r, block, 0); err != nil {
		return Header{}, &DamageError{File: name, Reason: "its header cannot be read: " + err.Error(), Err: err}
	}
	h, err := parseHeader(block)
	if errors.Is(err, ErrVersion) {
		return Header{}, fmt.Errorf("read volume: %w", err)
	}
	if err != nil {
		return Header{}, &DamageError{File: name, Reason: err.Error(), Err: err}
	}
	return h, nil
}

// checkParityEnd looks at the footer.
func checkParityEnd(r io.ReaderAt, size int64, h Header, block []byte, name string) error {
	end := make([]byte, emptyEnd)
	if err := readFull(r, end, size-emptyEnd); err != nil {
		return &DamageError{File: name, Reason: "its end cannot be read: " + err.Error(), Err: err}
	}
	if len(bytes.Trim(end, "\x00")) == 0 {
		return &DamageError{File: name, Reason: "its end is still empty: it was not copied to the end", Err: errEmpty}
	}
	f, err := parseParityFooter(end[emptyEnd-parityFooterSize:])
	if err == nil {
		err = f.match(h, block)
	}
	if err != nil {
		return &DamageError{File: name, Reason: err.Error(), Err: err}
	}
	return nil
}

// emptyEnd is more than the largest sector that a medium may have lost.
const emptyEnd = HeaderSize + parityFooterSize

func sizeText(have, want int64) string {
	if have < want {
		return fmt.Sprintf("it is cut off: %d of %d bytes are there", have, want)
	}
	return fmt.Sprintf("it has %d bytes too many", have-want)
}

// readFull reads exactly len(p) bytes.
func readFull(r io.ReaderAt, p []byte, at int64) error {
	n, err := r.ReadAt(p, at)
	if n == len(p) {
		return nil
	}
	if err == nil || err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}
