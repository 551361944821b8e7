package manifest

// Fact is one thing that happened. Exactly one field is set.
type Fact struct {
	SiteCreated      *SiteCreated      `json:"siteCreated,omitempty"`
	PeerAdded        *PeerAdded        `json:"peerAdded,omitempty"`
	PeerRemoved      *PeerRemoved      `json:"peerRemoved,omitempty"`
	ReleaseCreated   *ReleaseCreated   `json:"releaseCreated,omitempty"`
	ShipmentSealed   *ShipmentSealed   `json:"shipmentSealed,omitempty"`
	ShipmentExported *ShipmentExported `json:"shipmentExported,omitempty"`
	ShipmentLost     *ShipmentLost     `json:"shipmentLost,omitempty"`
	BundleReceived   *BundleReceived   `json:"bundleReceived,omitempty"`
	BundleRefused    *BundleRefused    `json:"bundleRefused,omitempty"`
	ReleaseAccepted  *ReleaseAccepted  `json:"releaseAccepted,omitempty"`
	ReleaseRejected  *ReleaseRejected  `json:"releaseRejected,omitempty"`
	ReceiptIssued    *ReceiptIssued    `json:"receiptIssued,omitempty"`
	ReceiptSettled   *ReceiptSettled   `json:"receiptSettled,omitempty"`
	ResultSettled    *ResultSettled    `json:"resultSettled,omitempty"`
	ValueSet         *ValueSet         `json:"valueSet,omitempty"`
	ValueUnset       *ValueUnset       `json:"valueUnset,omitempty"`
	DeployStarted    *DeployStarted    `json:"deployStarted,omitempty"`
	DeployEnded      *DeployEnded      `json:"deployEnded,omitempty"`
	StoreChanged     *StoreChanged     `json:"storeChanged,omitempty"`
}

// Grants a peer can have.
const (
	GrantReleases = "releases"
	GrantResults  = "results"
)

// States of a received bundle.
const (
	ReceivedQuarantined = "quarantined" // taken in, not yet all decided
	ReceivedDone        = "done"
)

// Causes for refusing a bundle.
const (
	CauseFork      = "fork" // two bundles with one serial
	CauseGrant     = "grant"
	CauseSignature = "signature"
	CauseDamage    = "damage"
	CauseRecipient = "recipient" // it is for another site
	CauseBase      = "base"      // it builds on a release that is not held
	CauseVersion   = "version"   // a format this program does not know
	CauseContent   = "content"   // its parts contradict each other
)

// Verbs of StoreChanged.
const (
	StoreGC     = "gc"
	StoreRepair = "repair"
)

// SiteCreated is the first fact of every log.
type SiteCreated struct {
	Name        string      `json:"name"`
	Fingerprint Fingerprint `json:"fingerprint"`
}

// PeerAdded pins a peer's card and its grants. Adding it again with the same
// card changes the grants.
type PeerAdded struct {
	Name   string   `json:"name"`
	Card   []byte   `json:"card"` // the card's envelope
	Accept []string `json:"accept,omitempty"`
	Send   []string `json:"send,omitempty"`
}

// PeerRemoved withdraws everything granted to a peer.
type PeerRemoved struct {
	Name string `json:"name"`
}

// ReleaseCreated records a release made at this site.
type ReleaseCreated struct {
	Release  Digest `json:"release"`
	Project  string `json:"project"`
	Version  string `json:"version"`
	Created  Time   `json:"created"`
	Site     string `json:"site"`
	Packages int    `json:"packages"`
	Size     int64  `json:"size"`
}

// ReleaseRef names a release for people and for machines.
type ReleaseRef struct {
	Release Digest `json:"release"`
	Project string `json:"project"`
	Version string `json:"version"`
}

// ShipmentSealed records that a bundle took its serial. Whatever becomes of
// the medium, the serial is used up.
type ShipmentSealed struct {
	Peer         string           `json:"peer"`
	Bundle       BundleID         `json:"bundle"`
	Serial       int64            `json:"serial"`
	Digest       Digest           `json:"digest"`
	Previous     Digest           `json:"previous"`
	Kind         string           `json:"kind"`
	Documents    []BundleDocument `json:"documents,omitempty"`
	Base         []BundleBase     `json:"base,omitempty"`
	Releases     []ReleaseRef     `json:"releases,omitempty"`
	Bytes        int64            `json:"bytes"` // on the medium
	Volumes      int              `json:"volumes"`
	ContentBytes int64            `json:"contentBytes"`    // plaintext bytes of the releases
	Saved        int64            `json:"saved,omitempty"` // bytes that deltas saved, about
	Medium       string           `json:"medium,omitempty"`
}

// ShipmentExported records that every volume is durable on the medium.
type ShipmentExported struct {
	Bundle BundleID `json:"bundle"`
}

// ShipmentLost records that a bundle is presumed lost.
type ShipmentLost struct {
	Bundle BundleID `json:"bundle"`
	Reason string   `json:"reason,omitempty"`
}

// BundleReceived records that a bundle was verified and taken in. The same
// bundle appears again when its state changes.
type BundleReceived struct {
	Peer     string            `json:"peer"`
	Bundle   BundleID          `json:"bundle"`
	Serial   int64             `json:"serial"`
	Digest   Digest            `json:"digest"`
	Previous Digest            `json:"previous"`
	Kind     string            `json:"kind"`
	Bytes    int64             `json:"bytes"`
	Saved    int64             `json:"saved,omitempty"` // bytes that deltas saved, as the sender has it
	State    string            `json:"state"`
	Releases []ReceivedRelease `json:"releases,omitempty"`
	Base     []BundleBase      `json:"base,omitempty"`
}

// ReceivedRelease is one release in a received bundle.
type ReceivedRelease struct {
	Release  Digest `json:"release"`
	Project  string `json:"project"`
	Version  string `json:"version"`
	Site     string `json:"site"`
	Created  Time   `json:"created"`
	Packages int    `json:"packages"`
	Size     int64  `json:"size"`
	State    string `json:"state"`
	Reason   string `json:"reason,omitempty"`
}

// BundleRefused records a bundle that was turned away, and why.
type BundleRefused struct {
	Peer   string   `json:"peer"`
	Bundle BundleID `json:"bundle"`
	Serial int64    `json:"serial"`
	Digest Digest   `json:"digest"`
	Cause  string   `json:"cause"`
	Reason string   `json:"reason,omitempty"`
}

// ReleaseAccepted records that a received release became visible here.
type ReleaseAccepted struct {
	Release  Digest   `json:"release"`
	Project  string   `json:"project"`
	Version  string   `json:"version"`
	Peer     string   `json:"peer"`
	Bundle   BundleID `json:"bundle"`
	Rollback bool     `json:"rollback,omitempty"` // it is older than one held, and was allowed
}

// ReleaseRejected records that a received release was turned down.
type ReleaseRejected struct {
	Release Digest   `json:"release"`
	Project string   `json:"project"`
	Version string   `json:"version"`
	Peer    string   `json:"peer"`
	Bundle  BundleID `json:"bundle"`
	Reason  string   `json:"reason,omitempty"`
}

// ReceiptIssued records a receipt signed here.
type ReceiptIssued struct {
	Peer     string   `json:"peer"`
	Bundle   BundleID `json:"bundle"`
	Revision int64    `json:"revision"`
	Receipt  Digest   `json:"receipt"`
}

// ReceiptSettled records a peer's receipt for a bundle of ours.
type ReceiptSettled struct {
	Peer     string           `json:"peer"`
	Bundle   BundleID         `json:"bundle"`
	Revision int64            `json:"revision"`
	Receipt  Digest           `json:"receipt"`        // zero when it was a code
	Code     string           `json:"code,omitempty"` // that was typed in
	State    string           `json:"state"`
	Reason   string           `json:"reason,omitempty"`
	Releases []ReceiptRelease `json:"releases,omitempty"`
}

// ResultSettled records a peer's result.
type ResultSettled struct {
	Peer        string `json:"peer"`
	Result      Digest `json:"result"`
	ID          string `json:"id"`
	Project     string `json:"project"`
	Version     string `json:"version"`
	Release     Digest `json:"release"`
	Environment string `json:"environment"`
	Status      string `json:"status"`
	Actor       string `json:"actor"`
	Started     Time   `json:"started"`
	Ended       Time   `json:"ended"`
	Message     string `json:"message,omitempty"`
}

// ValueSet records a value in the site's overlay. A sensitive one stands in
// Sealed, any other in Value.
type ValueSet struct {
	Project     string `json:"project"`
	Environment string `json:"environment,omitempty"` // empty: every environment
	Name        string `json:"name"`
	Value       string `json:"value,omitempty"`
	Sealed      string `json:"sealed,omitempty"`
	Sensitive   bool   `json:"sensitive,omitempty"`
}

// ValueUnset takes a value out of the overlay.
type ValueUnset struct {
	Project     string `json:"project"`
	Environment string `json:"environment,omitempty"`
	Name        string `json:"name"`
}

// DeployStarted records that a deployment began.
type DeployStarted struct {
	ID          string `json:"id"`
	Project     string `json:"project"`
	Version     string `json:"version"`
	Release     Digest `json:"release"`
	Environment string `json:"environment"`
	Actor       string `json:"actor"`
	Started     Time   `json:"started"`
}

// DeployEnded records how a deployment ended.
type DeployEnded struct {
	ID      string `json:"id"`
	Result  Digest `json:"result"`
	Status  string `json:"status"`
	Ended   Time   `json:"ended"`
	Message string `json:"message,omitempty"`
}

// StoreChanged records that packs were removed or the index was rebuilt.
type StoreChanged struct {
	Verb   string `json:"verb"`
	Packs  int    `json:"packs"`
	Bytes  int64  `json:"bytes"`
	Detail string `json:"detail,omitempty"`
}
