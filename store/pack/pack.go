// Package pack keeps many chunks in one encrypted object.
//
// A pack is an age file whose plaintext is a run of zstd frames, each holding
// whole chunks one after another, then a table that says which chunk is where,
// then a footer of fixed length. Chunks find duplicates; frames, several times
// larger, compress well:
//
//	chunks ▸ gather 512 KiB ▸ [Encoder] ▸ [Frame] ▸ [Writer] ▸ age ▸ object
//	object ▸ age, at random ▸ [Open]: footer, table ▸ [Reader.Frame] ▸ chunks
//
// Table and footer are skippable frames, so that what is in a pack can be had
// back without this program, chunk after chunk:
//
//	age -d -i KEY PACK | zstd -d
//
// [Seal] and [Unseal] do the same for one small document. FORMAT.md holds both
// formats.
//
// Packs come from media that nobody vouches for, and age says nothing about
// who wrote a file. Everything read is bounded before it is allocated, and a
// pack that a byte was changed in, that was cut short or that was made up
// gives an error that wraps [ErrDamaged], [ErrVersion] or [ErrWrongKey]. The
// errors of the object that is read are passed on as they are.
package pack

import (
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"strings"

	"filippo.io/age"
)

const (
	// FrameTarget is how much plaintext a frame should hold: less compresses
	// worse, more makes a reader that wants one chunk decompress too much.
	FrameTarget = 512 << 10

	// MaxFrame is the most plaintext that a frame may hold.
	MaxFrame = 1 << 20

	// MaxCompressed is the longest that a frame may be compressed.
	MaxCompressed = MaxFrame + 4<<10

	// MaxChunks is the most chunks that a pack may hold. It bounds the table,
	// which writer and reader hold in memory.
	MaxChunks = 1 << 18

	// FrameBuffer is the capacity of a buffer that Reader.Frame never has to
	// replace: a frame and what the decoder likes to have beyond it.
	FrameBuffer = MaxFrame + frameSlack
)

var (
	// ErrDamaged is wrapped by every error that says that bytes are not what
	// the format allows or what their name promises.
	ErrDamaged = errors.New("damaged")

	// ErrWrongKey is wrapped when no identity opens the file. A file whose
	// header was changed can look like this too.
	ErrWrongKey = errors.New("no key opens it")

	// ErrVersion is wrapped when the file is of a version that this code does
	// not know.
	ErrVersion = errors.New("unknown format version")

	// ErrFull is wrapped when a frame would bring a pack beyond MaxChunks. The
	// pack is as it was and can be closed.
	ErrFull = errors.New("pack is full")
)

// TooLargeError says that a document is longer than its reader allows.
type TooLargeError struct {
	Limit int64 // bytes
}

func (e *TooLargeError) Error() string {
	return fmt.Sprintf("document is longer than the %d bytes allowed", e.Limit)
}

// Name is the SHA-256 of a whole pack as it lies in a bucket.
type Name [32]byte

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

// IsZero reports whether n is the zero Name, which names no pack.
func (n Name) IsZero() bool { return n == Name{} }

// MarshalText returns what String does.
func (n Name) MarshalText() ([]byte, error) { return hex.AppendEncode(nil, n[:]), nil }

// UnmarshalText reads what MarshalText writes, and nothing else.
func (n *Name) UnmarshalText(text []byte) error {
	if len(text) != 2*len(n) || strings.Trim(string(text), hexDigits) != "" {
		return fmt.Errorf("parse pack name: %q is not 64 lower-case hexadecimal digits", text)
	}
	_, err := hex.Decode(n[:], text)
	return err
}

// Keys are who can read what is written, and as whom to read. They are opaque
// so that their holders need not know age, and never show in any output.
type Keys struct {
	recipients []age.Recipient
	identities []age.Identity
}

// NewKeys returns Keys that encrypt to all recipients and decrypt with any of
// the identities. Either may be missing where it is not needed.
func NewKeys(recipients []age.Recipient, identities []age.Identity) Keys {
	return Keys{recipients: recipients, identities: identities}
}

// Format prints no key, whatever the verb.
func (k Keys) Format(w fmt.State, _ rune) {
	fmt.Fprintf(w, "keys(%d recipients, %d identities)", len(k.recipients), len(k.identities))
}

const (
	hexDigits = "0123456789abcdef"
	ageMagic  = "age-encryption.org/"
	ageV1     = ageMagic + "v1\n"
)

// Sniff reports whether a file that begins with header may be a pack or a
// sealed document: whether it is an age file. More cannot be known without
// the key. Nineteen bytes are enough.
func Sniff(header []byte) bool { return strings.HasPrefix(string(header), ageMagic) }

// sourceError marks an error of the object that is read, to tell it from the
// errors of those who make sense of what was read.
type sourceError struct{ err error }

func (e *sourceError) Error() string { return e.err.Error() }
func (e *sourceError) Unwrap() error { return e.err }

// source marks the errors of an object. Its end is not an error of its own:
// whether it comes too early is for the format to say.
type source struct{ io.ReaderAt }

func (s source) ReadAt(p []byte, off int64) (int, error) {
	n, err := s.ReaderAt.ReadAt(p, off)
	if err != nil && err != io.EOF {
		err = &sourceError{err}
	}
	return n, err
}

// explain turns an error of age or zstd into one of this package's.
func explain(doing string, err error) error {
	var broken *sourceError
	var noMatch *age.NoIdentityMatchError
	switch {
	case errors.As(err, &broken):
		return fmt.Errorf("%s: %w", doing, broken.err)
	case errors.As(err, &noMatch):
		return fmt.Errorf("%s: %w", doing, ErrWrongKey)
	case errors.Is(err, ErrDamaged), errors.Is(err, ErrVersion), errors.Is(err, ErrWrongKey):
		return fmt.Errorf("%s: %w", doing, err)
	}
	return fmt.Errorf("%s: %w: %v", doing, ErrDamaged, err)
}

// whyNotAge explains err, for which an age file could not be opened, by another
// version of age if its first bytes announce one.
func whyNotAge(start []byte, err error) error {
	if len(start) >= len(ageV1) && Sniff(start) && string(start[:len(ageV1)]) != ageV1 {
		return fmt.Errorf("not version 1 of age: %w", ErrVersion)
	}
	return err
}
