package transfer

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"davit/manifest"
)

// PeerRequest introduces a peer or changes what is granted to it.
type PeerRequest struct {
	Card   []byte   // the card's envelope
	Accept []string // what is taken from it: releases, results
	Send   []string // what may be sent to it
	// Replace allows a card with other keys than the one known, as after a
	// peer lost its own. Never do it without comparing fingerprints.
	Replace bool
}

// KeyChangeError: a known peer's card has other keys.
type KeyChangeError struct {
	Name     string
	Old, New manifest.Fingerprint
}

func (e *KeyChangeError) Error() string {
	return fmt.Sprintf("the card of %s has other keys than the one known here. Compare the fingerprint by voice with %s before you trust it; then add it with --replace\n  known: %s\n  new:   %s", e.Name, e.Name, e.Old.Words(), e.New.Words())
}

// AddPeer pins a peer's card and grants. It returns the card.
func (s *Site) AddPeer(ctx context.Context, req PeerRequest) (*manifest.Card, error) {
	card, _, err := manifest.OpenCard(req.Card)
	if err != nil {
		return nil, fmt.Errorf("add peer: %w", err)
	}
	for _, g := range slices.Concat(req.Accept, req.Send) {
		if g != manifest.GrantReleases && g != manifest.GrantResults {
			return nil, fmt.Errorf("add peer: %q cannot be granted; it is releases or results", g)
		}
	}
	if card.Name == s.Name() {
		return nil, &RequestError{fmt.Sprintf("the card is named %q like this site; two sites that exchange bundles need two names", card.Name)}
	}
	switch known, err := s.Index.Peer(ctx, card.Name); {
	case err == nil && known.Card.KeyDigest() != card.KeyDigest() && !req.Replace:
		return nil, &KeyChangeError{card.Name, known.Fingerprint, card.Fingerprint()}
	case err != nil && !errors.Is(err, ErrNotFound):
		return nil, fmt.Errorf("add peer: %w", err)
	}
	slices.Sort(req.Accept)
	slices.Sort(req.Send)
	err = s.record(ctx, manifest.Fact{PeerAdded: &manifest.PeerAdded{Name: card.Name, Card: req.Card,
		Accept: slices.Compact(req.Accept), Send: slices.Compact(req.Send)}})
	if err != nil {
		return nil, fmt.Errorf("add peer: %w", err)
	}
	return card, nil
}

// Grant changes what is granted to a peer that is known. What is nil stays.
func (s *Site) Grant(ctx context.Context, name string, accept, send []string) error {
	peer, err := s.Index.Peer(ctx, name)
	if err != nil {
		return fmt.Errorf("grant: %w", peerError(name, err))
	}
	if accept == nil {
		accept = peer.Accept
	}
	if send == nil {
		send = peer.Send
	}
	_, err = s.AddPeer(ctx, PeerRequest{Card: peer.Envelope, Accept: accept, Send: send})
	return err
}

// RemovePeer withdraws everything granted to a peer.
func (s *Site) RemovePeer(ctx context.Context, name string) error {
	if _, err := s.Index.Peer(ctx, name); err != nil {
		return fmt.Errorf("remove peer: %w", peerError(name, err))
	}
	if err := s.record(ctx, manifest.Fact{PeerRemoved: &manifest.PeerRemoved{Name: name}}); err != nil {
		return fmt.Errorf("remove peer: %w", err)
	}
	return nil
}
