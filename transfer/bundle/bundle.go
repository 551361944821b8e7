// Package bundle lays a payload over volumes on a medium and finds it again.
//
// A payload is a run of bytes of known length whose last part holds the
// documents; this package knows nothing else of it. A volume is one file of
// it, never larger than the medium allows. Each carries a header in plain
// text, so that the person with the stick can read what it belongs to, and a
// sum for every 64 KiB, so that damage is located without any key. With parity
// (Options.Parity) volumes that got lost and places that went bad are repaired.
// FORMAT.md beside this file has both formats: 1 without parity, 2 with it.
//
// # Writing
//
//	NewWriter ▸ Write … Write ▸ Seal ▸ Publish
//	    │         │               │       └ names appear, the last volume first
//	    │         │               └ every byte durable, under hidden names
//	    │         └ header, data, sums; one volume open at a time, or with parity all
//	    └ names free? room enough? nothing is written otherwise
//
// The caller records the shipment between Seal and Publish: what is visible on
// a medium is then always known to the sender. Until Publish has returned nil,
// Abort takes everything back.
//
// Volumes appear from the last to the first. The documents stand at the end of
// the payload, so a reader that comes too early, or after the sender broke
// off, can already say what is on its way; and volume 1 is there only when all
// the others are, so one look answers whether a bundle was published whole.
//
// # Parity
//
// Without parity a payload is cut up, and volumes are written one after another.
// With it the payload is cut into stripes of data and parity shards, which are
// dealt to all volumes in turn (geometry.go), and all volumes are written side
// by side (parity.go): memory for two windows of at most 32 MiB, coded and
// written while the caller fills the next. The caller may have a statement put
// into every volume at Seal: a signature over the payload's SHA-256, say, that
// any volume then carries.
//
// PlanWith chooses the geometry, exact to the byte before anything is written.
// Layout.Spare says how many volumes may be lost.
//
// # Reading
//
//	Scan ▸ Set ▸ Verify ▸ Open ▸ Payload (io.ReaderAt)
//	         ├ Complete, Enough, Missing: what is there
//	         ├ Examine ▸ Report: what is damaged, and whether it can be repaired
//	         └ Repair: lost and damaged volumes anew, on another medium
//
// A Payload of a set with parity checks every shard it reads and repairs while
// it reads, if it must: a window at a time, so one pass over the payload is one
// pass over the volumes (mend.go). With everything whole, no parity is read.
//
// Scan takes a bucket.Reader: nothing here can write to the medium of an
// import. Files may be renamed, moved into folders, there twice, or lie among
// other bundles and foreign files; the header decides, not the name.
//
// # Trust
//
// The headers and sums are not signed. They find accidents. The caller must
// compare a Label with the signed bundle document in the payload before it
// acts on it.
package bundle

import (
	"errors"
	"fmt"
	"strings"

	"davit/manifest"
)

// Label is what stands on every volume of a bundle for people to read.
type Label struct {
	Bundle  manifest.BundleID `json:"bundle"`
	From    string            `json:"from"`
	To      string            `json:"to"`
	Serial  int64             `json:"serial"`
	Kind    string            `json:"kind"`
	Created manifest.Time     `json:"created"`
}

// Validate reports what is wrong with the label.
func (l Label) Validate() error {
	if l.Bundle == (manifest.BundleID{}) {
		return errors.New("check label: the bundle id is zero")
	}
	if err := manifest.CheckSite(l.From); err != nil {
		return fmt.Errorf("check sender on label: %w", err)
	}
	if err := manifest.CheckSite(l.To); err != nil {
		return fmt.Errorf("check recipient on label: %w", err)
	}
	if l.Serial < 1 || l.Serial > maxExact {
		return fmt.Errorf("check label: serial %d is not between 1 and %d", l.Serial, int64(maxExact))
	}
	if !validKind(l.Kind) {
		return fmt.Errorf("check label: kind %.40q is not a word of lower-case letters", l.Kind)
	}
	if err := l.Created.Validate(); err != nil {
		return fmt.Errorf("check time on label: %w", err)
	}
	return nil
}

// String names the bundle in messages.
func (l Label) String() string {
	return fmt.Sprintf("bundle %s (%s to %s, serial %d, %s)", l.Bundle, l.From, l.To, l.Serial, l.Kind)
}

// Name is the file name of one volume. It is for people: readers go by the
// header.
func (l Label) Name(volume, volumes int) string {
	width := max(2, len(fmt.Sprint(volumes)))
	return fmt.Sprintf("davit-%s-to-%s-%06d.v%0*dof%0*d", l.From, l.To, l.Serial, width, volume, width, volumes)
}

// validKind holds for any word that may become a kind, so that a davit can
// name a kind of a later version instead of calling its volumes damaged.
func validKind(s string) bool {
	if len(s) < 1 || len(s) > 32 || s[0] == '-' {
		return false
	}
	return strings.Trim(s, "abcdefghijklmnopqrstuvwxyz-") == ""
}

// looksLikeVolume reports whether a name ends in .v<digits>of<digits>.
// Upper case is taken too: some file systems shout.
func looksLikeVolume(name string) bool {
	name = strings.ToLower(name)
	dot := strings.LastIndexByte(name, '.')
	if dot < 0 {
		return false
	}
	volume, volumes, ok := strings.Cut(name[dot+1:], "of")
	if !ok || !strings.HasPrefix(volume, "v") {
		return false
	}
	return digits(volume[1:]) && digits(volumes)
}

func digits(s string) bool {
	return s != "" && len(s) <= 10 && strings.Trim(s, "0123456789") == ""
}
