package index_test

import (
	"testing"
	"time"

	"davit/manifest"
	"davit/manifest/index"
)

// journal writes entries and applies them to an index, one second after
// another.
type journal struct {
	t       testing.TB
	x       *index.Index
	head    index.Head
	clock   int64
	entries []*manifest.Entry
	digests []manifest.Digest
}

const epoch = 1_790_000_000

func newJournal(t testing.TB, x *index.Index) *journal { return &journal{t: t, x: x, clock: epoch} }

func (j *journal) entry(facts ...manifest.Fact) (*manifest.Entry, manifest.Digest) {
	j.t.Helper()
	e := &manifest.Entry{Version: 1, Sequence: j.head.Sequence + 1, Previous: j.head.Digest,
		Time: manifest.Unix(j.clock), Actor: "tester", Facts: facts}
	payload, err := manifest.EncodeDocument(e)
	if err != nil {
		j.t.Fatal(err)
	}
	return e, manifest.DigestOf(payload)
}

// apply writes an entry and returns its time.
func (j *journal) apply(facts ...manifest.Fact) time.Time {
	j.t.Helper()
	j.clock++
	e, digest := j.entry(facts...)
	if err := j.x.Apply(j.t.Context(), e, digest); err != nil {
		j.t.Fatal(err)
	}
	j.head = index.Head{Sequence: e.Sequence, Digest: digest}
	j.entries, j.digests = append(j.entries, e), append(j.digests, digest)
	return time.Unix(j.clock, 0).UTC()
}

func digest(s string) manifest.Digest { return manifest.DigestOf([]byte(s)) }

func bundleID(s string) (id manifest.BundleID) {
	d := digest(s)
	copy(id[:], d[:])
	return id
}

func runID(s string) string { return bundleID(s).String() }

func card(t testing.TB, name string) []byte {
	t.Helper()
	keys, err := manifest.GenerateSiteKeys()
	if err != nil {
		t.Fatal(err)
	}
	e, err := manifest.Sign(keys.Signing, &manifest.Card{Version: 1, Name: name, Signing: keys.Signing.Public(),
		Recipients: []string{keys.Recipient()}, Created: manifest.Unix(epoch), Davit: "1.0"})
	if err != nil {
		t.Fatal(err)
	}
	data, err := e.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func created(project, version string) manifest.Fact {
	return manifest.Fact{ReleaseCreated: &manifest.ReleaseCreated{Release: digest(project + version), Project: project, Version: version,
		Created: manifest.Unix(epoch), Site: "dev", Packages: 2, Size: 100}}
}

func sealed(peer string, serial int64, bundle string, kind string, documents []manifest.BundleDocument, releases ...manifest.ReleaseRef) manifest.Fact {
	f := &manifest.ShipmentSealed{Peer: peer, Bundle: bundleID(bundle), Serial: serial, Digest: digest(bundle), Kind: kind,
		Documents: documents, Releases: releases, Bytes: 10, Volumes: 1, ContentBytes: 20, Medium: "stick"}
	if serial > 1 {
		f.Previous = digest("before " + bundle)
	}
	if kind == manifest.KindReleases {
		f.Base = []manifest.BundleBase{{Project: "base", Version: "1", Release: digest("base1")}}
	}
	return manifest.Fact{ShipmentSealed: f}
}

func exported(bundle string) manifest.Fact {
	return manifest.Fact{ShipmentExported: &manifest.ShipmentExported{Bundle: bundleID(bundle)}}
}

func lost(bundle string) manifest.Fact {
	return manifest.Fact{ShipmentLost: &manifest.ShipmentLost{Bundle: bundleID(bundle), Reason: "no answer"}}
}

func ref(project, version string) manifest.ReleaseRef {
	return manifest.ReleaseRef{Release: digest(project + version), Project: project, Version: version}
}

func settled(peer, bundle string, revision int64, state string, releases ...manifest.ReceiptRelease) manifest.Fact {
	return manifest.Fact{ReceiptSettled: &manifest.ReceiptSettled{Peer: peer, Bundle: bundleID(bundle), Revision: revision,
		Receipt: digest(bundle + string(rune('a'+revision))), State: state, Releases: releases}}
}

func received(peer, bundle string, serial int64, state string, releases ...manifest.ReceivedRelease) manifest.Fact {
	f := &manifest.BundleReceived{Peer: peer, Bundle: bundleID(bundle), Serial: serial, Digest: digest(bundle), Kind: manifest.KindReleases,
		Bytes: 5, State: state, Releases: releases}
	if serial > 1 {
		f.Previous = digest("before " + bundle)
	}
	return manifest.Fact{BundleReceived: f}
}

func incoming(project, version, content, state string) manifest.ReceivedRelease {
	return manifest.ReceivedRelease{Release: digest(content), Project: project, Version: version, Site: "hq",
		Created: manifest.Unix(epoch), Packages: 3, Size: 300, State: state}
}

func accepted(peer, bundle, project, version, content string) manifest.Fact {
	return manifest.Fact{ReleaseAccepted: &manifest.ReleaseAccepted{Release: digest(content), Project: project, Version: version,
		Peer: peer, Bundle: bundleID(bundle)}}
}

func rejected(peer, bundle, project, version, content string) manifest.Fact {
	return manifest.Fact{ReleaseRejected: &manifest.ReleaseRejected{Release: digest(content), Project: project, Version: version,
		Peer: peer, Bundle: bundleID(bundle), Reason: "not wanted"}}
}

func issued(peer, bundle string, revision int64, receipt string) manifest.Fact {
	return manifest.Fact{ReceiptIssued: &manifest.ReceiptIssued{Peer: peer, Bundle: bundleID(bundle), Revision: revision, Receipt: digest(receipt)}}
}

func started(id, project, version, content string, at int64) manifest.Fact {
	return manifest.Fact{DeployStarted: &manifest.DeployStarted{ID: runID(id), Project: project, Version: version, Release: digest(content),
		Environment: "production", Actor: "op", Started: manifest.Unix(at)}}
}

func ended(id, result string, at int64) manifest.Fact {
	return manifest.Fact{DeployEnded: &manifest.DeployEnded{ID: runID(id), Result: digest(result), Status: manifest.StatusSucceeded, Ended: manifest.Unix(at)}}
}

func remote(peer, id, project, version string, at int64) manifest.Fact {
	return manifest.Fact{ResultSettled: &manifest.ResultSettled{Peer: peer, Result: digest("remote" + id), ID: runID(id), Project: project,
		Version: version, Release: digest(project + version), Environment: "live", Status: manifest.StatusFailed, Actor: "them",
		Started: manifest.Unix(at), Ended: manifest.Unix(at + 5), Message: "step 2"}}
}

// story applies at least one fact of every kind.
func story(t testing.TB, j *journal) {
	t.Helper()
	prod, hq := card(t, "prod"), card(t, "hq")
	both := []string{manifest.GrantReleases, manifest.GrantResults}
	j.apply(manifest.Fact{SiteCreated: &manifest.SiteCreated{Name: "dev", Fingerprint: manifest.Fingerprint{1}}})
	j.apply(manifest.Fact{PeerAdded: &manifest.PeerAdded{Name: "prod", Card: prod, Accept: both[1:], Send: both[:1]}},
		manifest.Fact{PeerAdded: &manifest.PeerAdded{Name: "hq", Card: hq, Accept: both}},
		manifest.Fact{PeerAdded: &manifest.PeerAdded{Name: "old", Card: card(t, "old")}})
	j.apply(manifest.Fact{PeerRemoved: &manifest.PeerRemoved{Name: "old"}})
	j.apply(created("app", "1.9"))
	j.apply(created("app", "1.10"), created("aaa", "3"))
	j.apply(sealed("prod", 1, "b1", manifest.KindReleases, nil, ref("app", "1.9")))
	j.apply(exported("b1"))
	j.apply(sealed("prod", 2, "b2", manifest.KindReleases, nil, ref("app", "1.10"), ref("aaa", "3")), exported("b2"))
	j.apply(lost("b2"))
	j.apply(settled("prod", "b1", 1, manifest.ReceiptWhole, manifest.ReceiptRelease{Release: digest("app1.9"), Project: "app", Version: "1.9", State: manifest.StateWaiting}))
	j.apply(settled("prod", "b1", 2, manifest.ReceiptWhole, manifest.ReceiptRelease{Release: digest("app1.9"), Project: "app", Version: "1.9", State: manifest.StateAccepted}))
	j.apply(received("hq", "h1", 1, manifest.ReceivedQuarantined, incoming("lib", "1", "lib1", manifest.StateWaiting), incoming("lib", "2", "lib2", manifest.StateWaiting)))
	j.apply(received("hq", "h2", 2, manifest.ReceivedQuarantined, incoming("lib", "1", "other", manifest.StateWaiting), incoming("lib", "2", "lib2", manifest.StateWaiting)))
	j.apply(issued("hq", "h1", 1, "r1"), issued("hq", "h2", 1, "r2"))
	j.apply(accepted("hq", "h1", "lib", "1", "lib1"), rejected("hq", "h1", "lib", "2", "lib2"), issued("hq", "h1", 2, "r3"))
	j.apply(received("hq", "h1", 1, manifest.ReceivedDone, incoming("lib", "1", "lib1", manifest.StateWaiting), incoming("lib", "2", "lib2", manifest.StateWaiting)))
	j.apply(manifest.Fact{BundleRefused: &manifest.BundleRefused{Peer: "hq", Bundle: bundleID("fork"), Serial: 2, Digest: digest("fork"), Cause: manifest.CauseFork, Reason: "two with serial 2"}})
	j.apply(started("d1", "lib", "1", "lib1", epoch+50))
	j.apply(ended("d1", "res1", epoch+60))
	j.apply(remote("prod", "p1", "app", "1.9", epoch+70))
	j.apply(manifest.Fact{ValueSet: &manifest.ValueSet{Project: "lib", Name: "PORT", Value: "80"}},
		manifest.Fact{ValueSet: &manifest.ValueSet{Project: "lib", Environment: "production", Name: "PORT", Value: "443"}},
		manifest.Fact{ValueSet: &manifest.ValueSet{Project: "lib", Name: "GONE", Value: "1"}})
	j.apply(manifest.Fact{ValueUnset: &manifest.ValueUnset{Project: "lib", Name: "GONE"}})
	j.apply(manifest.Fact{StoreChanged: &manifest.StoreChanged{Verb: manifest.StoreGC, Packs: 1, Bytes: 9, Detail: "repacked"}})
}
