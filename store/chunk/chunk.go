// Package chunk cuts a stream into pieces and names them.
//
// A chunk is a content-defined piece of a file, named by the SHA-256 of its
// bytes, so that equal pieces of different files, releases and sites get equal
// names and are kept and carried once:
//
//	stream ▸ [Cutter] ▸ chunks ▸ [NameOf] ▸ [Entry] … ▸ list ▸ [Ref]
//
// A list ([AppendListHeader], [AppendEntry], [ListReader]) names the chunks of
// one stream in order. A [Ref] is the one name from which a whole stream can be
// had back: the chunk itself for a short stream, a list for a longer one, a
// list of lists for a very long one. FORMAT.md holds the formats.
//
// Lists are read from media that nobody vouches for. Everything here bounds
// what it allocates by what it has read, and refuses what it does not know.
package chunk

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
)

// MaxSize is the longest chunk that any store may hold, in bytes.
const MaxSize = 1 << 20

var (
	// ErrDamaged is wrapped by every error that says that bytes are not what
	// the format allows.
	ErrDamaged = errors.New("damaged")

	// ErrVersion is wrapped when a list is of a version that this code does
	// not know.
	ErrVersion = errors.New("unknown format version")
)

// Name is the SHA-256 of a chunk's bytes.
type Name [sha256.Size]byte

// NameOf names a chunk.
func NameOf(b []byte) Name { return sha256.Sum256(b) }

// ParseName reads 64 lower-case hexadecimal digits, the only way to write a
// name as text.
func ParseName(s string) (Name, error) {
	var n Name
	if err := n.UnmarshalText([]byte(s)); err != nil {
		return Name{}, err
	}
	return n, nil
}

// String returns the name as 64 lower-case hexadecimal digits.
func (n Name) String() string { return hex.EncodeToString(n[:]) }

// IsZero reports whether n is the zero Name, which names no chunk.
func (n Name) IsZero() bool { return n == Name{} }

// MarshalText returns what String does.
func (n Name) MarshalText() ([]byte, error) { return hex.AppendEncode(nil, n[:]), nil }

// UnmarshalText reads what MarshalText writes, and nothing else: one name has
// one spelling, so that names can be compared as text.
func (n *Name) UnmarshalText(text []byte) error {
	if len(text) != 2*len(n) {
		return fmt.Errorf("parse chunk name: %d characters where 64 are needed", len(text))
	}
	for _, c := range text {
		if (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return fmt.Errorf("parse chunk name: %q is not a lower-case hexadecimal digit", c)
		}
	}
	_, err := hex.Decode(n[:], text)
	return err
}

// Params say how a stream is cut. They are written into a store's
// configuration and are alike at all sites that want to share chunks. The zero
// Params are refused: see DefaultParams.
type Params struct {
	Min    int `json:"min"`    // no chunk but a stream's last is shorter
	Normal int `json:"normal"` // the length aimed at, a power of two
	Max    int `json:"max"`    // no chunk is longer
}

// DefaultParams are 16, 64 and 256 KiB.
func DefaultParams() Params {
	return Params{Min: 16 << 10, Normal: 64 << 10, Max: 256 << 10}
}

// Validate says what is wrong with p, if anything is.
func (p Params) Validate() error {
	switch {
	case p.Normal < 1 || p.Normal&(p.Normal-1) != 0:
		return fmt.Errorf("chunk parameters: normal %d is not a power of two", p.Normal)
	case p.Min < 64:
		return fmt.Errorf("chunk parameters: min %d is below 64", p.Min)
	case p.Min >= p.Normal:
		return fmt.Errorf("chunk parameters: min %d is not below normal %d", p.Min, p.Normal)
	case p.Max <= p.Normal:
		return fmt.Errorf("chunk parameters: max %d is not above normal %d", p.Max, p.Normal)
	case p.Max > MaxSize:
		return fmt.Errorf("chunk parameters: max %d is above %d", p.Max, MaxSize)
	}
	return nil
}
