package manifest

import "errors"

// States of a receipt.
const (
	ReceiptWhole      = "whole"      // everything arrived and was verified
	ReceiptIncomplete = "incomplete" // Missing says what is wanted
	ReceiptRefused    = "refused"    // Reason says why
)

// States of a release at the site that received it. A receipt says waiting,
// accepted, rejected or conflict; a received bundle says waiting, held, conflict
// or older.
const (
	StateWaiting  = "waiting" // in the inbox, nobody has decided
	StateAccepted = "accepted"
	StateRejected = "rejected"
	StateHeld     = "held"     // the same release is here already
	StateConflict = "conflict" // another release of that project and version is here
	StateOlder    = "older"    // a higher version is here
)

// Receipt answers a bundle. A later receipt for the same bundle has a higher
// revision and replaces the earlier one.
type Receipt struct {
	Version  int              `json:"version"`
	Site     string           `json:"site"` // who answers
	Peer     string           `json:"peer"` // who sent the bundle
	Bundle   BundleID         `json:"bundle"`
	Serial   int64            `json:"serial"`
	Digest   Digest           `json:"digest"` // of the bundle document
	Revision int64            `json:"revision"`
	Created  Time             `json:"created"`
	State    string           `json:"state"`
	Reason   string           `json:"reason,omitempty"`
	Missing  []string         `json:"missing,omitempty"`
	Releases []ReceiptRelease `json:"releases,omitempty"`
}

// ReceiptRelease says what became of one release of the bundle.
type ReceiptRelease struct {
	Release Digest `json:"release"`
	Project string `json:"project"`
	Version string `json:"version"`
	State   string `json:"state"`
	Reason  string `json:"reason,omitempty"`
}

// Bounds of a receipt.
const (
	MaxReceiptReleases = 10_000
	MaxMissing         = 10_000
	maxReason          = 4 << 10
)

// PayloadType implements Document.
func (r *Receipt) PayloadType() string { return PayloadReceipt }

// Validate implements Document.
func (r *Receipt) Validate() error {
	if err := at("receipt",
		between(int64(r.Version), 1, 1),
		at("site", CheckSite(r.Site)),
		at("peer", CheckSite(r.Peer)),
		at("peer", absent("the site itself", r.Site == r.Peer)),
		at("bundle", present(r.Bundle)),
		at("serial", between(r.Serial, 1, MaxSize)),
		at("digest", present(r.Digest)),
		at("revision", between(r.Revision, 1, MaxSize)),
		at("created", r.Created.Validate()),
		at("state", oneOf(r.State, ReceiptWhole, ReceiptIncomplete, ReceiptRefused)),
		at("reason", checkText(r.Reason, maxReason)),
		list("missing parts", len(r.Missing), 0, MaxMissing),
		checkReceiptReleases(r.Releases),
	); err != nil {
		return err
	}
	for i, m := range r.Missing {
		if err := item("receipt: missing part", i, "", checkLine(m, 1, 256)); err != nil {
			return err
		}
	}
	switch {
	case r.State == ReceiptWhole && len(r.Missing) > 0:
		return errors.New("receipt: whole, and yet parts are missing")
	case r.State == ReceiptRefused && r.Reason == "":
		return errors.New("receipt: refused without a reason")
	}
	return nil
}

func checkReceiptReleases(releases []ReceiptRelease) error {
	if err := list("releases", len(releases), 0, MaxReceiptReleases); err != nil {
		return err
	}
	once := seen[Digest]{}
	for i, r := range releases {
		if err := item("release", i, r.Project,
			checkRef(r.Release, r.Project, r.Version),
			once.add(r.Release),
			at("state", oneOf(r.State, StateWaiting, StateAccepted, StateRejected, StateConflict)),
			at("reason", checkText(r.Reason, maxReason)),
		); err != nil {
			return err
		}
	}
	return nil
}

// checkRef checks what names a release.
func checkRef(release Digest, project, version string) error {
	return first(at("release", present(release)), CheckProject(project), CheckVersion(version))
}
