package bundle

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/cespare/xxhash/v2"

	"davit/store/bucket"
)

// verifyBlocks is how many blocks are read at once.
const verifyBlocks = 16

// Verify reads every volume and compares all blocks with their sums. It goes
// through all volumes before it returns, so that a person learns of all damage
// in one go: the error joins a *DamageError for each file and an
// *IncompleteError for what is missing. Nil means that the payload is whole.
//
// Where a volume is there several times, one whole copy is enough; it is put
// first in Present, so that a Payload opened afterwards reads it; one opened
// before still reads the damaged copy. Verify must therefore not run beside
// other uses of the set.
//
// progress, which may be nil, is told the bytes of data done and in total.
func (s *Set) Verify(ctx context.Context, progress func(done, total int64)) error {
	var done, total int64
	for n := range s.Present {
		total += s.common.volume(n).Length
	}
	tell := func(n int64) {
		done += n
		if progress != nil {
			progress(done, total)
		}
	}
	var errs []error
	for n := 1; n <= s.Volumes; n++ {
		damage, err := s.verifyVolume(ctx, n, s.Present[n], tell)
		if err != nil {
			return err
		}
		errs = append(errs, damage...)
	}
	return errors.Join(append(errs, s.incomplete())...)
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
	buf := make([]byte, min(h.Length, verifyBlocks*BlockSize))
	var bad int64
	for at := int64(0); at < h.Length; {
		if err := ctx.Err(); err != nil {
			return err
		}
		part := buf[:min(int64(len(buf)), h.Length-at)]
		failed := readFull(r, part, HeaderSize+at)
		for i := int64(0); i < int64(len(part)); i += BlockSize {
			b := part[i:min(i+BlockSize, int64(len(part)))]
			if failed != nil {
				// Somewhere in here a sector is bad: find the block it is in.
				if err := readFull(r, b, HeaderSize+at+i); err != nil {
					d.Err = err
					d.add((at + i) / BlockSize)
					bad++
					continue
				}
			}
			if xxhash.Sum64(b) != sums[(at+i)/BlockSize] {
				d.add((at + i) / BlockSize)
				bad++
			}
		}
		at += int64(len(part))
		tell(int64(len(part)))
	}
	if bad == 0 {
		return nil
	}
	d.Reason = fmt.Sprintf("%d of %d blocks do not match their sums", bad, len(sums))
	if d.Err != nil {
		d.Reason = fmt.Sprintf("%d of %d blocks cannot be read or do not match their sums (%v)", bad, len(sums), d.Err)
	}
	return d
}

// add notes a damaged block; blocks come in order.
func (e *DamageError) add(block int64) {
	if n := len(e.Blocks); n > 0 && e.Blocks[n-1].First+e.Blocks[n-1].Count == block {
		e.Blocks[n-1].Count++
		return
	}
	e.Blocks = append(e.Blocks, BlockRange{First: block, Count: 1})
}
