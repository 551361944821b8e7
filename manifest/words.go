package manifest

import (
	"encoding/hex"
	"errors"
	"fmt"
	"strings"

	bip39 "github.com/cosmos/go-bip39"
)

// ErrWords is wrapped when words or digits are not a fingerprint.
var ErrWords = errors.New("not a fingerprint")

// Fingerprint identifies a card to people, as 12 words or 32 hex digits.
type Fingerprint [16]byte

// fingerprintWords is how many words 128 bits and their checksum take.
const fingerprintWords = 12

// ParseFingerprint reads 12 words or 32 hex digits, as people type them:
// capitals, line breaks and several spaces do not matter. The words carry a
// checksum, so nearly every slip is found, and the error says where it can.
func ParseFingerprint(s string) (Fingerprint, error) {
	f, err := parseFingerprint(s)
	if err != nil {
		return Fingerprint{}, fmt.Errorf("parse fingerprint: %w: %w", ErrWords, err)
	}
	return f, nil
}

func parseFingerprint(s string) (f Fingerprint, err error) {
	if len(s) > 1024 {
		return f, fmt.Errorf("%d characters are too many", len(s))
	}
	words := strings.Fields(strings.ToLower(s))
	if joined := strings.Join(words, ""); len(joined) == 2*len(f) && decodeHex(f[:], joined) == nil {
		return f, nil
	}
	for i, w := range words {
		if _, ok := bip39.ReverseWordMap[w]; ok {
			continue
		}
		if near := nearWord(w); near != "" {
			return f, fmt.Errorf("word %d, %q, is not in the word list; %q is", i+1, clip(w), near)
		}
		return f, fmt.Errorf("word %d, %q, is not in the word list", i+1, clip(w))
	}
	if len(words) != fingerprintWords {
		return f, fmt.Errorf("%d words, %d needed (or %d hex digits)", len(words), fingerprintWords, 2*len(f))
	}
	// 17 bytes: 128 bits and, in the low half of the last, their checksum.
	bits, err := bip39.MnemonicToByteArray(strings.Join(words, " "))
	if err != nil || len(bits) != len(f)+1 {
		return f, errors.New("all words are in the list but they do not belong together: one is another than was meant, or two have changed places")
	}
	for i := range f {
		f[i] = bits[i]<<4 | bits[i+1]>>4
	}
	return f, nil
}

// nearWord finds the listed word that a person most likely meant: the one with
// the same first four letters, which no two share, or one letter away.
func nearWord(w string) string {
	if len(w) >= 4 {
		for _, known := range bip39.EnglishWordList {
			if strings.HasPrefix(known, w[:4]) {
				return known
			}
		}
	}
	for _, known := range bip39.EnglishWordList {
		if oneApart(w, known) {
			return known
		}
	}
	return ""
}

// oneApart reports whether one letter was changed, added or left out.
func oneApart(a, b string) bool {
	if len(a) > len(b) {
		a, b = b, a
	}
	if len(b)-len(a) > 1 {
		return false
	}
	i := 0
	for i < len(a) && a[i] == b[i] {
		i++
	}
	if len(a) == len(b) {
		return i < len(a) && a[i+1:] == b[i+1:]
	}
	return a[i:] == b[i+1:]
}

// Words returns 12 words of the BIP-39 English list: 128 bits and a checksum.
func (f Fingerprint) Words() string {
	words, err := bip39.NewMnemonic(f[:])
	if err != nil {
		panic("manifest: 16 bytes are always a mnemonic: " + err.Error())
	}
	return words
}

// String returns 32 lower-case hex digits.
func (f Fingerprint) String() string { return hex.EncodeToString(f[:]) }

// IsZero reports whether f is the zero Fingerprint, which no card has.
func (f Fingerprint) IsZero() bool { return f == Fingerprint{} }

// MarshalText writes the hex digits.
func (f Fingerprint) MarshalText() ([]byte, error) { return hex.AppendEncode(nil, f[:]), nil }

// UnmarshalText reads what MarshalText writes.
func (f *Fingerprint) UnmarshalText(text []byte) error {
	var v Fingerprint
	if err := decodeHex(v[:], string(text)); err != nil {
		return fmt.Errorf("parse fingerprint: %w", err)
	}
	*f = v
	return nil
}
