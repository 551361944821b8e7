package manifest

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"

	"filippo.io/mldsa"
	"github.com/secure-systems-lab/go-securesystemslib/dsse"
)

// VerifyKey checks a site's signatures. Both algorithms must agree: Ed25519 is
// proven, ML-DSA-65 holds against quantum computers.
type VerifyKey struct {
	Ed25519 []byte `json:"ed25519"`
	MLDSA65 []byte `json:"mldsa65"`
}

// What comes before the key in its X.509 SubjectPublicKeyInfo. Both are
// constant, because the keys have one length.
var (
	ed25519Prefix = []byte{0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00}
	mldsa65Prefix = []byte{0x30, 0x82, 0x07, 0xb2, 0x30, 0x0b, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x03, 0x12, 0x03, 0x82, 0x07, 0xa1, 0x00}
)

// Validate refuses keys that cannot verify anything.
func (v VerifyKey) Validate() error {
	if len(v.Ed25519) != ed25519.PublicKeySize {
		return fmt.Errorf("ed25519 key of %d bytes, not %d", len(v.Ed25519), ed25519.PublicKeySize)
	}
	if _, err := v.mldsa(); err != nil {
		return err
	}
	return nil
}

func (v VerifyKey) mldsa() (*mldsa.PublicKey, error) {
	// The length is checked here: the library's error would not name the key.
	if len(v.MLDSA65) != mldsa.MLDSA65PublicKeySize {
		return nil, fmt.Errorf("ml-dsa-65 key of %d bytes, not %d", len(v.MLDSA65), mldsa.MLDSA65PublicKeySize)
	}
	k, err := mldsa.NewPublicKey(mldsa.MLDSA65(), v.MLDSA65)
	if err != nil {
		return nil, fmt.Errorf("ml-dsa-65 key: %w", err)
	}
	return k, nil
}

// Equal reports whether both keys are the same.
func (v VerifyKey) Equal(w VerifyKey) bool {
	return bytes.Equal(v.Ed25519, w.Ed25519) && bytes.Equal(v.MLDSA65, w.MLDSA65)
}

// IsZero reports whether there is no key at all.
func (v VerifyKey) IsZero() bool { return len(v.Ed25519) == 0 && len(v.MLDSA65) == 0 }

// KeyIDs returns the key ids that stand in envelopes: the SHA-256, in hex, of
// the keys in their X.509 form, as "openssl pkey -pubin -outform DER | sha256sum" prints it.
func (v VerifyKey) KeyIDs() (ed25519, mldsa65 string) {
	return keyID(ed25519Prefix, v.Ed25519), keyID(mldsa65Prefix, v.MLDSA65)
}

func keyID(prefix, key []byte) string {
	h := sha256.New()
	h.Write(prefix)
	h.Write(key)
	return hex.EncodeToString(h.Sum(nil))
}

// PEM returns both keys as two PEM blocks, Ed25519 first, for verifying
// envelopes with other tools.
func (v VerifyKey) PEM() []byte {
	var out []byte
	for _, der := range [][]byte{
		append(bytes.Clone(ed25519Prefix), v.Ed25519...),
		append(bytes.Clone(mldsa65Prefix), v.MLDSA65...),
	} {
		out = append(out, pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})...)
	}
	return out
}

// Verify returns nil if both keys of v signed e, and an error that wraps
// ErrSignature if not. Signatures of others are passed over.
func (v VerifyKey) Verify(e *Envelope) error {
	if err := e.check(); err != nil {
		return fmt.Errorf("verify envelope: %w: %w", ErrMalformed, err)
	}
	if err := v.Validate(); err != nil {
		return fmt.Errorf("verify envelope: %w: %w", ErrSignature, err)
	}
	pq, err := v.mldsa()
	if err != nil {
		return fmt.Errorf("verify envelope: %w: %w", ErrSignature, err)
	}
	edID, pqID := v.KeyIDs()
	verifier, err := dsse.NewMultiEnvelopeVerifier(2,
		dsseVerifier{edID, ed25519.PublicKey(v.Ed25519), func(message, sig []byte) bool {
			return ed25519.Verify(v.Ed25519, message, sig)
		}},
		dsseVerifier{pqID, pq, func(message, sig []byte) bool {
			return mldsa.Verify(pq, message, sig, nil) == nil
		}},
	)
	if err != nil {
		return fmt.Errorf("verify envelope: %w", err)
	}
	if _, err := verifier.Verify(context.Background(), e.dsse()); err != nil {
		return fmt.Errorf("verify envelope: %w: key %s with %s: %w", ErrSignature, edID[:12], pqID[:12], err)
	}
	return nil
}

// dsseVerifier is one of the two keys, in the form the library asks for.
type dsseVerifier struct {
	id     string
	public crypto.PublicKey
	verify func(message, sig []byte) bool
}

func (v dsseVerifier) KeyID() (string, error)   { return v.id, nil }
func (v dsseVerifier) Public() crypto.PublicKey { return v.public }
func (v dsseVerifier) Verify(_ context.Context, message, sig []byte) error {
	if !v.verify(message, sig) {
		return errors.New("signature does not verify")
	}
	return nil
}

// SigningKey signs a site's documents. It is kept as two seeds of 32 bytes.
type SigningKey struct {
	ed25519 ed25519.PrivateKey
	mldsa65 *mldsa.PrivateKey
}

// GenerateSigningKey makes a new key.
func GenerateSigningKey() (*SigningKey, error) {
	var seeds [64]byte
	rand.Read(seeds[:]) // never fails
	return newSigningKey(seeds[:32], seeds[32:])
}

func newSigningKey(ed25519Seed, mldsa65Seed []byte) (*SigningKey, error) {
	if len(ed25519Seed) != ed25519.SeedSize {
		return nil, fmt.Errorf("ed25519 seed of %d bytes, not %d", len(ed25519Seed), ed25519.SeedSize)
	}
	pq, err := mldsa.NewPrivateKey(mldsa.MLDSA65(), mldsa65Seed)
	if err != nil {
		return nil, fmt.Errorf("ml-dsa-65 seed: %w", err)
	}
	return &SigningKey{ed25519.NewKeyFromSeed(ed25519Seed), pq}, nil
}

// Public returns the key that verifies what k signs.
func (k *SigningKey) Public() VerifyKey {
	return VerifyKey{
		Ed25519: k.ed25519.Public().(ed25519.PublicKey),
		MLDSA65: k.mldsa65.PublicKey().Bytes(),
	}
}

func (k *SigningKey) signers() []dsse.Signer {
	edID, pqID := k.Public().KeyIDs()
	return []dsse.Signer{
		dsseSigner{edID, func(message []byte) ([]byte, error) { return ed25519.Sign(k.ed25519, message), nil }},
		dsseSigner{pqID, func(message []byte) ([]byte, error) { return k.mldsa65.Sign(nil, message, &mldsa.Options{}) }},
	}
}

type dsseSigner struct {
	id   string
	sign func(message []byte) ([]byte, error)
}

func (s dsseSigner) KeyID() (string, error) { return s.id, nil }
func (s dsseSigner) Sign(_ context.Context, message []byte) ([]byte, error) {
	return s.sign(message)
}
