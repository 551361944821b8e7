package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/urfave/cli/v2"

	"davit/store/pack"
	"davit/transfer"
	"davit/transfer/bundle"
	"davit/transfer/content"
	"davit/transfer/delta"
	"davit/transfer/delta/deflate"
)

func (p *program) inspectVolume(c *cli.Context, f *os.File, size int64) error {
	v, err := bundle.Inspect(c.Context, f, size)
	if err != nil {
		return fmt.Errorf("%s: %w", f.Name(), err)
	}
	letter, note, lerr := p.letterOf(c, f, v)
	if lerr != nil {
		return lerr
	}
	view := struct {
		*bundle.Inspection
		Letter *letterView `json:"carries,omitempty"`
		Note   string      `json:"note"` // what was not verified, or why it cannot be told what it carries
	}{v, letter, note}
	err = p.result(view, func() {
		h := v.Header
		rows := [][]string{
			{"What:", fmt.Sprintf("volume %d of %d of a bundle (%s)", h.Volume, h.Volumes, v.Format)},
			{"From, to:", h.From + " → " + h.To},
			{"Serial:", fmt.Sprint(h.Serial)},
			{"Kind:", h.Kind},
			{"Bundle:", h.Bundle.String()},
			{"Made:", when(h.Created.Time)},
			{"Written as:", v.Name},
			{"Payload:", payloadHere(h)},
			{"Documents:", fmt.Sprintf("%d bytes at the end of the payload; %s of them here", h.Documents, v.Holds)},
			{"File:", fmt.Sprintf("%s, %s", exact(v.Size), count(v.Blocks, "block", "blocks"))},
		}
		if v.Whole {
			rows = append(rows, []string{"State:", "whole: every byte matches its sum"})
		} else {
			rows = append(rows, []string{"State:", "DAMAGED: " + v.Damage})
		}
		p.table(rows)
		for _, b := range v.Damaged {
			p.put("Damaged block: %d to %d, from byte %d of the file", b.First, b.First+b.Count-1, bundle.HeaderSize+b.First*bundle.BlockSize)
		}
		if letter != nil {
			p.showLetter(letter)
		}
		p.say("%s", note)
	})
	if err == nil && !v.Whole {
		return p.reported(failf(exitDamage, "damage"))
	}
	return err
}

// payloadHere says which part of the payload a volume holds.
func payloadHere(h bundle.Header) string {
	if g := h.Geometry; g != (bundle.Geometry{}) {
		return fmt.Sprintf("%s in shards of %d bytes; of each %d, %d are parity", exact(h.Payload), g.Shard, g.Data+g.Parity, g.Parity)
	}
	return fmt.Sprintf("%s, of which bytes %d to %d are here", exact(h.Payload), h.Offset, h.Offset+h.Length)
}

// letterView is what a bundle says it carries, in JSON.
type letterView struct {
	Releases  []string    `json:"releases"`
	Documents int         `json:"documents"` // of all kinds
	Base      []namedView `json:"base"`
	Packs     int         `json:"packs"`
	PackBytes int64       `json:"packBytes"`
	Deltas    []deltaView `json:"deltas"`
	Saved     int64       `json:"saved"` // bytes that deltas save, as the sender has it
}

// letterOf opens the documents of a bundle, if that can be done here, and says
// how, or why not.
func (p *program) letterOf(c *cli.Context, f *os.File, v *bundle.Inspection) (*letterView, string, error) {
	const trust = "Nothing of it was verified; davit import says whether to trust it."
	if v.Holds != "all" {
		return nil, "What it carries and who signed it stands in another volume, encrypted; davit import says whether to trust it.", nil
	}
	l, err := p.openLetter(c, f, v)
	if err != nil && c.String("identity") != "" {
		return nil, "", err // asked for by name
	}
	if err != nil {
		return nil, fmt.Sprintf("What it carries and who signed it stands inside the encryption, which cannot be opened here (%v); davit import says whether to trust it.", err), nil
	}
	view := &letterView{Releases: []string{}, Documents: len(l.Bundle.Documents), Base: viewBases(l.Bundle.Base),
		Packs: len(l.Bundle.Packs), Deltas: []deltaView{}, Saved: l.Bundle.Saved()}
	for _, r := range l.Releases {
		view.Releases = append(view.Releases, r.Project+" "+r.Version)
	}
	for _, k := range l.Bundle.Packs {
		view.PackBytes += k.Size
	}
	for _, d := range l.Deltas() {
		view.Deltas = append(view.Deltas, deltaView(d))
	}
	return view, trust, nil
}

func (p *program) openLetter(c *cli.Context, f *os.File, v *bundle.Inspection) (*transfer.Letter, error) {
	sealed, err := bundle.Documents(f, v.Header)
	if err != nil {
		return nil, err
	}
	keys, _, err := p.identities(c)
	if err != nil {
		return nil, err
	}
	l, err := transfer.OpenLetter(sealed, keys)
	if !errors.Is(err, pack.ErrWrongKey) || c.String("identity") != "" {
		return l, err
	}
	// Who made it cannot decrypt it, and remembers.
	s, _, done, serr := p.open(c)
	if serr != nil {
		return nil, err
	}
	defer done()
	sent, serr := s.SentLetter(c.Context, v.Header.Bundle)
	if errors.Is(serr, transfer.ErrNotFound) {
		return nil, errors.New("it is for other keys, and was not made here")
	}
	return sent, serr
}

func (p *program) showLetter(v *letterView) {
	rows := [][]string{{"Carries:", count(v.Documents, "document", "documents")}}
	if len(v.Releases) > 0 {
		rows[0][1] = list(v.Releases)
	}
	if len(v.Base) > 0 {
		rows = append(rows, []string{"Builds on:", named(v.Base)})
	}
	rows = append(rows, []string{"Packs:", fmt.Sprintf("%d, %s", v.Packs, size(v.PackBytes))})
	if len(v.Deltas) > 0 {
		rows = append(rows, []string{"Deltas:", fmt.Sprintf("%d, which save about %s", len(v.Deltas), size(v.Saved))})
	}
	p.put("")
	p.table(rows)
	for _, d := range v.Deltas {
		p.put("  %s", d)
	}
}

// inspectSealedDelta shows a delta that is encrypted, as it lies in quarantine.
// done is false when it is none.
func (p *program) inspectSealedDelta(f *os.File, sealed int64, keys pack.Keys) (done bool, err error) {
	r, err := pack.NewDecryptor(bufio.NewReaderSize(io.NewSectionReader(f, 0, sealed), 256<<10), keys)
	if err != nil {
		return false, err
	}
	plain := bufio.NewReaderSize(r, 64<<10)
	if head, _ := plain.Peek(8); !content.Sniff(head) && !delta.Sniff(head) {
		return false, nil
	}
	// Only the beginning is looked at, and nothing of it is put on disk.
	head, err := io.ReadAll(io.LimitReader(plain, maxInspect))
	if err == nil {
		var more int64
		if more, err = io.Copy(io.Discard, plain); err == nil {
			return true, p.inspectDelta(bytes.NewReader(head), int64(len(head))+more, f.Name())
		}
	}
	return true, fmt.Errorf("decrypt %s: %w", f.Name(), err)
}

// inspectDelta shows a delta, of files or of folders.
func (p *program) inspectDelta(f io.ReaderAt, n int64, name string) error {
	head := make([]byte, 8)
	if _, err := f.ReadAt(head, 0); err != nil {
		return fmt.Errorf("read %s: %w", name, err)
	}
	view := struct {
		Format string        `json:"format"`
		Size   int64         `json:"size"`
		Tree   *content.View `json:"tree,omitempty"`
		Delta  *delta.View   `json:"delta,omitempty"`
	}{"delta", n, nil, nil}
	var err error
	d := &delta.View{}
	if content.Sniff(head) {
		if view.Tree, err = content.Inspect(f, n); err == nil {
			d = view.Tree.Delta
		}
	} else {
		view.Delta, err = delta.Inspect(f, n)
		d = view.Delta
	}
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return p.result(view, func() {
		what := "delta of a file"
		if view.Tree != nil {
			what = "delta of a folder"
		}
		rows := [][]string{{"What:", what + ", " + d.Form}, {"File:", exact(n)}}
		if t := view.Tree; t != nil {
			rows = append(rows, []string{"Builds on:", fmt.Sprintf("%s of the base and its listing", count(t.Partners, "file", "files"))},
				[]string{"Listing:", exact(t.Listing)}, []string{"Chunks from elsewhere:", fmt.Sprint(t.Loose)})
		}
		base, target := "Base:", "Target:"
		if view.Tree != nil { // archives that are made for the delta alone
			base, target = "Base, as archive:", "Target, as archive:"
		}
		rows = append(rows, []string{base, exact(d.Base.Size) + ", sha256 " + d.Base.SHA256},
			[]string{target, exact(d.Target.Size) + ", sha256 " + d.Target.SHA256})
		if d.Form == delta.Opened {
			rows = append(rows, []string{"Opened:", fmt.Sprintf("base %s, target %s", exact(d.Source), exact(d.Opened))})
		}
		var names []string
		for _, e := range d.Encoders {
			names = append(names, deflate.Encoder(e).String())
		}
		if len(names) > 0 {
			rows = append(rows, []string{"Encoders:", strings.Join(names, ", ")})
		}
		for _, s := range []struct {
			what string
			delta.Length
		}{{"Gaps:", d.Gaps}, {"Copies:", d.Copies}, {"Addresses:", d.Addresses}, {"Literals:", d.Literals}, {"Differences:", d.Differs}, {"Closings:", d.Closings}} {
			rows = append(rows, []string{s.what, fmt.Sprintf("%s, as %s", exact(s.Plain), exact(s.Packed))})
		}
		if len(d.Lacking) > 0 {
			rows = append(rows, []string{"State:", "needs encoders that this davit has not"})
		}
		p.table(rows)
	})
}
