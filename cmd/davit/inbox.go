package main

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"davit/manifest/index"
	"davit/transfer"
)

func (p *program) inboxCommand() *cli.Command {
	from := &cli.StringFlag{Name: "from", Usage: "the one that `PEER` sent, where several sent one of that name"}
	return group("inbox", "the releases that came and wait for a decision",
		&cli.Command{Name: "list", Usage: "list them", Flags: []cli.Flag{&cli.BoolFlag{Name: "all", Usage: "also those that were decided"}},
			Action: p.withSite(p.listInbox)},
		&cli.Command{Name: "show", Usage: "show what is in one", ArgsUsage: "PROJECT VERSION", Flags: []cli.Flag{from}, Action: p.withSite(p.showInbox)},
		&cli.Command{Name: "accept", Usage: "make one visible here", ArgsUsage: "PROJECT VERSION",
			Flags:  []cli.Flag{from, &cli.BoolFlag{Name: "allow-rollback", Usage: "although it is older than one held"}},
			Action: p.withSite(p.acceptRelease)},
		&cli.Command{Name: "reject", Usage: "turn one down; the reason goes back to the sender", ArgsUsage: "PROJECT VERSION",
			Flags:  []cli.Flag{from, &cli.StringFlag{Name: "reason", Usage: "why, `TEXT` (required)"}},
			Action: p.withSite(p.rejectRelease)})
}

type inboxView struct {
	Project  string      `json:"project"`
	Version  string      `json:"version"`
	Digest   string      `json:"digest"`
	Peer     string      `json:"peer"`
	Serial   int64       `json:"serial"`
	Site     string      `json:"site"`
	Created  string      `json:"created"`
	Received string      `json:"received"`
	Packages int         `json:"packages"`
	Size     int64       `json:"size"`
	State    string      `json:"state"`
	Reason   string      `json:"reason,omitempty"`
	Base     []namedView `json:"base"`
}

func viewInbox(it index.InboxItem) inboxView {
	return inboxView{it.Project, it.Version, it.Release.String(), it.Peer, it.Serial, it.Site, stamp(it.Created), stamp(it.At),
		it.Packages, it.Size, it.State, it.Reason, viewBases(it.Base)}
}

var inboxHead = []string{"RELEASE", "FROM", "SERIAL", "SIZE", "CAME", "STATE", "REASON"}

func inboxRow(it index.InboxItem) []string {
	return []string{it.Project + " " + it.Version, it.Peer, fmt.Sprint(it.Serial), size(it.Size), ago(it.At), it.State, it.Reason}
}

func (p *program) listInbox(ctx context.Context, c *cli.Context, s *transfer.Site, _ *home) error {
	read := s.Index.InboxOpen
	if c.Bool("all") {
		read = s.Index.Inbox
	}
	items, err := read(ctx)
	if err != nil {
		return err
	}
	views, rows := []inboxView{}, [][]string{inboxHead}
	for _, it := range items {
		views = append(views, viewInbox(it))
		rows = append(rows, inboxRow(it))
	}
	return p.result(struct {
		Inbox []inboxView `json:"inbox"`
	}{views}, func() {
		if len(items) == 0 {
			p.say("Nothing waits in the inbox.")
			return
		}
		p.table(rows)
	})
}

func (p *program) showInbox(ctx context.Context, c *cli.Context, s *transfer.Site, _ *home) error {
	args := c.Args().Slice()
	r, digest, err := s.InboxRelease(ctx, args[0], args[1], c.String("from"))
	if err != nil {
		return err
	}
	missing, err := missingValues(ctx, s, r)
	if err != nil {
		return err
	}
	return p.printRelease(r, digest, [][]string{{"Values missing:", missingText(missing)}})
}

func (p *program) acceptRelease(ctx context.Context, c *cli.Context, s *transfer.Site, _ *home) error {
	args := c.Args().Slice()
	d, err := s.Accept(ctx, args[0], args[1], c.String("from"), c.Bool("allow-rollback"))
	if err != nil {
		return err
	}
	r, _, err := s.Release(ctx, args[0], args[1])
	if err != nil {
		return err
	}
	missing, err := missingValues(ctx, s, r)
	if err != nil {
		return err
	}
	return p.result(viewDecision(d), func() {
		p.say("Accepted %s %s from %s.", d.Project, d.Version, d.Peer)
		for _, e := range slices.Sorted(maps.Keys(missing)) {
			env := e
			if env == "" {
				env = "ENVIRONMENT"
			}
			p.say("Before it is deployed: %s", setAdvice(r.Project, missing[e], env))
		}
		if len(r.Process.Steps) > 0 {
			p.say("Next: davit deploy %s %s --env ENVIRONMENT", d.Project, d.Version)
		} else {
			p.say("Next: davit materialize %s %s FOLDER", d.Project, d.Version)
		}
		p.say("The receipt waits for %s: davit export --results --to %s FOLDER", d.Peer, d.Peer)
	})
}

func (p *program) rejectRelease(ctx context.Context, c *cli.Context, s *transfer.Site, _ *home) error {
	args := c.Args().Slice()
	reason := strings.TrimSpace(c.String("reason"))
	if reason == "" {
		return usagef("--reason TEXT is missing: the people who sent %s %s will read it", printable(args[0]), printable(args[1]))
	}
	d, err := s.Reject(ctx, args[0], args[1], c.String("from"), reason)
	if err != nil {
		return err
	}
	return p.result(viewDecision(d), func() {
		p.say("Rejected %s %s. The reason goes back to %s with: davit export --results --to %s FOLDER", d.Project, d.Version, d.Peer, d.Peer)
	})
}
