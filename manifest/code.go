package manifest

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// A receipt code is a receipt that can be read out over a telephone: where
// nothing electronic may come back, it settles a bundle all the same. It is
// made with a secret that travels inside the sealed bundle, so that nobody can
// make one up who has not opened it.
//
//	code = outcome, revision, (a symbol for each release,) 16 symbols of MAC, 2 of check
//
// FORMAT.md holds the details.

var (
	// ErrCodeTyped is wrapped when a receipt code is mistyped: no site ever gave
	// it out as it stands.
	ErrCodeTyped = errors.New("receipt code is mistyped")

	// ErrCodeState is wrapped when there is no code for a receipt.
	ErrCodeState = errors.New("there is no code for such a receipt")
)

const (
	codeAlphabet    = "0123456789ABCDEFGHJKMNPQRSTVWXYZ" // Crockford's: nothing that is misread
	codeMAC         = 16                                 // symbols, 80 bits
	codeCheck       = 2                                  // symbols
	codeLeast       = 2 + codeMAC + codeCheck
	maxCodeReleases = 40 // in a code that tells them apart
	maxCodeRevision = 31 // later ones count as this
)

// Outcomes of a code, and the states of single releases in one.
var (
	codeOutcomes = []string{StateWaiting, StateAccepted, StateRejected, StateConflict}
	codeMixed    = len(codeOutcomes)
)

// NewSecret draws what the receipt codes of a bundle are made with.
func NewSecret() Digest {
	var d Digest
	rand.Read(d[:]) // never fails
	return d
}

// Code is a receipt code that was read and is not verified.
type Code struct {
	Revision int64 // of the receipt, at most 31
	outcome  int
	states   []string // of mixed ones
	symbols  []byte   // values of all but the check
}

// ReceiptCode writes the code of a receipt. secret is that of its bundle. The
// error wraps ErrCodeState when the receipt says more than a code can.
func ReceiptCode(secret Digest, r *Receipt) (string, error) {
	if secret.IsZero() {
		return "", fmt.Errorf("%w: the bundle carries no secret; its sender's davit is older", ErrCodeState)
	}
	if r.State != ReceiptWhole {
		return "", fmt.Errorf("%w: the bundle is %s, and a code says only what became of one that arrived whole", ErrCodeState, r.State)
	}
	symbols := []byte{byte(codeMixed), byte(min(r.Revision, maxCodeRevision))}
	var states []byte
	for _, v := range r.Releases {
		i := slices.Index(codeOutcomes, v.State)
		if i < 0 {
			return "", fmt.Errorf("%w: a release is %s", ErrCodeState, v.State)
		}
		states = append(states, byte(i))
	}
	switch {
	case len(states) == 0:
		symbols[0] = 0
	case !slices.ContainsFunc(states, func(s byte) bool { return s != states[0] }):
		symbols[0] = states[0]
	case len(states) > maxCodeReleases:
		return "", fmt.Errorf("%w: it decides differently on %d releases, at most %d can be told apart", ErrCodeState, len(states), maxCodeReleases)
	default:
		symbols = append(symbols, states...)
	}
	symbols = append(symbols, codeSum(secret, r.Digest, symbols)...)
	symbols = append(symbols, codeChecks(symbols)...)
	var out strings.Builder
	for i, s := range symbols {
		if i > 0 && i%5 == 0 {
			out.WriteByte('-')
		}
		out.WriteByte(codeAlphabet[s])
	}
	return out.String(), nil
}

// ParseCode reads a code as people type it: small letters, spaces and hyphens
// do not matter, nor do O for 0 and I or L for 1. Its check tells nearly every
// slip: the error wraps ErrCodeTyped.
func ParseCode(s string) (*Code, error) {
	typed := func(format string, args ...any) error {
		return fmt.Errorf("%w: %s", ErrCodeTyped, fmt.Sprintf(format, args...))
	}
	if len(s) > 4*(codeLeast+maxCodeReleases) {
		return nil, typed("%d characters are too many", len(s))
	}
	fold := strings.NewReplacer(" ", "", "-", "", "\t", "", "O", "0", "I", "1", "L", "1")
	text := fold.Replace(strings.ToUpper(strings.TrimSpace(s)))
	if len(text) < codeLeast || len(text) > codeLeast+maxCodeReleases {
		return nil, typed("it has %d characters, and should have %d", len(text), codeLeast)
	}
	var symbols []byte
	for i := range len(text) {
		at := strings.IndexByte(codeAlphabet, text[i])
		if at < 0 {
			return nil, typed("character %d is not one that codes have", i+1)
		}
		symbols = append(symbols, byte(at))
	}
	end := len(symbols) - codeCheck
	if !slices.Equal(codeChecks(symbols[:end]), symbols[end:]) {
		return nil, typed("its last two characters do not fit the others; compare it group by group")
	}
	c := &Code{outcome: int(symbols[0]), Revision: int64(symbols[1]), symbols: symbols[:end]}
	states := symbols[2 : end-codeMAC]
	if c.outcome > codeMixed || c.Revision == 0 || (c.outcome == codeMixed) != (len(states) > 0) {
		return nil, typed("its beginning means nothing")
	}
	for _, v := range states {
		if int(v) >= len(codeOutcomes) {
			return nil, typed("a release in it has no state")
		}
		c.states = append(c.states, codeOutcomes[v])
	}
	return c, nil
}

// Verify reports whether the code was made by who opened the bundle with this
// secret and document digest.
func (c *Code) Verify(secret, bundle Digest) bool {
	end := len(c.symbols) - codeMAC
	return !secret.IsZero() && hmac.Equal(codeSum(secret, bundle, c.symbols[:end]), c.symbols[end:])
}

// States returns the state of each of the n releases of the bundle; ok is
// false when the code is of another number.
func (c *Code) States(n int) (states []string, ok bool) {
	if c.outcome == codeMixed {
		return c.states, len(c.states) == n
	}
	return slices.Repeat([]string{codeOutcomes[c.outcome]}, n), true
}

// codeSum is the truncated MAC over the symbols before it.
func codeSum(secret, bundle Digest, symbols []byte) []byte {
	h := hmac.New(sha256.New, secret[:])
	h.Write([]byte("davit receipt code 1\n"))
	h.Write(bundle[:])
	h.Write(symbols)
	sum := h.Sum(nil)
	var out []byte
	bits, n := uint(0), uint(0)
	for len(out) < codeMAC {
		if n < 5 {
			bits, n = bits<<8|uint(sum[0]), n+8
			sum = sum[1:]
		}
		n -= 5
		out = append(out, byte(bits>>n&31))
	}
	return out
}

// codeChecks is a cyclic redundancy check of 10 bits (polynomial 0x233 after
// the top bit), which tells every single wrong symbol and every exchange of
// neighbours.
func codeChecks(symbols []byte) []byte {
	crc := uint(0x3ff)
	for _, s := range symbols {
		for bit := 4; bit >= 0; bit-- {
			top := crc>>9 ^ uint(s)>>bit&1
			if crc = crc << 1 & 0x3ff; top&1 != 0 {
				crc ^= 0x233
			}
		}
	}
	return []byte{byte(crc >> 5), byte(crc & 31)}
}
