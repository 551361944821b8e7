package main

import (
	"os"
	"strings"
	"testing"
	"time"

	"davit/transfer"
	"davit/transfer/bundle"
	"davit/transfer/route"
)

// TestReadmeConfigs: every davit.yaml in the README is one.
func TestReadmeConfigs(t *testing.T) {
	data, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	blocks := strings.Split(string(data), "```yaml\n")[1:]
	links := 0
	for _, b := range blocks {
		text, _, _ := strings.Cut(b, "```")
		cfg, err := parseConfig([]byte(text))
		if err != nil {
			t.Errorf("%v\n%s", err, text)
		}
		for peer, r := range cfg.Routes {
			if r.watched() {
				links++
				if l := r.link(peer); l.KeepDone != 30*24*time.Hour || l.Outbox == "" {
					t.Errorf("%+v", l)
				}
			}
		}
	}
	if len(blocks) < 3 || links < 2 {
		t.Fatalf("%d configs with %d links were found in the README", len(blocks), links)
	}
}

func TestLinkConfig(t *testing.T) {
	for text, want := range map[string]string{
		"accept: maybe\n    inbox: a":     "want ask or auto",
		"folder: a\n    outbox: b":        "keep one of them",
		"send_results: true":              "needs an outbox",
		"accept: auto":                    "there is none",
		"keep_done: 1d":                   "there is none",
		"inbox: a\n    keep_done: 0d":     "no time to keep",
		"inbox: a\n    keep_done: 30":     "line 4",
		"inbox: a\n    keep_done: 99999d": "no time to keep",
	} {
		if _, err := parseConfig([]byte("routes:\n  dev:\n    " + text + "\n")); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", text, err, want)
		}
	}
	cfg, err := parseConfig([]byte("routes:\n  dev: {inbox: a, folder: b, keep_done: 12h, keep_done_size: 5GiB, full: true, send_results: true}\n  far: {inbox: a, keep_done: forever}\n"))
	if err != nil {
		t.Fatal(err)
	}
	if l := cfg.Routes["dev"].link("dev"); l.Outbox != "b" || l.Accept || l.KeepDone != 12*time.Hour || l.KeepSize != 5<<30 || !l.Export.Full {
		t.Errorf("%+v", l)
	}
	if l := cfg.Routes["far"].link("far"); l.KeepDone != 0 {
		t.Errorf("%+v", l)
	}
}

// TestEventCodes: a pass for cron exits with what its events amount to.
func TestEventCodes(t *testing.T) {
	for want, e := range map[int]route.Event{
		exitOK:          {Kind: route.TakenIn, Bundle: &transfer.BundleOutcome{State: transfer.OutcomeTaken}},
		exitIncomplete:  {Kind: route.Waiting, Err: bundle.ErrIncomplete, Label: &bundle.Label{From: "dev"}},
		exitDamage:      {Kind: route.Damaged, Bundle: &transfer.BundleOutcome{State: transfer.OutcomeDamaged}},
		exitRefused:     {Kind: route.Refused, Bundle: &transfer.BundleOutcome{State: transfer.OutcomeRefused, Cause: "grant"}},
		exitUnreachable: {Kind: route.Gone, Err: &os.PathError{Op: "open", Path: "x", Err: os.ErrNotExist}},
		exitBusy:        {Kind: route.Held, Err: &route.BusyError{}},
	} {
		v, err := viewEvent(e)
		if err != nil || v.Code != want {
			t.Errorf("%+v: code %d, want %d, %v", e, v.Code, want, err)
		}
	}
}
