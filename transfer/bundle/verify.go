package bundle

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/cespare/xxhash/v2"

	"davit/store/bucket"
)

// blocksAtOnce is how many blocks are read at once.
const blocksAtOnce = 16

// Report is what Examine found out about a set.
type Report struct {
	Damaged []*DamageError // a file each, by volume and then as in Present
	Missing []int          // volumes of which no file is there
	// Repairable says that all of the payload can be had from what is there;
	// without parity only when nothing is wrong.
	Repairable bool
	// Volumes are those that Repair would write: missing, or whole in no file.
	Volumes []int
	// Lost is how many shards parity has to replace, Gone where it cannot.
	Lost int64
	Gone *StripeError // nil if Repairable, and without parity

	err error // what was wrong beyond
}

// Err is nil when nothing is missing or damaged that counts: where a volume is
// there several times, one whole copy is enough. Otherwise it joins all that
// the report says.
func (r *Report) Err() error { return r.err }

// Examine reads every volume and compares all blocks with their sums, damaged
// or not, so that a person learns of all damage in one go. It needs no keys.
// The error is that of ctx or of a medium that does not open files.
//
// Where a volume is there several times without parity, the first whole copy is
// put first in Present, so that a Payload opened afterwards reads it; one
// opened before still reads the damaged copy. Examine must therefore not run
// beside other uses of the set.
//
// progress, which may be nil, is told the bytes of data done and in total.
func (s *Set) Examine(ctx context.Context, progress func(done, total int64)) (*Report, error) {
	var done, total int64
	for n := 1; n <= s.Volumes; n++ {
		files := s.filesOf(n)
		if s.common.Version == plainVersion {
			files = files[:min(1, len(files))] // other copies are the same bytes again
		}
		total += s.common.volume(n).Length * int64(len(files))
	}
	tell := func(n int64) {
		done += n
		if progress != nil {
			progress(done, total)
		}
	}
	if s.common.Version == parityVersion {
		return s.examineParity(ctx, tell)
	}
	r := &Report{Missing: s.Missing()}
	var errs []error
	for n := 1; n <= s.Volumes; n++ {
		damage, err := s.verifyVolume(ctx, n, s.Present[n], tell)
		if err != nil {
			return nil, err
		}
		if len(damage) > 0 || len(s.Present[n]) == 0 {
			r.Volumes = append(r.Volumes, n)
		}
		for _, err := range damage {
			var d *DamageError
			if errors.As(err, &d) {
				r.Damaged = append(r.Damaged, d)
			}
		}
		errs = append(errs, damage...)
	}
	r.err = errors.Join(append(errs, s.incomplete())...)
	r.Repairable = r.err == nil
	return r, nil
}

// Verify is Examine for those who only ask whether all is whole: nil means that
// it is. The error joins a *DamageError for each damaged file, an
// *IncompleteError for what is missing, and with parity a *StripeError if that
// cannot be repaired.
func (s *Set) Verify(ctx context.Context, progress func(done, total int64)) error {
	r, err := s.Examine(ctx, progress)
	if err != nil {
		return err
	}
	return r.Err()
}

// verifyVolume looks for a whole copy of one volume among its files, of which
// there may be none. It returns the damage of all copies when none is whole.
func (s *Set) verifyVolume(ctx context.Context, n int, names []string, tell func(int64)) (damage []error, err error) {
	for i, name := range names {
		switch err := s.verifyFile(ctx, name, s.common.volume(n), tell); {
		case ctx.Err() != nil:
			return nil, ctx.Err()
		case err == nil:
			names[0], names[i] = names[i], names[0]
			return nil, nil
		default:
			damage = append(damage, err)
		}
		tell = func(int64) {} // the next copy is the same bytes again
	}
	return damage, nil
}

func (s *Set) verifyFile(ctx context.Context, name string, want Header, tell func(int64)) error {
	file, err := s.medium.Open(ctx, name)
	if errors.Is(err, bucket.ErrNotExist) {
		return &MissingVolumeError{Volume: want.Volume, Volumes: want.Volumes, Name: name}
	}
	if err != nil {
		return fmt.Errorf("open volume %s: %w", name, err)
	}
	defer file.Close()
	if err := sameVolume(file, name, want); err != nil {
		return err
	}
	return verifyData(ctx, file, file.Size(), name, tell)
}

// verifyData checks one file from its first byte to its last.
func verifyData(ctx context.Context, r io.ReaderAt, size int64, name string, tell func(int64)) error {
	h, err := readEnds(r, size, name)
	if err != nil {
		return err
	}
	trailer := make([]byte, trailerSize(h.Length)) // bounded: the size of the file was checked
	if err := readFull(r, trailer, HeaderSize+h.Length); err != nil {
		return &DamageError{File: name, Reason: "its block sums cannot be read: " + err.Error(), Err: err}
	}
	_, sums, err := parseTrailer(trailer) // readEnds has matched its footer with the header
	if err != nil {
		return &DamageError{File: name, Reason: err.Error(), Err: err}
	}
	d := &DamageError{File: name}
	err = verifyBlocks(ctx, r, *h, func(block int64, b []byte) bool { return xxhash.Sum64(b) == sums[block] }, d, tell)
	if err != nil || len(d.Blocks) == 0 {
		return err
	}
	return d
}

// verifyBlocks reads all data of a volume and notes in d the blocks that
// cannot be read or are not good. The error is that of ctx.
func verifyBlocks(ctx context.Context, r io.ReaderAt, h Header, good func(block int64, b []byte) bool, d *DamageError, tell func(int64)) error {
	size := h.blockSize()
	buf := make([]byte, min(h.Length, blocksAtOnce*size))
	bad := 0
	for at := int64(0); at < h.Length; {
		if err := ctx.Err(); err != nil {
			return err
		}
		part := buf[:min(int64(len(buf)), h.Length-at)]
		failed := readFull(r, part, HeaderSize+at)
		for i := int64(0); i < int64(len(part)); i += size {
			b := part[i:min(i+size, int64(len(part)))]
			if failed != nil {
				// Somewhere in here a sector is bad: find the block it is in.
				if err := readFull(r, b, HeaderSize+at+i); err != nil {
					d.Err = err
					d.add((at + i) / size)
					bad++
					continue
				}
			}
			if !good((at+i)/size, b) {
				d.add((at + i) / size)
				bad++
			}
		}
		at += int64(len(part))
		tell(int64(len(part)))
	}
	if bad == 0 {
		return nil
	}
	d.Reason = fmt.Sprintf("%d of %d %ss do not match their sums", bad, h.blocks(), h.unit())
	if d.Err != nil {
		d.Reason = fmt.Sprintf("%d of %d %ss cannot be read or do not match their sums (%v)", bad, h.blocks(), h.unit(), d.Err)
	}
	return nil
}

// add notes a damaged block; blocks come in order.
func (e *DamageError) add(block int64) { e.Blocks = addBlock(e.Blocks, block) }

// addBlock adds a block to runs of blocks; blocks come in order.
func addBlock(runs []BlockRange, block int64) []BlockRange {
	if n := len(runs); n > 0 && runs[n-1].First+runs[n-1].Count == block {
		runs[n-1].Count++
		return runs
	}
	return append(runs, BlockRange{First: block, Count: 1})
}
