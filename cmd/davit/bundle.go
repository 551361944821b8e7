package main

import (
	"context"
	"fmt"
	"strings"

	"github.com/urfave/cli/v2"

	"davit/manifest"
	"davit/store/bucket"
	"davit/transfer/bundle"
)

func (p *program) bundleCommand() *cli.Command {
	return group("bundle", "the volumes of bundles on a medium; needs no keys",
		&cli.Command{Name: "verify", Usage: "read every volume, name what is missing or damaged, and say whether it can be repaired", ArgsUsage: "FOLDER",
			Action: p.verifyBundles},
		&cli.Command{Name: "repair", Usage: "write whole volumes in place of those that are missing or damaged, to another folder", ArgsUsage: "FOLDER TO",
			Description: "Only bundles with parity can be repaired. TO gets the missing and damaged volumes, byte for byte as they were written,\nor with --all the whole bundle.",
			Flags:       []cli.Flag{&cli.BoolFlag{Name: "all", Usage: "write the whole ones, too"}},
			Action:      p.repairBundles},
		&cli.Command{Name: "label", Usage: "a label to print for each volume in a folder", ArgsUsage: "FOLDER",
			Action: p.labelBundles})
}

// setView is what is there of one bundle, in JSON.
type setView struct {
	From       string       `json:"from"`
	To         string       `json:"to"`
	Serial     int64        `json:"serial"`
	Kind       string       `json:"kind"`
	Bundle     string       `json:"bundle"`
	Volumes    int          `json:"volumes"`
	Parity     bool         `json:"parity"`
	Whole      bool         `json:"whole"`      // nothing is missing or damaged
	Repairable bool         `json:"repairable"` // all of it can be had from what is there
	Missing    []string     `json:"missing"`
	Damaged    []damageView `json:"damaged"`
	Seal       string       `json:"seal,omitempty"` // who signed for the payload, as far as can be told here
	Code       int          `json:"code"`
	Repaired   []string     `json:"repaired,omitempty"` // volumes that repair wrote
}

type damageView struct {
	File   string              `json:"file"`
	Reason string              `json:"reason"`
	Blocks []bundle.BlockRange `json:"blocks,omitempty"`
}

// scanFolder looks for volumes; it is an error if there are none.
func (p *program) scanFolder(ctx context.Context, folder string) (*bucket.Dir, *bundle.Found, error) {
	medium, err := openMedium(folder)
	if err != nil {
		return nil, nil, err
	}
	found, err := bundle.Scan(ctx, medium)
	if err == nil && len(found.Sets)+len(found.Damaged) == 0 {
		err = failf(exitNotFound, "there is no volume of a bundle in %s (%s looked at)", folder, count(found.Foreign, "other file", "other files"))
	}
	if err != nil {
		medium.Close()
		return nil, nil, err
	}
	return medium, found, nil
}

func (p *program) verifyBundles(c *cli.Context) error {
	medium, found, err := p.scanFolder(c.Context, c.Args().First())
	if err != nil {
		return err
	}
	defer medium.Close()
	progress, done := p.progress("Reading")
	var views []setView
	for _, set := range found.Sets {
		report, err := set.Examine(c.Context, progress)
		if err != nil {
			done()
			return fmt.Errorf("verify %s: %w", set.Label, err)
		}
		views = append(views, p.viewSet(c, set, report))
	}
	done()
	return p.tellSets(views, found, "")
}

func (p *program) viewSet(c *cli.Context, set *bundle.Set, r *bundle.Report) setView {
	v := setView{From: set.From, To: set.To, Serial: set.Serial, Kind: set.Kind, Bundle: set.Bundle.String(), Volumes: set.Volumes,
		Parity: set.Geometry() != bundle.Geometry{}, Whole: r.Err() == nil, Repairable: r.Repairable, Missing: []string{}, Damaged: []damageView{}}
	for _, n := range r.Missing {
		v.Missing = append(v.Missing, set.Name(n, set.Volumes))
	}
	for _, d := range r.Damaged {
		v.Damaged = append(v.Damaged, damageView{d.File, d.Reason, d.Blocks})
	}
	switch {
	case len(v.Damaged) > 0:
		v.Code = exitDamage
	case !v.Whole:
		v.Code = exitIncomplete
	}
	v.Seal = p.sealOf(c, set)
	return v
}

// sealOf says who signed for the payload. Only a site that knows the sender can
// verify it.
func (p *program) sealOf(c *cli.Context, set *bundle.Set) string {
	statements, err := set.Statements(c.Context)
	if err != nil || len(statements) == 0 {
		return ""
	}
	e, err := manifest.ParseEnvelope(statements[0])
	if err != nil {
		return "none that can be read"
	}
	seal, err := manifest.Peek[manifest.Seal](e)
	if err != nil || seal.Bundle != set.Bundle || seal.From != set.From || seal.Serial != set.Serial || seal.Size != set.Payload {
		return "one of another bundle"
	}
	text := "payload sha256 " + seal.SHA256.String()
	s, _, closeSite, err := p.open(c)
	if err != nil {
		return text + ", not verified: there is no site here"
	}
	defer closeSite()
	peer, err := s.Index.Peer(c.Context, set.From)
	key := peer.Card
	if set.From == s.Name() {
		key, err = s.Card, nil
	}
	if err != nil {
		return text + fmt.Sprintf(", not verified: %s is not known here", set.From)
	}
	if _, err := manifest.Open[manifest.Seal](e, key.Signing); err != nil {
		return text + fmt.Sprintf(", and NOT signed by %s: %v", set.From, err)
	}
	return text + ", signed by " + set.From
}

// tellSets shows what was found, and exits with the worst of it.
func (p *program) tellSets(views []setView, found *bundle.Found, to string) error {
	codes := []int{exitOK}
	for _, v := range views {
		codes = append(codes, v.Code)
	}
	stray := []damageView{}
	for _, d := range found.Damaged {
		if !d.Useful {
			stray = append(stray, damageView{File: d.Name, Reason: d.Reason})
			codes = append(codes, exitDamage)
		}
	}
	code := worst(codes)
	err := p.result(struct {
		Code    int          `json:"code"`
		Bundles []setView    `json:"bundles"`
		Damaged []damageView `json:"damaged"` // files of which it cannot be told to what they belong
	}{code, append([]setView{}, views...), stray}, func() {
		for _, v := range views {
			p.tellSet(v, to)
		}
		for _, d := range stray {
			p.warn("%s is damaged: %s", d.File, printable(d.Reason))
		}
	})
	if err == nil && code != exitOK {
		return p.reported(failf(code, "not whole"))
	}
	return err
}

func (p *program) tellSet(v setView, to string) {
	head := fmt.Sprintf("Bundle %d from %s to %s (%s), %s", v.Serial, v.From, v.To, v.Kind, count(v.Volumes, "volume", "volumes"))
	switch {
	case len(v.Repaired) > 0:
		p.say("%s: repaired. Written to %s:", head, to)
		for _, name := range v.Repaired {
			p.put("%s", name)
		}
		return
	case v.Whole:
		p.say("%s: whole.", head)
	case v.Repairable && v.Parity:
		p.warn("%s: damaged, and parity can repair all of it; davit import does so by itself, davit bundle repair writes whole volumes.", head)
	case v.Parity:
		p.warn("%s: NOT whole, and more than parity can repair.", head)
	default:
		p.warn("%s: NOT whole, and it has no parity.", head)
	}
	for _, name := range v.Missing {
		p.say("  missing: %s", name)
	}
	for _, d := range v.Damaged {
		p.say("  damaged: %s: %s", d.File, printable(d.Reason))
	}
	if v.Seal != "" {
		p.say("  seal: %s", printable(v.Seal))
	}
}

func (p *program) repairBundles(c *cli.Context) error {
	medium, found, err := p.scanFolder(c.Context, c.Args().Get(0))
	if err != nil {
		return err
	}
	defer medium.Close()
	to, err := openMedium(c.Args().Get(1))
	if err != nil {
		return err
	}
	defer to.Close()
	progress, done := p.progress("Repairing")
	defer done()
	var views []setView
	for _, set := range found.Sets {
		report, err := set.Examine(c.Context, nil)
		if err != nil {
			return fmt.Errorf("verify %s: %w", set.Label, err)
		}
		v := p.viewSet(c, set, report)
		if report.Repairable && v.Parity && (!v.Whole || c.Bool("all")) {
			o := bundle.RepairOptions{All: c.Bool("all"), Volumes: report.Volumes, Progress: progress}
			if o.All {
				o.Volumes = nil
			}
			if v.Repaired, err = set.Repair(c.Context, to, o); err != nil {
				return err
			}
			v.Code = exitOK
		}
		views = append(views, v)
	}
	return p.tellSets(views, found, c.Args().Get(1))
}

// labelBundles prints what a person glues to a stick.
func (p *program) labelBundles(c *cli.Context) error {
	medium, found, err := p.scanFolder(c.Context, c.Args().First())
	if err != nil {
		return err
	}
	defer medium.Close()
	type labelView struct {
		bundle.Label
		Volume  int    `json:"volume"`
		Volumes int    `json:"volumes"`
		File    string `json:"file"`
		Check   string `json:"check"` // the beginning of the bundle's id, to compare
	}
	labels := []labelView{}
	for _, set := range found.Sets {
		for n := 1; n <= set.Volumes; n++ {
			if len(set.Present[n]) > 0 {
				labels = append(labels, labelView{set.Label, n, set.Volumes, set.Name(n, set.Volumes), set.Bundle.String()[:8]})
			}
		}
	}
	return p.result(labels, func() {
		for _, l := range labels {
			line := strings.Repeat("-", 46)
			p.put("+%s+", line)
			for _, text := range []string{
				fmt.Sprintf("davit bundle %d, %s", l.Serial, l.Kind),
				fmt.Sprintf("from %s  to %s", l.From, l.To),
				fmt.Sprintf("volume %d of %d", l.Volume, l.Volumes),
				fmt.Sprintf("made %s, check %s", when(l.Created.Time), l.Check)} {
				p.put("| %-44.44s |", text)
			}
			p.put("+%s+", line)
		}
	})
}
