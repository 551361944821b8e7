package manifest_test

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"io"
	"strings"
	"testing"

	"filippo.io/age"

	"davit/manifest"
	"davit/store/pack"
)

func TestSiteKeysComeBack(t *testing.T) {
	k, err := manifest.GenerateSiteKeys()
	if err != nil {
		t.Fatal(err)
	}
	other, err := manifest.GenerateSiteKeys()
	if err != nil {
		t.Fatal(err)
	}
	if k.Signing.Public().Equal(other.Signing.Public()) || k.Recipient() == other.Recipient() {
		t.Fatal("two sites have the same keys")
	}
	identity, signing := k.MarshalIdentity(), k.MarshalSigning()
	sealedIdentity, err := manifest.SealWithPassphraseQuickly(identity, "open sesame")
	if err != nil {
		t.Fatal(err)
	}
	sealedSigning, err := manifest.SealWithPassphraseQuickly(signing, "open sesame")
	if err != nil {
		t.Fatal(err)
	}
	for name, files := range map[string][2][]byte{
		"clear":             {identity, signing},
		"one sealed":        {identity, sealedSigning},
		"both sealed":       {sealedIdentity, sealedSigning},
		"edited on Windows": {identity, bytes.ReplaceAll(signing, []byte("\n"), []byte("\r\n"))},
	} {
		asked := 0
		got, err := manifest.ParseSiteKeys(files[0], files[1], func() (string, error) { asked++; return "open sesame", nil })
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if strings.Contains(name, "sealed") != (asked == 1) || asked > 1 {
			t.Errorf("%s: asked %d times", name, asked)
		}
		if !got.Signing.Public().Equal(k.Signing.Public()) || got.Recipient() != k.Recipient() {
			t.Errorf("%s: other keys came back", name)
		}
		e := sign(t, got, sampleCard(k))
		if err := k.Signing.Public().Verify(e); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := manifest.ParseSiteKeys(sealedIdentity, signing, nil); !errors.Is(err, manifest.ErrPassphrase) {
		t.Errorf("nobody to ask: %v", err)
	}
	if _, err := manifest.ParseSiteKeys(sealedIdentity, signing, func() (string, error) { return "wrong", nil }); !errors.Is(err, manifest.ErrPassphrase) {
		t.Errorf("wrong passphrase: %v", err)
	}
	hung := errors.New("hung up")
	if _, err := manifest.ParseSiteKeys(sealedIdentity, signing, func() (string, error) { return "", hung }); !errors.Is(err, hung) {
		t.Errorf("asking failed: %v", err)
	}
}

func TestParseSiteKeysRefuses(t *testing.T) {
	k := keys(t)
	identity, signing := k.MarshalIdentity(), k.MarshalSigning()
	secretOf := func(b []byte) string { // a piece of each secret that must never show
		if bytes.Contains(b, []byte("AGE-SECRET")) {
			return string(b[bytes.Index(b, []byte("AGE-SECRET"))+20:][:12])
		}
		return string(b[bytes.Index(b, []byte("ed25519"))+10:][:12])
	}
	x, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	for what, files := range map[string][2][]byte{
		"swapped":             {signing, identity},
		"classic identity":    {[]byte(x.String()), signing},
		"two identities":      {append(bytes.Clone(identity), identity...), signing},
		"no identity":         {nil, signing},
		"identity changed":    {bytes.Replace(identity, []byte(secretOf(identity)), []byte("AAAAAAAAAAAA"), 1), signing},
		"no signing key":      {identity, nil},
		"signing key cut":     {identity, signing[:len(signing)-30]},
		"signing key changed": {identity, bytes.Replace(signing, []byte(secretOf(signing)), []byte("aaaaaaaaaaaa"), 1)},
		"more lines":          {identity, append(bytes.Clone(signing), "ed25519 x\n"...)},
		"huge":                {identity, bytes.Repeat([]byte("x"), 1<<20)},
		"damaged age file":    {[]byte("age-encryption.org/v1\n-> X"), signing},
	} {
		_, err := manifest.ParseSiteKeys(files[0], files[1], func() (string, error) { return "p", nil })
		if !errors.Is(err, manifest.ErrMalformed) {
			t.Errorf("%s: error is %v", what, err)
			continue
		}
		for _, secret := range []string{secretOf(identity), secretOf(signing)} {
			if strings.Contains(err.Error(), secret) {
				t.Errorf("%s: a secret stands in the error: %v", what, err)
			}
		}
	}
	newer := bytes.Replace(signing, []byte("KEY-1"), []byte("KEY-2"), 1)
	if _, err := manifest.ParseSiteKeys(identity, newer, nil); !errors.Is(err, manifest.ErrVersion) {
		t.Errorf("newer signing key: %v", err)
	}
}

// TestIdentityIsStandard reads the identity file with age alone.
func TestIdentityIsStandard(t *testing.T) {
	k := keys(t)
	ids, err := age.ParseIdentities(bytes.NewReader(k.MarshalIdentity()))
	if err != nil {
		t.Fatal(err)
	}
	packKeys, err := k.PackKeys()
	if err != nil {
		t.Fatal(err)
	}
	sealed, err := pack.Seal([]byte("hello"), packKeys)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := age.Decrypt(bytes.NewReader(sealed), ids...); err != nil {
		t.Error(err)
	}
}

func TestPassphraseIsStandard(t *testing.T) {
	sealed, err := manifest.SealWithPassphrase([]byte("secret"), "open sesame")
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.HasPrefix(sealed, []byte("-----BEGIN AGE ENCRYPTED FILE-----\n")) {
		t.Errorf("begins with %.40q", sealed)
	}
	if _, err := manifest.SealWithPassphrase([]byte("secret"), ""); err == nil {
		t.Error("an empty passphrase is allowed")
	}
}

func TestPackKeysOpenWhatTheyShould(t *testing.T) {
	k := keys(t)
	recovery, err := manifest.GenerateSiteKeys()
	if err != nil {
		t.Fatal(err)
	}
	mine, err := k.PackKeys(recovery.Recipient())
	if err != nil {
		t.Fatal(err)
	}
	sealed, err := pack.Seal([]byte("hello"), mine)
	if err != nil {
		t.Fatal(err)
	}
	theirs, err := recovery.PackKeys()
	if err != nil {
		t.Fatal(err)
	}
	for name, with := range map[string]pack.Keys{"own": mine, "recovery": theirs} {
		if plain, err := pack.Unseal(sealed, with, 100); err != nil || string(plain) != "hello" {
			t.Errorf("%s: %q, %v", name, plain, err)
		}
	}
	forPeer, err := manifest.RecipientKeys([]string{recovery.Recipient()})
	if err != nil {
		t.Fatal(err)
	}
	sealed, err = pack.Seal([]byte("hello"), forPeer)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := pack.Unseal(sealed, forPeer, 100); err == nil {
		t.Error("keys of a peer open something")
	}
	if _, err := pack.Unseal(sealed, mine, 100); err == nil {
		t.Error("opened by a key it was not for")
	}
	if _, err := pack.Unseal(sealed, theirs, 100); err != nil {
		t.Error(err)
	}
	if _, err := manifest.RecipientKeys(nil); err == nil {
		t.Error("no recipients are allowed")
	}
	if _, err := k.PackKeys("age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p"); err == nil {
		t.Error("a classic recovery key is allowed")
	}
	if err := manifest.CheckRecipient(strings.ToUpper(k.Recipient())); err == nil {
		t.Error("a recipient has two spellings")
	}
}

func TestSealedValues(t *testing.T) {
	k := keys(t)
	to := []string{k.Recipient()}
	lengths := map[int]bool{}
	for _, value := range []string{"", "x", "hunter2", strings.Repeat("p", 64), "line\nline", "ü", strings.Repeat("v", manifest.MaxValue)} {
		sealed, err := manifest.SealValue(value, to)
		if err != nil {
			t.Fatalf("%.20q: %v", value, err)
		}
		if len(value) <= 64 {
			lengths[len(sealed)] = true
		}
		if got, err := k.UnsealValue(sealed); err != nil || got != value {
			t.Errorf("%.20q came back as %.20q, %v", value, got, err)
		}
	}
	if len(lengths) != 1 {
		t.Errorf("short values are told apart by the length sealed: %v", lengths)
	}
	if _, err := manifest.SealValue("a\x00", to); err == nil {
		t.Error("a NUL character would be lost")
	}
	if _, err := manifest.SealValue(strings.Repeat("v", manifest.MaxValue+1), to); err == nil {
		t.Error("too long a value is sealed")
	}
	if _, err := manifest.SealValue("hunter2", nil); err == nil || strings.Contains(err.Error(), "hunter2") {
		t.Errorf("sealed to nobody: %v", err)
	}
	sealed, err := manifest.SealValue("hunter2", to)
	if err != nil {
		t.Fatal(err)
	}
	other, err := manifest.GenerateSiteKeys()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := other.UnsealValue(sealed); err == nil {
		t.Error("another site opens it")
	}
	for _, bad := range []string{"", "hunter2", sealed[:len(sealed)-8], sealed + "=", sealed + "\n", strings.Repeat("A", 1<<20), base64.StdEncoding.EncodeToString([]byte("age-encryption.org/v1\n"))} {
		if _, err := k.UnsealValue(bad); err == nil {
			t.Errorf("%.20q… is opened", bad)
		}
	}
	// What is inside must be padded text, whoever made it.
	for _, inside := range []string{"", "short", strings.Repeat("\xff", 64), "a\x00b" + strings.Repeat("\x00", 61), strings.Repeat("x", manifest.MaxValue+64)} {
		var buf bytes.Buffer
		r, err := age.ParseHybridRecipient(k.Recipient())
		if err != nil {
			t.Fatal(err)
		}
		w, err := age.Encrypt(&buf, r)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, inside); err != nil {
			t.Fatal(err)
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		if got, err := k.UnsealValue(base64.StdEncoding.EncodeToString(buf.Bytes())); err == nil {
			t.Errorf("%.20q inside is taken for the value %.20q", inside, got)
		}
	}
}

// TestKeysAreStandard compares key ids and PEM with the standard library.
func TestKeysAreStandard(t *testing.T) {
	v := keys(t).Signing.Public()
	der, err := x509.MarshalPKIXPublicKey(ed25519.PublicKey(v.Ed25519))
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(der)
	ed, pq := v.KeyIDs()
	if ed != hex.EncodeToString(sum[:]) {
		t.Errorf("key id %s, want %x", ed, sum)
	}
	first, rest := pem.Decode(v.PEM())
	second, rest := pem.Decode(rest)
	if first == nil || second == nil || len(rest) > 0 || !bytes.Equal(first.Bytes, der) {
		t.Fatalf("PEM is\n%s", v.PEM())
	}
	if sum := sha256.Sum256(second.Bytes); pq != hex.EncodeToString(sum[:]) {
		t.Errorf("key id %s, want %x", pq, sum)
	}
	// The outer length must fit, else no other tool reads it.
	if n := int(second.Bytes[2])<<8 | int(second.Bytes[3]); n != len(second.Bytes)-4 || !bytes.HasSuffix(second.Bytes, v.MLDSA65) {
		t.Errorf("ML-DSA-65 key is not well-formed DER")
	}
}
