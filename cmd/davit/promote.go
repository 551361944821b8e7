package main

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/urfave/cli/v2"

	"davit/manifest"
	"davit/manifest/index"
	"davit/transfer"
	"davit/transfer/route"
)

func exportFlags(more ...cli.Flag) []cli.Flag {
	return append([]cli.Flag{
		&cli.StringFlag{Name: "to", Usage: "the `PEER` it is for (required)"},
		&cli.StringFlag{Name: "volume-size", EnvVars: []string{"DAVIT_VOLUME_SIZE"}, Usage: "largest file on the medium, `SIZE` such as 650MiB (default 3.9GiB, for FAT32)"},
		&cli.StringFlag{Name: "parity", EnvVars: []string{"DAVIT_PARITY"}, Usage: "`SHARE` of the volumes that repairs the rest, such as 10% (up to 50%)"},
		&cli.BoolFlag{Name: "full", Usage: "send everything, whatever the peer holds"},
		&cli.BoolFlag{Name: "assume-delivered", Usage: "count on bundles that were exported and not acknowledged yet"},
		&cli.BoolFlag{Name: "no-delta", Usage: "send packages as chunks, not as deltas to older versions"},
		&cli.BoolFlag{Name: "dry-run", Usage: "say to the byte what would be written, and write nothing"},
	}, more...)
}

func (p *program) promoteCommand() *cli.Command {
	return &cli.Command{Name: "promote", Usage: "send releases to a peer by its route", ArgsUsage: "PROJECT VERSION…",
		Description: "Writes a bundle to the folder of the peer's route (davit.yaml, routes) or to --folder.\nReceipts and results that wait for the peer travel with it.",
		Flags:       exportFlags(&cli.StringFlag{Name: "folder", Usage: "`FOLDER` to write to, instead of the route's"}),
		Action: p.withSite(func(ctx context.Context, c *cli.Context, s *transfer.Site, h *home) error {
			args := c.Args().Slice()
			var names []transfer.ReleaseName
			for _, v := range args[1:] {
				names = append(names, transfer.ReleaseName{Project: args[0], Version: v})
			}
			return p.export(ctx, c, s, h, c.String("folder"), names, false)
		})}
}

func (p *program) exportCommand() *cli.Command {
	return &cli.Command{Name: "export", Usage: "write a bundle of releases or results to a folder", ArgsUsage: "[FOLDER]",
		Description: "With --results, receipts and results that wait for the peer; else the releases named.\nWithout FOLDER it goes to the folder of the peer's route.",
		Flags: exportFlags(
			&cli.StringSliceFlag{Name: "release", Usage: "a release to send, `PROJECT@VERSION`; may be given again"},
			&cli.BoolFlag{Name: "results", Usage: "send receipts and results"}),
		Action: p.withSite(func(ctx context.Context, c *cli.Context, s *transfer.Site, h *home) error {
			var names []transfer.ReleaseName
			for _, v := range c.StringSlice("release") {
				project, version, ok := strings.Cut(v, "@")
				if !ok || project == "" || version == "" {
					return usagef("--release %q: want PROJECT@VERSION", printable(v))
				}
				names = append(names, transfer.ReleaseName{Project: project, Version: version})
			}
			results := c.Bool("results")
			if results && len(names) > 0 {
				return usagef("--results and --release exclude each other; receipts and results travel with releases anyway")
			}
			if !results && len(names) == 0 {
				return usagef("nothing to export was named; give --release PROJECT@VERSION or --results")
			}
			return p.export(ctx, c, s, h, c.Args().First(), names, results)
		})}
}

// exportView is an export in JSON.
type exportView struct {
	DryRun       bool        `json:"dryRun"`
	Nothing      string      `json:"nothing,omitempty"` // why there is nothing to send
	To           string      `json:"to"`
	Bundle       string      `json:"bundle,omitempty"`
	Serial       int64       `json:"serial,omitempty"`
	Kind         string      `json:"kind,omitempty"`
	Folder       string      `json:"folder,omitempty"`
	Files        []string    `json:"files"`
	Volumes      int         `json:"volumes"`
	Bytes        int64       `json:"bytes"`        // on the medium, exactly
	ContentBytes int64       `json:"contentBytes"` // of the releases
	Saved        int64       `json:"saved"`        // bytes that deltas save, about
	Full         bool        `json:"full"`         // nothing is counted as held by the peer
	SentBytes    int64       `json:"sentBytes"`    // plaintext of the chunks in the bundle
	SentChunks   int64       `json:"sentChunks"`
	Parity       bool        `json:"parity"`
	Spare        int         `json:"spare"` // volumes, whichever, that may be lost
	Packs        int         `json:"packs"`
	Deltas       int         `json:"deltas"`
	Packages     []deltaView `json:"packages"` // those of which the peer may hold another version
	Base         []namedView `json:"base"`
	Releases     []namedView `json:"releases"`
	Receipts     int         `json:"receipts"`
	Results      int         `json:"results"`
	OnTheWay     []int64     `json:"onTheWay"` // serials of unacknowledged bundles that carry a release too
	Lost         []int64     `json:"lost"`

	watched bool // by davit at the other end
}

// deltaView says how one package travels, and why.
type deltaView struct {
	Package    string `json:"package"`
	Version    string `json:"version"`
	Attachment bool   `json:"attachment"`
	Base       string `json:"base,omitempty"`
	Form       string `json:"form"` // chunks, raw or opened
	Bytes      int64  `json:"bytes"`
	Plain      int64  `json:"plain"` // what its new chunks would take
	// Files of a folder that changed, and encoders of compressed streams that
	// the peer needs.
	Files    int      `json:"files,omitempty"`
	Encoders []string `json:"encoders,omitempty"`
	Reason   string   `json:"reason,omitempty"`
}

type namedView struct {
	Project string `json:"project"`
	Version string `json:"version"`
	Digest  string `json:"digest"`
	Serial  int64  `json:"serial,omitempty"` // of a base: of the bundle that brought it
}

func viewRefs(refs []manifest.ReleaseRef) []namedView {
	out := []namedView{}
	for _, r := range refs {
		out = append(out, namedView{Project: r.Project, Version: r.Version, Digest: r.Release.String()})
	}
	return out
}

func viewBases(bases []manifest.BundleBase) []namedView {
	out := []namedView{}
	for _, b := range bases {
		out = append(out, namedView{b.Project, b.Version, b.Release.String(), b.Serial})
	}
	return out
}

func named(views []namedView) string {
	var names []string
	for _, v := range views {
		names = append(names, v.Project+" "+v.Version)
	}
	return list(names)
}

// exportRequest puts flags over the peer's route.
func exportRequest(c *cli.Context, h *home, folder string) (transfer.ExportRequest, error) {
	req := transfer.ExportRequest{Peer: c.String("to"), DryRun: c.Bool("dry-run")}
	if req.Peer == "" {
		return req, usagef("--to PEER is missing: who is it for?")
	}
	r := h.config.Routes[req.Peer]
	if folder == "" {
		folder = r.outbox()
	}
	dry := req.DryRun
	req = r.exportRequest(req.Peer)
	req.MediumName, req.DryRun = folder, dry
	if v := c.String("volume-size"); v != "" {
		n, err := parseSize(v)
		if err != nil {
			return req, usagef("--volume-size: %v", err)
		}
		req.VolumeSize = n
	}
	req.Parity = float64(r.Parity)
	if v := c.String("parity"); v != "" {
		share, err := parseShare(v)
		if err != nil {
			return req, usagef("--parity: %v", err)
		}
		req.Parity = float64(share)
	}
	if c.IsSet("full") {
		req.Full = c.Bool("full")
	}
	if c.IsSet("assume-delivered") {
		req.AssumeDelivered = c.Bool("assume-delivered")
	}
	if c.IsSet("no-delta") {
		req.NoDelta = c.Bool("no-delta")
	}
	if c.Bool("full") && c.Bool("assume-delivered") {
		return req, usagef("--full and --assume-delivered contradict each other")
	}
	if folder == "" && !req.DryRun {
		return req, usagef("there is no folder to write to; give --folder FOLDER (export: FOLDER), or put a route for %s into %s", printable(req.Peer), h.path)
	}
	return req, nil
}

func (p *program) export(ctx context.Context, c *cli.Context, s *transfer.Site, h *home, folder string, names []transfer.ReleaseName, results bool) error {
	req, err := exportRequest(c, h, folder)
	if err != nil {
		return err
	}
	req.Releases, req.Results = names, results
	// What a crash left under way has a result too, and it goes along.
	if err := s.EndInterrupted(ctx); err != nil {
		return fmt.Errorf("end interrupted deployments: %w", err)
	}
	if req.MediumName != "" {
		medium, err := openMedium(req.MediumName)
		if err != nil {
			return err
		}
		defer medium.Close()
		req.Medium = medium
	}
	var done func()
	req.Progress, done = p.progress("Writing")
	deliver := s.Export
	way := h.config.Routes[req.Peer]
	watched := way.watched() && req.MediumName == way.outbox()
	if watched {
		deliver = func(ctx context.Context, req transfer.ExportRequest) (*transfer.ExportReport, error) {
			return route.Deliver(ctx, s, req)
		}
	}
	r, err := deliver(ctx, req)
	done()
	if err != nil {
		return err
	}
	v := exportView{DryRun: r.DryRun, Nothing: r.Nothing, To: req.Peer, Files: nonNil(r.Files), Lost: nonNil(r.Lost), OnTheWay: nonNil(r.OnTheWay),
		Base: viewBases(r.Base), Releases: viewRefs(r.Releases), Packages: []deltaView{}, watched: watched}
	for _, d := range r.Packages {
		v.Packages = append(v.Packages, deltaView(d))
	}
	if r.Nothing == "" {
		v.Spare, v.Parity = r.Spare, req.Parity > 0
		v.Serial, v.Kind, v.Folder, v.Volumes, v.Bytes = r.Serial, r.Kind, req.MediumName, len(r.Files), r.Bytes
		v.ContentBytes, v.SentBytes, v.SentChunks, v.Packs = r.ContentBytes, r.SentBytes, r.SentChunks, r.Packs
		v.Receipts, v.Results, v.Deltas, v.Saved, v.Full = r.Receipts, r.Results, r.Deltas, r.Saved, r.Full
		if !r.Bundle.IsZero() {
			v.Bundle = r.Bundle.String()
		}
	}
	return p.result(v, func() { p.tellExport(v) })
}

func (p *program) tellExport(v exportView) {
	for _, serial := range v.Lost {
		p.say("Bundle %d for %s was broken off before and counts as lost; what it carried is sent again.", serial, v.To)
	}
	if v.Nothing != "" {
		p.say("Nothing was written: %s.", v.Nothing)
		return
	}
	if len(v.OnTheWay) > 0 {
		p.say("%s for %s %s it too and %s not acknowledged yet. If the receipt came back, take it in first: davit settle FOLDER", serials(v.OnTheWay), v.To,
			map[bool]string{true: "carries", false: "carry"}[len(v.OnTheWay) == 1], map[bool]string{true: "is", false: "are"}[len(v.OnTheWay) == 1])
	}
	does := "Wrote"
	if v.DryRun {
		does = "Would write"
	}
	p.say("%s bundle %d for %s: %s, %s.", does, v.Serial, v.To, count(v.Volumes, "volume", "volumes"), exact(v.Bytes))
	if len(v.Releases) > 0 {
		line := fmt.Sprintf("  Carries %s: %s of content", named(v.Releases), size(v.ContentBytes))
		if v.SentBytes < v.ContentBytes && v.Deltas == 0 {
			line += fmt.Sprintf(", of which %s (%s) must travel", size(v.SentBytes), percent(v.SentBytes, v.ContentBytes))
		}
		p.say("%s.", line)
	}
	var papers []string
	if v.Receipts > 0 {
		papers = append(papers, count(v.Receipts, "receipt", "receipts"))
	}
	if v.Results > 0 {
		papers = append(papers, count(v.Results, "result", "results"))
	}
	if len(papers) > 0 {
		p.say("  Carries %s.", list(papers))
	}
	if v.Full && len(v.Releases) > 0 {
		p.say("  Full: counts nothing as held by %s.", v.To)
	}
	if len(v.Base) > 0 {
		p.say("  Builds on %s, which %s holds.", named(v.Base), v.To)
	}
	switch {
	case v.Spare > 0:
		p.say("  Any %s of them may be lost, or as much of each be damaged.", count(v.Spare, "volume", "volumes"))
	case v.Parity:
		p.say("  Carries parity: scattered damage is repaired, a lost volume is not.")
	}
	p.tellDeltas(v)
	for _, f := range v.Files {
		p.put("%s", f)
	}
	if v.DryRun {
		p.say("Nothing was written.")
		return
	}
	if v.watched {
		p.say("Next: nothing; whoever watches %s for %s takes it in.", v.Folder, v.To)
		return
	}
	p.say("Next: carry all of it to %s, and there run: davit %s FOLDER", v.To,
		map[bool]string{true: "import", false: "settle"}[v.Kind == manifest.KindReleases])
}

// tellDeltas says what deltas save and, in a dry run, how each package travels
// and why.
func (p *program) tellDeltas(v exportView) {
	var bytes, plain int64
	for _, d := range v.Packages {
		if d.Form != transfer.FormChunks {
			bytes, plain = bytes+d.Bytes, plain+d.Plain
		}
	}
	if v.Deltas > 0 {
		one, many := "package travels as a delta", "packages travel as deltas"
		if slices.ContainsFunc(v.Packages, func(d deltaView) bool { return d.Attachment && d.Form != transfer.FormChunks }) {
			one, many = "attachment travels as a delta", "packages and attachments travel as deltas"
		}
		p.say("  %s: %s instead of %s (%s saved).", count(v.Deltas, one, many), size(bytes), size(plain), percent(plain-bytes, plain))
	}
	if !v.DryRun {
		return
	}
	for _, d := range v.Packages {
		p.say("    %s", d)
	}
}

// String says for people how a package travels.
func (d deltaView) String() string {
	name := strings.TrimRight(d.Package+" "+d.Version, " ")
	line := fmt.Sprintf("%s: as chunks, %s", name, size(d.Bytes))
	if d.Form != transfer.FormChunks {
		how := d.Form
		if d.Files > 0 {
			how += ", " + count(d.Files, "file", "files")
		}
		if len(d.Encoders) > 0 {
			how += ", " + strings.Join(d.Encoders, ", ")
		}
		line = fmt.Sprintf("%s: delta (%s) to %s, %s instead of %s", name, how, d.Base, size(d.Bytes), size(d.Plain))
	}
	if d.Reason != "" {
		line += "; " + d.Reason
	}
	return line
}

func percent(part, whole int64) string {
	if whole == 0 {
		return "0%"
	}
	return fmt.Sprintf("%.1f%%", 100*float64(part)/float64(whole))
}

func (p *program) shipmentCommand() *cli.Command {
	return group("shipment", "the bundles that were made here",
		&cli.Command{Name: "list", Usage: "list them with their state",
			Flags:  []cli.Flag{&cli.StringFlag{Name: "to", Usage: "only those for `PEER`"}},
			Action: p.withSite(p.listShipments)},
		&cli.Command{Name: "lost", Usage: "a bundle will not arrive: what it carried counts as not sent", ArgsUsage: "PEER SERIAL",
			Flags:  []cli.Flag{&cli.StringFlag{Name: "reason", Usage: "why, for the audit log"}},
			Action: p.withSite(p.loseShipment)})
}

// shipmentView is a shipment in JSON.
type shipmentView struct {
	To       string      `json:"to"`
	Serial   int64       `json:"serial"`
	Bundle   string      `json:"bundle"`
	Kind     string      `json:"kind"`
	State    string      `json:"state"`
	Receipt  string      `json:"receipt,omitempty"` // what the peer answered: whole, incomplete, refused
	Reason   string      `json:"reason,omitempty"`
	Releases []namedView `json:"releases"`
	Base     []namedView `json:"base"`
	Rejected []string    `json:"rejected,omitempty"` // releases, with the reason
	Bytes    int64       `json:"bytes"`
	Saved    int64       `json:"saved"` // by deltas, about
	Volumes  int         `json:"volumes"`
	Medium   string      `json:"medium,omitempty"`
	Sealed   string      `json:"sealed"`
	Exported string      `json:"exported,omitempty"`
	Settled  string      `json:"settled,omitempty"`
}

func viewShipment(v index.Shipment) shipmentView {
	var rejected []string
	for _, a := range v.Answers {
		if a.State == manifest.StateRejected {
			rejected = append(rejected, fmt.Sprintf("%s %s: %s", a.Project, a.Version, a.Reason))
		}
	}
	return shipmentView{v.Peer, v.Serial, v.Bundle.String(), v.Kind, v.State, v.Receipt, v.Reason, viewRefs(v.Releases), viewBases(v.Base), rejected,
		v.Bytes, v.Saved, v.Volumes, v.Medium, stamp(v.Sealed), stamp(v.Exported), stamp(v.Settled)}
}

// shipmentState is the state in people's words.
func shipmentState(v index.Shipment) string {
	state := v.State
	if v.State == index.ShipmentLost {
		state = "presumed lost"
	}
	if v.Receipt != "" && v.Receipt != manifest.ReceiptWhole {
		state += ", " + v.Receipt
	}
	for _, a := range v.Answers {
		if a.State == manifest.StateRejected {
			state += fmt.Sprintf("; rejected %s %s (%s)", a.Project, a.Version, printable(a.Reason))
		}
	}
	return state
}

// shipmentRow is one line of a table of shipments.
func shipmentRow(v index.Shipment) []string {
	what := named(viewRefs(v.Releases))
	if len(v.Releases) == 0 {
		what = count(len(v.Documents), "receipt or result", "receipts and results")
	}
	last := v.Sealed
	if !v.Exported.IsZero() {
		last = v.Exported
	}
	if !v.Settled.IsZero() {
		last = v.Settled
	}
	return []string{v.Peer, strconv.FormatInt(v.Serial, 10), what, size(v.Bytes), shipmentState(v), ago(last)}
}

var shipmentHead = []string{"TO", "SERIAL", "CARRIES", "SIZE", "STATE", "SINCE"}

func (p *program) listShipments(ctx context.Context, c *cli.Context, s *transfer.Site, _ *home) error {
	all, err := s.Index.Shipments(ctx, index.ShipmentFilter{Peer: c.String("to")})
	if err != nil {
		return err
	}
	views, rows := []shipmentView{}, [][]string{shipmentHead}
	for _, v := range all {
		views = append(views, viewShipment(v))
		rows = append(rows, shipmentRow(v))
	}
	return p.result(struct {
		Shipments []shipmentView `json:"shipments"`
	}{views}, func() {
		if len(all) == 0 {
			p.say("No bundle was made here yet.")
			return
		}
		p.table(rows)
	})
}

func (p *program) loseShipment(ctx context.Context, c *cli.Context, s *transfer.Site, _ *home) error {
	args := c.Args().Slice()
	serial, err := strconv.ParseInt(args[1], 10, 64)
	if err != nil || serial < 1 {
		return usagef("%q is no serial; see: davit shipment list --to %s", printable(args[1]), printable(args[0]))
	}
	if _, err := knownPeer(ctx, s, args[0]); err != nil {
		return err
	}
	sent, err := s.Index.Shipments(ctx, index.ShipmentFilter{Peer: args[0], State: index.ShipmentAcknowledged})
	if err != nil {
		return err
	}
	for _, v := range sent {
		if v.Serial == serial {
			return failf(exitConflict, "bundle %d for %s was acknowledged on %s, so it is not lost; nothing was changed", serial, args[0], when(v.Settled))
		}
	}
	if err := s.MarkLost(ctx, args[0], serial, c.String("reason")); err != nil {
		return err
	}
	return p.result(map[string]any{"to": args[0], "serial": serial, "state": index.ShipmentLost}, func() {
		p.say("Bundle %d for %s counts as lost; what it carried can be promoted again. Should it arrive all the same, its receipt will say so.", serial, args[0])
	})
}
