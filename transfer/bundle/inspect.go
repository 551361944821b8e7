package bundle

import (
	"bytes"
	"context"
	"errors"
	"io"
)

// Inspection is what one file says of itself, for people and for JSON.
type Inspection struct {
	Format  string       `json:"format"` // "davit-volume/1"
	Name    string       `json:"name"`   // the name the volume was written under
	Header  Header       `json:"header"`
	Holds   string       `json:"holdsDocuments"`   // all, part or none of the documents
	Size    int64        `json:"size"`             // bytes of the file
	Blocks  int64        `json:"blocks"`           // of data
	Whole   bool         `json:"whole"`            // every byte matches its sum
	Damage  string       `json:"damage,omitempty"` // what is wrong otherwise
	Damaged []BlockRange `json:"damagedBlocks,omitempty"`
}

// IsVolume reports whether a file that begins with head is a volume, of any
// version.
func IsVolume(head []byte) bool { return bytes.HasPrefix(head, []byte(magicPrefix)) }

// Inspect reads a whole volume file. Damage is part of the answer as long as
// the header can be read; without it the error is a *DamageError or
// ErrVersion.
func Inspect(ctx context.Context, r io.ReaderAt, size int64) (*Inspection, error) {
	h, err := readEnds(r, size, "")
	if h == nil {
		return nil, err
	}
	if err == nil {
		err = verifyData(ctx, r, size, "", func(int64) {})
	}
	if ctxErr := ctx.Err(); ctxErr != nil {
		return nil, ctxErr
	}
	v := &Inspection{
		Format: magicLine[:len(magicLine)-1], Name: h.Label.Name(h.Volume, h.Volumes), Header: *h,
		Size: size, Blocks: blockCount(h.Length), Whole: err == nil, Holds: documentsIn(*h),
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
	switch {
	case h.Offset+h.Length <= begin:
		return "none"
	case h.Offset <= begin && h.Offset+h.Length == h.Payload:
		return "all"
	default:
		return "part"
	}
}

// Documents reads the documents part, still encrypted, from a volume that
// holds all of it; nil when it does not.
func Documents(r io.ReaderAt, h Header) ([]byte, error) {
	if documentsIn(h) != "all" || h.Documents > maxDocuments {
		return nil, nil
	}
	b := make([]byte, h.Documents)
	if _, err := r.ReadAt(b, HeaderSize+h.Payload-h.Documents-h.Offset); err != nil && err != io.EOF {
		return nil, err
	}
	return b, nil
}

// maxDocuments bounds what Documents reads.
const maxDocuments = 65 << 20
