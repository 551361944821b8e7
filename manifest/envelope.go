package manifest

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"

	"github.com/secure-systems-lab/go-securesystemslib/dsse"
)

// Bounds of envelopes.
const (
	MaxEnvelope      = 32 << 20
	maxSignatures    = 32
	maxSignatureSize = 8 << 10
)

// ErrSignature is wrapped when an envelope is not signed by both keys of the
// expected signer.
var ErrSignature = errors.New("not signed by the expected key")

// Envelope is a DSSE envelope: a payload and signatures over it and its type.
// Others may add their signatures; that changes neither the payload nor the
// digest.
type Envelope struct {
	PayloadType string      `json:"payloadType"`
	Payload     []byte      `json:"payload"`
	Signatures  []Signature `json:"signatures"`
}

// Signature is one signature of an envelope.
type Signature struct {
	KeyID string `json:"keyid"`
	Sig   []byte `json:"sig"`
}

// ParseEnvelope reads an envelope in the one form that Marshal writes; spaces
// and line ends after it are forgiven, since mail and editors add them. Nothing
// is verified.
func ParseEnvelope(data []byte) (*Envelope, error) {
	e, err := parseEnvelope(data)
	if err != nil {
		return nil, fmt.Errorf("parse envelope: %w", err)
	}
	return e, nil
}

func parseEnvelope(data []byte) (*Envelope, error) {
	if len(data) > MaxEnvelope {
		return nil, fmt.Errorf("%w: %d bytes, at most %d allowed", ErrMalformed, len(data), MaxEnvelope)
	}
	data = bytes.TrimRight(data, " \t\r\n")
	// The envelope and its list are two objects, each signature is one.
	if err := weigh(data, 2+maxSignatures, 3*(1+maxSignatures)); err != nil {
		return nil, err
	}
	e := new(Envelope)
	if err := decodeJSON(data, e); err != nil {
		return nil, err
	}
	if err := e.check(); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	again, err := encodeJSON(e)
	if err != nil {
		return nil, err
	}
	if !bytes.Equal(again, data) {
		return nil, notCanonical(data, again)
	}
	return e, nil
}

func (e *Envelope) check() error {
	if err := first(
		at("payload type", checkLine(e.PayloadType, 1, 256)),
		list("bytes of payload", len(e.Payload), 1, MaxPayload),
		list("signatures", len(e.Signatures), 1, maxSignatures),
	); err != nil {
		return err
	}
	for i, s := range e.Signatures {
		if err := item("signature", i, s.KeyID,
			at("keyid", checkLine(s.KeyID, 0, 256)),
			list("bytes", len(s.Sig), 1, maxSignatureSize),
		); err != nil {
			return err
		}
	}
	return nil
}

// Marshal returns the envelope as one line of JSON with a line end.
func (e *Envelope) Marshal() ([]byte, error) {
	if err := e.check(); err != nil {
		return nil, fmt.Errorf("marshal envelope: %w", err)
	}
	data, err := encodeJSON(e)
	if err != nil {
		return nil, fmt.Errorf("marshal envelope: %w", err)
	}
	return append(data, '\n'), nil
}

// Digest returns the SHA-256 of the payload, by which the document is known.
func (e *Envelope) Digest() Digest { return DigestOf(e.Payload) }

// Sign validates d, encodes it and signs it with both keys of k.
func Sign(k *SigningKey, d Document) (*Envelope, error) {
	payload, err := EncodeDocument(d)
	if err != nil {
		return nil, fmt.Errorf("sign %s: %w", kindOf(d), err)
	}
	signer, err := dsse.NewEnvelopeSigner(k.signers()...)
	if err != nil {
		return nil, fmt.Errorf("sign %s: %w", kindOf(d), err)
	}
	signed, err := signer.SignPayload(context.Background(), d.PayloadType(), payload)
	if err != nil {
		return nil, fmt.Errorf("sign %s: %w", kindOf(d), err)
	}
	e := &Envelope{PayloadType: d.PayloadType(), Payload: payload}
	for _, s := range signed.Signatures {
		sig, err := base64.StdEncoding.DecodeString(s.Sig)
		if err != nil {
			return nil, fmt.Errorf("sign %s: %w", kindOf(d), err)
		}
		e.Signatures = append(e.Signatures, Signature{KeyID: s.KeyID, Sig: sig})
	}
	return e, nil
}

// Open returns the document in e if v signed it. It looks at the payload only
// after both signatures are found good. Errors wrap ErrKind, ErrSignature,
// ErrVersion or ErrMalformed.
func Open[T any, P interface {
	*T
	Document
}](e *Envelope, v VerifyKey) (*T, error) {
	d := new(T)
	kind := kindOf(P(d))
	if err := checkKind(e, P(d)); err != nil {
		return nil, fmt.Errorf("open %s: %w", kind, err)
	}
	if err := v.Verify(e); err != nil {
		return nil, fmt.Errorf("open %s: %w", kind, err)
	}
	if err := DecodeDocument(e.Payload, P(d)); err != nil {
		return nil, fmt.Errorf("open %s: %w", kind, err)
	}
	return d, nil
}

// Peek returns the document in e, whoever signed it, if anybody did. It is for
// learning who claims to have signed, and for showing a file to a person;
// nothing else may be done with what it returns.
func Peek[T any, P interface {
	*T
	Document
}](e *Envelope) (*T, error) {
	d := new(T)
	if err := checkKind(e, P(d)); err != nil {
		return nil, fmt.Errorf("peek at %s: %w", kindOf(P(d)), err)
	}
	if err := DecodeDocument(e.Payload, P(d)); err != nil {
		return nil, fmt.Errorf("peek at %s: %w", kindOf(P(d)), err)
	}
	return d, nil
}

func checkKind(e *Envelope, d Document) error {
	if want := d.PayloadType(); e.PayloadType != want {
		return fmt.Errorf("%w: payload type %q, not %s", ErrKind, clip(e.PayloadType), want)
	}
	return nil
}

// dsse returns e in the form of the library.
func (e *Envelope) dsse() *dsse.Envelope {
	out := &dsse.Envelope{PayloadType: e.PayloadType, Payload: base64.StdEncoding.EncodeToString(e.Payload)}
	for _, s := range e.Signatures {
		out.Signatures = append(out.Signatures, dsse.Signature{KeyID: s.KeyID, Sig: base64.StdEncoding.EncodeToString(s.Sig)})
	}
	return out
}
