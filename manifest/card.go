package manifest

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
)

// Card introduces a site to its peers: its name and its public keys. Cards are
// exchanged by hand, and people compare their fingerprints.
type Card struct {
	Version    int       `json:"version"`
	Name       string    `json:"name"`
	Signing    VerifyKey `json:"signing"`
	Recipients []string  `json:"recipients"` // age recipients; the first is the site's own, others are recovery keys
	Created    Time      `json:"created"`
	Davit      string    `json:"davit"` // version of the program that wrote the card
	// What the site can take in bundles. A site without it gets whole chunks.
	Delta    int      `json:"delta,omitempty"`    // version of the delta format
	Encoders []uint16 `json:"encoders,omitempty"` // deflate encoders, ascending
}

// cardDomain sets the card's key digest apart from every other SHA-256.
const cardDomain = "davit card keys 1"

// KeyDigest identifies the name and all keys of the card, and nothing that
// changes when the card is written again. It is the SHA-256 of the domain tag,
// the name, both signing keys and the recipients, each preceded by its length
// as eight bytes, big-endian.
func (c *Card) KeyDigest() Digest {
	h := sha256.New()
	put := func(b []byte) {
		h.Write(binary.BigEndian.AppendUint64(nil, uint64(len(b))))
		h.Write(b)
	}
	put([]byte(cardDomain))
	put([]byte(c.Name))
	put(c.Signing.Ed25519)
	put(c.Signing.MLDSA65)
	for _, r := range c.Recipients {
		put([]byte(r))
	}
	return Digest(h.Sum(nil))
}

// Fingerprint is what two people compare: the first half of KeyDigest.
func (c *Card) Fingerprint() Fingerprint {
	d := c.KeyDigest()
	return Fingerprint(d[:16])
}

// PayloadType implements Document.
func (c *Card) PayloadType() string { return PayloadCard }

// Validate implements Document.
func (c *Card) Validate() error {
	if err := at("card",
		between(int64(c.Version), 1, 1),
		CheckSite(c.Name),
		at("signing", c.Signing.Validate()),
		list("recipients", len(c.Recipients), 1, MaxRecipients),
		at("created", c.Created.Validate()),
		at("davit", checkLine(c.Davit, 0, 64)),
		at("delta", between(int64(c.Delta), 0, 1<<15)),
		list("encoders", len(c.Encoders), 0, 1000),
	); err != nil {
		return err
	}
	for i, n := range c.Encoders {
		if i > 0 && n <= c.Encoders[i-1] {
			return errors.New("card: encoders are not in ascending order")
		}
	}
	once := seen[string]{}
	for i, r := range c.Recipients {
		if err := item("card: recipient", i, "", CheckRecipient(r), once.add(r)); err != nil {
			return err
		}
	}
	return nil
}

// OpenCard reads a card's envelope. A card is signed with the key inside it,
// which proves that whoever made it holds the key; that it is the peer's,
// only people can tell, by the fingerprint.
func OpenCard(data []byte) (*Card, *Envelope, error) {
	// A card is small: a large file is something else, and is not decoded.
	if len(data) > 2*maxCard {
		return nil, nil, fmt.Errorf("open card: %w: %d bytes, at most %d allowed", ErrMalformed, len(data), 2*maxCard)
	}
	e, err := ParseEnvelope(data)
	if err != nil {
		return nil, nil, fmt.Errorf("open card: %w", err)
	}
	claimed, err := Peek[Card](e)
	if err != nil {
		return nil, nil, fmt.Errorf("open card: %w", err)
	}
	c, err := Open[Card](e, claimed.Signing)
	if err != nil {
		return nil, nil, err
	}
	return c, e, nil
}
