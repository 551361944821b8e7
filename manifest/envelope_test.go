package manifest_test

import (
	"bytes"
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"davit/manifest"
)

func TestBothSignaturesAreNeeded(t *testing.T) {
	k := keys(t)
	v := k.Signing.Public()
	other, err := manifest.GenerateSiteKeys()
	if err != nil {
		t.Fatal(err)
	}
	card := sampleCard(k)
	good := func() *manifest.Envelope { return sign(t, k, card) }
	theirs := sign(t, other, card).Signatures

	for what, change := range map[string]func(*manifest.Envelope){
		"only the first":             func(e *manifest.Envelope) { e.Signatures = e.Signatures[:1] },
		"only the second":            func(e *manifest.Envelope) { e.Signatures = e.Signatures[1:] },
		"the first twice":            func(e *manifest.Envelope) { e.Signatures[1] = e.Signatures[0] },
		"the second twice":           func(e *manifest.Envelope) { e.Signatures[0] = e.Signatures[1] },
		"another's":                  func(e *manifest.Envelope) { e.Signatures = theirs },
		"half another's":             func(e *manifest.Envelope) { e.Signatures[1] = theirs[1] },
		"the other half another's":   func(e *manifest.Envelope) { e.Signatures[0] = theirs[0] },
		"another's under our id":     func(e *manifest.Envelope) { e.Signatures[0].Sig = theirs[0].Sig },
		"ours under another's id":    func(e *manifest.Envelope) { e.Signatures[0].KeyID = theirs[0].KeyID },
		"another payload":            func(e *manifest.Envelope) { e.Payload[30] ^= 1 },
		"one byte more in signature": func(e *manifest.Envelope) { e.Signatures[0].Sig = append(e.Signatures[0].Sig, 0) },
	} {
		e := good()
		change(e)
		if _, err := manifest.Open[manifest.Card](e, v); !errors.Is(err, manifest.ErrSignature) {
			t.Errorf("%s: error is %v", what, err)
		}
	}
	for what, change := range map[string]func(*manifest.Envelope){
		"other order":       func(e *manifest.Envelope) { e.Signatures[0], e.Signatures[1] = e.Signatures[1], e.Signatures[0] },
		"others before":     func(e *manifest.Envelope) { e.Signatures = append(theirs[:2:2], e.Signatures...) },
		"without key ids":   func(e *manifest.Envelope) { e.Signatures[0].KeyID, e.Signatures[1].KeyID = "", "" },
		"one of them twice": func(e *manifest.Envelope) { e.Signatures = append(e.Signatures, e.Signatures[0]) },
	} {
		e := good()
		change(e)
		if _, err := manifest.Open[manifest.Card](e, v); err != nil {
			t.Errorf("%s: %v", what, err)
		}
		if e.Digest() != good().Digest() {
			t.Errorf("%s: changes the digest", what)
		}
	}
	if err := (manifest.VerifyKey{}).Verify(good()); !errors.Is(err, manifest.ErrSignature) {
		t.Errorf("no key: %v", err)
	}
	half := v
	half.MLDSA65 = nil
	if err := half.Verify(good()); !errors.Is(err, manifest.ErrSignature) {
		t.Errorf("half a key: %v", err)
	}
}

func TestTypeIsSigned(t *testing.T) {
	k := keys(t)
	e := sign(t, k, samples(t)["receipt"])
	if _, err := manifest.Open[manifest.Bundle](e, k.Signing.Public()); !errors.Is(err, manifest.ErrKind) || !errors.Is(err, manifest.ErrMalformed) {
		t.Errorf("a receipt as a bundle: %v", err)
	}
	e.PayloadType = manifest.PayloadBundle
	if _, err := manifest.Open[manifest.Bundle](e, k.Signing.Public()); !errors.Is(err, manifest.ErrSignature) {
		t.Errorf("a receipt that says it is a bundle: %v", err)
	}
	e = sign(t, k, sampleRelease())
	if _, err := manifest.Open[manifest.Result](e, k.Signing.Public()); !errors.Is(err, manifest.ErrKind) {
		t.Errorf("a release as a result: %v", err)
	}
}

func TestParseEnvelopeRefuses(t *testing.T) {
	one := `{"keyid":"","sig":"AA=="}`
	with := func(payload, signatures string) string {
		return `{"payloadType":"x","payload":"` + payload + `","signatures":[` + signatures + `]}`
	}
	if _, err := manifest.ParseEnvelope([]byte(with("e30=", one) + " \r\n\n")); err != nil {
		t.Fatal(err)
	}
	for what, data := range map[string]string{
		"nothing":              "",
		"null":                 "null",
		"a list":               "[]",
		"no payload":           with("", one),
		"no signatures":        with("e30=", ""),
		"empty signature":      with("e30=", `{"keyid":"","sig":""}`),
		"33 signatures":        with("e30=", strings.Repeat(one+",", 32)+one),
		"a million":            with("e30=", strings.Repeat("{},", 1_000_000)+"{}"),
		"loose base64":         with("e31=", one),
		"URL base64":           with("_-8=", one),
		"base64 without end":   with("e30", one),
		"long signature":       with("e30=", `{"keyid":"","sig":"`+strings.Repeat("AAAA", 3000)+`"}`),
		"escape in key id":     with("e30=", `{"keyid":"\u0061","sig":"AA=="}`),
		"control in key id":    with("e30=", `{"keyid":"\u001b","sig":"AA=="}`),
		"long type":            `{"payloadType":"` + strings.Repeat("x", 300) + `","payload":"e30=","signatures":[` + one + `]}`,
		"spaces before":        " " + with("e30=", one),
		"a byte order mark":    "\ufeff" + with("e30=", one),
		"two envelopes":        with("e30=", one) + with("e30=", one),
		"deep":                 strings.Repeat("[", 100_000),
		"payload is an object": `{"payloadType":"x","payload":{},"signatures":[` + one + `]}`,
	} {
		if _, err := manifest.ParseEnvelope([]byte(data)); !errors.Is(err, manifest.ErrMalformed) {
			t.Errorf("%s: error is %v", what, err)
		}
	}
	if _, err := manifest.ParseEnvelope(make([]byte, manifest.MaxEnvelope+1)); !errors.Is(err, manifest.ErrMalformed) {
		t.Errorf("too large: error is %v", err)
	}
}

func TestOpenCard(t *testing.T) {
	k := keys(t)
	card := sampleCard(k)
	data := marshal(t, sign(t, k, card))
	got, e, err := manifest.OpenCard(data)
	if err != nil {
		t.Fatal(err)
	}
	if got.Fingerprint() != card.Fingerprint() || e.Digest().IsZero() {
		t.Error("another card came back")
	}
	other, err := manifest.GenerateSiteKeys()
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := manifest.OpenCard(marshal(t, sign(t, other, card))); !errors.Is(err, manifest.ErrSignature) {
		t.Errorf("a card signed by another: %v", err)
	}
	if _, _, err := manifest.OpenCard(marshal(t, sign(t, k, sampleRelease()))); !errors.Is(err, manifest.ErrKind) {
		t.Errorf("a release as a card: %v", err)
	}
	if _, _, err := manifest.OpenCard(bytes.Repeat([]byte("x"), 1<<20)); !errors.Is(err, manifest.ErrMalformed) {
		t.Errorf("a large file as a card: %v", err)
	}
}

func TestFingerprintCoversEveryKey(t *testing.T) {
	k := keys(t)
	other, err := manifest.GenerateSiteKeys()
	if err != nil {
		t.Fatal(err)
	}
	card := sampleCard(k)
	for what, change := range map[string]func(*manifest.Card){
		"name":      func(c *manifest.Card) { c.Name = "evil" },
		"ed25519":   func(c *manifest.Card) { c.Signing.Ed25519 = other.Signing.Public().Ed25519 },
		"mldsa65":   func(c *manifest.Card) { c.Signing.MLDSA65 = other.Signing.Public().MLDSA65 },
		"recipient": func(c *manifest.Card) { c.Recipients = []string{other.Recipient()} },
		"one more":  func(c *manifest.Card) { c.Recipients = append(c.Recipients, other.Recipient()) },
	} {
		c := sampleCard(k)
		change(c)
		if c.KeyDigest() == card.KeyDigest() || c.Fingerprint() == card.Fingerprint() {
			t.Errorf("%s: the fingerprint stays the same", what)
		}
	}
	again := sampleCard(k)
	again.Created, again.Davit = later, "0.2.0"
	if again.KeyDigest() != card.KeyDigest() {
		t.Error("writing the card again changes its fingerprint")
	}
}

// TestOtherToolsVerify checks an envelope with nothing of this package: the
// DSSE specification, JSON and Ed25519.
func TestOtherToolsVerify(t *testing.T) {
	k := keys(t)
	var e struct {
		PayloadType string `json:"payloadType"`
		Payload     []byte `json:"payload"`
		Signatures  []struct {
			KeyID string `json:"keyid"`
			Sig   []byte `json:"sig"`
		} `json:"signatures"`
	}
	if err := json.Unmarshal(marshal(t, sign(t, k, sampleRelease())), &e); err != nil {
		t.Fatal(err)
	}
	pae := fmt.Sprintf("DSSEv1 %d %s %d %s", len(e.PayloadType), e.PayloadType, len(e.Payload), e.Payload)
	if !ed25519.Verify(k.Signing.Public().Ed25519, []byte(pae), e.Signatures[0].Sig) {
		t.Error("Ed25519 signature is not over the DSSE encoding")
	}
	var statement struct {
		Type    string `json:"_type"`
		Subject []struct {
			Name   string            `json:"name"`
			Digest map[string]string `json:"digest"`
		} `json:"subject"`
	}
	if err := json.Unmarshal(e.Payload, &statement); err != nil {
		t.Fatal(err)
	}
	if statement.Type != "https://in-toto.io/Statement/v1" || len(statement.Subject) != 2 ||
		statement.Subject[0].Name != "web" || statement.Subject[0].Digest["sha256"] != digest("web").String() {
		t.Errorf("statement is %+v", statement)
	}
}

func TestInspect(t *testing.T) {
	k := keys(t)
	for name, d := range samples(t) {
		v := manifest.Inspect(sign(t, k, d))
		if v.Kind != name || v.Problem != "" || v.Document == nil || v.Verified != (name == "card") || len(v.Signatures) != 2 {
			t.Errorf("%s: %+v", name, v)
		}
		data, err := json.Marshal(v)
		if err != nil || bytes.Contains(data, []byte("s3cret")) {
			t.Errorf("%s: %s, %v", name, data, err)
		}
	}
	e := sign(t, k, sampleCard(k))
	e.Signatures[0].Sig[0] ^= 1
	if v := manifest.Inspect(e); v.Verified || v.Problem == "" {
		t.Errorf("a forged card: %+v", v)
	}
	e.PayloadType = "text/plain"
	if v := manifest.Inspect(e); v.Kind != "" || v.Problem == "" {
		t.Errorf("something else: %+v", v)
	}
	e.PayloadType, e.Payload = manifest.PayloadReceipt, []byte("{}")
	if v := manifest.Inspect(e); v.Kind != "receipt" || v.Document != nil || v.Problem == "" {
		t.Errorf("a broken receipt: %+v", v)
	}
}

func BenchmarkSignAndOpen(b *testing.B) {
	k := keys(b)
	r := sampleRelease()
	for b.Loop() {
		if _, err := manifest.Open[manifest.Release](sign(b, k, r), k.Signing.Public()); err != nil {
			b.Fatal(err)
		}
	}
}
