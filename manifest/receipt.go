package manifest

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
