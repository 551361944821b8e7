package delta

import (
	"bytes"
	"encoding/hex"
	"io"

	"davit/transfer/delta/deflate"
)

// View is what a delta says of itself, for people.
type View struct {
	Form      string   `json:"form"`
	Base      Side     `json:"base"`
	Target    Side     `json:"target"`
	Source    int64    `json:"source"` // bytes of the opened base, with its structure
	Opened    int64    `json:"opened"` // bytes of the opened target, with its structure
	Structure int64    `json:"structure"`
	Encoders  []uint16 `json:"encoders"`
	Gaps      Length   `json:"gaps"`
	Copies    Length   `json:"copies"`
	Addresses Length   `json:"addresses"`
	Literals  Length   `json:"literals"`
	Differs   Length   `json:"differences"`
	Closings  Length   `json:"closings"`
	Lacking   []uint16 `json:"lacking,omitempty"` // encoders that this build has not
}

// Side is one of the two files.
type Side struct {
	Size   int64  `json:"size"`
	SHA256 string `json:"sha256"`
}

// Length of a section.
type Length struct {
	Plain  int64 `json:"plain"`
	Packed int64 `json:"packed"`
}

// Inspect reads the header of a delta.
func Inspect(delta io.ReaderAt, size int64) (*View, error) {
	h, _, err := readHeader(delta, size)
	if err != nil {
		return nil, err
	}
	v := &View{
		Form:   Raw,
		Base:   Side{h.baseSize, hex.EncodeToString(h.baseSum[:])},
		Target: Side{h.targetSize, hex.EncodeToString(h.targetSum[:])},
		Source: h.sourceSize, Opened: h.openedSize, Structure: h.structure, Encoders: []uint16{},
	}
	if h.form == formOpened {
		v.Form = Opened
	}
	for _, e := range h.encoders {
		v.Encoders = append(v.Encoders, uint16(e))
	}
	for _, e := range h.lacking(deflate.Encoders()) {
		v.Lacking = append(v.Lacking, uint16(e))
	}
	for i, to := range []*Length{&v.Gaps, &v.Copies, &v.Addresses, &v.Literals, &v.Differs, &v.Closings} {
		*to = Length{h.plain[i], h.packed[i]}
	}
	return v, nil
}

// Sniff reports whether b begins like a delta, of any version.
func Sniff(b []byte) bool { return bytes.HasPrefix(b, []byte(magic)) }
