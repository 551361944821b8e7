package manifest

// View is an envelope as "davit inspect" shows it.
type View struct {
	Format      string          `json:"format"` // "envelope"
	PayloadType string          `json:"payloadType"`
	Kind        string          `json:"kind,omitempty"` // card, release, …
	Digest      Digest          `json:"digest"`
	Size        int             `json:"size"` // bytes of payload
	Signatures  []SignatureView `json:"signatures"`
	// Verified is true for a card that its own keys signed. Nothing else can
	// be verified without knowing the signer.
	Verified    bool   `json:"verified"`
	Fingerprint string `json:"fingerprint,omitempty"` // of a card
	Words       string `json:"words,omitempty"`       // of a card
	Document    any    `json:"document,omitempty"`
	Problem     string `json:"problem,omitempty"` // why the document cannot be shown
}

// SignatureView is a signature as "davit inspect" shows it.
type SignatureView struct {
	KeyID string `json:"keyid"`
	Bytes int    `json:"bytes"`
}

// Inspect returns a view of e for people and for JSON. It verifies no
// signature but that of a card, and decides nothing: what cannot be read is
// said in the view.
func Inspect(e *Envelope) View {
	v := View{Format: "envelope", PayloadType: e.PayloadType, Digest: e.Digest(), Size: len(e.Payload)}
	for _, s := range e.Signatures {
		v.Signatures = append(v.Signatures, SignatureView{s.KeyID, len(s.Sig)})
	}
	d := documentFor(e)
	if d == nil {
		v.Problem = "not a payload type or predicate of davit"
		return v
	}
	v.Kind = kindOf(d)
	if err := DecodeDocument(e.Payload, d); err != nil {
		v.Problem = err.Error()
		return v
	}
	v.Document = d
	if c, ok := d.(*Card); ok {
		if err := c.Signing.Verify(e); err != nil {
			v.Problem = err.Error()
		} else {
			v.Verified = true
		}
		v.Fingerprint, v.Words = c.Fingerprint().String(), c.Fingerprint().Words()
	}
	return v
}

// documentFor returns an empty document of the kind that e says it holds.
func documentFor(e *Envelope) Document {
	switch e.PayloadType {
	case PayloadCard:
		return new(Card)
	case PayloadBundle:
		return new(Bundle)
	case PayloadReceipt:
		return new(Receipt)
	case PayloadSeal:
		return new(Seal)
	case PayloadEntry:
		return new(Entry)
	case PayloadInToto:
		if checkPredicate(e.Payload, PredicateResult) == nil {
			return new(Result)
		}
		if checkPredicate(e.Payload, PredicateRelease) == nil {
			return new(Release)
		}
	}
	return nil
}
