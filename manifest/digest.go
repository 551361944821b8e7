package manifest

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
)

// Digest is the SHA-256 of a document's payload, or of a file's content. A
// document is known by the digest of its payload and not of its envelope,
// because an approval adds a signature to the envelope. The zero Digest means
// "none" and is written as "".
type Digest [sha256.Size]byte

// DigestOf returns the SHA-256 of b.
func DigestOf(b []byte) Digest { return sha256.Sum256(b) }

// ParseDigest reads 64 lower-case hex digits.
func ParseDigest(s string) (Digest, error) {
	var d Digest
	if err := decodeHex(d[:], s); err != nil {
		return Digest{}, fmt.Errorf("parse digest: %w", err)
	}
	return d, nil
}

// String returns 64 lower-case hex digits, also for the zero Digest.
func (d Digest) String() string { return hex.EncodeToString(d[:]) }

// Short returns the first 12 hex digits, enough for people to tell documents
// apart.
func (d Digest) Short() string { return hex.EncodeToString(d[:6]) }

// IsZero reports whether d is the zero Digest.
func (d Digest) IsZero() bool { return d == Digest{} }

// MarshalText writes the hex digits, and nothing for the zero Digest.
func (d Digest) MarshalText() ([]byte, error) {
	if d.IsZero() {
		return []byte{}, nil
	}
	return hex.AppendEncode(nil, d[:]), nil
}

// UnmarshalText reads what MarshalText writes.
func (d *Digest) UnmarshalText(text []byte) error {
	if len(text) == 0 {
		*d = Digest{}
		return nil
	}
	v, err := ParseDigest(string(text))
	if err != nil {
		return err
	}
	if v.IsZero() {
		return fmt.Errorf("parse digest: a digest of zeros only")
	}
	*d = v
	return nil
}

// BundleID names one bundle: 16 random bytes, written as 32 hex digits.
type BundleID [16]byte

// NewBundleID draws a fresh name.
func NewBundleID() BundleID {
	var id BundleID
	rand.Read(id[:]) // never fails
	return id
}

// ParseBundleID reads 32 lower-case hex digits.
func ParseBundleID(s string) (BundleID, error) {
	var id BundleID
	if err := decodeHex(id[:], s); err != nil {
		return BundleID{}, fmt.Errorf("parse bundle id: %w", err)
	}
	if id.IsZero() {
		return BundleID{}, fmt.Errorf("parse bundle id: an id of zeros only")
	}
	return id, nil
}

// String returns 32 lower-case hex digits.
func (id BundleID) String() string { return hex.EncodeToString(id[:]) }

// IsZero reports whether id is the zero BundleID, which names no bundle.
func (id BundleID) IsZero() bool { return id == BundleID{} }

// MarshalText writes the hex digits.
func (id BundleID) MarshalText() ([]byte, error) { return hex.AppendEncode(nil, id[:]), nil }

// UnmarshalText reads what MarshalText writes, and refuses the zero BundleID.
func (id *BundleID) UnmarshalText(text []byte) error {
	v, err := ParseBundleID(string(text))
	if err != nil {
		return err
	}
	*id = v
	return nil
}

// NewRunID draws a fresh name for a deployment: 16 random bytes as hex.
func NewRunID() string { return NewBundleID().String() }

// decodeHex fills dst from exactly 2*len(dst) lower-case hex digits: one value
// has one spelling.
func decodeHex(dst []byte, s string) error {
	if len(s) != 2*len(dst) {
		return fmt.Errorf("%d characters instead of %d hex digits", len(s), 2*len(dst))
	}
	for _, c := range []byte(s) {
		if (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return fmt.Errorf("%q is not a lower-case hex digit", c)
		}
	}
	_, err := hex.Decode(dst, []byte(s))
	return err
}
