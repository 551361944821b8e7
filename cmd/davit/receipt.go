package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/urfave/cli/v2"

	"davit/manifest"
	"davit/transfer"
)

func (p *program) receiptCommand() *cli.Command {
	return group("receipt", "answers to bundles, for the telephone",
		&cli.Command{Name: "code", Usage: "the receipt for a bundle as some 20 characters to read out", ArgsUsage: "PEER [SERIAL]",
			Description: "For links on which nothing electronic may come back. At PEER it is taken in by: davit settle --code CODE\n" +
				"Without SERIAL it is the newest bundle of releases. Nobody can make a code up who has not opened the bundle.",
			Action: p.withSite(p.receiptCode)})
}

func (p *program) receiptCode(ctx context.Context, c *cli.Context, s *transfer.Site, _ *home) error {
	args := c.Args().Slice()
	if _, err := knownPeer(ctx, s, args[0]); err != nil {
		return err
	}
	var serial int64
	if len(args) > 1 {
		if _, err := fmt.Sscan(args[1], &serial); err != nil || serial < 1 {
			return usagef("%q is no serial", printable(args[1]))
		}
	}
	code, r, err := s.ReceiptCode(ctx, args[0], serial)
	if errors.Is(err, manifest.ErrCodeState) {
		return failf(exitRefused, "%v. Let the answer go by a bundle: davit export --results --to %s FOLDER", err, args[0])
	}
	if err != nil {
		return err
	}
	view := viewReceipt(r)
	return p.result(struct {
		Code string `json:"code"`
		receiptView
	}{code, view}, func() {
		p.put("%s", code)
		p.say("Bundle %d of %s: %s.", r.Serial, args[0], printable(view.String()))
		p.say("Read it out to %s; there: davit settle --code %s", args[0], code)
	})
}

func (p *program) settleCode(ctx context.Context, c *cli.Context, s *transfer.Site, code string) error {
	if c.Bool("dry-run") {
		return usagef("--dry-run is for folders; a code changes nothing unless it is genuine")
	}
	if c.NArg() > 0 {
		return usagef("give either a FOLDER or --code")
	}
	r, err := s.SettleCode(ctx, code, "")
	switch {
	case errors.Is(err, manifest.ErrCodeTyped):
		return failf(exitUsage, "%v. Have it read out again", err)
	case errors.Is(err, transfer.ErrCodeForeign):
		return failf(exitRefused, "the code is well typed, and no bundle that was made here gives it: it answers another site's bundle, or is not genuine. Nothing was changed")
	case err != nil:
		return err
	}
	view := viewReceipt(&manifest.Receipt{Serial: r.Serial, State: manifest.ReceiptWhole, Releases: r.Releases})
	return p.result(struct {
		Peer   string `json:"peer"`
		Repeat bool   `json:"repeat"`
		receiptView
	}{r.Peer, r.Repeat, view}, func() {
		if r.Repeat {
			p.say("That answer of %s to bundle %d, or a later one, was taken in %s; nothing to do.", r.Peer, r.Serial, ago(r.At))
			return
		}
		p.say("%s answers bundle %d: %s.", r.Peer, r.Serial, printable(view.String()))
	})
}

func viewReceipt(r *manifest.Receipt) receiptView {
	view := receiptView{Serial: r.Serial, State: r.State, Reason: r.Reason, Missing: r.Missing}
	for _, rel := range r.Releases {
		name := rel.Project + " " + rel.Version
		switch rel.State {
		case manifest.StateAccepted:
			view.Accepted = append(view.Accepted, name)
		case manifest.StateRejected:
			if rel.Reason != "" {
				name += " (" + rel.Reason + ")"
			}
			view.Rejected = append(view.Rejected, name)
		default:
			view.Waiting = append(view.Waiting, name)
		}
	}
	return view
}

// String says for people what a receipt says.
func (r receiptView) String() string {
	line := "arrived"
	switch r.State {
	case manifest.ReceiptIncomplete:
		line = "incomplete, it lacks " + list(r.Missing)
	case manifest.ReceiptRefused:
		line = "refused: " + r.Reason
	}
	for _, part := range []struct {
		word  string
		names []string
	}{{"accepted", r.Accepted}, {"rejected", r.Rejected}, {"not decided yet on", r.Waiting}} {
		if len(part.names) > 0 {
			line += ", " + part.word + " " + list(part.names)
		}
	}
	return line
}
