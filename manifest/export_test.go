package manifest

import (
	"bytes"
	"context"
	"encoding/base64"

	"filippo.io/age"
	"github.com/secure-systems-lab/go-securesystemslib/dsse"
)

// SignRaw signs a payload that no document may have.
func SignRaw(k *SigningKey, payloadType string, payload []byte) (*Envelope, error) {
	signer, err := dsse.NewEnvelopeSigner(k.signers()...)
	if err != nil {
		return nil, err
	}
	signed, err := signer.SignPayload(context.Background(), payloadType, payload)
	if err != nil {
		return nil, err
	}
	e := &Envelope{PayloadType: payloadType, Payload: bytes.Clone(payload)}
	for _, s := range signed.Signatures {
		sig, err := base64.StdEncoding.DecodeString(s.Sig)
		if err != nil {
			return nil, err
		}
		e.Signatures = append(e.Signatures, Signature{s.KeyID, sig})
	}
	return e, nil
}

// SealWithPassphraseQuickly is SealWithPassphrase with a passphrase that is
// cheap to try, for tests.
func SealWithPassphraseQuickly(data []byte, passphrase string) ([]byte, error) {
	r, err := age.NewScryptRecipient(passphrase)
	if err != nil {
		return nil, err
	}
	r.SetWorkFactor(4)
	return sealTo(data, r)
}
