package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"davit/manifest"
	"davit/store/bucket"
	"davit/transfer"
	"davit/transfer/route"
)

func (p *program) watchCommand() *cli.Command {
	return &cli.Command{Name: "watch", Usage: "take in what arrives in the folders of routes, and send results", ArgsUsage: "[PEER…]",
		Description: "Watches the inbox of each route in davit.yaml, or of those named: takes bundles in as import does, moves their files to\n" +
			"done or failed below the folder, and lays receipts and results into the outbox where the route says send_results.\n" +
			"With --once it does that one time and exits with the worst of what it met; it takes two intervals where files have no marker.\n" +
			"With --json each event is one line.",
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "once", Usage: "one full pass, for cron"},
			&cli.DurationFlag{Name: "interval", EnvVars: []string{"DAVIT_INTERVAL"}, Value: route.DefaultInterval, Usage: "`TIME` between two full scans"},
		},
		Action: func(c *cli.Context) error {
			p.lines = true
			h, err := loadHome(c)
			if err != nil {
				return err
			}
			return p.watch(c.Context, h, c.Args().Slice(), c.Duration("interval"), c.Bool("once"))
		}}
}

// outbox is where bundles for the peer go.
func (r routing) outbox() string { return cmp.Or(r.Outbox, r.Folder) }

// watched reports whether the route is a link of watched folders.
func (r routing) watched() bool { return r.Inbox != "" || r.Outbox != "" }

// checkLink says what is wrong with the watched folders of a route.
func (r routing) checkLink() error {
	switch {
	case r.Accept != "" && r.Accept != "ask" && r.Accept != "auto":
		return fmt.Errorf("accept is %q; want ask or auto", r.Accept)
	case r.Folder != "" && r.Outbox != "" && r.Folder != r.Outbox:
		return errors.New("folder and outbox both say where bundles go; keep one of them")
	case r.SendResults && r.outbox() == "":
		return errors.New("send_results needs an outbox")
	case r.Inbox == "" && (r.Accept != "" || r.KeepDone != keeping{} || r.KeepDoneSize != 0):
		return errors.New("accept and keep_done are about an inbox, and there is none")
	}
	return nil
}

// exportRequest is how bundles for a peer are made.
func (r routing) exportRequest(peer string) transfer.ExportRequest {
	return transfer.ExportRequest{Peer: peer, VolumeSize: int64(r.VolumeSize), Full: r.Full, AssumeDelivered: r.AssumeDelivered,
		FullEvery: r.FullEvery, NoDelta: r.Delta.Off, DeltaBudget: time.Duration(r.Delta.Budget)}
}

// keepDone is how long files stay in done/ when nothing else is said.
const keepDone = 30 * 24 * time.Hour

func (r routing) link(peer string) route.Link {
	l := route.Link{Peer: peer, Inbox: r.Inbox, Outbox: r.outbox(), Accept: r.Accept == "auto", SendResults: r.SendResults,
		Export: r.exportRequest(peer), KeepDone: cmp.Or(r.KeepDone.Duration, keepDone), KeepSize: int64(r.KeepDoneSize)}
	if r.KeepDone.forever {
		l.KeepDone = 0
	}
	return l
}

// links are the watched folders of the routes to some peers, or to all.
func (h *home) links(peers []string) ([]route.Link, error) {
	var links []route.Link
	for peer, r := range h.config.Routes {
		if (r.Inbox != "" || r.SendResults) && (len(peers) == 0 || slices.Contains(peers, peer)) {
			links = append(links, r.link(peer))
		}
	}
	for _, peer := range peers {
		if !slices.ContainsFunc(links, func(l route.Link) bool { return l.Peer == peer }) {
			return nil, usagef("the route to %s in %s has neither an inbox nor send_results, so there is nothing to watch", printable(peer), h.path)
		}
	}
	if len(links) == 0 {
		return nil, usagef("no route in %s has a folder to watch; give one an inbox:\n  routes:\n    PEER:\n      inbox: FOLDER\n      outbox: FOLDER", h.path)
	}
	slices.SortFunc(links, func(a, b route.Link) int { return cmp.Compare(a.Peer, b.Peer) })
	return links, nil
}

func (p *program) watch(ctx context.Context, h *home, peers []string, interval time.Duration, once bool) error {
	if interval <= 0 {
		return usagef("--interval %v: want more than nothing", interval)
	}
	links, err := h.links(peers)
	if err != nil {
		return err
	}
	o, done, err := p.options(h)
	if err != nil {
		return err
	}
	if err := done(); err != nil {
		return err
	}
	open := func(ctx context.Context) (*transfer.Site, func() error, error) {
		dir, err := bucket.OpenDir(h.config.Store)
		if err != nil {
			return nil, nil, failf(exitUnreachable, "the store of this site is not at %s (%v); is its disk mounted? The place stands in %s", h.config.Store, plain(err), h.path)
		}
		o := o
		o.Bucket = dir
		s, err := transfer.Open(ctx, o)
		if err != nil {
			return nil, nil, errors.Join(err, dir.Close())
		}
		return s, func() error { return errors.Join(s.Close(), dir.Close()) }, nil
	}
	// What is wrong with the site is said now, and not in the night.
	s, done, err := open(ctx)
	if err != nil {
		return err
	}
	name := s.Name()
	for _, l := range links {
		if _, err := s.Index.Peer(ctx, l.Peer); errors.Is(err, transfer.ErrNotFound) {
			p.warn("%s has a route and is no peer yet; what it sends is refused until you run: davit peer add CARD", l.Peer)
		}
	}
	if err := done(); err != nil {
		return err
	}
	var codes []int
	w, err := route.New(route.Config{Name: name, Actor: h.config.Actor, Links: links, Work: h.config.Work, Interval: interval, Log: p.log,
		Open: func(ctx context.Context) (route.Site, error) {
			s, done, err := open(ctx)
			if err != nil {
				return nil, err
			}
			return route.OfSite(s, done), nil
		},
		Report: func(e route.Event) {
			v, err := viewEvent(e)
			if err != nil {
				p.warn("%v", err)
			}
			codes = append(codes, v.Code)
			if !once {
				codes = codes[:0] // nobody asks
			}
			if err := p.result(v, func() { p.tellEvent(e, v, interval) }); err != nil {
				p.warn("%v", err)
			}
		}})
	if err != nil {
		return err
	}
	if !once {
		return w.Run(ctx)
	}
	if err := w.Once(ctx); err != nil {
		return err
	}
	if code := worst(codes); code != exitOK {
		return p.reported(failf(code, "watch"))
	}
	return nil
}

// eventView is an event in JSON.
type eventView struct {
	Time     string         `json:"time"`
	Event    string         `json:"event"`
	Folder   string         `json:"folder"`
	Peer     string         `json:"peer,omitempty"`
	State    string         `json:"state,omitempty"` // of files: incoming, quarantine, done, failed
	Code     int            `json:"code"`            // what a command that met only this would exit with
	Reason   string         `json:"reason,omitempty"`
	Files    []string       `json:"files"`
	Moved    []string       `json:"moved,omitempty"` // below folder, in the order of files
	Bundle   *bundleView    `json:"bundle,omitempty"`
	Accepted []decisionView `json:"accepted,omitempty"`
	Sent     *sentView      `json:"sent,omitempty"`
}

// sentView is a bundle that was laid into an outbox.
type sentView struct {
	Serial   int64  `json:"serial"`
	Bundle   string `json:"bundle"`
	Outbox   string `json:"-"`
	Bytes    int64  `json:"bytes"`
	Receipts int    `json:"receipts"`
	Results  int    `json:"results"`
}

func viewEvent(e route.Event) (eventView, error) {
	v := eventView{Time: stamp(e.Time), Event: string(e.Kind), Folder: e.Folder, Peer: e.Peer, State: string(e.State),
		Code: codeOf(e.Err), Reason: e.Reason, Files: nonNil(e.Files), Moved: e.Moved}
	codes := []int{v.Code}
	switch {
	case e.Bundle != nil:
		b := *e.Bundle
		b.Documents = nil // missing values need the site; inbox show tells them
		view, err := viewBundle(context.Background(), nil, b)
		if err != nil {
			return v, err
		}
		v.Bundle = &view
		codes = append(codes, view.Code)
	case e.Label != nil:
		v.Bundle = &bundleView{From: e.Label.From, To: e.Label.To, Serial: e.Label.Serial, Bundle: e.Label.Bundle.String(), Kind: e.Label.Kind,
			Created: stamp(e.Label.Created.Time), State: string(e.Kind), Code: v.Code, Missing: []string{}, Gap: []int64{},
			Releases: []incomingView{}, Receipts: []receiptView{}, Results: []resultView{}}
	}
	for _, d := range e.Accepted {
		v.Accepted = append(v.Accepted, viewDecision(d))
		codes = append(codes, codeOf(d.Err))
	}
	if r := e.Sent; r != nil {
		v.Sent = &sentView{Serial: r.Serial, Bundle: r.Bundle.String(), Bytes: r.Bytes, Receipts: r.Receipts, Results: r.Results}
	}
	v.Code = worst(codes)
	return v, nil
}

// tellEvent says an event in a line or a few.
func (p *program) tellEvent(e route.Event, v eventView, interval time.Duration) {
	what := list(v.Files)
	if v.Bundle != nil {
		what = fmt.Sprintf("Bundle %d from %s", v.Bundle.Serial, v.Bundle.From)
	}
	reason := strings.TrimRight(printable(v.Reason), ".")
	switch e.Kind {
	case route.Watching:
		p.say("Watching %s, for %s; a full scan every %v.", v.Folder, v.Peer, interval)
	case route.Stopped:
		p.say("Stopped watching %s.", v.Folder)
	case route.Held:
		p.warn("%s. This one waits for its turn", reason)
	case route.Back:
		p.say("%s.", reason)
	case route.TakenIn, route.Repeat:
		p.tellTaken(e, v, what)
	case route.Refused, route.Damaged:
		where := ". Its files are in " + filepath.Join(v.Folder, "failed") + ", with the reason beside them"
		if e.State == route.Incoming {
			where = ""
		}
		p.warn("%s was %s: %s%s", printable(what), map[bool]string{true: "refused", false: "found damaged"}[e.Kind == route.Refused], reason, where)
	case route.Waiting:
		p.say("%s in %s: %s.", printable(what), v.Folder, reason)
	case route.Changed:
		p.say("%s in %s: %s.", printable(list(v.Files)), v.Folder, reason)
	case route.Elsewhere:
		p.say("%s in %s was left alone: %s.", what, v.Folder, reason)
	case route.Odd:
		p.warn("%s in %s was left alone: %s", printable(list(v.Files)), v.Folder, reason)
	case route.Sent:
		p.say("Sent bundle %d to %s, %s: %s and %s.", v.Sent.Serial, v.Peer, size(v.Sent.Bytes), count(v.Sent.Receipts, "receipt", "receipts"), count(v.Sent.Results, "result", "results"))
	case route.Removed:
		p.say("Removed %s from %s: %s.", count(len(v.Files), "file", "files"), filepath.Join(v.Folder, "done"), reason)
	default: // gone, retry, and whatever else is no success
		if v.Bundle != nil {
			reason = what + ": " + reason
		}
		p.warn("%s", reason)
	}
}

// tellTaken says what a bundle brought, as import does.
func (p *program) tellTaken(e route.Event, v eventView, what string) {
	if e.Bundle == nil {
		p.say("%s: %s.", what, v.Reason)
		return
	}
	p.tellBundle(*v.Bundle, false)
	if e.Err != nil || e.State == route.Incoming {
		p.warn("%s: %s", what, printable(v.Reason))
	}
	accepted := slices.ContainsFunc(e.Accepted, func(d transfer.Decision) bool { return d.State == manifest.StateAccepted })
	if accepted || e.State == route.Quarantine || len(e.Accepted) > 0 {
		p.tellDecisions(&importView{Bundles: []bundleView{*v.Bundle}, Accepted: v.Accepted})
	}
}
