package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/urfave/cli/v2"

	"davit/manifest"
	"davit/manifest/index"
	"davit/transfer"
)

func (p *program) releaseCommand() *cli.Command {
	return group("release", "make releases and look at them",
		&cli.Command{Name: "create", Usage: "make a release of files and folders", ArgsUsage: "PROJECT VERSION [NAME[@VERSION]=]PATH…",
			Description: "Each PATH becomes one package, a file or a folder. Its name is that of the file and its version that of\n" +
				"the release, unless written before it: api@2.1=./build/api. For a path with = in it write ./a=b/file.\n" +
				"The same release again is no change; another under the same version is refused.",
			Flags: []cli.Flag{
				&cli.StringFlag{Name: "notes", Usage: "release notes as `TEXT`"},
				&cli.StringFlag{Name: "notes-file", Usage: "release notes from `FILE` (- is stdin)"},
				&cli.StringFlag{Name: "process", Usage: "deployment steps and parameters from `FILE.yaml`"},
				&cli.StringSliceFlag{Name: "attach", Usage: "attach evidence, `TYPE=PATH`: sbom=app.spdx.json; may be given again"},
				&cli.StringSliceFlag{Name: "media-type", Usage: "media type of a package, `NAME=TYPE`; may be given again"},
				&cli.BoolFlag{Name: "allow-case-collisions", Usage: "take names that differ only in case, which Windows and macOS cannot hold"},
			},
			Action: p.withSite(p.createRelease)},
		&cli.Command{Name: "list", Usage: "list releases", ArgsUsage: "[PROJECT]", Action: p.withSite(p.listReleases)},
		&cli.Command{Name: "show", Usage: "show what is in a release", ArgsUsage: "PROJECT VERSION", Action: p.withSite(p.showRelease)},
		&cli.Command{Name: "diff", Usage: "compare two releases", ArgsUsage: "PROJECT FROM TO",
			Flags:  []cli.Flag{&cli.BoolFlag{Name: "files", Usage: "name every file that differs"}},
			Action: p.withSite(p.diffReleases)},
		&cli.Command{Name: "verify", Usage: "prove a release: signature, listings and every byte", ArgsUsage: "PROJECT VERSION", Action: p.withSite(p.verifyRelease)},
	)
}

// sourceOf reads one [NAME[@VERSION]=]PATH.
func sourceOf(arg, version string) (transfer.PackageSource, error) {
	src := transfer.PackageSource{Source: arg, Version: version}
	before, after, ok := strings.Cut(arg, "=")
	if ok && before != "" && !strings.HasPrefix(arg, ".") && !filepath.IsAbs(arg) {
		src.Name, src.Source = before, after
		if at := strings.LastIndexByte(before, '@'); at > 0 {
			src.Name, src.Version = before[:at], before[at+1:]
		}
		if src.Source == "" {
			return src, usagef("%q names no path after the =", arg)
		}
	}
	abs, err := filepath.Abs(src.Source)
	if err != nil {
		return src, usage(err)
	}
	info, err := os.Stat(src.Source)
	if err != nil {
		return src, failf(exitUnreachable, "%s cannot be taken in: %v", src.Source, plain(err))
	}
	base := filepath.Base(abs)
	if src.Name == "" {
		src.Name = base
		if err := manifest.CheckPackage(src.Name); err != nil {
			return src, usagef("%s cannot be the name of a package (%v); give it one: NAME=%s", base, err, src.Source)
		}
	}
	// A file keeps its own name, which tells what it is; a folder takes the
	// package's.
	src.Path = src.Name
	if !info.IsDir() {
		src.Path = base
	}
	for _, err := range []error{manifest.CheckPackage(src.Name), manifest.CheckVersion(src.Version), manifest.CheckPath(src.Path)} {
		if err != nil {
			return src, usagef("package %q: %v", printable(arg), err)
		}
	}
	return src, nil
}

// releaseRequest reads the command line of release create.
func (p *program) releaseRequest(c *cli.Context, args []string) (transfer.ReleaseRequest, error) {
	req := transfer.ReleaseRequest{Project: args[0], Version: args[1], AllowCaseCollisions: c.Bool("allow-case-collisions")}
	for _, err := range []error{manifest.CheckProject(req.Project), manifest.CheckVersion(req.Version)} {
		if err != nil {
			return req, usage(err)
		}
	}
	at := map[string]int{}
	for _, arg := range args[2:] {
		src, err := sourceOf(arg, req.Version)
		if err != nil {
			return req, err
		}
		if _, twice := at[src.Name]; twice {
			return req, usagef("two packages are called %s; name them apart: NAME=PATH", src.Name)
		}
		at[src.Name] = len(req.Packages)
		req.Packages = append(req.Packages, src)
	}
	for _, arg := range c.StringSlice("media-type") {
		name, media, ok := strings.Cut(arg, "=")
		i, known := at[name]
		if !ok || media == "" || !known {
			return req, usagef("--media-type %q: want NAME=TYPE with the name of a package", printable(arg))
		}
		req.Packages[i].MediaType = media
	}
	for _, arg := range c.StringSlice("attach") {
		kind, path, ok := strings.Cut(arg, "=")
		if !ok || kind == "" || path == "" {
			return req, usagef("--attach %q: want TYPE=PATH, such as sbom=app.spdx.json", printable(arg))
		}
		if _, err := os.Stat(path); err != nil {
			return req, failf(exitUnreachable, "the attachment %s cannot be taken in: %v", path, plain(err))
		}
		req.Attachments = append(req.Attachments, transfer.AttachmentSource{Source: path, Name: filepath.Base(path), Type: kind})
	}
	var err error
	if req.Notes, err = p.notes(c); err != nil {
		return req, err
	}
	if path := c.String("process"); path != "" {
		req.Process, req.Parameters, err = readProcess(path)
	}
	return req, err
}

func (p *program) notes(c *cli.Context) (string, error) {
	path := c.String("notes-file")
	if path == "" {
		return c.String("notes"), nil
	}
	if c.IsSet("notes") {
		return "", usagef("--notes and --notes-file exclude each other")
	}
	var data []byte
	var err error
	if path == "-" {
		data, err = io.ReadAll(io.LimitReader(p.stdin, manifest.MaxNotes+1))
	} else {
		data, err = os.ReadFile(path)
	}
	if err != nil {
		return "", failf(exitUnreachable, "the notes %s cannot be read: %v", path, plain(err))
	}
	if len(data) > manifest.MaxNotes {
		return "", usagef("the notes are longer than %d bytes; attach them instead: --attach notes=%s", manifest.MaxNotes, path)
	}
	return strings.ReplaceAll(string(data), "\r\n", "\n"), nil
}

func (p *program) createRelease(ctx context.Context, c *cli.Context, s *transfer.Site, _ *home) error {
	args := c.Args().Slice()
	req, err := p.releaseRequest(c, args)
	if err != nil {
		return err
	}
	var done func()
	req.Progress, done = p.progress("Reading")
	r, err := s.CreateRelease(ctx, req)
	done()
	if err != nil {
		return err
	}
	return p.result(struct {
		Project  string `json:"project"`
		Version  string `json:"version"`
		Digest   string `json:"digest"`
		Existed  bool   `json:"existed"`
		Packages int    `json:"packages"`
		Files    int64  `json:"files"`
		Size     int64  `json:"size"`
		NewBytes int64  `json:"newBytes"` // plaintext of chunks that were not held before
		Stored   int64  `json:"stored"`   // bytes of the packs written
	}{req.Project, req.Version, r.Digest.String(), r.Existed, len(r.Release.Packages), r.Files, r.Size, r.NewBytes, r.Stored}, func() {
		if r.Existed {
			p.say("Release %s %s exists already and is the same; nothing was changed.", req.Project, req.Version)
			return
		}
		p.say("Release %s %s: %s, %s, %s. %s of it is new, stored in %s.", req.Project, req.Version,
			count(len(r.Release.Packages), "package", "packages"), count(r.Files, "file", "files"), size(r.Size), size(r.NewBytes), size(r.Stored))
		p.say("Next: davit promote %s %s --to PEER", req.Project, req.Version)
	})
}

// releaseView is a release of a list in JSON.
type releaseView struct {
	Project  string `json:"project"`
	Version  string `json:"version"`
	Digest   string `json:"digest"`
	Site     string `json:"site"`
	Peer     string `json:"peer,omitempty"`
	Created  string `json:"created"`
	Packages int    `json:"packages"`
	Size     int64  `json:"size"`
	State    string `json:"state"`
}

func viewRelease(r index.Release) releaseView {
	return releaseView{r.Project, r.Version, r.Digest.String(), r.Site, r.Peer, stamp(r.Created), r.Packages, r.Size, r.State}
}

func (p *program) listReleases(ctx context.Context, c *cli.Context, s *transfer.Site, _ *home) error {
	project := c.Args().First()
	all, err := s.Index.Releases(ctx, project)
	if err != nil {
		return err
	}
	views := []releaseView{}
	rows := [][]string{{"PROJECT", "VERSION", "PACKAGES", "SIZE", "CREATED", "FROM", "STATE"}}
	for _, r := range all {
		views = append(views, viewRelease(r))
		rows = append(rows, []string{r.Project, r.Version, fmt.Sprint(r.Packages), size(r.Size), when(r.Created), r.Site, r.State})
	}
	return p.result(struct {
		Releases []releaseView `json:"releases"`
	}{views}, func() {
		switch {
		case len(all) > 0:
			p.table(rows)
		case project != "":
			p.say("There is no release of %s here.", printable(project))
		default:
			p.say("There is no release here. Make one with: davit release create PROJECT VERSION PATH…")
		}
	})
}

func (p *program) showRelease(ctx context.Context, c *cli.Context, s *transfer.Site, _ *home) error {
	args := c.Args().Slice()
	r, digest, err := s.Release(ctx, args[0], args[1])
	if err != nil {
		return err
	}
	return p.printRelease(r, digest, nil)
}

// printRelease shows a release; more, if not nil, adds to its head.
func (p *program) printRelease(r *manifest.Release, digest manifest.Digest, more [][]string) error {
	return p.result(struct {
		Digest  string            `json:"digest"`
		Release *manifest.Release `json:"release"`
	}{digest.String(), r}, func() {
		head := [][]string{
			{"Release:", r.Project + " " + r.Version},
			{"Digest:", digest.String()},
			{"Made by:", r.Site + ", " + when(r.Created.Time)},
			{"Size:", exact(r.Size())},
		}
		p.table(append(head, more...))
		rows := [][]string{{"PACKAGE", "VERSION", "KIND", "FILES", "SIZE", "PATH", "SHA256"}}
		for _, v := range r.Packages {
			rows = append(rows, []string{v.Name, v.Version, v.Kind, fmt.Sprint(v.Files), size(v.Size), v.Path, v.SHA256.Short()})
		}
		p.put("")
		p.table(rows)
		p.printAttachments(r)
		p.printParameters(r)
		p.printSteps(r)
		if r.Notes != "" {
			p.put("\nNotes:\n%s", printableText(strings.TrimRight(r.Notes, "\n")))
		}
	})
}

func (p *program) printAttachments(r *manifest.Release) {
	if len(r.Attachments) == 0 {
		return
	}
	rows := [][]string{{"ATTACHMENT", "TYPE", "SIZE", "SHA256"}}
	for _, a := range r.Attachments {
		rows = append(rows, []string{a.Name, a.Type, size(a.Size), a.SHA256.Short()})
	}
	p.put("")
	p.table(rows)
}

func (p *program) printParameters(r *manifest.Release) {
	if len(r.Parameters) == 0 {
		return
	}
	rows := [][]string{{"PARAMETER", "TYPE", "REQUIRED", "DEFAULT", "DESCRIPTION"}}
	for _, q := range r.Parameters {
		required, def := "", "-"
		if q.Required {
			required = "required"
		}
		if q.Default != nil {
			def = *q.Default
			if def == "" {
				def = `""`
			}
		}
		if q.Sensitive {
			def = "(secret)"
		}
		rows = append(rows, []string{q.Name, q.Type, required, def, q.Description})
	}
	p.put("")
	p.table(rows)
}

// printSteps shows every command whole: who accepts a release trusts them.
func (p *program) printSteps(r *manifest.Release) {
	for i, v := range r.Process.Steps {
		if i == 0 {
			p.put("")
		}
		where := ""
		if v.Directory != "" {
			where = ", in " + v.Directory
		}
		p.put("STEP %d: %s (at most %s%s)", i+1, v.Name, duration(v.Timeout), where)
		run := strings.Join(v.Run, " ")
		if len(v.Run) == 3 && v.Run[0] == "/bin/sh" && v.Run[1] == "-c" {
			run = v.Run[2]
		}
		for line := range strings.Lines(strings.TrimSpace(run)) {
			p.put("    %s", printableText(strings.TrimRight(line, "\n")))
		}
	}
}

// duration writes seconds as people do: 90s, 15m, 1h30m.
func duration(seconds int64) string {
	if seconds < 120 || seconds%60 != 0 {
		return fmt.Sprintf("%ds", seconds)
	}
	if m := seconds / 60; m < 60 {
		return fmt.Sprintf("%dm", m)
	} else if m%60 == 0 {
		return fmt.Sprintf("%dh", m/60)
	} else {
		return fmt.Sprintf("%dh%dm", m/60, m%60)
	}
}

type packageDifferenceView struct {
	Name     string               `json:"name"`
	Change   string               `json:"change"`
	From     string               `json:"from,omitempty"`
	To       string               `json:"to,omitempty"`
	OldSize  int64                `json:"oldSize"`
	NewSize  int64                `json:"newSize"`
	NewBytes int64                `json:"newBytes"`
	Files    []fileDifferenceView `json:"files,omitempty"`
}

type fileDifferenceView struct {
	Path   string `json:"path"`
	Change string `json:"change"`
}

func (p *program) diffReleases(ctx context.Context, c *cli.Context, s *transfer.Site, _ *home) error {
	args := c.Args().Slice()
	d, err := s.Diff(ctx, args[0], args[1], args[2])
	if err != nil {
		return err
	}
	views := []packageDifferenceView{}
	for _, v := range d.Packages {
		view := packageDifferenceView{v.Name, v.Change, v.From, v.To, v.OldSize, v.NewSize, v.NewBytes, nil}
		if c.Bool("files") {
			for _, f := range v.Files {
				view.Files = append(view.Files, fileDifferenceView{f.Path, f.Change})
			}
		}
		views = append(views, view)
	}
	return p.result(struct {
		Project  string                  `json:"project"`
		From     string                  `json:"from"`
		To       string                  `json:"to"`
		Packages []packageDifferenceView `json:"packages"`
		Settings []string                `json:"settings"`
		NewBytes int64                   `json:"newBytes"`
	}{args[0], args[1], args[2], views, nonNil(d.Settings), d.NewBytes}, func() {
		if len(d.Packages)+len(d.Settings) == 0 {
			p.say("%s %s and %s are the same but for their version.", args[0], args[1], args[2])
			return
		}
		rows := [][]string{{"PACKAGE", "CHANGE", "VERSION", "SIZE", "FILES", "NEW BYTES"}}
		for _, v := range d.Packages {
			rows = append(rows, []string{v.Name, v.Change, arrow(v.From, v.To), arrow(sizeOrNone(v.OldSize), sizeOrNone(v.NewSize)),
				fileCounts(v.Files), size(v.NewBytes)})
		}
		if len(d.Packages) > 0 {
			p.table(rows)
		}
		for _, v := range d.Settings {
			p.put("Also different: %s", printable(v))
		}
		if c.Bool("files") {
			for _, v := range d.Packages {
				for _, f := range v.Files {
					p.put("%s  %s", map[string]string{"added": "+", "removed": "-", "changed": "~"}[f.Change], printable(v.Name+": "+f.Path))
				}
			}
		}
		p.say("A peer that holds %s needs %s of plain content for %s.", args[1], size(d.NewBytes), args[2])
	})
}

func sizeOrNone(n int64) string {
	if n == 0 {
		return ""
	}
	return size(n)
}

func arrow(from, to string) string {
	switch {
	case from == to:
		return to
	case from == "":
		return to
	case to == "":
		return from
	}
	return from + " → " + to
}

func fileCounts(files []transfer.FileDifference) string {
	if len(files) == 0 {
		return ""
	}
	n := map[string]int{}
	for _, f := range files {
		n[f.Change]++
	}
	return fmt.Sprintf("+%d ~%d -%d", n["added"], n["changed"], n["removed"])
}

func (p *program) verifyRelease(ctx context.Context, c *cli.Context, s *transfer.Site, _ *home) error {
	args := c.Args().Slice()
	v, err := s.VerifyRelease(ctx, args[0], args[1])
	if err != nil {
		return fmt.Errorf("release %s %s could not be proven: %w", args[0], args[1], err)
	}
	return p.result(struct {
		Project  string `json:"project"`
		Version  string `json:"version"`
		Digest   string `json:"digest"`
		Signer   string `json:"signer"`
		Verified bool   `json:"verified"`
	}{args[0], args[1], v.Digest.String(), v.Signer, true}, func() {
		p.say("Release %s %s is sound: signed by %s, and every byte of %s is what was signed.", args[0], args[1], v.Signer,
			count(len(v.Release.Packages), "package", "packages"))
	})
}
