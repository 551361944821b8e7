package transfer

import (
	"bytes"
	"context"
	"fmt"
	"slices"

	"davit/manifest"
	"davit/store/pack"
	"davit/transfer/content"
)

// Letter is what a bundle says it carries, for people. Nothing of it was
// verified.
type Letter struct {
	Bundle   *manifest.Bundle
	Releases []*manifest.Release
}

// OpenLetter decrypts the documents part of a bundle that is for keys. The
// error wraps pack.ErrWrongKey when it is for others.
func OpenLetter(sealed []byte, keys pack.Keys) (*Letter, error) {
	data, err := pack.Decrypt(sealed, keys)
	if err != nil {
		return nil, err
	}
	l := &Letter{}
	for line := range bytes.Lines(data) {
		e, err := manifest.ParseEnvelope(line)
		if err != nil {
			return nil, fmt.Errorf("read documents of bundle: %w", err)
		}
		if l.Bundle == nil {
			if l.Bundle, err = manifest.Peek[manifest.Bundle](e); err != nil {
				return nil, fmt.Errorf("read bundle document: %w", err)
			}
			continue
		}
		if r, err := manifest.Peek[manifest.Release](e); err == nil {
			l.Releases = append(l.Releases, r)
		}
	}
	if l.Bundle == nil {
		return nil, fmt.Errorf("read documents of bundle: %w: there are none", manifest.ErrMalformed)
	}
	return l, nil
}

// SentLetter is the letter of a bundle that was made here, which its peer
// alone can decrypt.
func (s *Site) SentLetter(ctx context.Context, id manifest.BundleID) (*Letter, error) {
	sh, err := s.Index.Shipment(ctx, id)
	if err != nil {
		return nil, err
	}
	l := &Letter{}
	if l.Bundle, err = s.bundle(ctx, sh.Digest); err != nil {
		return nil, err
	}
	for _, d := range l.Bundle.Documents {
		if d.Kind != manifest.DocumentRelease {
			continue
		}
		r, err := s.release(ctx, d.Digest)
		if err != nil {
			return nil, err
		}
		l.Releases = append(l.Releases, r)
	}
	return l, nil
}

// Deltas says how the packages travel that do so as deltas.
func (l *Letter) Deltas() []DeltaReport {
	var all []DeltaReport
	for i := range l.Bundle.Deltas {
		d := &l.Bundle.Deltas[i]
		v := DeltaReport{Package: "?", Form: d.Form, Bytes: d.Size, Plain: d.Plain}
		for _, r := range l.Releases {
			for _, p := range content.Parts(r) {
				if p.Target() == content.TargetOf(d) {
					v.Package, v.Version, v.Attachment = p.Name, p.Version, p.Attachment
				}
			}
		}
		if at := slices.IndexFunc(l.Bundle.Base, func(b manifest.BundleBase) bool { return b.Release == d.Release }); at >= 0 {
			v.Base = l.Bundle.Base[at].Project + " " + l.Bundle.Base[at].Version
		}
		all = append(all, v)
	}
	return all
}
