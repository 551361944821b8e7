package transfer

import (
	"context"
	"errors"
	"fmt"

	"davit/manifest"
	"davit/manifest/index"
	"davit/store"
	"davit/store/bucket"
)

// entryName is the document name of an audit entry. Lexical order is the order
// of entries.
func entryName(sequence int64) string { return fmt.Sprintf("%s%012d", entriesDir, sequence) }

// record writes one audit entry with the given facts, durably, and projects it
// into the index.
func (s *Site) record(ctx context.Context, facts ...manifest.Fact) error {
	for {
		if _, err := s.CatchUp(ctx); err != nil {
			return err
		}
		head, err := s.Index.Head(ctx)
		if err != nil {
			return fmt.Errorf("write audit entry: %w", err)
		}
		entry := &manifest.Entry{Version: 1, Sequence: head.Sequence + 1, Previous: head.Digest,
			Time: manifest.NewTime(s.now()), Actor: s.actor, Facts: facts}
		envelope, err := manifest.Sign(s.keys.Signing, entry)
		if err != nil {
			return fmt.Errorf("write audit entry: %w", err)
		}
		// What the index would not take must not become part of the log.
		if err := s.Index.Check(ctx, entry, envelope.Digest()); errors.Is(err, index.ErrSequence) {
			continue
		} else if err != nil {
			return fmt.Errorf("write audit entry: %w", err)
		}
		data, err := envelope.Marshal()
		if err != nil {
			return fmt.Errorf("write audit entry: %w", err)
		}
		err = s.Store.PutDocument(ctx, entryName(entry.Sequence), data)
		if errors.Is(err, bucket.ErrExist) {
			continue // another process was faster; its entry comes first
		}
		if err != nil {
			return fmt.Errorf("write audit entry %d: %w", entry.Sequence, err)
		}
		err = s.Index.Apply(ctx, entry, envelope.Digest())
		if errors.Is(err, index.ErrSequence) {
			// Another process caught up with this entry already.
			_, err = s.CatchUp(ctx)
		}
		if err != nil {
			return fmt.Errorf("index audit entry %d: %w", entry.Sequence, err)
		}
		return nil
	}
}

// CatchUp applies the entries that are in the bucket and not in the index, and
// returns how many there were.
func (s *Site) CatchUp(ctx context.Context) (int, error) {
	for n := 0; ; n++ {
		head, err := s.Index.Head(ctx)
		if err != nil {
			return n, fmt.Errorf("read audit log: %w", err)
		}
		name := entryName(head.Sequence + 1)
		if there, err := s.Store.HasDocument(ctx, name); err != nil || !there {
			return n, err
		}
		entry, digest, err := s.readEntry(ctx, head.Sequence+1)
		if err != nil {
			return n, err
		}
		err = s.Index.Apply(ctx, entry, digest)
		if errors.Is(err, index.ErrSequence) {
			// Either another process applied it just now, or the chain is broken.
			if now, herr := s.Index.Head(ctx); herr == nil && now.Sequence > head.Sequence {
				continue
			}
		}
		if err != nil {
			return n, fmt.Errorf("index audit entry %d: %w", head.Sequence+1, err)
		}
	}
}

// readEntry reads and verifies one entry of the audit log.
func (s *Site) readEntry(ctx context.Context, sequence int64) (*manifest.Entry, manifest.Digest, error) {
	name := entryName(sequence)
	data, err := s.Store.Document(ctx, name)
	if err != nil {
		return nil, manifest.Digest{}, err
	}
	envelope, err := manifest.ParseEnvelope(data)
	if err != nil {
		return nil, manifest.Digest{}, fmt.Errorf("read audit entry %d: %w", sequence, err)
	}
	entry, err := manifest.Open[manifest.Entry](envelope, s.keys.Signing.Public())
	if err != nil {
		return nil, manifest.Digest{}, fmt.Errorf("read audit entry %d: %w", sequence, err)
	}
	if entry.Sequence != sequence {
		return nil, manifest.Digest{}, fmt.Errorf("read audit entry %d: %w: it calls itself %d", sequence, store.ErrDamaged, entry.Sequence)
	}
	return entry, envelope.Digest(), nil
}

// sign signs a document of this site and stores it durably under its digest.
func (s *Site) sign(ctx context.Context, dir string, d manifest.Document) (*manifest.Envelope, manifest.Digest, error) {
	envelope, err := manifest.Sign(s.keys.Signing, d)
	if err != nil {
		return nil, manifest.Digest{}, err
	}
	return envelope, envelope.Digest(), s.keep(ctx, dir, envelope)
}

// keep stores an envelope durably under the digest of its payload.
func (s *Site) keep(ctx context.Context, dir string, e *manifest.Envelope) error {
	data, err := e.Marshal()
	if err != nil {
		return err
	}
	err = s.Store.PutDocument(ctx, dir+e.Digest().String(), data)
	if errors.Is(err, bucket.ErrExist) {
		return nil // the same payload is there already
	}
	return err
}

// envelope reads a stored document and checks that it is the one named.
func (s *Site) envelope(ctx context.Context, dir string, digest manifest.Digest) (*manifest.Envelope, error) {
	data, err := s.Store.Document(ctx, dir+digest.String())
	if err != nil {
		return nil, err
	}
	e, err := manifest.ParseEnvelope(data)
	if err != nil {
		return nil, fmt.Errorf("read document %s%s: %w", dir, digest.Short(), err)
	}
	if e.Digest() != digest {
		return nil, fmt.Errorf("read document %s%s: %w: its content is another", dir, digest.Short(), store.ErrDamaged)
	}
	return e, nil
}

// release reads a release that is known by its digest. Its signature was
// verified when it was taken in, and the digest stands in the signed log, so
// only ReleaseVerify looks at it again.
func (s *Site) release(ctx context.Context, digest manifest.Digest) (*manifest.Release, error) {
	e, err := s.envelope(ctx, releasesDir, digest)
	if err != nil {
		return nil, err
	}
	r, err := manifest.Peek[manifest.Release](e)
	if err != nil {
		return nil, fmt.Errorf("read release %s: %w", digest.Short(), err)
	}
	return r, nil
}
