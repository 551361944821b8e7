package manifest_test

import (
	"encoding/json"
	"testing"
	"time"

	"davit/manifest"
)

func TestTimeHasOneSpelling(t *testing.T) {
	berlin := time.FixedZone("CET", 3600)
	moment := manifest.NewTime(time.Date(2026, 11, 24, 13, 0, 0, 999, berlin))
	if moment != noon || moment != manifest.Unix(noon.Unix()) {
		t.Error("one moment has several values")
	}
	data, err := json.Marshal(moment)
	if err != nil || string(data) != `"2026-11-24T12:00:00Z"` {
		t.Errorf("written as %s, %v", data, err)
	}
	var back manifest.Time
	if err := json.Unmarshal(data, &back); err != nil || back != moment {
		t.Errorf("came back as %v, %v", back, err)
	}
	for _, bad := range []string{`""`, `null`, `0`, `"2026-11-24T12:00:00+00:00"`, `"2026-11-24T12:00:00.5Z"`, `"2026-11-24t12:00:00z"`, `"2026-11-24 12:00:00Z"`, `"2026-02-30T12:00:00Z"`, `"1969-12-31T23:59:59Z"`, `"0001-01-01T00:00:00Z"`, `"10000-01-01T00:00:00Z"`, `"2026-11-24T24:00:00Z"`} {
		if err := json.Unmarshal([]byte(bad), &back); err == nil {
			t.Errorf("%s is read as %v", bad, back)
		}
	}
	if _, err := json.Marshal(manifest.Time{}); err == nil {
		t.Error("the zero time is written")
	}
	// A clock that was never set says 1970.
	if err := manifest.Unix(0).Validate(); err != nil {
		t.Error(err)
	}
}

func TestDigestText(t *testing.T) {
	d := digest("x")
	if got, err := manifest.ParseDigest(d.String()); err != nil || got != d {
		t.Errorf("%v, %v", got, err)
	}
	if d.Short() != d.String()[:12] {
		t.Errorf("short form is %s", d.Short())
	}
	var v struct{ D, E manifest.Digest }
	data, err := json.Marshal(struct{ D, E manifest.Digest }{D: d})
	if err != nil || string(data) != `{"D":"`+d.String()+`","E":""}` {
		t.Errorf("written as %s, %v", data, err)
	}
	if err := json.Unmarshal(data, &v); err != nil || v.D != d || !v.E.IsZero() {
		t.Errorf("came back as %v, %v", v, err)
	}
	for _, bad := range []string{"", "0", d.String()[1:], d.String() + "0", "X" + d.String()[1:]} {
		if _, err := manifest.ParseDigest(bad); err == nil {
			t.Errorf("%q is a digest", bad)
		}
	}
	if err := v.D.UnmarshalText([]byte(manifest.Digest{}.String())); err == nil {
		t.Error("the zero digest has two spellings")
	}
	if err := new(manifest.BundleID).UnmarshalText([]byte(manifest.BundleID{}.String())); err == nil {
		t.Error("the zero bundle id is read")
	}
	bundles, runs := map[manifest.BundleID]bool{}, map[string]bool{}
	for range 8 {
		bundles[manifest.NewBundleID()], runs[manifest.NewRunID()] = true, true
	}
	if len(bundles) != 8 || len(runs) != 8 {
		t.Error("an id was drawn twice")
	}
}
