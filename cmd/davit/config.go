package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/urfave/cli/v2"

	"davit/manifest"
	"davit/store"
	"davit/store/bucket"
	"davit/transfer"
)

const configName = "davit.yaml"

// config is davit.yaml. Paths are relative to the folder it stands in.
type config struct {
	Store  string             `yaml:"store"` // folder
	Index  string             `yaml:"index"` // SQLite file
	Keys   string             `yaml:"keys"`  // folder with identity.txt and signing.key
	Work   string             `yaml:"work"`  // folder for locks, spools and deployments
	Actor  string             `yaml:"actor"`
	Routes map[string]routing `yaml:"routes"` // by peer
}

// routing says how bundles reach a peer and come from it.
type routing struct {
	Folder          string   `yaml:"folder"`
	Inbox           string   `yaml:"inbox"`        // watched for what the peer sends
	Outbox          string   `yaml:"outbox"`       // watched by the peer; Folder by another name
	Accept          string   `yaml:"accept"`       // ask or auto
	SendResults     bool     `yaml:"send_results"` // receipts and results, by davit watch
	KeepDone        keeping  `yaml:"keep_done"`
	KeepDoneSize    byteSize `yaml:"keep_done_size"`
	VolumeSize      byteSize `yaml:"volume_size"`
	Parity          share    `yaml:"parity"` // of the volumes that repairs the rest, such as 10%
	AssumeDelivered bool     `yaml:"assume_delivered"`
	Full            bool     `yaml:"full"`
	FullEvery       int      `yaml:"full_every"` // each so-manieth bundle of a project builds on nothing
	Delta           struct {
		Off    bool    `yaml:"off"`    // packages travel as chunks
		Budget seconds `yaml:"budget"` // for finding deltas, a GiB of package
	} `yaml:"delta"`
}

// share is a part of something as people write it: 10% or 0.1.
type share float64

// parseShare reads a share from 0 to 50 %.
func parseShare(s string) (share, error) {
	text, percent := strings.CutSuffix(strings.TrimSpace(s), "%")
	v, err := strconv.ParseFloat(strings.TrimSpace(text), 64)
	if percent {
		v /= 100
	}
	if err != nil || !(v >= 0 && v <= 0.5) {
		return 0, fmt.Errorf("%q is no share; want one from 0 to 50 %%, such as 10%%", printable(s))
	}
	return share(v), nil
}

// UnmarshalYAML reads a share.
func (s *share) UnmarshalYAML(n ast.Node) error {
	v, err := parseShare(n.GetToken().Value)
	*s = v
	return atLine(n, err)
}

// seconds is a duration as people write it: 30s, 2m.
type seconds time.Duration

// UnmarshalYAML reads a duration.
func (s *seconds) UnmarshalYAML(n ast.Node) error {
	v, err := time.ParseDuration(n.GetToken().Value)
	if err == nil && v <= 0 {
		err = errors.New("it must be more than nothing")
	}
	*s = seconds(v)
	return atLine(n, err)
}

// keeping is how long something is kept: 30d, 12h, forever.
type keeping struct {
	time.Duration
	forever bool
}

// UnmarshalYAML reads an age.
func (a *keeping) UnmarshalYAML(n ast.Node) (err error) {
	text := n.GetToken().Value
	if text == "forever" {
		a.forever = true
		return nil
	}
	number, unit := text, time.Duration(1)
	for suffix, u := range map[string]time.Duration{"d": 24 * time.Hour, "h": time.Hour, "m": time.Minute} {
		if cut, ok := strings.CutSuffix(text, suffix); ok {
			number, unit = cut, u
		}
	}
	v, err := strconv.ParseUint(number, 10, 16)
	if err != nil || unit == 1 || v == 0 {
		return atLine(n, fmt.Errorf("%q is no time to keep something; write for instance 30d, 12h or forever", text))
	}
	a.Duration = time.Duration(v) * unit
	return nil
}

// byteSize is a size as people write it: 3.9GiB, 700MB, 1048576.
type byteSize int64

// UnmarshalYAML reads a size.
func (s *byteSize) UnmarshalYAML(n ast.Node) error {
	v, err := parseSize(n.GetToken().Value)
	*s = byteSize(v)
	return atLine(n, err)
}

// atLine says where in a YAML file an error is.
func atLine(n ast.Node, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("line %d: %w", n.GetToken().Position.Line, err)
}

// units by suffix; a single letter is binary, as in restic and du.
var units = []struct {
	suffix string
	bytes  float64
}{
	{"kib", 1 << 10}, {"mib", 1 << 20}, {"gib", 1 << 30}, {"tib", 1 << 40},
	{"kb", 1e3}, {"mb", 1e6}, {"gb", 1e9}, {"tb", 1e12},
	{"k", 1 << 10}, {"m", 1 << 20}, {"g", 1 << 30}, {"t", 1 << 40},
	{"b", 1}, {"", 1},
}

func parseSize(s string) (int64, error) {
	text := strings.ToLower(strings.ReplaceAll(s, " ", ""))
	for _, u := range units {
		number, ok := strings.CutSuffix(text, u.suffix)
		if !ok {
			continue
		}
		f, err := strconv.ParseFloat(number, 64)
		if err != nil || f <= 0 || f*u.bytes >= 1<<62 || math.IsNaN(f) {
			break
		}
		return int64(f * u.bytes), nil
	}
	return 0, fmt.Errorf("%q is no size; write for instance 3.9GiB, 700MB or 64MiB", s)
}

// home is a site's folder and what its config says, with all paths absolute.
type home struct {
	dir    string
	path   string // of davit.yaml
	config config
}

// homeFolder is where the site is when nothing says otherwise.
func homeFolder() (string, error) {
	dir, err := os.UserHomeDir()
	if err != nil {
		return "", usagef("there is no home folder to look for .davit in; say where the site is with -c FOLDER")
	}
	return filepath.Join(dir, ".davit"), nil
}

// loadHome finds and reads davit.yaml: flag or DAVIT_CONFIG, else ~/.davit.
func loadHome(c *cli.Context) (*home, error) {
	path := c.String("config")
	if path == "" {
		var err error
		if path, err = homeFolder(); err != nil {
			return nil, err
		}
	}
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, usage(err)
	}
	if info, err := os.Stat(path); err == nil && info.IsDir() || filepath.Ext(path) != ".yaml" {
		path = filepath.Join(path, configName)
	}
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, usagef("there is no davit site at %s; make one with: davit init NAME, or say where yours is with -c FOLDER or DAVIT_CONFIG", filepath.Dir(path))
	}
	if err != nil {
		return nil, fmt.Errorf("read config: %w", err)
	}
	h := &home{dir: filepath.Dir(path), path: path}
	if h.config, err = parseConfig(data); err != nil {
		return nil, usagef("%s: %v", path, err)
	}
	return h, h.settle(c)
}

func parseConfig(data []byte) (config, error) {
	cfg := config{Store: "store", Index: "index.sqlite", Keys: "keys", Work: "work"}
	if err := decodeYAML(data, &cfg); err != nil {
		return cfg, err
	}
	for peer, r := range cfg.Routes {
		if err := manifest.CheckSite(peer); err != nil {
			return cfg, fmt.Errorf("routes: %w", err)
		}
		if r.Full && r.AssumeDelivered {
			return cfg, fmt.Errorf("routes: %s: full and assume_delivered contradict each other", peer)
		}
		if r.FullEvery < 0 {
			return cfg, fmt.Errorf("routes: %s: full_every is %d; want 1 or more, or 0 for never", peer, r.FullEvery)
		}
		if err := r.checkLink(); err != nil {
			return cfg, fmt.Errorf("routes: %s: %w", peer, err)
		}
	}
	return cfg, nil
}

// decodeYAML is strict: what it does not know, or finds twice, it refuses with
// the line.
func decodeYAML(data []byte, v any) error {
	if len(strings.TrimSpace(string(data))) == 0 {
		return nil
	}
	err := yaml.UnmarshalWithOptions(data, v, yaml.Strict(), yaml.DisallowUnknownField())
	if err == nil {
		return nil
	}
	var y yaml.Error
	if errors.As(err, &y) && y.GetToken() != nil {
		return fmt.Errorf("line %d: %s", y.GetToken().Position.Line, y.GetMessage())
	}
	return errors.New(strings.TrimSpace(yaml.FormatError(err, false, false)))
}

// settle applies flags and environment over the file and makes paths absolute.
func (h *home) settle(c *cli.Context) error {
	for name, field := range map[string]*string{"STORE": &h.config.Store, "INDEX": &h.config.Index, "KEYS": &h.config.Keys, "WORK": &h.config.Work} {
		if v := os.Getenv("DAVIT_" + name); v != "" {
			abs, err := filepath.Abs(v)
			if err != nil {
				return usage(err)
			}
			*field = abs
		}
		if *field == "" {
			return usagef("%s: %s is empty", h.path, strings.ToLower(name))
		}
		*field = h.abs(*field)
	}
	for peer, r := range h.config.Routes {
		for _, folder := range []*string{&r.Folder, &r.Inbox, &r.Outbox} {
			if *folder != "" {
				*folder = h.abs(*folder)
			}
		}
		h.config.Routes[peer] = r
	}
	if v := c.String("actor"); v != "" {
		h.config.Actor = v
	}
	if h.config.Actor == "" {
		h.config.Actor = defaultActor()
	}
	return nil
}

func (h *home) abs(path string) string {
	if filepath.IsAbs(path) {
		return path
	}
	return filepath.Join(h.dir, path)
}

func defaultActor() string {
	name, host := "unknown", "unknown"
	if u, err := user.Current(); err == nil && u.Username != "" {
		name = u.Username[strings.LastIndexByte(u.Username, '\\')+1:]
	}
	if h, err := os.Hostname(); err == nil && h != "" {
		host = h
	}
	return name + "@" + host
}

// options are what package transfer needs to open the site.
func (p *program) options(h *home) (transfer.Options, func() error, error) {
	keys, err := p.loadKeys(h.config.Keys)
	if err != nil {
		return transfer.Options{}, nil, err
	}
	dir, err := bucket.OpenDir(h.config.Store)
	if err != nil {
		return transfer.Options{}, nil, failf(exitUnreachable, "the store of this site is not at %s (%v); is its disk mounted? The place stands in %s", h.config.Store, plain(err), h.path)
	}
	return transfer.Options{Bucket: dir, Index: h.config.Index, WorkDir: h.config.Work, Keys: keys,
		Actor: h.config.Actor, Davit: version, Now: now, Log: p.log}, dir.Close, nil
}

// open opens the site of this run.
func (p *program) open(c *cli.Context) (*transfer.Site, *home, func(), error) {
	h, err := loadHome(c)
	if err != nil {
		return nil, nil, nil, err
	}
	o, closeStore, err := p.options(h)
	if err != nil {
		return nil, nil, nil, err
	}
	s, err := transfer.Open(c.Context, o)
	if err != nil {
		closeStore()
		if errors.Is(err, store.ErrNoStore) {
			return nil, nil, nil, failf(exitUnreachable, "there is no davit store in %s; is its disk mounted? The place stands in %s", h.config.Store, h.path)
		}
		return nil, nil, nil, err
	}
	return s, h, func() {
		if err := errors.Join(s.Close(), closeStore()); err != nil {
			p.warn("close site: %v", err)
		}
	}, nil
}

// withSite runs a command on the open site.
func (p *program) withSite(fn func(ctx context.Context, c *cli.Context, s *transfer.Site, h *home) error) cli.ActionFunc {
	return func(c *cli.Context) error {
		s, h, done, err := p.open(c)
		if err != nil {
			return err
		}
		defer done()
		return fn(c.Context, c, s, h)
	}
}

const (
	identityFile   = "identity.txt"
	signingFile    = "signing.key"
	passphraseFile = "DAVIT_PASSPHRASE_FILE"
)

// loadKeys reads the site's secrets.
func (p *program) loadKeys(dir string) (*manifest.SiteKeys, error) {
	read := func(name string) ([]byte, error) {
		data, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			return nil, failf(exitUnreachable, "the key %s of this site cannot be read (%v); if it is lost, restore it from your copy of the keys folder", filepath.Join(dir, name), plain(err))
		}
		return data, nil
	}
	identity, err := read(identityFile)
	if err != nil {
		return nil, err
	}
	signing, err := read(signingFile)
	if err != nil {
		return nil, err
	}
	keys, err := manifest.ParseSiteKeys(identity, signing, p.passphrase)
	if err != nil {
		return nil, fmt.Errorf("read keys in %s: %w", dir, err)
	}
	return keys, nil
}

// passphrase asks for the passphrase that protects the keys.
func (p *program) passphrase() (string, error) {
	if v, ok, err := passphraseFromFile(); ok || err != nil {
		return v, err
	}
	v, err := p.askSecret("Passphrase of this site's keys: ")
	if is[*usageError](err) {
		return "", usagef("the keys of this site are protected by a passphrase and there is no terminal to ask for it; put it into a file that only you can read and name that in %s", passphraseFile)
	}
	return v, err
}

func passphraseFromFile() (string, bool, error) {
	path := os.Getenv(passphraseFile)
	if path == "" {
		return "", false, nil
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return "", true, failf(exitUnreachable, "the file named in %s cannot be read: %v", passphraseFile, plain(err))
	}
	return chomp(string(data)), true, nil
}

// chomp takes one line end off, which editors and echo add.
func chomp(s string) string { return strings.TrimSuffix(strings.TrimSuffix(s, "\n"), "\r") }

// plain is the system's reason without the path that the sentence names.
func plain(err error) error {
	var p *fs.PathError
	if errors.As(err, &p) {
		return p.Err
	}
	return err
}

// openMedium opens the folder that bundles travel in. It is never made: a
// missing one is a stick that is not mounted.
func openMedium(path string) (*bucket.Dir, error) {
	dir, err := bucket.OpenDir(path)
	if err != nil {
		return nil, failf(exitUnreachable, "the folder %s cannot be opened (%v); is the medium mounted there?", path, plain(err))
	}
	return dir, nil
}
