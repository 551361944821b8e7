package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"davit/manifest"
	"davit/manifest/index"
	"davit/transfer"
)

func (p *program) importCommand() *cli.Command {
	return &cli.Command{Name: "import", Usage: "take in the bundles on a medium", ArgsUsage: "FOLDER",
		Description: "Verifies every bundle for this site, puts its releases into the inbox and shows a plan. Nothing on the medium\n" +
			"is changed; volumes and bundles may come in any order, and repeating it does no harm.",
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "accept", Usage: "accept at once what can be accepted"},
			&cli.BoolFlag{Name: "allow-rollback", Usage: "with --accept: also releases older than one held"},
			&cli.BoolFlag{Name: "dry-run", Usage: "verify and show the plan, change nothing"},
		},
		Action: p.withSite(func(ctx context.Context, c *cli.Context, s *transfer.Site, _ *home) error {
			if c.Bool("allow-rollback") && !c.Bool("accept") {
				return usagef("--allow-rollback goes with --accept; later it goes with: davit inbox accept")
			}
			return p.importFrom(ctx, c, s, transfer.ImportRequest{Accept: c.Bool("accept"), AllowRollback: c.Bool("allow-rollback"), DryRun: c.Bool("dry-run")})
		})}
}

func (p *program) settleCommand() *cli.Command {
	return &cli.Command{Name: "settle", Usage: "take in receipts and results from a medium, or a receipt code", ArgsUsage: "[FOLDER]",
		Description: "As import does, but leaves bundles of releases alone.\nWith --code, a receipt that was read out at the other site (davit receipt code).",
		Flags: []cli.Flag{&cli.BoolFlag{Name: "dry-run", Usage: "verify and show, change nothing"},
			&cli.StringFlag{Name: "code", Usage: "the receipt `CODE` that was read out"}},
		Action: p.withSite(func(ctx context.Context, c *cli.Context, s *transfer.Site, _ *home) error {
			if code := c.String("code"); code != "" {
				return p.settleCode(ctx, c, s, code)
			}
			if c.NArg() == 0 {
				return usagef("where are they? give the FOLDER, or --code CODE")
			}
			return p.importFrom(ctx, c, s, transfer.ImportRequest{Only: manifest.KindResults, DryRun: c.Bool("dry-run")})
		})}
}

// importView is an import in JSON.
type importView struct {
	DryRun   bool              `json:"dryRun"`
	Code     int               `json:"code"` // what the program exits with
	Bundles  []bundleView      `json:"bundles"`
	Damaged  []damagedFileView `json:"damaged"` // files that no bundle could be told of
	Foreign  int               `json:"foreign"` // other files, left alone
	Accepted []decisionView    `json:"accepted"`
}

type bundleView struct {
	From     string         `json:"from"`
	To       string         `json:"to"`
	Serial   int64          `json:"serial"`
	Bundle   string         `json:"bundle"`
	Kind     string         `json:"kind"`
	Created  string         `json:"created"`
	Bytes    int64          `json:"bytes"`
	Saved    int64          `json:"saved"` // by deltas, as the sender has it
	State    string         `json:"state"` // taken in, repeat, incomplete, refused, damaged, not for this site
	Code     int            `json:"code"`
	Cause    string         `json:"cause,omitempty"`
	Reason   string         `json:"reason,omitempty"`
	Missing  []string       `json:"missing"`  // volumes or releases
	Repaired []string       `json:"repaired"` // volumes that parity stood in for
	Kept     int            `json:"kept"`     // volumes of an incomplete one that are kept for the next medium
	Gap      []int64        `json:"gap"`      // serials before it that have not arrived
	Releases []incomingView `json:"releases"`
	Receipts []receiptView  `json:"receipts"`
	Results  []resultView   `json:"results"`
}

type incomingView struct {
	Project  string              `json:"project"`
	Version  string              `json:"version"`
	Digest   string              `json:"digest"`
	Site     string              `json:"site"`
	State    string              `json:"state"` // new, held, conflict, older, incomplete
	Reason   string              `json:"reason,omitempty"`
	Packages int                 `json:"packages"`
	Size     int64               `json:"size"`
	Missing  map[string][]string `json:"missingValues"` // by environment; "" when none is known
}

type receiptView struct {
	Serial   int64    `json:"serial"`
	State    string   `json:"state"`
	Reason   string   `json:"reason,omitempty"`
	Missing  []string `json:"missing,omitempty"`
	Accepted []string `json:"accepted,omitempty"`
	Rejected []string `json:"rejected,omitempty"`
	Waiting  []string `json:"waiting,omitempty"`
}

type resultView struct {
	ID          string `json:"id"`
	Project     string `json:"project"`
	Version     string `json:"version"`
	Environment string `json:"environment"` // site/environment
	Status      string `json:"status"`
	Actor       string `json:"actor"`
	Started     string `json:"started"`
	Ended       string `json:"ended"`
	Message     string `json:"message,omitempty"`
}

type damagedFileView struct {
	Name   string `json:"name"`
	Reason string `json:"reason"`
	Code   int    `json:"code"`
}

type decisionView struct {
	Project string `json:"project"`
	Version string `json:"version"`
	Peer    string `json:"peer"`
	State   string `json:"state"`
	Reason  string `json:"reason,omitempty"`
	Code    int    `json:"code"`
}

func viewDecision(d transfer.Decision) decisionView {
	return decisionView{d.Project, d.Version, d.Peer, d.State, d.Reason, codeOf(d.Err)}
}

func (p *program) importFrom(ctx context.Context, c *cli.Context, s *transfer.Site, req transfer.ImportRequest) error {
	args := c.Args().Slice()
	medium, err := openMedium(args[0])
	if err != nil {
		return err
	}
	defer medium.Close()
	req.Medium, req.MediumName = medium, args[0]
	var done func()
	req.Progress, done = p.progress("Taking in")
	report, failed := s.Import(ctx, req)
	done()
	if report == nil {
		return failed
	}
	v, err := p.viewImport(ctx, s, report)
	if err != nil {
		return errors.Join(failed, err)
	}
	if failed != nil {
		if !p.json {
			p.tellImport(v, req, s.Name())
		}
		return failed
	}
	if err := p.result(v, func() { p.tellImport(v, req, s.Name()) }); err != nil {
		return err
	}
	if v.Code != exitOK {
		return p.reported(failf(v.Code, "import"))
	}
	return nil
}

func (p *program) viewImport(ctx context.Context, s *transfer.Site, r *transfer.ImportReport) (*importView, error) {
	v := &importView{DryRun: r.DryRun, Bundles: []bundleView{}, Damaged: []damagedFileView{}, Foreign: r.Foreign, Accepted: []decisionView{}}
	var codes []int
	mine := false
	for _, b := range r.Bundles {
		view, err := viewBundle(ctx, s, b)
		if err != nil {
			return nil, err
		}
		codes = append(codes, view.Code)
		mine = mine || b.State != transfer.OutcomeElsewhere
		v.Bundles = append(v.Bundles, view)
	}
	for _, d := range r.Damaged {
		code := codeOf(d.Err)
		v.Damaged = append(v.Damaged, damagedFileView{d.Name, d.Reason, code})
		codes = append(codes, code)
	}
	for _, d := range r.Accepted {
		v.Accepted = append(v.Accepted, viewDecision(d))
		codes = append(codes, codeOf(d.Err))
	}
	if v.Code = worst(codes); v.Code == exitOK && !mine {
		v.Code = exitNotFound
	}
	return v, nil
}

func viewBundle(ctx context.Context, s *transfer.Site, b transfer.BundleOutcome) (bundleView, error) {
	v := bundleView{From: b.Label.From, To: b.Label.To, Serial: b.Label.Serial, Bundle: b.Label.Bundle.String(), Kind: b.Label.Kind,
		Created: stamp(b.Label.Created.Time), Bytes: b.Bytes, Saved: b.Saved, State: b.State, Cause: b.Cause, Reason: b.Reason,
		Missing: nonNil(b.Missing), Kept: b.Kept, Repaired: nonNil(b.Repaired), Gap: nonNil(b.Gap), Releases: []incomingView{}, Receipts: []receiptView{}, Results: []resultView{}}
	switch b.State {
	case transfer.OutcomeIncomplete:
		v.Code = exitIncomplete
	case transfer.OutcomeRefused:
		v.Code = codeOf(&transfer.RefusedError{Cause: b.Cause})
	case transfer.OutcomeDamaged:
		v.Code = exitDamage
	case transfer.OutcomeUnreadable:
		v.Code = exitUnreachable
	case transfer.OutcomeFailed:
		v.Code = codeOf(b.Err)
	}
	codes := []int{v.Code}
	for i, r := range b.Releases {
		view := incomingView{Project: r.Project, Version: r.Version, Digest: r.Release.String(), Site: r.Site, State: r.State,
			Reason: r.Reason, Packages: r.Packages, Size: r.Size, Missing: map[string][]string{}}
		switch {
		case r.State == manifest.StateConflict:
			codes = append(codes, exitConflict)
		case r.State != manifest.StateHeld && (len(b.Missing) > 0 || r.State == manifest.StateWaiting && r.Reason != ""):
			view.State = "incomplete"
			if view.Reason == "" {
				view.Reason = "it builds on " + list(b.Missing) + ", not held here"
			}
			codes = append(codes, exitIncomplete)
		case r.State == manifest.StateWaiting:
			view.State = "new"
		}
		if i < len(b.Documents) && r.State != manifest.StateHeld && r.State != manifest.StateConflict {
			var err error
			if view.Missing, err = missingValues(ctx, s, b.Documents[i]); err != nil {
				return v, err
			}
		}
		v.Releases = append(v.Releases, view)
	}
	for _, r := range b.Receipts {
		v.Receipts = append(v.Receipts, viewReceipt(&r))
	}
	for _, r := range b.Results {
		v.Results = append(v.Results, resultView{r.ID, r.Project, r.Version, r.Site + "/" + r.Environment, r.Status, r.Actor,
			stamp(r.Started.Time), stamp(r.Ended.Time), r.Message})
	}
	v.Code = worst(codes)
	return v, nil
}

// missingValues lists the required parameters without a value, by environment:
// those that the project was deployed to here and those that the release names.
func missingValues(ctx context.Context, s *transfer.Site, r *manifest.Release) (map[string][]string, error) {
	environments := map[string]bool{}
	runs, err := s.Index.Deployments(ctx, index.DeploymentFilter{Project: r.Project, Site: index.Here})
	if err != nil {
		return nil, err
	}
	for _, run := range runs {
		environments[run.Environment] = true
	}
	for _, q := range r.Parameters {
		for e := range q.Environments {
			environments[e] = true
		}
	}
	if len(environments) == 0 {
		environments[""] = true
	}
	missing := map[string][]string{}
	for e := range environments {
		states, err := s.ParameterStates(ctx, r, e)
		if err != nil {
			return nil, err
		}
		for _, q := range states {
			if q.Missing() {
				missing[e] = append(missing[e], q.Name)
			}
		}
	}
	return missing, nil
}

// missingText is missingValues in one cell of a table.
func missingText(missing map[string][]string) string {
	var parts []string
	for _, e := range slices.Sorted(maps.Keys(missing)) {
		text := strings.Join(missing[e], ", ")
		if e != "" {
			text = e + ": " + text
		}
		parts = append(parts, text)
	}
	if len(parts) == 0 {
		return "-"
	}
	return strings.Join(parts, "; ")
}

func (p *program) tellImport(v *importView, req transfer.ImportRequest, site string) {
	for _, d := range v.Damaged {
		p.warn("%s cannot be read: %s. Copy it again from where it was written, or let it finish copying", printable(d.Name), printable(d.Reason))
	}
	mine := 0
	for _, b := range v.Bundles {
		if b.State == transfer.OutcomeElsewhere {
			p.say("Bundle %d from %s is for %s and was left alone.", b.Serial, b.From, b.To)
			continue
		}
		mine++
		p.tellBundle(b, v.DryRun)
	}
	switch {
	case mine > 0 || len(v.Damaged) > 0:
	case req.Only == manifest.KindResults:
		p.warn("there are no receipts or results for %s in %s; bundles of releases are taken in by: davit import %s", site, req.MediumName, req.MediumName)
	default:
		p.warn("there is no bundle for %s in %s (%s looked at)", site, req.MediumName, count(v.Foreign+len(v.Bundles), "other file or bundle", "other files and bundles"))
	}
	if v.DryRun {
		p.say("Nothing was changed.")
		return
	}
	p.tellDecisions(v)
}

// tellBundle says what became of one bundle, in a few lines.
func (p *program) tellBundle(b bundleView, dryRun bool) {
	head := fmt.Sprintf("Bundle %d from %s, %s of %s", b.Serial, b.From, size(b.Bytes), b.Kind)
	if b.Saved > 0 {
		head += fmt.Sprintf(" (deltas spared it %s)", size(b.Saved))
	}
	switch b.State {
	case transfer.OutcomeRepeat:
		p.say("%s: you have it already, %s.", head, b.Reason)
	case transfer.OutcomeIncomplete:
		what := "Put these into the same folder and run it again"
		switch {
		case dryRun:
			what = "Missing"
		case b.Kept > 0:
			what = fmt.Sprintf("%s kept here, so the medium may go; import the others when they come, in any order", count(b.Kept, "volume is", "volumes are"))
		}
		p.warn("%s is not complete: %s. %s:\n  %s", head, printable(b.Reason), what, strings.Join(b.Missing, "\n  "))
	case transfer.OutcomeRefused:
		p.warn("%s was refused: %s", head, printable(b.Reason))
	case transfer.OutcomeDamaged:
		p.warn("%s is damaged: %s", head, printable(b.Reason))
	case transfer.OutcomeTaken:
		if dryRun {
			p.say("%s: would be taken in.", head)
		} else {
			p.say("%s: verified and taken in.", head)
			if len(b.Repaired) > 0 {
				p.say("  Parity stood in for %s. If that was no accident of this medium, look into why.", list(b.Repaired))
			}
		}
	default: // unreadable, failed, and whatever else is not success
		p.warn("%s was not taken in: %s", head, printable(b.Reason))
	}
	if len(b.Gap) > 0 {
		p.say("  %s from %s %s not arrived. That stops nothing; if they do not come, ask %s for them.", serials(b.Gap), b.From,
			map[bool]string{true: "has", false: "have"}[len(b.Gap) == 1], b.From)
	}
	if len(b.Releases) > 0 {
		rows := [][]string{{"RELEASE", "STATE", "PACKAGES", "SIZE", "VALUES MISSING"}}
		for _, r := range b.Releases {
			rows = append(rows, []string{r.Project + " " + r.Version, r.State, fmt.Sprint(r.Packages), size(r.Size), missingText(r.Missing)})
		}
		p.table(rows)
		for _, r := range b.Releases {
			if r.Reason != "" {
				p.say("  %s %s: %s.", r.Project, r.Version, printable(r.Reason))
			}
		}
	}
	for _, r := range b.Receipts {
		p.tellReceipt(b.From, r)
	}
	if len(b.Results) > 0 {
		rows := [][]string{{"DEPLOYED", "ENVIRONMENT", "STATUS", "BY", "ENDED", "LOG"}}
		for _, r := range b.Results {
			rows = append(rows, []string{r.Project + " " + r.Version, r.Environment, r.Status, r.Actor, whenStamp(r.Ended), r.ID[:8]})
		}
		p.table(rows)
	}
}

func (p *program) tellReceipt(from string, r receiptView) {
	p.say("  %s answers bundle %d: %s.", from, r.Serial, printable(r.String()))
}

// serials names serials as people do.
func serials(gap []int64) string {
	var names []string
	for _, n := range gap {
		names = append(names, fmt.Sprint(n))
	}
	if len(names) == 1 {
		return "Serial " + names[0]
	}
	return "Serials " + list(names)
}

// tellDecisions says what was accepted and what is to be done next.
func (p *program) tellDecisions(v *importView) {
	accepted := map[string]bool{}
	for _, d := range v.Accepted {
		if d.State == manifest.StateAccepted {
			accepted[d.Project+" "+d.Version] = true
			p.say("Accepted %s %s.", d.Project, d.Version)
		} else {
			p.warn("%s %s was not accepted: %s", d.Project, d.Version, printable(d.Reason))
		}
	}
	for _, b := range v.Bundles {
		for _, r := range b.Releases {
			ok := accepted[r.Project+" "+r.Version]
			switch {
			case r.State == "new" && !ok:
				p.say("Next: davit inbox show %s %s, then davit inbox accept %s %s", r.Project, r.Version, r.Project, r.Version)
			case r.State == manifest.StateOlder && !ok:
				p.say("Next: it would be a step back; if that is meant: davit inbox accept %s %s --allow-rollback", r.Project, r.Version)
			}
			for _, e := range slices.Sorted(maps.Keys(r.Missing)) {
				env := e
				if env == "" {
					env = "ENVIRONMENT"
				}
				p.say("Before it is deployed: %s", setAdvice(r.Project, r.Missing[e], env))
			}
		}
	}
}

func setAdvice(project string, names []string, env string) string {
	var parts []string
	for _, n := range names {
		parts = append(parts, fmt.Sprintf("davit set %s %s --env %s", project, n, env))
	}
	return strings.Join(parts, "; ")
}
