package manifest_test

import (
	"os"
	"path/filepath"
	"reflect"
	"sync"
	"testing"
	"time"

	"davit/manifest"
	"davit/store/chunk"
	"davit/store/pack"
)

const vectors = "../test/vectors/manifest"

// testKeys are the keys that signed the vectors. They are public, so they are
// no keys.
var testKeys = sync.OnceValues(func() (*manifest.SiteKeys, error) {
	identity, err := os.ReadFile(filepath.Join(vectors, "keys", "identity.txt"))
	if err != nil {
		return nil, err
	}
	signing, err := os.ReadFile(filepath.Join(vectors, "keys", "signing.txt"))
	if err != nil {
		return nil, err
	}
	return manifest.ParseSiteKeys(identity, signing, nil)
})

func keys(t testing.TB) *manifest.SiteKeys {
	t.Helper()
	k, err := testKeys()
	if err != nil {
		t.Fatal(err)
	}
	return k
}

var (
	noon   = manifest.NewTime(time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC))
	later  = manifest.NewTime(time.Date(2026, 11, 24, 12, 0, 42, 0, time.UTC))
	bundle = manifest.BundleID{0xb0, 15: 1}
)

func digest(s string) manifest.Digest { return manifest.DigestOf([]byte(s)) }

// small is the reference to content that is one chunk.
func small(s string) chunk.Ref {
	return chunk.Ref{Size: int64(len(s)), Root: chunk.NameOf([]byte(s))}
}

func ptr[T any](v T) *T { return &v }

// samples returns one document of each kind, with every field set somewhere.
func samples(t testing.TB) map[string]manifest.Document {
	k := keys(t)
	sealed, err := manifest.SealValue("s3cret", []string{k.Recipient()})
	if err != nil {
		t.Fatal(err)
	}
	card := sampleCard(k)
	cardEnvelope := marshal(t, sign(t, k, card))
	return map[string]manifest.Document{
		"card":    card,
		"release": sampleRelease(),
		"bundle": &manifest.Bundle{
			Version: 1, ID: bundle, From: "dev", To: "prod", FromKey: digest("dev"), ToKey: digest("prod"),
			Serial: 2, Previous: digest("bundle 1"), Created: noon, Kind: manifest.KindReleases, Mode: manifest.ModeSealed, Secret: digest("secret"),
			Documents: []manifest.BundleDocument{{Kind: manifest.DocumentRelease, Digest: digest("release")}, {Kind: manifest.DocumentReceipt, Digest: digest("receipt")}},
			Base:      []manifest.BundleBase{{Project: "shop", Version: "1.1.0", Release: digest("base"), Serial: 1}},
			Packs:     []manifest.BundlePack{{Name: pack.Name(digest("pack")), Size: 1 << 26}},
			Deltas: []manifest.BundleDelta{{Name: digest("delta"), Size: 1 << 10, Release: digest("base"), Package: "web", Kind: manifest.PackageFile, Form: "opened", Plain: 1 << 20,
				Target: manifest.BundleFile{SHA256: digest("web"), Size: 1 << 24}, Base: manifest.BundleFile{SHA256: digest("web 1.1"), Size: 1 << 23}},
				{Name: digest("delta 2"), Size: 1 << 10, Release: digest("base"), Attachment: "sbom.json", Kind: manifest.PackageFile, Form: "raw", Plain: 1 << 12,
					Target: manifest.BundleFile{SHA256: digest("sbom"), Size: 1 << 14}, Base: manifest.BundleFile{SHA256: digest("sbom 1.1"), Size: 1 << 14}}},
			Values: []manifest.BundleValue{{Project: "shop", Environment: "production", Name: "DB_PASSWORD", Sealed: sealed}},
		},
		"receipt": &manifest.Receipt{
			Version: 1, Site: "prod", Peer: "dev", Bundle: bundle, Serial: 2, Digest: digest("bundle 2"), Revision: 3, Created: noon,
			State: manifest.ReceiptIncomplete, Reason: "the stick was pulled out", Missing: []string{"volume 2 of 3"},
			Releases: []manifest.ReceiptRelease{{Release: digest("release"), Project: "shop", Version: "1.2.0", State: manifest.StateRejected, Reason: "not before Christmas"}},
		},
		"result": &manifest.Result{
			ID: bundle.String(), Project: "shop", Version: "1.2.0", Release: digest("release"), Site: "prod", Environment: "production", Actor: "ada@prod",
			Started: noon, Ended: later, Status: manifest.StatusFailed, Message: "step migrate failed",
			Steps:    []manifest.ResultStep{{Name: "migrate", Status: manifest.StatusTimedOut, Message: "ran longer than 30 s", Exit: -1, Started: noon, Ended: later}},
			Log:      manifest.ResultLog{Size: 5, SHA256: digest("hello"), Content: small("hello")},
			Packages: []manifest.ResultPackage{{Name: "web", Version: "1.2.0", SHA256: digest("web")}},
		},
		"seal": &manifest.Seal{Version: 1, Bundle: bundle, From: "dev", To: "prod", Serial: 2, SHA256: digest("payload"), Size: 1 << 30},
		"entry": &manifest.Entry{
			Version: 1, Sequence: 7, Previous: digest("entry 6"), Time: noon, Actor: "ada",
			Facts: sampleFacts(cardEnvelope, sealed),
		},
	}
}

func sampleCard(k *manifest.SiteKeys) *manifest.Card {
	return &manifest.Card{Version: 1, Name: "dev", Signing: k.Signing.Public(), Recipients: []string{k.Recipient()}, Created: noon, Davit: "0.1.0", Delta: 1, Encoders: []uint16{1, 16}}
}

func sampleRelease() *manifest.Release {
	return &manifest.Release{
		Project: "shop", Version: "1.2.0", Site: "dev", Created: noon, Notes: "Faster <checkout> & \"quotes\".\nSecond line \u2028 here.",
		Packages: []manifest.Package{
			{Name: "web", Version: "1.2.0", MediaType: "application/gzip", Path: "bin/web.tar.gz", Kind: manifest.PackageFile, Mode: 0o644, Size: 3, Files: 1, SHA256: digest("web"), Content: small("web")},
			{Name: "@shop/assets", Version: "7", Path: "assets", Kind: manifest.PackageTree, Size: 1 << 40, Files: 200_000, SHA256: digest("listing"),
				Content: chunk.Ref{Size: 1 << 40, Depth: 2, Root: chunk.NameOf([]byte("list"))}, Tree: ptr(small("listing")), CaseSensitive: true},
		},
		Attachments: []manifest.Attachment{{Name: "sbom.cdx.json", Type: "sbom", MediaType: "application/vnd.cyclonedx+json", Size: 2, SHA256: digest("{}"), Content: small("{}")}},
		Parameters: []manifest.Parameter{
			{Name: "REPLICAS", Type: manifest.ParameterInt, Description: "how many", Default: ptr("2"), Environments: map[string]string{"production": "9", "qa": "1"}},
			{Name: "DB_PASSWORD", Type: manifest.ParameterString, Required: true, Sensitive: true},
		},
		Process: manifest.Process{Steps: []manifest.Step{{Name: "migrate", Run: []string{"./bin/migrate", "--up", ""}, Timeout: 30, Directory: "bin", Environment: map[string]string{"LANG": "C"}}}},
	}
}

func sampleFacts(card []byte, sealed string) []manifest.Fact {
	releases := []manifest.ReleaseRef{{Release: digest("release"), Project: "shop", Version: "1.2.0"}}
	base := []manifest.BundleBase{{Project: "shop", Version: "1.1.0", Release: digest("base")}}
	documents := []manifest.BundleDocument{{Kind: manifest.DocumentRelease, Digest: digest("release")}}
	return []manifest.Fact{
		{SiteCreated: &manifest.SiteCreated{Name: "dev", Fingerprint: manifest.Fingerprint{1, 15: 2}}},
		{PeerAdded: &manifest.PeerAdded{Name: "dev", Card: card, Accept: []string{manifest.GrantReleases}, Send: []string{manifest.GrantReleases, manifest.GrantResults}}},
		{PeerRemoved: &manifest.PeerRemoved{Name: "dev"}},
		{ReleaseCreated: &manifest.ReleaseCreated{Release: digest("release"), Project: "shop", Version: "1.2.0", Created: noon, Site: "dev", Packages: 2, Size: 99}},
		{ShipmentSealed: &manifest.ShipmentSealed{Peer: "prod", Bundle: bundle, Serial: 2, Digest: digest("bundle 2"), Previous: digest("bundle 1"), Kind: manifest.KindReleases,
			Documents: documents, Base: base, Releases: releases, Bytes: 1000, Volumes: 3, ContentBytes: 2000, Saved: 500, Medium: "/media/stick"}},
		{ShipmentExported: &manifest.ShipmentExported{Bundle: bundle}},
		{ShipmentLost: &manifest.ShipmentLost{Bundle: bundle, Reason: "fell into the sea"}},
		{BundleReceived: &manifest.BundleReceived{Peer: "dev", Bundle: bundle, Serial: 2, Digest: digest("bundle 2"), Previous: digest("bundle 1"), Kind: manifest.KindReleases, Bytes: 1000, Saved: 500, State: manifest.ReceivedQuarantined,
			Releases: []manifest.ReceivedRelease{{Release: digest("release"), Project: "shop", Version: "1.2.0", Site: "dev", Created: noon, Packages: 2, Size: 99, State: manifest.StateOlder, Reason: "1.3.0 is here"}}, Base: base}},
		{BundleRefused: &manifest.BundleRefused{Peer: "dev", Bundle: bundle, Serial: 2, Digest: digest("other"), Cause: manifest.CauseFork, Reason: "serial 2 came before, with other content"}},
		{ReleaseAccepted: &manifest.ReleaseAccepted{Release: digest("release"), Project: "shop", Version: "1.2.0", Peer: "dev", Bundle: bundle, Rollback: true}},
		{ReleaseRejected: &manifest.ReleaseRejected{Release: digest("release"), Project: "shop", Version: "1.2.0", Peer: "dev", Bundle: bundle, Reason: "no"}},
		{ReceiptIssued: &manifest.ReceiptIssued{Peer: "dev", Bundle: bundle, Revision: 1, Receipt: digest("receipt")}},
		{ReceiptSettled: &manifest.ReceiptSettled{Peer: "prod", Bundle: bundle, Revision: 1, Receipt: digest("receipt"), State: manifest.ReceiptRefused, Reason: "no grant",
			Releases: []manifest.ReceiptRelease{{Release: digest("release"), Project: "shop", Version: "1.2.0", State: manifest.StateAccepted}}}},
		{ResultSettled: &manifest.ResultSettled{Peer: "prod", Result: digest("result"), ID: bundle.String(), Project: "shop", Version: "1.2.0", Release: digest("release"),
			Environment: "production", Status: manifest.StatusInterrupted, Actor: "ada", Started: noon, Ended: later, Message: "power cut"}},
		{ValueSet: &manifest.ValueSet{Project: "shop", Environment: "production", Name: "REPLICAS", Value: "3"}},
		{ValueSet: &manifest.ValueSet{Project: "shop", Name: "DB_PASSWORD", Sealed: sealed, Sensitive: true}},
		{ValueUnset: &manifest.ValueUnset{Project: "shop", Environment: "production", Name: "REPLICAS"}},
		{DeployStarted: &manifest.DeployStarted{ID: bundle.String(), Project: "shop", Version: "1.2.0", Release: digest("release"), Environment: "production", Actor: "ada", Started: noon}},
		{DeployEnded: &manifest.DeployEnded{ID: bundle.String(), Result: digest("result"), Status: manifest.StatusSucceeded, Ended: later, Message: "done"}},
		{StoreChanged: &manifest.StoreChanged{Verb: manifest.StoreGC, Packs: 2, Bytes: 5000, Detail: "two packs that nothing refers to"}},
		{ReceiptSettled: &manifest.ReceiptSettled{Peer: "prod", Bundle: bundle, Revision: 2, Code: "11234-56789", State: manifest.ReceiptWhole}},
	}
}

func sign(t testing.TB, k *manifest.SiteKeys, d manifest.Document) *manifest.Envelope {
	t.Helper()
	e, err := manifest.Sign(k.Signing, d)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func marshal(t testing.TB, e *manifest.Envelope) []byte {
	t.Helper()
	data, err := e.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// open opens an envelope as the kind of document that name says.
func open(name string, e *manifest.Envelope, v manifest.VerifyKey) (manifest.Document, error) {
	switch name {
	case "card":
		return manifest.Open[manifest.Card](e, v)
	case "release":
		return manifest.Open[manifest.Release](e, v)
	case "bundle":
		return manifest.Open[manifest.Bundle](e, v)
	case "receipt":
		return manifest.Open[manifest.Receipt](e, v)
	case "result":
		return manifest.Open[manifest.Result](e, v)
	case "entry":
		return manifest.Open[manifest.Entry](e, v)
	case "seal":
		return manifest.Open[manifest.Seal](e, v)
	}
	panic("no document " + name)
}

// fresh returns an empty document of the same kind.
func fresh(d manifest.Document) manifest.Document {
	return reflect.New(reflect.TypeOf(d).Elem()).Interface().(manifest.Document)
}
