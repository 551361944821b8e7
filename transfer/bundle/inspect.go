package bundle

import (
	"bytes"
	"context"
	"errors"
	"io"
	"strings"
)

// Inspection is what one file says of itself, for people and for JSON.
type Inspection struct {
	Format    string       `json:"format"` // "davit-volume/1"
	Name      string       `json:"name"`   // the name the volume was written under
	Header    Header       `json:"header"`
	Holds     string       `json:"holdsDocuments"`   // all, part or none of the documents
	Size      int64        `json:"size"`             // bytes of the file
	Blocks    int64        `json:"blocks"`           // of data; shards with parity
	BlockSize int64        `json:"blockSize"`        // bytes of each, the last may be shorter
	Whole     bool         `json:"whole"`            // every byte matches its sum
	Damage    string       `json:"damage,omitempty"` // what is wrong otherwise
	Damaged   []BlockRange `json:"damagedBlocks,omitempty"`
}

// IsVolume reports whether a file that begins with head is a volume, of any
// version.
func IsVolume(head []byte) bool { return bytes.HasPrefix(head, []byte(magicPrefix)) }

// Inspect reads a whole volume file. Damage is part of the answer as long as
// a header can be read; without it the error is a *DamageError or ErrVersion.
func Inspect(ctx context.Context, r io.ReaderAt, size int64) (*Inspection, error) {
	h, err := readEnds(r, size, "")
	if h == nil {
		return nil, err
	}
	switch {
	case h.Version == parityVersion && size == h.fileSize():
		var damage *DamageError
		if _, damage, err = examineFile(ctx, r, *h, "", func(int64) {}); err == nil && damage != nil {
			err = damage
		}
	case err == nil:
		err = verifyData(ctx, r, size, "", func(int64) {})
	}
	if ctxErr := ctx.Err(); ctxErr != nil {
		return nil, ctxErr
	}
	v := &Inspection{
		Format: strings.TrimSpace(magicLine(h.Version)), Name: h.Label.Name(h.Volume, h.Volumes), Header: *h,
		Size: size, Blocks: h.blocks(), BlockSize: h.blockSize(), Whole: err == nil, Holds: documentsIn(*h),
	}
	var d *DamageError
	switch {
	case errors.As(err, &d):
		v.Damage, v.Damaged = d.Reason, d.Blocks
	case err != nil:
		return nil, err
	}
	return v, nil
}

// documentsIn says how much of the documents part a volume holds.
func documentsIn(h Header) string {
	begin := h.Payload - h.Documents
	if h.Version == parityVersion {
		return documentsShards(h, begin)
	}
	switch {
	case h.Offset+h.Length <= begin:
		return "none"
	case h.Offset <= begin && h.Offset+h.Length == h.Payload:
		return "all"
	default:
		return "part"
	}
}

// documentsShards is documentsIn for shards, which all volumes get in turn.
func documentsShards(h Header, begin int64) string {
	if h.Volumes == 1 {
		return "all"
	}
	s, holds := h.spread(), map[int]bool{}
	for at := begin; at < h.Payload && len(holds) < h.Volumes; {
		p, within := s.at(at)
		holds[p.i%s.volumes] = true
		at += int64(s.Shard - within)
	}
	switch {
	case !holds[h.Volume-1]:
		return "none"
	case len(holds) == 1:
		return "all"
	}
	return "part"
}

// Documents reads the documents part, still encrypted, from a volume that
// holds all of it; nil when it does not.
func Documents(r io.ReaderAt, h Header) ([]byte, error) {
	if documentsIn(h) != "all" || h.Documents > maxDocuments {
		return nil, nil
	}
	b := make([]byte, h.Documents)
	if h.Version == parityVersion {
		s, at := h.spread(), h.Payload-h.Documents
		for done := 0; done < len(b); {
			p, within := s.at(at + int64(done))
			_, block := s.block(p)
			n := min(len(b)-done, s.Shard-within)
			if err := readFull(r, b[done:done+n], HeaderSize+block*int64(s.Shard)+int64(within)); err != nil {
				return nil, err
			}
			done += n
		}
		return b, nil
	}
	if _, err := r.ReadAt(b, HeaderSize+h.Payload-h.Documents-h.Offset); err != nil && err != io.EOF {
		return nil, err
	}
	return b, nil
}

// maxDocuments bounds what Documents reads.
const maxDocuments = 65 << 20
