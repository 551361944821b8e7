package main

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"filippo.io/age"
	"github.com/urfave/cli/v2"

	"davit/manifest"
	"davit/store"
	"davit/store/pack"
	"davit/transfer/bundle"
	"davit/transfer/content"
	"davit/transfer/delta"
)

func (p *program) inspectCommand() *cli.Command {
	return &cli.Command{Name: "inspect", Usage: "say what a file is, and show all that is in it", ArgsUsage: "FILE",
		Description: "Knows volumes and what they carry, deltas, signed documents and cards, packs, sealed documents, a store's config and the index, by their first\n" +
			"bytes. What is encrypted is opened with the keys of this site, if there is one, or with --identity.",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "identity", Usage: "age identity `FILE` to open it with"},
			&cli.BoolFlag{Name: "chunks", Usage: "also list every chunk of a pack"},
		},
		Action: p.inspect}
}

// maxInspect bounds what is read into memory of files other than volumes,
// packs and indexes.
const maxInspect = 64 << 20

func (p *program) inspect(c *cli.Context) error {
	args := c.Args().Slice()
	f, err := os.Open(args[0])
	if err != nil {
		return failf(exitUnreachable, "%s cannot be read: %v", args[0], plain(err))
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return fmt.Errorf("inspect: %w", err)
	}
	if !info.Mode().IsRegular() {
		return usagef("%s is no file; inspect takes one file of a store or a medium", args[0])
	}
	head := make([]byte, 4096)
	n, err := f.ReadAt(head, 0)
	if err != nil && err != io.EOF {
		return fmt.Errorf("read %s: %w", args[0], err)
	}
	head = head[:n]
	switch {
	case bundle.IsVolume(head):
		return p.inspectVolume(c, f, info.Size())
	case content.Sniff(head), delta.Sniff(head):
		return p.inspectDelta(f, info.Size(), args[0])
	case bytes.HasPrefix(head, []byte("SQLite format 3\x00")):
		return p.inspectIndex(head, info.Size())
	case pack.Sniff(head), bytes.HasPrefix(head, []byte("-----BEGIN AGE ENCRYPTED FILE-----")):
		return p.inspectSealed(c, f, info.Size(), args[0])
	}
	if info.Size() > maxInspect {
		return p.unknownFile(args[0])
	}
	data, err := io.ReadAll(io.NewSectionReader(f, 0, info.Size()))
	if err != nil {
		return fmt.Errorf("read %s: %w", args[0], err)
	}
	return p.inspectPlain(data, args[0])
}

func (p *program) unknownFile(name string) error {
	return failf(exitRefused, "%s is no file of davit: its first bytes are those of no format known here", name)
}

// indexApplication is the application id in the head of an index, see the
// FORMAT.md of manifest/index.
const indexApplication = 1684108905

func (p *program) inspectIndex(head []byte, size int64) error {
	if len(head) < 100 {
		return failf(exitDamage, "the file is a SQLite database that was cut off")
	}
	v := struct {
		Format      string `json:"format"`
		Davit       bool   `json:"davit"`
		Application uint32 `json:"application"`
		PageSize    int    `json:"pageSize"`
		Pages       uint32 `json:"pages"`
		Size        int64  `json:"size"`
	}{"sqlite", false, binary.BigEndian.Uint32(head[68:]), int(binary.BigEndian.Uint16(head[16:])), binary.BigEndian.Uint32(head[28:]), size}
	if v.PageSize == 1 {
		v.PageSize = 65536
	}
	if v.Davit = v.Application == indexApplication; v.Davit {
		v.Format = "index"
	}
	return p.result(v, func() {
		what := "a SQLite database of another program"
		if v.Davit {
			what = "the index of a davit site"
		}
		p.table([][]string{
			{"What:", what + ", SQLite 3"},
			{"Application:", fmt.Sprintf("0x%08x", v.Application)},
			{"Pages:", fmt.Sprintf("%d of %d bytes", v.Pages, v.PageSize)},
			{"File:", exact(v.Size)},
		})
		if v.Davit {
			p.say("Nothing in it is the only copy: davit repair index makes it anew. sqlite3 opens it; manifest/index/FORMAT.md has its tables.")
		}
	})
}

// identities are the keys to open a sealed file with, and where they come from.
func (p *program) identities(c *cli.Context) (pack.Keys, string, error) {
	if path := c.String("identity"); path != "" {
		f, err := os.Open(path)
		if err != nil {
			return pack.Keys{}, "", failf(exitUnreachable, "the identity %s cannot be read: %v", path, plain(err))
		}
		defer f.Close()
		ids, err := age.ParseIdentities(f)
		if err != nil {
			return pack.Keys{}, "", usagef("%s is no age identity file", path)
		}
		return pack.NewKeys(nil, ids), path, nil
	}
	h, err := loadHome(c)
	if err != nil {
		return pack.Keys{}, "", usagef("the file is encrypted and there is no site here to open it; give the key with --identity FILE")
	}
	keys, err := p.loadKeys(h.config.Keys)
	if err != nil {
		return pack.Keys{}, "", err
	}
	k, err := keys.PackKeys()
	return k, "the keys of this site", err
}

// inspectSealed opens an age file and finds out what is in it.
func (p *program) inspectSealed(c *cli.Context, f *os.File, size int64, name string) error {
	keys, by, err := p.identities(c)
	if err != nil {
		return err
	}
	r, err := pack.Open(f, size, keys)
	switch {
	case err == nil:
		return p.inspectPack(c, r, size, by)
	case errors.Is(err, pack.ErrWrongKey):
		return fmt.Errorf("%s is encrypted, and %s do not open it; give another with --identity FILE: %w", name, by, pack.ErrWrongKey)
	case errors.Is(err, pack.ErrVersion):
		return fmt.Errorf("%s: %w", name, err)
	}
	asPack := err
	if done, err := p.inspectSealedDelta(f, size, keys); done {
		return err
	}
	if size > maxInspect {
		return fmt.Errorf("%s: %w", name, asPack)
	}
	data, err := io.ReadAll(io.NewSectionReader(f, 0, size))
	if err != nil {
		return fmt.Errorf("read %s: %w", name, err)
	}
	if plainText, err := pack.Unseal(data, keys, store.MaxDocument); err == nil {
		p.say("Sealed document of %s, opened with %s. In it:", exact(size), by)
		return p.inspectPlain(plainText, name)
	}
	if plainText, err := pack.Decrypt(data, keys); err == nil && bytes.HasPrefix(plainText, []byte("{")) {
		p.say("Encrypted text of %s, opened with %s. In it:", exact(size), by)
		return p.inspectPlain(plainText, name)
	}
	return fmt.Errorf("%s is encrypted and neither a sound pack nor a sound document: %w", name, asPack)
}

func (p *program) inspectPack(c *cli.Context, r *pack.Reader, size int64, by string) error {
	d := r.Table().Describe()
	var damage *pack.DamagedError
	err := r.Verify(c.Context, nil)
	if err != nil && !errors.As(err, &damage) {
		return fmt.Errorf("read pack: %w", err)
	}
	v := struct {
		pack.Description
		Size    int64 `json:"size"`
		Whole   bool  `json:"whole"`
		Damaged int   `json:"damagedChunks"`
	}{d, size, damage == nil, 0}
	if damage != nil {
		v.Damaged = len(damage.Chunks)
	}
	perr := p.result(v, func() {
		state := "whole: every chunk matches its name"
		if damage != nil {
			state = fmt.Sprintf("DAMAGED: %s lost", count(v.Damaged, "chunk is", "chunks are"))
		}
		p.table([][]string{
			{"What:", fmt.Sprintf("pack, version %d, opened with %s", d.Version, by)},
			{"File:", exact(size)},
			{"Chunks:", fmt.Sprintf("%d in %s", d.Chunks, count(len(d.Frames), "frame", "frames"))},
			{"Content:", fmt.Sprintf("%s, compressed to %s", exact(d.Plain), exact(d.Compressed))},
			{"State:", state},
		})
		if c.Bool("chunks") {
			if err := r.Table().Dump(p.stdout); err != nil {
				p.warn("list chunks: %v", err)
			}
		} else {
			p.say("--chunks lists them. By hand: age -d -i KEY FILE | zstd -d")
		}
	})
	if perr == nil && damage != nil {
		return p.reported(failf(exitDamage, "damage"))
	}
	return perr
}

// inspectPlain shows a file that is text.
func (p *program) inspectPlain(data []byte, name string) error {
	text := bytes.TrimSpace(data)
	switch {
	case bytes.HasPrefix(text, []byte(`{"payloadType"`)), bytes.HasPrefix(text, []byte("{")) && bytes.Contains(text, []byte(`"payloadType"`)):
		return p.inspectEnvelopes(data, name)
	case bytes.HasPrefix(text, []byte("{")):
		var cfg store.Config
		if err := json.Unmarshal(text, &cfg); err == nil && cfg.Davit == "davit-store" {
			return p.inspectConfig(cfg)
		}
	case bytes.Contains(text, []byte("AGE-SECRET-KEY-")):
		return failf(exitRefused, "%s holds a secret key and is not shown. Nobody but this site may have it", name)
	}
	return p.unknownFile(name)
}

// inspectEnvelopes shows one envelope, or several lines of them as in the
// documents of a bundle.
func (p *program) inspectEnvelopes(data []byte, name string) error {
	var views []manifest.View
	for line := range bytes.Lines(data) {
		if len(bytes.TrimSpace(line)) == 0 {
			continue
		}
		e, err := manifest.ParseEnvelope(line)
		if err != nil {
			return fmt.Errorf("%s looks like a signed document and is none: %w", name, err)
		}
		views = append(views, manifest.Inspect(e))
	}
	var out any = views
	if len(views) == 1 {
		out = views[0]
	}
	return p.result(out, func() {
		for _, v := range views {
			p.showEnvelope(v)
		}
	})
}

func (p *program) showEnvelope(v manifest.View) {
	what := v.Kind
	if what == "" {
		what = "document of another program"
	}
	rows := [][]string{
		{"What:", "signed document: " + what},
		{"Payload type:", v.PayloadType},
		{"Digest:", v.Digest.String()},
		{"Size:", exact(int64(v.Size))},
	}
	for _, s := range v.Signatures {
		rows = append(rows, []string{"Signature:", fmt.Sprintf("%d bytes by key %s", s.Bytes, s.KeyID)})
	}
	switch {
	case v.Words != "":
		rows = append(rows, []string{"Fingerprint:", v.Words})
		if v.Verified {
			rows = append(rows, []string{"State:", "signed by the keys in it; whose they are, only the words tell"})
		}
	case v.Problem == "":
		rows = append(rows, []string{"State:", "readable; the signatures were not checked here"})
	}
	if v.Problem != "" {
		rows = append(rows, []string{"Problem:", v.Problem})
	}
	p.table(rows)
	if v.Document != nil {
		var text strings.Builder
		e := json.NewEncoder(&text)
		e.SetEscapeHTML(false)
		e.SetIndent("", "  ")
		if err := e.Encode(v.Document); err != nil {
			p.warn("show document: %v", err)
			return
		}
		p.put("\n%s", strings.TrimRight(printableText(text.String()), "\n"))
	}
}

func (p *program) inspectConfig(cfg store.Config) error {
	return p.result(struct {
		Format string `json:"format"`
		store.Config
	}{"store", cfg}, func() {
		p.table([][]string{
			{"What:", fmt.Sprintf("config of a davit store, version %d", cfg.Version)},
			{"Store:", cfg.ID},
			{"Cutter:", cfg.Cutter},
			{"Chunks:", fmt.Sprintf("%s to %s, normally %s", size(int64(cfg.Chunk.Min)), size(int64(cfg.Chunk.Max)), size(int64(cfg.Chunk.Normal)))},
		})
	})
}
