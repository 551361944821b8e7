package main

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/urfave/cli/v2"

	"davit/store"
	"davit/transfer"
)

func (p *program) checkCommand() *cli.Command {
	return &cli.Command{Name: "check", Usage: "look whether everything here is there and sound",
		Description: "Compares packs, documents and the audit log with each other; with --read-data every byte with its name.\nWhat a crash left is taken in; damage is named and exits with 3.",
		Flags:       []cli.Flag{&cli.BoolFlag{Name: "read-data", Usage: "read every byte"}},
		Action: p.withSite(func(ctx context.Context, c *cli.Context, s *transfer.Site, _ *home) error {
			req := transfer.CheckRequest{ReadData: c.Bool("read-data")}
			var done func()
			req.Progress, done = p.progress("Checking")
			r, err := s.Check(ctx, req)
			done()
			if err != nil {
				return fmt.Errorf("check: %w", err)
			}
			return p.checked(r, false, req.ReadData)
		})}
}

// checkView is what check and repair found, in JSON.
type checkView struct {
	Sound    bool            `json:"sound"`
	Packs    int             `json:"packs"`
	Chunks   int64           `json:"chunks"`
	Bytes    int64           `json:"bytes"`
	Releases int             `json:"releases"`
	Entries  int64           `json:"entries"`
	Adopted  []string        `json:"adopted"`
	Aside    []string        `json:"aside"` // packs moved to damaged/
	Problems []store.Problem `json:"problems"`
}

func (p *program) checked(r *transfer.CheckReport, repaired, read bool) error {
	v := checkView{len(r.Problems) == 0, r.Packs, r.Chunks, r.Bytes, r.Releases, r.Entries, nonNil(r.Adopted), nonNil(r.Aside), nonNil(r.Problems)}
	err := p.result(v, func() {
		packs := fmt.Sprintf("%s with %s in %s", count(r.Packs, "pack", "packs"), count(r.Chunks, "chunk", "chunks"), size(r.Bytes))
		entries := count(r.Entries, "entry", "entries") + " of the audit log"
		if repaired {
			p.say("The index was made anew from %s and %s.", packs, entries)
		} else {
			p.say("Checked %s, %s and %s.", packs, count(r.Releases, "release", "releases"), entries)
		}
		if len(r.Adopted) > 0 && !repaired {
			p.say("Took in %s that the index did not know, as a crash leaves them.", count(len(r.Adopted), "pack", "packs"))
		}
		if v.Sound {
			p.say("All is well.")
			if !read && !repaired {
				p.say("Names, sizes, tables and lists were checked, not every byte; davit check --read-data reads all.")
			}
			return
		}
		rows := [][]string{{"DAMAGED", "WHY"}}
		for _, x := range r.Problems {
			rows = append(rows, []string{x.Object, x.Reason})
		}
		p.table(rows)
		p.warn("%s found. davit repair packs sets damaged packs aside; what was in them comes back when a peer sends it again with --full, or from a copy of the store", count(len(r.Problems), "problem was", "problems were"))
	})
	if err == nil && !v.Sound {
		return p.reported(failf(exitDamage, "damage"))
	}
	return err
}

func (p *program) repairCommand() *cli.Command {
	return group("repair", "mend what can be mended", &cli.Command{Name: "index", Usage: "make the index anew from the store",
		Description: "The index holds nothing that is not in the store too. Deleting it or losing it loses nothing; this brings it back.",
		Action: func(c *cli.Context) error {
			h, err := loadHome(c)
			if err != nil {
				return err
			}
			o, closeStore, err := p.options(h)
			if err != nil {
				return err
			}
			defer closeStore()
			progress, done := p.progress("Reading packs")
			r, err := transfer.RepairIndex(c.Context, o, progress)
			done()
			if err != nil {
				return err
			}
			return p.checked(r, true, false)
		}},
		&cli.Command{Name: "packs", Usage: "set damaged packs aside, so that their content can come again",
			Description: "Reads every byte. Damaged packs move to the folder damaged in the store. What is missing then is named;\n" +
				"it comes back with a bundle made with --full, or by making the release again where it was made.",
			Action: p.withSite(func(ctx context.Context, _ *cli.Context, s *transfer.Site, _ *home) error {
				progress, done := p.progress("Reading packs")
				r, err := s.RepairPacks(ctx, progress)
				done()
				if err != nil {
					return err
				}
				if !p.json {
					p.say("Set %s aside.", count(len(r.Aside), "damaged pack", "damaged packs"))
				}
				return p.checked(r, false, true)
			})})
}

func (p *program) gcCommand() *cli.Command {
	return &cli.Command{Name: "gc", Usage: "remove what no release, log or open bundle needs",
		Flags: []cli.Flag{&cli.BoolFlag{Name: "dry-run", Usage: "say what would go, remove nothing"}},
		Action: p.withSite(func(ctx context.Context, c *cli.Context, s *transfer.Site, _ *home) error {
			dry := c.Bool("dry-run")
			r, err := s.Collect(ctx, dry)
			if err != nil {
				return err
			}
			return p.result(struct {
				DryRun bool `json:"dryRun"`
				*transfer.CollectReport
			}{dry, r}, func() {
				remove, frees := "Removed %s of %d and packed %d anew; that freed %s.", exact(r.Freed-r.Written+r.Quarantine)
				if dry {
					remove = "Would remove %s of %d and pack %d anew; that would free %s."
				}
				p.say(remove, count(r.Dropped+r.Unindexed, "pack", "packs"), r.Packs, r.Repacked, frees)
				if r.Quarantined > 0 {
					p.say("In quarantine %s of bundles that were refused or broken off.", count(r.Quarantined, "pack or delta was left", "packs and deltas were left"))
				}
				if dry {
					p.say("Nothing was changed.")
				}
			})
		})}
}

func (p *program) auditCommand() *cli.Command {
	return group("audit", "the log of everything that happened here",
		&cli.Command{Name: "log", Usage: "print it, oldest first",
			Flags: []cli.Flag{
				&cli.Int64Flag{Name: "since", Usage: "only entries after number `N`"},
			},
			Action: p.withSite(p.auditLog)},
		&cli.Command{Name: "verify", Usage: "prove that no entry was changed, added or taken out",
			Action: p.withSite(func(ctx context.Context, c *cli.Context, s *transfer.Site, _ *home) error {
				head, err := s.AuditVerify(ctx)
				if err != nil {
					return fmt.Errorf("the audit log is not what it was: %w. Keep this machine as it is and find out who could write to the store", err)
				}
				return p.result(struct {
					Unbroken bool   `json:"unbroken"`
					Entries  int64  `json:"entries"`
					Digest   string `json:"digest"`
				}{true, head.Sequence, head.Digest.String()}, func() {
					p.say("The audit log is unbroken: %s, the last is %s.", count(head.Sequence, "entry", "entries"), head.Digest)
					p.say("Write the last digest down elsewhere; then nobody can cut the log's end off unseen.")
				})
			})})
}

// auditPage is how many entries are read at once.
const auditPage = 500

type entryView struct {
	Sequence int64           `json:"sequence"`
	Time     string          `json:"time"`
	Actor    string          `json:"actor"`
	Facts    []string        `json:"facts"`
	Digest   string          `json:"digest"`
	Entry    json.RawMessage `json:"entry"` // as it was signed
}

func (p *program) auditLog(ctx context.Context, c *cli.Context, s *transfer.Site, _ *home) error {
	entries := []entryView{}
	rows := [][]string{{"NO", "TIME", "WHO", "WHAT", "DIGEST"}}
	for after := c.Int64("since"); ; {
		page, err := s.Index.Entries(ctx, after, auditPage)
		if err != nil {
			return err
		}
		for _, e := range page {
			after = e.Sequence
			if p.json {
				entries = append(entries, entryView{e.Sequence, stamp(e.Time), e.Actor, nonNil(e.Names), e.Digest.String(), e.Payload})
			} else {
				rows = append(rows, []string{fmt.Sprint(e.Sequence), when(e.Time), e.Actor, strings.Join(e.Names, ", "), e.Digest.Short()})
			}
		}
		if len(page) < auditPage {
			break
		}
	}
	return p.result(struct {
		Entries []entryView `json:"entries"`
	}{entries}, func() { p.table(rows) })
}
