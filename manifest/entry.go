package manifest

import "errors"

// Entry is one link of the audit log. Everything that changes a site's state
// is an entry, signed by the site and naming the entry before it; the index is
// a projection of the entries and the packs, and can be rebuilt from them.
type Entry struct {
	Version  int    `json:"version"`
	Sequence int64  `json:"sequence"` // 1 for the first
	Previous Digest `json:"previous"` // zero for the first alone
	Time     Time   `json:"time"`
	Actor    string `json:"actor"`
	Facts    []Fact `json:"facts"`
}

// MaxFacts bounds the facts of one entry.
const MaxFacts = 10_000

// PayloadType implements Document.
func (e *Entry) PayloadType() string { return PayloadEntry }

// Validate implements Document.
func (e *Entry) Validate() error {
	if err := at("entry",
		between(int64(e.Version), 1, 1),
		at("sequence", chain(e.Sequence, e.Previous)),
		at("time", e.Time.Validate()),
		at("actor", checkLine(e.Actor, 1, maxActor)),
		list("facts", len(e.Facts), 1, MaxFacts),
	); err != nil {
		return err
	}
	for i, f := range e.Facts {
		parts := f.parts()
		if len(parts) != 1 {
			return item("entry: fact", i, "", errors.New("exactly one thing must have happened"))
		}
		if err := item("entry: fact", i, parts[0].name, parts[0].fact.check()); err != nil {
			return err
		}
	}
	return nil
}

// part is a fact with its name.
type part struct {
	name string
	fact checker
}

// checker is what every fact can do.
type checker interface{ check() error }

// parts returns every fact that is set: exactly one, if all is well.
func (f Fact) parts() []part {
	var parts []part
	addPart(&parts, "site.created", f.SiteCreated)
	addPart(&parts, "peer.added", f.PeerAdded)
	addPart(&parts, "peer.removed", f.PeerRemoved)
	addPart(&parts, "release.created", f.ReleaseCreated)
	addPart(&parts, "shipment.sealed", f.ShipmentSealed)
	addPart(&parts, "shipment.exported", f.ShipmentExported)
	addPart(&parts, "shipment.lost", f.ShipmentLost)
	addPart(&parts, "bundle.received", f.BundleReceived)
	addPart(&parts, "bundle.refused", f.BundleRefused)
	addPart(&parts, "release.accepted", f.ReleaseAccepted)
	addPart(&parts, "release.rejected", f.ReleaseRejected)
	addPart(&parts, "receipt.issued", f.ReceiptIssued)
	addPart(&parts, "receipt.settled", f.ReceiptSettled)
	addPart(&parts, "result.settled", f.ResultSettled)
	addPart(&parts, "value.set", f.ValueSet)
	addPart(&parts, "value.unset", f.ValueUnset)
	addPart(&parts, "deploy.started", f.DeployStarted)
	addPart(&parts, "deploy.ended", f.DeployEnded)
	addPart(&parts, "store.changed", f.StoreChanged)
	return parts
}

func addPart[T any, P interface {
	*T
	checker
}](parts *[]part, name string, p P) {
	if p != nil {
		*parts = append(*parts, part{name, p})
	}
}

// Name returns the fact's name for people, such as "peer.added", and "" for a
// fact with nothing in it.
func (f Fact) Name() string {
	if parts := f.parts(); len(parts) > 0 {
		return parts[0].name
	}
	return ""
}

func (f *SiteCreated) check() error {
	return first(CheckSite(f.Name), at("fingerprint", present(f.Fingerprint)))
}

func (f *PeerAdded) check() error {
	if err := CheckSite(f.Name); err != nil {
		return err
	}
	card, _, err := OpenCard(f.Card)
	if err != nil {
		return err
	}
	return first(
		absent("a name that is not the card's", card.Name != f.Name),
		at("accept", checkGrants(f.Accept)),
		at("send", checkGrants(f.Send)),
	)
}

func checkGrants(grants []string) error {
	once := seen[string]{}
	for i, g := range grants {
		if err := item("grant", i, g, oneOf(g, GrantReleases, GrantResults), once.add(g)); err != nil {
			return err
		}
	}
	return nil
}

func (f *PeerRemoved) check() error { return CheckSite(f.Name) }

func (f *ReleaseCreated) check() error {
	return first(
		checkRef(f.Release, f.Project, f.Version),
		at("created", f.Created.Validate()),
		at("site", CheckSite(f.Site)),
		at("packages", between(int64(f.Packages), 0, MaxPackages)),
		at("size", between(f.Size, 0, MaxSize)),
	)
}

func (f *ShipmentSealed) check() error {
	if err := first(
		CheckSite(f.Peer),
		at("bundle", present(f.Bundle)),
		at("serial", chain(f.Serial, f.Previous)),
		at("digest", present(f.Digest)),
		at("kind", oneOf(f.Kind, KindReleases, KindResults)),
		checkDocuments(f.Documents),
		checkBases(f.Base),
		list("releases", len(f.Releases), 0, MaxBundleDocuments),
		at("bytes", between(f.Bytes, 0, MaxSize)),
		at("volumes", between(int64(f.Volumes), 0, 1<<31-1)),
		at("contentBytes", between(f.ContentBytes, 0, MaxSize)),
		at("saved", between(f.Saved, 0, MaxSize)),
		at("medium", checkLine(f.Medium, 0, maxReason)),
	); err != nil {
		return err
	}
	for i, r := range f.Releases {
		if err := item("release", i, r.Project, checkRef(r.Release, r.Project, r.Version)); err != nil {
			return err
		}
	}
	return nil
}

func (f *ShipmentExported) check() error { return at("bundle", present(f.Bundle)) }

func (f *ShipmentLost) check() error {
	return first(at("bundle", present(f.Bundle)), at("reason", checkText(f.Reason, maxReason)))
}

func (f *BundleReceived) check() error {
	if err := first(
		CheckSite(f.Peer),
		at("bundle", present(f.Bundle)),
		at("serial", chain(f.Serial, f.Previous)),
		at("digest", present(f.Digest)),
		at("kind", oneOf(f.Kind, KindReleases, KindResults)),
		at("bytes", between(f.Bytes, 0, MaxSize)),
		at("saved", between(f.Saved, 0, MaxSize)),
		at("state", oneOf(f.State, ReceivedQuarantined, ReceivedDone)),
		list("releases", len(f.Releases), 0, MaxBundleDocuments),
		checkBases(f.Base),
	); err != nil {
		return err
	}
	for i, r := range f.Releases {
		if err := item("release", i, r.Project,
			checkRef(r.Release, r.Project, r.Version),
			at("site", CheckSite(r.Site)),
			at("created", r.Created.Validate()),
			at("packages", between(int64(r.Packages), 0, MaxPackages)),
			at("size", between(r.Size, 0, MaxSize)),
			at("state", oneOf(r.State, StateWaiting, StateHeld, StateConflict, StateOlder)),
			at("reason", checkText(r.Reason, maxReason)),
		); err != nil {
			return err
		}
	}
	return nil
}

func (f *BundleRefused) check() error {
	return first(
		CheckSite(f.Peer),
		at("bundle", present(f.Bundle)),
		at("serial", between(f.Serial, 0, MaxSize)), // 0, no digest: it could not be read
		at("cause", checkForm("cause", f.Cause, attachmentTypeForm, "a word")),
		at("reason", checkText(f.Reason, maxReason)),
	)
}

func (f *ReleaseAccepted) check() error {
	return first(checkRef(f.Release, f.Project, f.Version), CheckSite(f.Peer), at("bundle", present(f.Bundle)))
}

func (f *ReleaseRejected) check() error {
	return first(
		checkRef(f.Release, f.Project, f.Version),
		CheckSite(f.Peer),
		at("bundle", present(f.Bundle)),
		at("reason", checkText(f.Reason, maxReason)),
	)
}

func (f *ReceiptIssued) check() error {
	return first(
		CheckSite(f.Peer),
		at("bundle", present(f.Bundle)),
		at("revision", between(f.Revision, 1, MaxSize)),
		at("receipt", present(f.Receipt)),
	)
}

func (f *ReceiptSettled) check() error {
	return first(
		CheckSite(f.Peer),
		at("bundle", present(f.Bundle)),
		at("revision", between(f.Revision, 1, MaxSize)),
		at("receipt", first(absent("a receipt beside a code", f.Code != "" && !f.Receipt.IsZero()), f.needReceipt())),
		at("code", checkLine(f.Code, 0, maxCode)),
		at("state", oneOf(f.State, ReceiptWhole, ReceiptIncomplete, ReceiptRefused)),
		at("reason", checkText(f.Reason, maxReason)),
		checkReceiptReleases(f.Releases),
	)
}

// maxCode bounds a receipt code in bytes.
const maxCode = 100

func (f *ReceiptSettled) needReceipt() error {
	if f.Code != "" {
		return nil
	}
	return present(f.Receipt)
}

func (f *ResultSettled) check() error {
	return first(
		CheckSite(f.Peer),
		at("result", present(f.Result)),
		at("id", checkRunID(f.ID)),
		checkRef(f.Release, f.Project, f.Version),
		CheckEnvironment(f.Environment),
		at("status", checkStatus(f.Status)),
		at("actor", checkLine(f.Actor, 1, maxActor)),
		at("started", f.Started.Validate()),
		at("ended", f.Ended.Validate()),
		at("message", checkText(f.Message, maxMessage)),
	)
}

func (f *ValueSet) check() error {
	if err := checkValueName(f.Project, f.Environment, f.Name); err != nil {
		return err
	}
	if f.Sensitive {
		_, err := decodeSealed(f.Sealed)
		return first(absent("the value of a sensitive parameter in the clear", f.Value != ""), err)
	}
	return first(absent("sealed for a parameter that is not sensitive", f.Sealed != ""), checkFree(f.Value))
}

func (f *ValueUnset) check() error { return checkValueName(f.Project, f.Environment, f.Name) }

func (f *DeployStarted) check() error {
	return first(
		at("id", checkRunID(f.ID)),
		checkRef(f.Release, f.Project, f.Version),
		CheckEnvironment(f.Environment),
		at("actor", checkLine(f.Actor, 1, maxActor)),
		at("started", f.Started.Validate()),
	)
}

func (f *DeployEnded) check() error {
	return first(
		at("id", checkRunID(f.ID)),
		at("result", present(f.Result)),
		at("status", checkStatus(f.Status)),
		at("ended", f.Ended.Validate()),
		at("message", checkText(f.Message, maxMessage)),
	)
}

func (f *StoreChanged) check() error {
	return first(
		at("verb", oneOf(f.Verb, StoreGC, StoreRepair)),
		at("packs", between(int64(f.Packs), 0, MaxSize)),
		at("bytes", between(f.Bytes, 0, MaxSize)),
		at("detail", checkText(f.Detail, maxReason)),
	)
}
