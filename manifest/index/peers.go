package index

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"davit/manifest"
)

// Site is what the log says of this site.
type Site struct {
	Name        string
	Fingerprint manifest.Fingerprint
	Created     time.Time
}

// Peer is another site that ours knows.
type Peer struct {
	Name        string
	Card        *manifest.Card
	Envelope    []byte // of the card, as it came
	Fingerprint manifest.Fingerprint
	Accept      []string // what we take from it: manifest.GrantReleases, GrantResults
	Send        []string // what we send to it
	Added       time.Time
	Heard       time.Time // when a bundle or receipt of it was last taken in; zero: never
}

// Site returns what the first fact of the log said.
func (x *Index) Site(ctx context.Context) (Site, error) {
	s, err := one(ctx, x.read, func(r *sql.Rows, s *Site) error {
		return r.Scan(&s.Name, text{&s.Fingerprint}, moment{&s.Created})
	}, "SELECT name, fingerprint, created FROM site")
	return s, x.fail(ctx, "look up site", err)
}

const peerColumns = "SELECT name, card, fingerprint, accept, send, added, heard FROM peers"

func scanPeer(r *sql.Rows, p *Peer) error {
	if err := r.Scan(&p.Name, &p.Envelope, text{&p.Fingerprint}, list[string]{&p.Accept}, list[string]{&p.Send},
		moment{&p.Added}, moment{&p.Heard}); err != nil {
		return err
	}
	// Its signature was verified when the fact was applied.
	e, err := manifest.ParseEnvelope(p.Envelope)
	if err == nil {
		p.Card, err = manifest.Peek[manifest.Card](e)
	}
	if err != nil {
		return fmt.Errorf("%w: card of %s: %w", ErrDamaged, p.Name, err)
	}
	return nil
}

// Peers lists all peers by name.
func (x *Index) Peers(ctx context.Context) ([]Peer, error) {
	all, err := collect(ctx, x.read, scanPeer, peerColumns+" ORDER BY name")
	return all, x.fail(ctx, "list peers", err)
}

// Peer returns one peer.
func (x *Index) Peer(ctx context.Context, name string) (Peer, error) {
	p, err := one(ctx, x.read, scanPeer, peerColumns+" WHERE name = ?", name)
	return p, x.fail(ctx, "look up peer "+name, err)
}

func (p *projection) siteCreated(f *manifest.SiteCreated) error {
	n, err := p.changed("INSERT INTO site (n, name, fingerprint, created) VALUES (1, ?, ?, ?) ON CONFLICT DO NOTHING",
		f.Name, f.Fingerprint.String(), p.at)
	if err == nil && n == 0 {
		err = contradict("the site has a name already")
	}
	return err
}

func (p *projection) peerAdded(f *manifest.PeerAdded) error {
	card, _, err := manifest.OpenCard(f.Card)
	if err != nil {
		return err
	}
	accept, err := listText(f.Accept)
	if err != nil {
		return err
	}
	send, err := listText(f.Send)
	if err != nil {
		return err
	}
	// A new card is a new beginning; else only the grants change.
	return p.exec(`INSERT INTO peers (name, card, fingerprint, accept, send, added, heard) VALUES (?, ?, ?, ?, ?, ?, 0)
		ON CONFLICT DO UPDATE SET card = excluded.card, accept = excluded.accept, send = excluded.send,
			added = iif(fingerprint = excluded.fingerprint, added, excluded.added),
			heard = iif(fingerprint = excluded.fingerprint, heard, 0),
			fingerprint = excluded.fingerprint`,
		f.Name, f.Card, card.Fingerprint().String(), accept, send, p.at)
}

func (p *projection) peerRemoved(f *manifest.PeerRemoved) error {
	n, err := p.changed("DELETE FROM peers WHERE name = ?", f.Name)
	if err == nil && n == 0 {
		err = contradict("there is no peer %s", f.Name)
	}
	return err
}

// heard notes that something signed by a peer was taken in just now. By the
// order of the log, not by the highest time: a clock may be set back.
func (p *projection) heard(peer string) error {
	return p.exec("UPDATE peers SET heard = ? WHERE name = ?", p.at, peer)
}

// exists reports whether a query finds a row.
func (p *projection) exists(query string, args ...any) (bool, error) {
	_, err := p.number(query, args...)
	if errors.Is(err, sql.ErrNoRows) {
		return false, nil
	}
	return err == nil, err
}
