package index_test

import (
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"davit/manifest"
	"davit/manifest/index"
)

// must returns v and ends the test on an error.
func must[T any](v T, err error) func(testing.TB) T {
	return func(t testing.TB) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func each[T any](list []T, show func(T) string) string {
	var all []string
	for _, v := range list {
		all = append(all, show(v))
	}
	return strings.Join(all, "; ")
}

func want(t *testing.T, what, got, want string) {
	t.Helper()
	if got != want {
		t.Errorf("%s:\n got %s\nwant %s", what, got, want)
	}
}

func inbox(list []index.InboxItem) string {
	return each(list, func(i index.InboxItem) string {
		return fmt.Sprintf("%d %s %s %s%s", i.Serial, i.Project, i.Version, i.State, i.Reason)
	})
}

func documents(list []manifest.BundleDocument) string {
	names := map[manifest.Digest]string{}
	for _, s := range []string{"r1", "r2", "r3", "res1", "res2"} {
		names[digest(s)] = s
	}
	return each(list, func(d manifest.BundleDocument) string { return d.Kind + " " + names[d.Digest] })
}

func TestStory(t *testing.T) {
	x := fresh(t)
	j := newJournal(t, x)
	story(t, j)
	ctx := t.Context()

	site := must(x.Site(ctx))(t)
	want(t, "site", site.Name+site.Created.String(), "dev"+time.Unix(epoch+1, 0).UTC().String())

	want(t, "peers", each(must(x.Peers(ctx))(t), func(p index.Peer) string {
		return fmt.Sprint(p.Name, p.Card.Name, p.Accept, p.Send, p.Fingerprint == p.Card.Fingerprint(), p.Added.Unix()-epoch, p.Heard.Unix()-epoch)
	}), "hqhq[releases results] [] true 2 16; prodprod[results] [releases] true 2 20")
	if _, err := x.Peer(ctx, "old"); !errors.Is(err, index.ErrNotFound) {
		t.Errorf("a removed peer is %v", err)
	}

	show := func(r index.Release) string { return r.Project + " " + r.Version + " " + r.State + " " + r.Peer }
	want(t, "releases", each(must(x.Releases(ctx, ""))(t), show), "aaa 3 created ; app 1.9 created ; app 1.10 created ; lib 1 accepted hq")
	want(t, "releases of app", each(must(x.Releases(ctx, "app"))(t), show), "app 1.9 created ; app 1.10 created ")
	lib := must(x.Release(ctx, "lib", "1"))(t)
	if wanted := (index.Release{Digest: digest("lib1"), Project: "lib", Version: "1", Site: "hq", Peer: "hq", Bundle: bundleID("h1"),
		Created: time.Unix(epoch, 0).UTC(), Packages: 3, Size: 300, State: index.ReleaseAccepted}); lib != wanted {
		t.Errorf("release is %+v, want %+v", lib, wanted)
	}
	if got := must(x.ReleaseByDigest(ctx, digest("lib1")))(t); got != lib {
		t.Errorf("by digest it is %+v", got)
	}
	if _, err := x.ReleaseByDigest(ctx, digest("lib2")); !errors.Is(err, index.ErrNotFound) {
		t.Errorf("a rejected release is %v", err)
	}

	ship := func(s index.Shipment) string {
		return fmt.Sprint(s.Serial, s.State, s.Receipt, len(s.Releases), len(s.Base), s.Reason, s.Sealed.Unix()-epoch, s.Exported.Unix()-epoch)
	}
	all := must(x.Shipments(ctx, index.ShipmentFilter{}))(t)
	want(t, "shipments", each(all, ship), "1acknowledgedwhole1 16 7; 2lost2 1no answer8 8")
	if got := must(x.Shipment(ctx, bundleID("b1")))(t); !reflect.DeepEqual(got, all[0]) {
		t.Errorf("shipment b1 is %+v", got)
	}
	for _, f := range []struct {
		filter index.ShipmentFilter
		want   int
	}{{index.ShipmentFilter{Peer: "prod"}, 2}, {index.ShipmentFilter{Peer: "hq"}, 0}, {index.ShipmentFilter{Project: "app"}, 2},
		{index.ShipmentFilter{Project: "app", Version: "1.10"}, 1}, {index.ShipmentFilter{State: index.ShipmentLost, Project: "aaa"}, 1}} {
		if got := len(must(x.Shipments(ctx, f.filter))(t)); got != f.want {
			t.Errorf("%+v finds %d shipments, want %d", f.filter, got, f.want)
		}
	}
	if serial, d, err := x.LastSerial(ctx, "prod"); serial != 2 || d != digest("b2") || err != nil {
		t.Errorf("last serial is %d %s %v", serial, d.Short(), err)
	}
	if serial, d, err := x.LastSerial(ctx, "hq"); serial != 0 || !d.IsZero() || err != nil {
		t.Errorf("last serial for nobody is %d %s %v", serial, d.Short(), err)
	}

	hold := func(h index.Holding) string { return fmt.Sprint(h.Project, h.Version, " ", h.Since.Unix()-epoch) }
	want(t, "prod holds", each(must(x.Holdings(ctx, "prod"))(t), hold), "app1.9 11")
	want(t, "hq holds", each(must(x.Holdings(ctx, "hq"))(t), hold), "lib1 12")

	want(t, "inbox", inbox(must(x.Inbox(ctx))(t)), "1 lib 1 accepted; 1 lib 2 rejectednot wanted; 2 lib 1 conflict; 2 lib 2 waiting")
	want(t, "open", inbox(must(x.InboxOpen(ctx))(t)), "2 lib 1 conflict; 2 lib 2 waiting")
	h1 := must(x.ReceivedBundle(ctx, "hq", bundleID("h1")))(t)
	if h1.State != manifest.ReceivedDone || len(h1.Releases) != 2 || h1.Releases[0].State != manifest.StateAccepted || h1.At.Unix() != epoch+12 {
		t.Errorf("h1 is %+v", h1)
	}
	if _, err := x.ReceivedBundle(ctx, "prod", bundleID("h1")); !errors.Is(err, index.ErrNotFound) {
		t.Errorf("another peer's bundle is %v", err)
	}
	if got := must(x.ReceivedSerial(ctx, "hq", 1))(t); !reflect.DeepEqual(got, h1) {
		t.Errorf("serial 1 is %+v", got)
	}
	if got := must(x.Received(ctx, "hq"))(t); len(got) != 2 {
		t.Errorf("%d bundles of hq", len(got))
	}
	refused := must(x.Refused(ctx))(t)
	if len(refused) != 1 || refused[0].Cause != manifest.CauseFork || refused[0].Bundle != bundleID("fork") {
		t.Errorf("refused are %+v", refused)
	}

	if revision, d, err := x.LastReceipt(ctx, "hq", bundleID("h1")); revision != 2 || d != digest("r3") || err != nil {
		t.Errorf("last receipt is %d %s %v", revision, d.Short(), err)
	}
	if revision, d, err := x.LastReceipt(ctx, "prod", bundleID("h1")); revision != 0 || !d.IsZero() || err != nil {
		t.Errorf("last receipt for nobody is %d %s %v", revision, d.Short(), err)
	}
	want(t, "pending", documents(must(x.PendingDocuments(ctx, "hq"))(t)), "receipt r2; receipt r3; result res1")
	want(t, "pending for prod", documents(must(x.PendingDocuments(ctx, "prod"))(t)), "")

	want(t, "values", each(must(x.Values(ctx, "lib"))(t), func(v index.Value) string { return v.Environment + v.Name + v.Value }), "PORT80; productionPORT443")
	want(t, "deployments", each(must(x.Deployments(ctx, index.DeploymentFilter{}))(t), func(d index.Deployment) string {
		return fmt.Sprint(d.Site, d.Environment, d.Status, d.Message, d.Started.Unix()-epoch, d.Ended.Unix()-epoch)
	}), "prodlivefailedstep 270 75; productionsucceeded50 60")
	if got := must(x.Deployments(ctx, index.DeploymentFilter{Site: index.Here}))(t); len(got) != 1 || got[0].Result != digest("res1") {
		t.Errorf("deployments here are %+v", got)
	}
	if got := must(x.Deployment(ctx, runID("d1")))(t); got.Status != manifest.StatusSucceeded {
		t.Errorf("deployment d1 is %+v", got)
	}
	if c := must(x.Counts(ctx))(t); c != (index.Counts{Entries: j.head.Sequence, Peers: 2, Releases: 4, Shipments: 2, Waiting: 2}) {
		t.Errorf("counts are %+v", c)
	}

	// Every kind of fact was there.
	var names []string
	for _, e := range must(x.Entries(ctx, 0, 100))(t) {
		names = append(names, e.Names...)
	}
	slices.Sort(names)
	if kinds := len(slices.Compact(names)); kinds != reflect.TypeFor[manifest.Fact]().NumField() {
		t.Errorf("the story has %d kinds of facts, there are %d", kinds, reflect.TypeFor[manifest.Fact]().NumField())
	}
}

func TestPendingDocuments(t *testing.T) {
	x := fresh(t)
	j := newJournal(t, x)
	story(t, j)
	pending := func(what, expect string) {
		t.Helper()
		want(t, what, documents(must(x.PendingDocuments(t.Context(), "hq"))(t)), expect)
	}
	docs := []manifest.BundleDocument{{Kind: manifest.DocumentReceipt, Digest: digest("r3")}, {Kind: manifest.DocumentResult, Digest: digest("res1")}}
	j.apply(sealed("prod", 3, "wrong", manifest.KindResults, docs))
	pending("sent to another", "receipt r2; receipt r3; result res1")
	j.apply(sealed("hq", 1, "s1", manifest.KindResults, docs))
	pending("sealed", "receipt r2")
	j.apply(lost("s1"))
	pending("lost", "receipt r2; receipt r3; result res1")
	j.apply(exported("s1"))
	pending("exported again", "receipt r2")
	j.apply(settled("hq", "s1", 1, manifest.ReceiptRefused))
	pending("refused", "receipt r2; receipt r3; result res1")
	j.apply(settled("hq", "s1", 2, manifest.ReceiptWhole))
	pending("arrived", "receipt r2")
	j.apply(started("d2", "lib", "1", "lib1", epoch), started("d3", "app", "1.9", "app1.9", epoch))
	j.apply(ended("d3", "elsewhere", epoch+1))
	pending("a result that is nothing to it", "receipt r2")
	j.apply(ended("d2", "res2", epoch+1))
	pending("a new result", "receipt r2; result res2")
}

func TestReceiptsInAnyOrder(t *testing.T) {
	x := fresh(t)
	j := newJournal(t, x)
	app := func(state string) manifest.ReceiptRelease {
		return manifest.ReceiptRelease{Release: digest("app1"), Project: "app", Version: "1", State: state}
	}
	j.apply(created("app", "1"), sealed("prod", 1, "b", manifest.KindReleases, nil, ref("app", "1")))
	state := func(what, expect string, holds int) {
		t.Helper()
		s := must(x.Shipment(t.Context(), bundleID("b")))(t)
		want(t, what, s.State+" "+s.Receipt, expect)
		if h := must(x.Holdings(t.Context(), "prod"))(t); len(h) != holds {
			t.Errorf("%s: holds %+v", what, h)
		}
	}
	j.apply(settled("other", "b", 1, manifest.ReceiptWhole))
	state("another's receipt", "sealed ", 0)
	j.apply(settled("prod", "b", 1, manifest.ReceiptIncomplete))
	state("incomplete", "sealed incomplete", 0)
	j.apply(settled("prod", "b", 3, manifest.ReceiptWhole, app(manifest.StateAccepted)))
	state("accepted", "acknowledged whole", 1)
	j.apply(settled("prod", "b", 2, manifest.ReceiptWhole, app(manifest.StateWaiting)))
	state("an older one", "acknowledged whole", 1)
	j.apply(exported("b"))
	state("exported late", "acknowledged whole", 1)
	j.apply(settled("prod", "b", 4, manifest.ReceiptWhole, app(manifest.StateRejected)))
	state("rejected", "acknowledged whole", 0)
}

func TestInboxOvertaken(t *testing.T) {
	x := fresh(t)
	j := newJournal(t, x)
	j.apply(received("a", "same", 1, manifest.ReceivedQuarantined, incoming("p", "1", "one", manifest.StateWaiting)))
	j.apply(received("b", "same", 1, manifest.ReceivedQuarantined, incoming("p", "1", "one", manifest.StateOlder), incoming("p", "2", "two", manifest.StateWaiting)))
	j.apply(received("c", "more", 1, manifest.ReceivedQuarantined, incoming("p", "1", "odd", manifest.StateWaiting)))
	j.apply(accepted("b", "same", "p", "1", "one"))
	want(t, "inbox", inbox(must(x.Inbox(t.Context()))(t)), "1 p 1 held; 1 p 1 accepted; 1 p 2 waiting; 1 p 1 conflict")
	if r := must(x.Release(t.Context(), "p", "1"))(t); r.Peer != "b" {
		t.Errorf("it came from %q", r.Peer)
	}
	want(t, "a holds", each(must(x.Holdings(t.Context(), "a"))(t), func(h index.Holding) string { return h.Project + h.Version }), "p1")
}

func TestDeploymentOrder(t *testing.T) {
	x := fresh(t)
	j := newJournal(t, x)
	j.apply(started("one", "p", "1", "p1", epoch))
	j.apply(started("two", "p", "2", "p2", epoch-100_000_000)) // the clock was set back
	j.apply(remote("prod", "late", "p", "2", epoch+20))
	j.apply(remote("prod", "early", "p", "1", epoch+10)) // arrives later
	order := func(f index.DeploymentFilter) string {
		return each(must(x.Deployments(t.Context(), f))(t), func(d index.Deployment) string { return d.Site + d.Version })
	}
	want(t, "all", order(index.DeploymentFilter{}), "prod2; prod1; 2; 1")
	want(t, "here", order(index.DeploymentFilter{Site: index.Here}), "2; 1")
	want(t, "live", order(index.DeploymentFilter{Environment: "live", Limit: 1}), "prod2")
	want(t, "prod", order(index.DeploymentFilter{Site: "prod", Project: "p"}), "prod2; prod1")
}

func TestGrantsChange(t *testing.T) {
	x := fresh(t)
	j := newJournal(t, x)
	first, second := card(t, "prod"), card(t, "prod")
	put := func(c []byte, grants ...string) {
		j.apply(manifest.Fact{PeerAdded: &manifest.PeerAdded{Name: "prod", Card: c, Accept: grants}})
	}
	show := func() string {
		p := must(x.Peer(t.Context(), "prod"))(t)
		return fmt.Sprint(p.Accept, p.Added.Unix()-epoch, !p.Heard.IsZero())
	}
	put(first)
	j.apply(received("prod", "b", 1, manifest.ReceivedDone))
	put(first, manifest.GrantResults)
	want(t, "same card", show(), "[results] 1 true")
	put(second)
	want(t, "new card", show(), "[] 4 false")
}

// TestContradictions: Check refuses what Apply takes without effect.
func TestContradictions(t *testing.T) {
	x := fresh(t)
	j := newJournal(t, x)
	story(t, j)
	for i, f := range []manifest.Fact{
		{SiteCreated: &manifest.SiteCreated{Name: "again", Fingerprint: manifest.Fingerprint{2}}},
		{PeerRemoved: &manifest.PeerRemoved{Name: "nobody"}},
		{ReleaseCreated: &manifest.ReleaseCreated{Release: digest("new"), Project: "app", Version: "1.9", Created: manifest.Unix(epoch), Site: "dev", Packages: 1, Size: 1}},
		sealed("prod", 2, "again", manifest.KindReleases, nil),
		sealed("hq", 9, "b1", manifest.KindReleases, nil),
		exported("never"),
		lost("b1"),
		{BundleReceived: &manifest.BundleReceived{Peer: "hq", Bundle: bundleID("h1"), Serial: 1, Digest: digest("x"), Kind: manifest.KindReleases, State: manifest.ReceivedDone}},
		accepted("hq", "h1", "lib", "9", "never"),
		accepted("prod", "h1", "lib", "1", "lib1"),
		accepted("hq", "h2", "lib", "1", "other"),
		rejected("hq", "h1", "lib", "1", "lib1"),
		issued("hq", "h1", 1, "r9"),
		{ValueUnset: &manifest.ValueUnset{Project: "lib", Name: "GONE"}},
		started("d1", "lib", "1", "lib1", epoch),
		ended("d1", "twice", epoch),
		ended("never", "res", epoch),
	} {
		before := dump(t, x, "entries", "contradictions")
		e, d := j.entry(f)
		var refused *index.FactError
		if err := x.Check(t.Context(), e, d); !errors.As(err, &refused) {
			t.Errorf("%s: checked %v", f.Name(), err)
			continue
		}
		if refused.Fact != f.Name() || refused.Sequence != e.Sequence || refused.Reason == "" {
			t.Errorf("%s: %+v", f.Name(), refused)
		}
		j.apply(f)
		want(t, f.Name(), dump(t, x, "entries", "contradictions"), before)
		if c := must(x.Counts(t.Context()))(t); c.Contradictions != int64(i+1) {
			t.Errorf("%s: %d contradictions counted", f.Name(), c.Contradictions)
		}
	}
	// A sound one is checked without a trace.
	before := dump(t, x)
	e, d := j.entry(created("fine", "1"))
	if err := x.Check(t.Context(), e, d); err != nil {
		t.Error(err)
	}
	want(t, "after the check", dump(t, x), before)
}
