package manifest

// Seal says what the payload of a bundle is, to those who cannot open it: it
// stands in every volume with parity, outside the encryption, so that a volume
// that was repaired can be held against what its sender wrote.
type Seal struct {
	Version int      `json:"version"`
	Bundle  BundleID `json:"bundle"`
	From    string   `json:"from"`
	To      string   `json:"to"`
	Serial  int64    `json:"serial"`
	SHA256  Digest   `json:"sha256"` // of the payload
	Size    int64    `json:"size"`   // of the payload
}

// PayloadType implements Document.
func (s *Seal) PayloadType() string { return PayloadSeal }

// Validate implements Document.
func (s *Seal) Validate() error {
	return at("seal",
		between(int64(s.Version), 1, 1),
		at("bundle", present(s.Bundle)),
		at("from", CheckSite(s.From)),
		at("to", CheckSite(s.To)),
		at("to", absent("the sender itself", s.From == s.To)),
		at("serial", between(s.Serial, 1, MaxSize)),
		at("sha256", present(s.SHA256)),
		at("size", between(s.Size, 1, MaxSize)),
	)
}
