package manifest

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"strings"

	"filippo.io/age"
	"filippo.io/age/armor"

	"davit/store/pack"
)

// Bounds of keys and sealed values.
const (
	MaxRecipients = 4        // in a card
	MaxValue      = 64 << 10 // bytes of a parameter's value
	maxKeyFile    = 64 << 10
	maxSealed     = 128 << 10
	valueBlock    = 64 // sealed values are padded to a multiple of this
)

// ErrPassphrase is wrapped when a key file is protected by a passphrase and
// none, or a wrong one, was given.
var ErrPassphrase = errors.New("passphrase needed")

// SiteKeys are the secrets of a site: what it signs with, and what it opens
// packs and sealed values with.
type SiteKeys struct {
	Signing  *SigningKey
	identity *age.HybridIdentity
}

// GenerateSiteKeys makes new keys.
func GenerateSiteKeys() (*SiteKeys, error) {
	signing, err := GenerateSigningKey()
	if err != nil {
		return nil, fmt.Errorf("generate site keys: %w", err)
	}
	identity, err := age.GenerateHybridIdentity()
	if err != nil {
		return nil, fmt.Errorf("generate site keys: %w", err)
	}
	return &SiteKeys{signing, identity}, nil
}

// Recipient returns the age recipient that others encrypt to.
func (s *SiteKeys) Recipient() string { return s.identity.Recipient().String() }

// MarshalIdentity returns a standard age identity file: "age -d -i FILE" opens
// the site's packs with it.
func (s *SiteKeys) MarshalIdentity() []byte {
	return fmt.Appendf(nil, "# davit site identity: opens everything this site holds, keep it secret\n# public key: %s\n%s\n",
		s.Recipient(), s.identity)
}

// signingHeader is the first line of a signing key file.
const signingHeader = "DAVIT-SIGNING-KEY-1"

// MarshalSigning returns the signing key as text: a header, two seeds in hex,
// and a checksum against slips of the hand.
func (s *SiteKeys) MarshalSigning() []byte {
	body := fmt.Appendf(nil, "%s\ned25519 %x\nmldsa65 %x\n", signingHeader, s.Signing.ed25519.Seed(), s.Signing.mldsa65.Bytes())
	return fmt.Appendf(body, "check %s\n", signingCheck(body))
}

func signingCheck(body []byte) string {
	sum := sha256.Sum256(body)
	return hex.EncodeToString(sum[:8])
}

// ParseSiteKeys reads what MarshalIdentity and MarshalSigning write. Either may
// have been through SealWithPassphrase (or "age -p"); then passphrase is
// called, once.
func ParseSiteKeys(identity, signing []byte, passphrase func() (string, error)) (*SiteKeys, error) {
	var given *string
	ask := func() (string, error) {
		if given == nil {
			if passphrase == nil {
				return "", ErrPassphrase
			}
			p, err := passphrase()
			if err != nil {
				return "", err
			}
			given = &p
		}
		return *given, nil
	}
	var keys SiteKeys
	text, err := openKeyFile(identity, ask)
	if err == nil {
		keys.identity, err = parseIdentity(text)
	}
	if err != nil {
		return nil, fmt.Errorf("parse site identity: %w", err)
	}
	text, err = openKeyFile(signing, ask)
	if err == nil {
		keys.Signing, err = parseSigning(text)
	}
	if err != nil {
		return nil, fmt.Errorf("parse signing key: %w", err)
	}
	return &keys, nil
}

// parseIdentity never puts anything of the text into an error: it is secret.
func parseIdentity(text []byte) (*age.HybridIdentity, error) {
	ids, err := age.ParseIdentities(bytes.NewReader(text))
	if err != nil {
		return nil, fmt.Errorf("%w: not an age identity file", ErrMalformed)
	}
	if len(ids) != 1 {
		return nil, fmt.Errorf("%w: %d identities in the file, one needed", ErrMalformed, len(ids))
	}
	id, ok := ids[0].(*age.HybridIdentity)
	if !ok {
		return nil, fmt.Errorf("%w: not a post-quantum hybrid identity (AGE-SECRET-KEY-PQ-1…)", ErrMalformed)
	}
	return id, nil
}

func parseSigning(text []byte) (*SigningKey, error) {
	text = bytes.ReplaceAll(text, []byte("\r\n"), []byte("\n"))
	header, rest, _ := bytes.Cut(text, []byte("\n"))
	if string(header) != signingHeader {
		if bytes.HasPrefix(header, []byte("DAVIT-SIGNING-KEY-")) {
			return nil, ErrVersion
		}
		return nil, fmt.Errorf("%w: does not begin with %s", ErrMalformed, signingHeader)
	}
	var ed, pq [32]byte
	var check string
	for _, field := range []struct {
		name  string
		parse func(string) error
	}{
		{"ed25519", func(s string) error { return decodeHex(ed[:], s) }},
		{"mldsa65", func(s string) error { return decodeHex(pq[:], s) }},
		{"check", func(s string) error { check = s; return nil }},
	} {
		var line []byte
		line, rest, _ = bytes.Cut(rest, []byte("\n"))
		name, value, _ := strings.Cut(string(line), " ")
		if name != field.name || field.parse(value) != nil {
			return nil, fmt.Errorf("%w: no good line %q", ErrMalformed, field.name)
		}
	}
	if len(bytes.TrimSpace(rest)) > 0 {
		return nil, fmt.Errorf("%w: more lines than expected", ErrMalformed)
	}
	body := fmt.Appendf(nil, "%s\ned25519 %x\nmldsa65 %x\n", signingHeader, ed, pq)
	if check != signingCheck(body) {
		return nil, fmt.Errorf("%w: its check line says that it was changed", ErrMalformed)
	}
	return newSigningKey(ed[:], pq[:])
}

// openKeyFile takes the passphrase off, if there is one.
func openKeyFile(data []byte, ask func() (string, error)) ([]byte, error) {
	if len(data) > maxKeyFile {
		return nil, fmt.Errorf("%w: %d bytes, at most %d allowed", ErrMalformed, len(data), maxKeyFile)
	}
	var sealed io.Reader
	switch {
	case bytes.HasPrefix(data, []byte(armor.Header)):
		sealed = armor.NewReader(bytes.NewReader(data))
	case bytes.HasPrefix(data, []byte("age-encryption.org/")):
		sealed = bytes.NewReader(data)
	default:
		return data, nil
	}
	passphrase, err := ask()
	if err != nil {
		return nil, err
	}
	id, err := age.NewScryptIdentity(passphrase)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrPassphrase, err)
	}
	plain, err := age.Decrypt(sealed, id)
	if errors.As(err, new(*age.NoIdentityMatchError)) {
		return nil, fmt.Errorf("%w: the one given does not fit", ErrPassphrase)
	}
	if err == nil {
		data, err = io.ReadAll(io.LimitReader(plain, maxKeyFile))
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	return data, nil
}

// SealWithPassphrase protects a key file. "age -d" opens it too.
func SealWithPassphrase(data []byte, passphrase string) ([]byte, error) {
	r, err := age.NewScryptRecipient(passphrase)
	if err != nil {
		return nil, fmt.Errorf("seal with passphrase: %w", err)
	}
	return sealTo(data, r)
}

// sealTo returns an armored age file.
func sealTo(data []byte, r age.Recipient) ([]byte, error) {
	var buf bytes.Buffer
	a := armor.NewWriter(&buf)
	w, err := age.Encrypt(a, r)
	if err == nil {
		_, err = w.Write(data)
	}
	if err == nil {
		err = errors.Join(w.Close(), a.Close())
	}
	if err != nil {
		return nil, fmt.Errorf("seal with passphrase: %w", err)
	}
	return buf.Bytes(), nil
}

// PackKeys returns the keys for this site's own packs and documents: its own
// recipient, the recovery recipients, and its own identity.
func (s *SiteKeys) PackKeys(recovery ...string) (pack.Keys, error) {
	recipients, err := parseRecipients(recovery)
	if err != nil {
		return pack.Keys{}, err
	}
	all := append([]age.Recipient{s.identity.Recipient()}, recipients...)
	return pack.NewKeys(all, []age.Identity{s.identity}), nil
}

// RecipientKeys returns keys that encrypt to a peer and open nothing.
func RecipientKeys(recipients []string) (pack.Keys, error) {
	if len(recipients) == 0 {
		return pack.Keys{}, errors.New("parse recipients: there are none")
	}
	parsed, err := parseRecipients(recipients)
	if err != nil {
		return pack.Keys{}, err
	}
	return pack.NewKeys(parsed, nil), nil
}

// CheckRecipient refuses what is not a post-quantum hybrid age recipient. Classic
// ones cannot stand beside them in one file.
func CheckRecipient(s string) error {
	_, err := parseRecipients([]string{s})
	return err
}

func parseRecipients(recipients []string) ([]age.Recipient, error) {
	var out []age.Recipient
	for _, s := range recipients {
		if len(s) > 4096 {
			return nil, fmt.Errorf("parse recipient: %d characters are too many", len(s))
		}
		r, err := age.ParseHybridRecipient(s)
		if err != nil {
			return nil, fmt.Errorf("parse recipient %q: not a post-quantum hybrid recipient (age1pq1…)", clip(s))
		}
		if r.String() != s {
			return nil, fmt.Errorf("parse recipient %q: not in its usual spelling", clip(s))
		}
		out = append(out, r)
	}
	return out, nil
}

// SealValue encrypts a parameter's value to the recipients, as base64 of an age
// file. NUL bytes fill it up to a multiple of 64, so that its length tells
// little: "base64 -d | age -d -i FILE | tr -d '\0'" gives it back.
func SealValue(value string, recipients []string) (string, error) {
	if err := checkFree(value); err != nil {
		return "", fmt.Errorf("seal value: %w", err)
	}
	parsed, err := parseRecipients(recipients)
	if err != nil {
		return "", fmt.Errorf("seal value: %w", err)
	}
	padded := make([]byte, max(1, (len(value)+valueBlock-1)/valueBlock)*valueBlock)
	copy(padded, value)
	var buf bytes.Buffer
	w, err := age.Encrypt(&buf, parsed...)
	if err == nil {
		_, err = w.Write(padded)
	}
	if err == nil {
		err = w.Close()
	}
	if err != nil {
		return "", fmt.Errorf("seal value: %w", err)
	}
	return base64.StdEncoding.EncodeToString(buf.Bytes()), nil
}

// UnsealValue gives back what SealValue was given.
func (s *SiteKeys) UnsealValue(sealed string) (string, error) {
	data, err := decodeSealed(sealed)
	if err != nil {
		return "", fmt.Errorf("unseal value: %w: %w", ErrMalformed, err)
	}
	r, err := age.Decrypt(bytes.NewReader(data), s.identity)
	if err != nil {
		return "", fmt.Errorf("unseal value: %w", err)
	}
	padded, err := io.ReadAll(io.LimitReader(r, MaxValue+valueBlock))
	if err != nil {
		return "", fmt.Errorf("unseal value: %w", err)
	}
	value := string(bytes.TrimRight(padded, "\x00"))
	if len(padded) == 0 || len(padded)%valueBlock != 0 || checkFree(value) != nil {
		return "", fmt.Errorf("unseal value: %w: not a padded value", ErrMalformed)
	}
	return value, nil
}

// decodeSealed checks what can be known of a sealed value without its key.
func decodeSealed(sealed string) ([]byte, error) {
	if len(sealed) > maxSealed {
		return nil, fmt.Errorf("sealed value of %d bytes, at most %d allowed", len(sealed), maxSealed)
	}
	data, err := base64.StdEncoding.Strict().DecodeString(sealed)
	if err != nil || base64.StdEncoding.EncodeToString(data) != sealed || !bytes.HasPrefix(data, []byte("age-encryption.org/v1\n")) {
		return nil, errors.New("sealed value is not base64 of an age file")
	}
	return data, nil
}
