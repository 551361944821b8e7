package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"davit/manifest"
	"davit/manifest/index"
	"davit/transfer"
)

func (p *program) peerCommand() *cli.Command {
	return group("peer", "the sites that this one exchanges bundles with",
		&cli.Command{Name: "add", Usage: "let a site in, or change what is granted to it", ArgsUsage: "CARD",
			Description: "Shows the twelve words of the card and asks whether they are the ones that the peer's people read out.\n" +
				"Grants that are not named stay as they are; \"none\" withdraws them.",
			Flags: []cli.Flag{
				&cli.StringSliceFlag{Name: "accept", Usage: "take `WHAT` from it: releases, results or none"},
				&cli.StringSliceFlag{Name: "send", Usage: "send it `WHAT`: releases, results or none"},
				&cli.StringFlag{Name: "fingerprint", Usage: "the twelve `WORDS` that its people read out, instead of being asked"},
				&cli.BoolFlag{Name: "replace", Usage: "the peer has new keys, and its people say so"},
				&cli.BoolFlag{Name: "yes", Usage: "do not ask; for cards that came by a way you trust"},
			},
			Action: p.withSite(p.addPeer)},
		&cli.Command{Name: "grant", Usage: "change what is granted to a peer", ArgsUsage: "PEER",
			Description: "Grants that are not named stay as they are; \"none\" withdraws them.",
			Flags: []cli.Flag{
				&cli.StringSliceFlag{Name: "accept", Usage: "take `WHAT` from it: releases, results or none"},
				&cli.StringSliceFlag{Name: "send", Usage: "send it `WHAT`: releases, results or none"},
			},
			Action: p.withSite(p.grantPeer)},
		&cli.Command{Name: "list", Usage: "list the peers", Action: p.withSite(p.listPeers)},
		&cli.Command{Name: "show", Usage: "show one peer and what it holds", ArgsUsage: "PEER", Action: p.withSite(p.showPeer)},
		&cli.Command{Name: "remove", Usage: "withdraw all that was granted to a peer", ArgsUsage: "PEER", Action: p.withSite(p.removePeer)},
	)
}

// peerView is a peer in JSON.
type peerView struct {
	Name        string        `json:"name"`
	Fingerprint string        `json:"fingerprint"`
	Words       string        `json:"words"`
	Accept      []string      `json:"accept"`
	Send        []string      `json:"send"`
	Added       string        `json:"added,omitempty"`
	Heard       string        `json:"heard,omitempty"`
	Pending     int           `json:"pending"`
	Holds       []holdingView `json:"holds,omitempty"`
	Traffic     *trafficView  `json:"traffic,omitempty"`
}

// trafficView is what went to and fro, in bytes; saved is by deltas, about.
type trafficView struct {
	Sent          int64 `json:"sent"`
	SentSaved     int64 `json:"sentSaved"`
	Received      int64 `json:"received"`
	ReceivedSaved int64 `json:"receivedSaved"`
}

type holdingView struct {
	Project string `json:"project"`
	Version string `json:"version"`
	Since   string `json:"since"`
}

func viewPeer(v index.Peer) peerView {
	return peerView{Name: v.Name, Fingerprint: v.Fingerprint.String(), Words: v.Fingerprint.Words(),
		Accept: nonNil(v.Accept), Send: nonNil(v.Send), Added: stamp(v.Added), Heard: stamp(v.Heard)}
}

func nonNil[T any](s []T) []T {
	if s == nil {
		return []T{}
	}
	return s
}

func grants(names []string) string {
	if len(names) == 0 {
		return "nothing"
	}
	return strings.Join(names, ", ")
}

func (p *program) addPeer(ctx context.Context, c *cli.Context, s *transfer.Site, _ *home) error {
	args := c.Args().Slice()
	data, err := os.ReadFile(args[0])
	if err != nil {
		return failf(exitUnreachable, "the card %s cannot be read: %v", args[0], plain(err))
	}
	card, _, err := manifest.OpenCard(data)
	if err != nil {
		return fmt.Errorf("%s is no sound card; have it sent again: %w", args[0], err)
	}
	req := transfer.PeerRequest{Card: data, Replace: c.Bool("replace")}
	if req.Accept, req.Send, err = grantFlags(c); err != nil {
		return err
	}
	known, err := s.Index.Peer(ctx, card.Name)
	if err != nil && !errors.Is(err, transfer.ErrNotFound) {
		return err
	}
	pinned := err == nil && known.Card.KeyDigest() == card.KeyDigest()
	if err == nil && !pinned && !req.Replace {
		return &transfer.KeyChangeError{Name: card.Name, Old: known.Fingerprint, New: card.Fingerprint()}
	}
	if pinned || req.Replace {
		if !c.IsSet("accept") {
			req.Accept = known.Accept
		}
		if !c.IsSet("send") {
			req.Send = known.Send
		}
	}
	if !pinned {
		if err := p.compareWords(c, card); err != nil {
			return err
		}
	}
	if _, err := s.AddPeer(ctx, req); err != nil {
		return err
	}
	return p.showGrants(ctx, s, card.Name)
}

// grantFlags reads --accept and --send.
func grantFlags(c *cli.Context) (accept, send []string, err error) {
	accept, send = splitList(c.StringSlice("accept")), splitList(c.StringSlice("send"))
	for _, g := range slices.Concat(accept, send) {
		if g != manifest.GrantReleases && g != manifest.GrantResults {
			return nil, nil, usagef("%q cannot be granted; --accept and --send take releases, results or none", printable(g))
		}
	}
	return accept, send, nil
}

func (p *program) grantPeer(ctx context.Context, c *cli.Context, s *transfer.Site, _ *home) error {
	name := c.Args().First()
	if _, err := knownPeer(ctx, s, name); err != nil {
		return err
	}
	accept, send, err := grantFlags(c)
	if err != nil {
		return err
	}
	if !c.IsSet("accept") && !c.IsSet("send") {
		return usagef("say what is granted: --accept or --send, with releases, results or none")
	}
	if !c.IsSet("accept") {
		accept = nil
	}
	if !c.IsSet("send") {
		send = nil
	}
	if err := s.Grant(ctx, name, accept, send); err != nil {
		return err
	}
	return p.showGrants(ctx, s, name)
}

// showGrants says what is granted to a peer now.
func (p *program) showGrants(ctx context.Context, s *transfer.Site, name string) error {
	peer, err := s.Index.Peer(ctx, name)
	if err != nil {
		return err
	}
	return p.result(viewPeer(peer), func() {
		p.say("Peer %s: takes %s from it, sends it %s.", peer.Name, grants(peer.Accept), grants(peer.Send))
		if len(peer.Accept)+len(peer.Send) == 0 {
			p.say("Nothing is granted yet; davit peer grant %s --accept releases or --send releases (and results the other way) does.", peer.Name)
		}
	})
}

// compareWords makes sure that a person, or whoever wrote the script, has
// compared the fingerprint.
func (p *program) compareWords(c *cli.Context, card *manifest.Card) error {
	words := card.Fingerprint().Words()
	if c.IsSet("fingerprint") {
		want, err := manifest.ParseFingerprint(c.String("fingerprint"))
		if err != nil {
			return usagef("--fingerprint: %v", err)
		}
		if want != card.Fingerprint() {
			return failf(exitRefused, "the card of %s has another fingerprint than the one given; it was not added. Have the card sent again, and if the words differ again, somebody may have exchanged it\n  card:  %s\n  given: %s", card.Name, words, want.Words())
		}
		return nil
	}
	if c.Bool("yes") {
		p.say("The card of %s says: %s", card.Name, words)
		return nil
	}
	if !onTerminal(p.stdin) || p.json {
		return usagef("the fingerprint of %s has not been compared and there is no terminal to ask on; give the words its people read out with --fingerprint \"WORDS\", or --yes if the card came by a way you trust\n  %s", card.Name, words)
	}
	fmt.Fprintf(p.stderr, "The card says it is %s, with this fingerprint:\n\n  %s\n\n", card.Name, words)
	fmt.Fprintf(p.stderr, "Call someone at %s on a number you know, and let them read theirs (davit card).\n", card.Name)
	answer, err := p.ask("Are all twelve words the same? Type yes to add the peer: ")
	if err != nil {
		return err
	}
	if answer != "yes" {
		return failf(exitRefused, "the peer %s was not added", card.Name)
	}
	return nil
}

func (p *program) listPeers(ctx context.Context, c *cli.Context, s *transfer.Site, _ *home) error {
	peers, err := s.Index.Peers(ctx)
	if err != nil {
		return err
	}
	views := []peerView{}
	rows := [][]string{{"PEER", "ACCEPT", "SEND", "LAST HEARD", "WAITS TO BE SENT"}}
	for _, v := range peers {
		pending, err := s.Index.PendingDocuments(ctx, v.Name)
		if err != nil {
			return err
		}
		view := viewPeer(v)
		view.Pending = len(pending)
		views = append(views, view)
		rows = append(rows, []string{v.Name, grants(v.Accept), grants(v.Send), ago(v.Heard), fmt.Sprint(len(pending))})
	}
	return p.result(struct {
		Peers []peerView `json:"peers"`
	}{views}, func() {
		if len(peers) == 0 {
			p.say("No peer is known. Add one with: davit peer add CARD")
			return
		}
		p.table(rows)
	})
}

func (p *program) showPeer(ctx context.Context, c *cli.Context, s *transfer.Site, _ *home) error {
	args := c.Args().Slice()
	peer, err := knownPeer(ctx, s, args[0])
	if err != nil {
		return err
	}
	holds, err := s.Index.Holdings(ctx, peer.Name)
	if err != nil {
		return err
	}
	pending, err := s.Index.PendingDocuments(ctx, peer.Name)
	if err != nil {
		return err
	}
	view := viewPeer(peer)
	view.Pending = len(pending)
	for _, h := range holds {
		view.Holds = append(view.Holds, holdingView{h.Project, h.Version, stamp(h.Since)})
	}
	return p.result(view, func() {
		p.table([][]string{
			{"Peer:", peer.Name},
			{"Fingerprint:", peer.Fingerprint.Words()},
			{"Takes from it:", grants(peer.Accept)},
			{"Sends it:", grants(peer.Send)},
			{"Added:", when(peer.Added)},
			{"Last heard:", when(peer.Heard) + " (" + ago(peer.Heard) + ")"},
			{"Waits for it:", waits(len(pending))},
		})
		if len(holds) == 0 {
			p.put("Holds:          nothing that we know of")
			return
		}
		rows := [][]string{{"HOLDS", "VERSION", "SINCE"}}
		for _, h := range holds {
			rows = append(rows, []string{h.Project, h.Version, when(h.Since)})
		}
		p.put("")
		p.table(rows)
	})
}

func knownPeer(ctx context.Context, s *transfer.Site, name string) (index.Peer, error) {
	peer, err := s.Index.Peer(ctx, name)
	if errors.Is(err, transfer.ErrNotFound) {
		return peer, failf(exitNotFound, "the peer %q is not known here; see: davit peer list", printable(name))
	}
	return peer, err
}

func (p *program) removePeer(ctx context.Context, c *cli.Context, s *transfer.Site, _ *home) error {
	args := c.Args().Slice()
	peer, err := knownPeer(ctx, s, args[0])
	if err != nil {
		return err
	}
	if err := s.RemovePeer(ctx, peer.Name); err != nil {
		return err
	}
	return p.result(map[string]string{"removed": peer.Name}, func() {
		p.say("Peer %s was removed: nothing is taken from it or sent to it any more. What it sent before stays.", peer.Name)
	})
}
